import pandas as pd
import pytest

from act2see.datasets import causalvqa
from act2see.pocket.world import sample_scene, write_clip
from act2see.trace import LETTERS, Step, Trace

ROWS = [
    {
        "qid": str(10 + i),
        "type": kind,
        "question": "What, if anything, falls next?",
        "choices1": "1. the cup | 2. a man | 3. nothing, 1. of all",
        "correct1": "1",
        "choices2": "1. no one | 2. the cup falls | 3. a dog",
        "correct2": "2",
        "difficulty": "easy",
        "renamed_video": "clip_1.mp4",
    }
    for i, kind in enumerate(["anticipation", "planning", "planning", "planning"])
]


@pytest.fixture
def folder(tmp_path):
    write_clip(sample_scene(5), tmp_path / "clip_1.mp4")
    pd.DataFrame(ROWS).to_csv(tmp_path / "debug.csv", index=False)
    return tmp_path


def test_each_record_is_asked_in_both_orders(folder):
    questions, missing = causalvqa.load(folder / "debug.csv", folder)
    assert not missing and [q.id for q in questions[:3]] == ["10/1", "10/2", "11/1"]
    assert [q.truth for q in questions[::2]] == ROWS
    one = questions[0]
    two = questions[1]
    assert one.options == ["the cup", "a man", "nothing, 1. of all"] and one.answer == 0
    assert two.options[two.answer] == "the cup falls" and two.family == "anticipation_easy"
    assert one.reasoning == ""


def test_withheld_answers_are_unknown(folder):
    table = pd.DataFrame(ROWS).assign(correct1=[float("nan")] + [2.0] * 3)
    table.drop(columns="correct2").to_csv(folder / "test.csv", index=False)
    questions = causalvqa.load(folder / "test.csv", folder).questions
    assert [q.answer for q in questions] == [-1, -1, 1, -1, 1, -1, 1, -1]


def answered(question, text: str) -> Trace:
    return Trace(question=question, steps=[Step(kind="answer", text=text)])


def test_paired_accuracy_wants_both_orders_right(folder):
    questions = causalvqa.load(folder / "debug.csv", folder).questions
    traces = [answered(q, f"Answer: {LETTERS[q.answer]}") for q in questions]
    traces[2] = answered(questions[2], "Answer: C")
    traces[5] = answered(questions[5], "the answer is B")
    table = causalvqa.scores("mine", traces[::-1], "p").set_index("family")
    assert table.accuracy["planning_easy"] == pytest.approx(1 / 3)
    assert table.lenient["planning_easy"] == pytest.approx(2 / 3)
    assert table.accuracy["all"] == 0.5 and table.n["all"] == 4
    assert table.accuracy["mean of 2"] == pytest.approx(2 / 3)
    assert table.unparsed["all"] == 1 and table.lenient_unparsed["all"] == 0
    with pytest.raises(ValueError, match=r"10: questions are \['10/1'\]; they must be 10/1 and"):
        causalvqa.scores("mine", traces[:1], "p")


@pytest.mark.parametrize("field", [f for f in ROWS[0] if not f.startswith("correct")])
def test_a_field_that_is_not_there_is_named(folder, field):
    pd.DataFrame(ROWS).drop(columns=field).to_csv(folder / "x.csv", index=False)
    with pytest.raises(ValueError, match=rf"x.csv: record 0 \(.*\): {field}: Field required"):
        causalvqa.load(folder / "x.csv", folder)


@pytest.mark.parametrize("wrong", [{"correct2": "4"}, {"choices1": "the cup"}, {"question": ""}])
def test_a_wrong_field_is_named(folder, wrong):
    pd.DataFrame([ROWS[0], ROWS[1] | wrong]).to_csv(folder / "x.csv", index=False)
    with pytest.raises(ValueError, match=rf"x.csv: record 1 \(11\): {next(iter(wrong))}: "):
        causalvqa.load(folder / "x.csv", folder)
