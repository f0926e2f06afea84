"""The shipped retriever: whether the frame that a search returns shows what its query says."""

from collections import defaultdict
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from act2see.pocket.making import retriever as making
from act2see.pocket.questions import scene_seed
from act2see.pocket.world import COLOURS, FPS, SHAPES, sample_scene, write_clip
from act2see.profiles import MODELS
from act2see.tools.retriever import RATE_HZ, load_retriever
from act2see.tools.search import Query, SearchFrame
from act2see.tools.segments import FLOOR
from act2see.trace import Question, Trace

FOLDER = str(MODELS / "retriever")


def form(text: str) -> str:
    """What kind of sentence it is."""
    if text.count(".") == 2:
        return "two facts"
    if "visitor" not in text:
        return "white" if "white" in text else making.subject(text).replace("wall", "the wall")
    named = [word for word in text.rstrip(".").split() if word in (*COLOURS, *SHAPES)]
    return f"visitor, {len(named)} named" if named else text


def queries(scene) -> dict[str, list[str]]:
    """Form -> sentences that are true of a frame at 3 Hz, and false of most."""
    times_s = np.floor(np.arange(0, scene.duration_s, 1 / RATE_HZ) * FPS) / FPS
    known = [making.true_sentences(scene.facts(time_s)) for time_s in times_s]
    rows = {text: np.array([text in texts for texts in known]) for text in set().union(*known)}
    for one, two in permutations(sorted(rows), 2):
        if making.subject(one) != making.subject(two):
            rows[f"{one} {two}"] = rows[one] & rows[two]
    forms = defaultdict(list)
    for text, row in sorted(rows.items()):
        if 0 < row.mean() < 0.5:
            forms[form(text)].append(text)
    return forms


def check(tool: SearchFrame, split: str, seed: int, clips: int, each: int, folder: Path):
    """(form, query, whether the frame that comes back shows it), `each` for every fresh clip."""
    verdicts = []
    for index in range(clips):
        scene = sample_scene(scene_seed(split, seed, index))
        clip = write_clip(scene, folder / f"{scene.seed}.mp4")
        trace = Trace(question=Question(video=str(clip), text="?", duration_s=scene.duration_s))
        rng = np.random.default_rng(scene.seed)
        forms = queries(scene)
        for kind in rng.choice(sorted(forms), each).tolist():
            text = str(rng.choice(forms[kind]))
            (frame,) = tool.run(trace, Query(query=text))
            facts = {f"{fact}." for fact in text.rstrip(".").split(". ")}
            shows = facts <= making.true_sentences(scene.facts(frame.time_s))
            verdicts.append((kind, text, shows))
        clip.unlink()
    return verdicts


@pytest.fixture(scope="module")
def search():
    return SearchFrame(retriever=FOLDER).loaded()


def test_the_frame_shows_what_the_query_says(search, tmp_path):
    verdicts = check(search, "test", 61, clips=20, each=5, folder=tmp_path)
    wrong = [text for _, text, shows in verdicts if not shows]
    print(f"{len(verdicts) - len(wrong)} of {len(verdicts)} frames show it; not: {wrong}")
    assert len(wrong) <= 0.1 * len(verdicts)


def test_true_sentences_score_above_what_counts_as_nothing_and_false_ones_below(search, tmp_path):
    scene = sample_scene(scene_seed("test", 62, 0))
    clip = str(write_clip(scene, tmp_path / "c.mp4"))
    rows = {text: search.retriever(clip, text) for text in making.SENTENCES}
    scores = np.stack([scores for _, scores in rows.values()], 1)
    times_s, _ = rows[making.SENTENCES[0]]
    known = [making.true_sentences(scene.facts(time_s)) for time_s in times_s]
    truth = np.array([[text in texts for text in making.SENTENCES] for texts in known])
    assert (scores[truth] > FLOOR).mean() > 0.97 and (scores[~truth] <= FLOOR).mean() > 0.9


def test_an_edit_and_any_other_text_land_on_a_frame(search, tmp_path):
    clip = str(write_clip(sample_scene(3), tmp_path / "c.mp4"))
    trace = Trace(question=Question(video=clip, text="?", duration_s=24))
    for text in ("move the disc to the left", "a man opens a door", "?", "x" * 300):
        (frame,) = search.run(trace, Query(query=text))
        assert frame.image().size == (96, 96)


# What it learns from


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
    for name, value in (("STEPS", 3), ("CELL_STEPS", 2), ("FRAMES", 16), ("PAIRS", 4)):
        monkeypatch.setattr(making, name, value)
    making.train(str(tmp_path / "whole"), seed=1, minutes=0)
    making.train(str(tmp_path / "parts"), seed=1, minutes=1e-9)
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    making.train(str(tmp_path / "parts"), seed=1, minutes=0)
    whole, parts = (load_file(tmp_path / n / "model.safetensors") for n in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    load_retriever(str(tmp_path / "parts"))
