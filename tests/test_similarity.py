import json

import numpy as np
import pytest

from act2see.similarity import POCKET_EMBEDDER, keep, load_embedder, similarity
from act2see.trace import Question, Step, Trace
from tests import tiny


def trace(thinking: str, reasoning: str) -> Trace:
    question = Question(
        id=thinking, source="s", family="f", video="v", duration_s=1, text="?", reasoning=reasoning
    )
    return Trace(question=question, steps=[Step(kind="think", text=thinking)])


def letters(texts):
    """An embedder slow and obvious: counts of letters."""
    return np.array([[t.count(c) for c in "abc"] for t in texts], dtype=float)


def test_scores_are_cosines_in_the_order_given():
    scored = similarity([trace("a", "b"), trace("ab", "ab"), trace("a", "ab")], letters)
    assert [round(t.similarity, 3) for t in scored] == [0.0, 1.0, 0.707]


def test_nothing_is_embedded_twice():
    texts = []
    similarity([trace("a", "b"), trace("b", "a")], lambda t: texts.extend(t) or letters(t))
    assert sorted(texts) == ["a", "b"]


def test_threshold_keeps_what_reaches_it():
    scored = similarity([trace("a", "a"), trace("a", "ab")], letters)
    assert len(keep(scored, 1.0)) == 1 and len(keep(scored, 0.7)) == 2
    with pytest.raises(ValueError, match=r"threshold is 80"):
        keep(scored, 80)


def test_no_reasoning_is_named():
    with pytest.raises(ValueError, match=r"1 questions have no human reasoning: lonely"):
        similarity([trace("lonely", " ")], letters)
    assert similarity([], letters) == []


def test_the_packaged_embedder_knows_a_paraphrase():
    embed = load_embedder(POCKET_EMBEDDER)
    red, paraphrase, other = embed(["the disc is red", "a red disc", "stock prices fell in May"])
    assert np.linalg.norm(red) == pytest.approx(1, abs=1e-3)
    assert red @ paraphrase > 0.8 > 0.3 > red @ other


@pytest.fixture(scope="module")
def bge_m3(tmp_path_factory):
    """A folder of BGE-M3's form, whose name says nothing."""
    return tmp_path_factory.mktemp("embedder") / "checkpoint"


@pytest.fixture(scope="module")
def m3(bge_m3):
    bge_m3.mkdir()
    return load_embedder(tiny.bge_m3(bge_m3))


def test_an_ending_behind_512_tokens_counts(m3):
    """BGE-M3 reads 8,192; FlagEmbedding's default is 512."""
    start = "red " * 2000
    right, wrong = m3([start + "blue " * 900, start + "man " * 900])
    assert right @ wrong < 0.99 and m3([start + "blue " * 900])[0] @ right == pytest.approx(1)


def test_vectors_are_bge_m3s_dense_ones(m3, bge_m3):
    from FlagEmbedding import BGEM3FlagModel

    texts = ["a red disc", "a blue cross", "the wall is dark " * 300]
    theirs = BGEM3FlagModel(str(bge_m3), use_fp16=False, devices=["cpu"])
    dense = theirs.encode(texts, max_length=8192)["dense_vecs"]
    assert np.abs(m3(texts) - dense).max() < 1e-5


def test_what_is_cut_is_told(m3, tmp_path, monkeypatch):
    lengths = []

    # Attention over so many tokens takes long.
    def encode(_, texts, max_length):
        lengths.append(max_length)
        return letters(texts)

    with monkeypatch.context() as patch:
        patch.setattr("FlagEmbedding.FlagModel.encode", encode)
        with pytest.warns(UserWarning, match=r"8192 tokens, and 1 of 2 texts have more, 9002 at"):
            m3(["red", "red " * 9000])
        m3(["red " * 8190])
    assert lengths == [8192, 8192]
    place = tiny.bge_m3(tmp_path)
    state(tmp_path / "tokenizer_config.json", model_max_length=16)
    with pytest.warns(UserWarning, match=r"reads 16 tokens, and 2 of 2 texts have more, 32 at"):
        similarity([trace("red " * 20, "red " * 30)], load_embedder(place))


def state(file, **facts):
    """Facts put into a JSON file of a checkpoint."""
    file.write_text(json.dumps(json.loads(file.read_text()) | facts))


def test_pooling_and_instruction_are_those_of_the_models_files(m3, tmp_path):
    place = tiny.bge_m3(tmp_path)
    prompts = {"sts": "blue man ", "query": "red "}
    state(tmp_path / "config_sentence_transformers.json", prompts=prompts)
    assert np.allclose(load_embedder(place)(["a disc"]), m3(["a disc"]))  # no prompt is the default
    state(tmp_path / "config_sentence_transformers.json", default_prompt_name="sts")
    assert np.allclose(load_embedder(place)(["a disc"]), m3(["blue man a disc"]))
    pooling = tmp_path / "1_Pooling/config.json"
    mean = load_embedder_of(place, pooling, {"pooling_mode": "mean"})
    assert np.allclose(mean, load_embedder_of(place, pooling, {"pooling_mode_mean_tokens": True}))
    assert not np.allclose(mean, load_embedder_of(place, pooling, {"pooling_mode": "cls"}))
    with pytest.raises(ValueError, match="pools by 'max_tokens'; it must be one of: cls"):
        load_embedder_of(place, pooling, {"pooling_mode_max_tokens": True})


def load_embedder_of(place, pooling, facts):
    """What an embedder makes of a text where its file of pooling says this."""
    pooling.write_text(json.dumps(facts))
    return load_embedder(place)(["a red disc"])
