import json

import pytest

from act2see.datasets import minerva
from act2see.pocket.world import sample_scene, write_clip

RECORD = {
    "key": "abcdefghijk:1",
    "video_id": "abcdefghijk",
    "question": "Which cup falls first?",
    "answer": "The blue one",
    "answer_choice_0": "The red one",
    "answer_choice_1": "The green one",
    "answer_choice_2": "The blue one",
    "answer_choice_3": "A man",
    "answer_choice_4": "None",
    "answer_id": 2,
    "reasoning": "At 0:03 the blue cup falls, and at 0:05 the red cup does.",
    "question type": "Temporal Reasoning",
    "split": "test",
    "category": "Short Films",
}


def test_a_record_becomes_a_question_with_its_human_reasoning(tmp_path):
    write_clip(sample_scene(5), tmp_path / "abcdefghijk.mp4")
    hub = {k: v for k, v in RECORD.items() if k != "question type"}
    hub |= {"key": "k2", "question_type": ["Counting", "Spatial"], "video_id": "none"}
    (tmp_path / "minerva.json").write_text(json.dumps([RECORD, hub]))
    (question,), missing = minerva.load(tmp_path / "minerva.json", tmp_path)
    assert question.truth == RECORD and list(missing) == ["none.mp4"]
    assert (question.id, question.family) == ("abcdefghijk:1", "Temporal Reasoning")
    assert question.options[question.answer] == "The blue one" and len(question.options) == 5
    assert "0:03" in question.reasoning and "0:03" not in question.prompt()


def test_the_hubs_name_for_the_question_type_is_known(tmp_path):
    write_clip(sample_scene(5), tmp_path / "abcdefghijk.webm.mp4")
    row = {k: v for k, v in RECORD.items() if k != "question type"}
    row |= {"question_type": ["Counting", "Spatial"], "video_id": "abcdefghijk.webm"}
    (tmp_path / "minerva.jsonl").write_text(json.dumps(row))
    assert minerva.load(tmp_path / "minerva.jsonl", tmp_path).questions[0].family == (
        "Counting, Spatial"
    )


@pytest.mark.parametrize("field", RECORD)
def test_a_field_that_is_not_there_is_named(tmp_path, field):
    rest = {k: v for k, v in RECORD.items() if k != field}
    (tmp_path / "minerva.json").write_text(json.dumps([RECORD | {"key": "first"}, rest]))
    with pytest.raises(
        ValueError, match=rf"minerva.json: record 1 \(.*\): {field}: Field required"
    ):
        minerva.load(tmp_path / "minerva.json", tmp_path)


@pytest.mark.parametrize("wrong", [{"answer_id": 5}, {"answer_choice_3": 7}, {"reasoning": None}])
def test_a_wrong_field_is_named(tmp_path, wrong):
    (tmp_path / "minerva.json").write_text(json.dumps([RECORD | wrong]))
    with pytest.raises(ValueError, match=rf"\(abcdefghijk:1\): {next(iter(wrong))}: .*got "):
        minerva.load(tmp_path / "minerva.json", tmp_path)
