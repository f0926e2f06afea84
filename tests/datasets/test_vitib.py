import json

import pytest

from act2see.datasets import vitib
from act2see.dialects.calls import CALLS
from act2see.pocket.world import sample_scene, write_clip
from act2see.trace import Step, Trace

RECORDS = [
    {
        "question": "What follows?",
        "answer": "THE ANSWER in words",
        "evidence": "THE EVIDENCE with boxes",
        "task": task,
        "correct_answer": "(B)",
        "video_path": "all_video/some/a.mp4",
        "key_video_path": "key_video/some/a.mp4",
        "options": ["(A): one", "(B): two", "(C): three", "(D): four"],
    }
    for task in ("Cooking Process", "Role Analysis", "Role Analysis")
]


@pytest.fixture
def questions(tmp_path):
    for folder in ("all_video", "key_video"):
        (tmp_path / folder / "some").mkdir(parents=True)
        write_clip(sample_scene(5), tmp_path / folder / "some" / "a.mp4")
    lines = "\n".join(json.dumps(record) for record in RECORDS)
    (tmp_path / "vitcot_data.jsonl").write_text(lines)
    questions, missing = vitib.load(tmp_path / "vitcot_data.jsonl", tmp_path)
    assert not missing
    return questions


def test_no_model_is_shown_what_gives_the_answer_away(questions):
    assert [q.truth for q in questions] == RECORDS
    assert len({q.id for q in questions}) == 3
    for question in questions:
        assert "all_video" in question.video
        messages = str(CALLS.messages(Trace(question=question)))
        assert not any(word in messages for word in ("ANSWER", "EVIDENCE", "key_video", "(B)"))


def test_the_official_figure_is_the_mean_of_tasks(questions):
    texts = ["Answer: B", "Answer: A", "Answer: A man"]
    traces = [
        Trace(question=q, steps=[Step(kind="answer", text=text)])
        for q, text in zip(questions, texts, strict=True)
    ]
    table = vitib.scores("mine", traces, "p").set_index("family")
    assert table.accuracy["mean of 2"] == 0.5 and table.accuracy["all"] == pytest.approx(1 / 3)
    assert table.unparsed["mean of 2"] == 1


@pytest.mark.parametrize("field", RECORDS[0])
def test_a_field_that_is_not_there_is_named(tmp_path, field):
    rest = {k: v for k, v in RECORDS[0].items() if k != field}
    (tmp_path / "data.jsonl").write_text(json.dumps(RECORDS[0]) + "\n" + json.dumps(rest))
    with pytest.raises(ValueError, match=rf"data.jsonl: record 1: {field}: Field required"):
        vitib.load(tmp_path / "data.jsonl", tmp_path)
