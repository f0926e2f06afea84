import numpy as np
import pytest

from act2see.similarity import POCKET_EMBEDDER, keep, load_embedder, similarity
from act2see.trace import Question, Step, Trace


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
