import json

import pytest

from act2see.datasets import videoespresso
from act2see.pocket.world import sample_scene, write_clip

RECORD = {
    "video_path": "XD-Some/Film.1999__#00-01_00-02_label_A.mp4",
    "question": "What does the cup suggest? ",
    "options": ["(A): A fall.  ", "(B): A rest.", "(C): A man.", "(D): Nothing."],
    "correct_answer": "(B)",
    "evidence": "The <obj_start>cup<obj_end> stands.",
    "task": "Narrative Analysis",
    "core_frames_path": ["a.jpg"],
}


def test_a_record_becomes_a_question_that_hides_its_evidence(tmp_path):
    write_clip(sample_scene(5), tmp_path / "Film.1999__#00-01_00-02_label_A.mp4")
    (tmp_path / "bench_hard.json").write_text(json.dumps([RECORD, RECORD | {"video_path": "b"}]))
    (question,), missing = videoespresso.load(tmp_path / "bench_hard.json", tmp_path)
    assert question.truth == RECORD and list(missing) == ["b"]
    assert (question.id, question.answer) == ("videoespresso-0", 1)
    assert question.prompt() == (
        "What does the cup suggest?\nA) A fall.\nB) A rest.\nC) A man.\nD) Nothing."
    )
    assert question.family == "Narrative Analysis"


@pytest.mark.parametrize(
    "wrong",
    [
        {"correct_answer": "(E)"},
        {"options": RECORD["options"][:3]},
        {"task": 3},
        {"question": None},
    ],
)
def test_a_wrong_field_is_named(tmp_path, wrong):
    (tmp_path / "bench.json").write_text(json.dumps([RECORD, RECORD | wrong]))
    with pytest.raises(ValueError, match=rf"bench.json: record 1: {next(iter(wrong))}: .*got "):
        videoespresso.load(tmp_path / "bench.json", tmp_path)
