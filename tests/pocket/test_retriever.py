"""What the pocket retriever learns from, and that its training goes on where it stopped."""

import numpy as np
import torch
from safetensors.torch import load_file

from act2see.pocket.making import retriever as making
from act2see.pocket.questions import scene_seed
from act2see.pocket.world import sample_scene
from act2see.tools.retriever import load_retriever


def test_sentences_are_those_that_the_scene_bears_out():
    rng = np.random.default_rng(0)
    for index in range(50):
        scene = sample_scene(scene_seed("validation", 9, index))
        facts = scene.facts(float(rng.uniform(0, scene.duration_s)))
        texts = making.true_sentences(facts)
        assert texts <= set(making.SENTENCES)
        about = [making.subject(text) for text in texts]
        count = {name: about.count(name) for name in about}
        visits = 4 if facts.visitor else 1
        assert count == {"wall": 1, "visitor": visits} | dict.fromkeys(facts.things, 1)


def test_a_batch_says_what_is_true_of_what():
    tokenizer = making.build_tokenizer()
    batch = making.draw_batch(0, making.build_images(), tokenizer, seed=0)
    rng = np.random.default_rng([0, 1, 0])
    _, facts = making.draw_frames(rng)
    texts = tokenizer.batch_decode(batch.words.input_ids, skip_special_tokens=True)
    assert batch.truth.shape == (len(facts), len(texts)) == (64, 126)
    for text, row in zip(texts, batch.truth.T.tolist(), strict=True):
        parts = {f"{part.strip()}." for part in text.split(".") if part.strip()}
        assert row == [parts <= making.true_sentences(frame) for frame in facts]
        assert 1 <= len(parts) <= 2
    assert batch.truth[:, 66:].any(0).float().mean() > 0.4
    again = making.draw_batch(0, making.build_images(), tokenizer, seed=0)
    assert torch.equal(batch.pixels, again.pixels)


def test_every_word_of_a_query_and_of_an_edit_is_known():
    tokenizer = making.build_tokenizer()
    texts = [*making.SENTENCES, "Move the disc to the left", "paint the cross green", "add a"]
    for text in texts:
        assert tokenizer.unk_token_id not in tokenizer(text).input_ids


def test_an_interrupted_training_ends_where_a_whole_one_does(tmp_path, monkeypatch):
    for name, value in (("STEPS", 3), ("EYE_STEPS", 2), ("FRAMES", 16), ("PAIRS", 4)):
        monkeypatch.setattr(making, name, value)
    making.train(str(tmp_path / "whole"), seed=1, minutes=0)
    making.train(str(tmp_path / "parts"), seed=1, minutes=1e-9)
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    making.train(str(tmp_path / "parts"), seed=1, minutes=0)
    whole, parts = (load_file(tmp_path / n / "model.safetensors") for n in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    load_retriever(str(tmp_path / "parts"))
