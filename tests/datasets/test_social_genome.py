import json

import av
import numpy as np
import pytest

from act2see.datasets import social_genome

RECORDS = [
    {
        "qid": f"{name}_q1_0",
        "q": "How does the man feel about the cup?",
        "vid_name": name,
        "ts": "0.00-60.019000",
        "a0": "He likes it.",
        "a1": "He fears it.",
        "a2": "He is bored.",
        "a3": "A man cannot say.",
    }
    for name in ("-bcdefghijk", "abcdefghijk", "bbcdefghijk")
]
TRIMS = {"-bcdefghijk": 12.5, "abcdefghijk": 0.0}


def write(path, seconds: int) -> None:
    """A grey clip, one frame a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1)
        stream.width = stream.height = 16
        grey = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 99, np.uint8))
        for _ in range(seconds):
            container.mux(stream.encode(grey))
        container.mux(stream.encode())


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "qa_test.json").write_text(json.dumps(RECORDS))
    (tmp_path / "trims.json").write_text(json.dumps(TRIMS))
    write(tmp_path / "-bcdefghijk.mp4", 60)
    write(tmp_path / "abcdefghijk.mp4", 90)
    return tmp_path


def test_questions_have_neither_answer_nor_reasoning(folder):
    (question,), missing = social_genome.load(folder / "qa_test.json", folder)
    assert question.truth == RECORDS[0] | {"start_s": 12.5}
    assert question.answer == -1 and question.reasoning == ""
    assert question.options[3] == "A man cannot say." and question.duration_s == 60
    assert "lasts 90 s; it must be cut to 60 s" in missing["abcdefghijk.mp4"]
    assert "No such file" in missing["bbcdefghijk.mp4"]


def test_each_clip_has_a_command_that_cuts_its_minute_out(folder):
    first, second = social_genome.download_commands(folder / "trims.json", "clips")
    assert "*12.500-72.500" in first and "*0.000-60.000" in second
    assert first[-1].endswith("=-bcdefghijk")


@pytest.mark.parametrize("field", RECORDS[0])
def test_a_field_that_is_not_there_is_named(folder, field):
    rest = {k: v for k, v in RECORDS[1].items() if k != field}
    (folder / "qa_test.json").write_text(json.dumps([RECORDS[0], rest]))
    with pytest.raises(ValueError, match=rf"qa_test.json: record 1 \(.*\): {field}: Field req"):
        social_genome.load(folder / "qa_test.json", folder)


def test_trims_may_lie_elsewhere(folder, tmp_path_factory):
    trims = (folder / "trims.json").rename(tmp_path_factory.mktemp("siq2") / "trims.json")
    (question,), _ = social_genome.load(folder / "qa_test.json", folder, trims)
    assert question.truth["start_s"] == 12.5


def test_a_wrong_start_is_named(folder):
    (folder / "trims.json").write_text(json.dumps(TRIMS | {"x": "soon"}))
    with pytest.raises(ValueError, match=r"trims.json: x: start is 'soon'"):
        social_genome.read_trims(folder / "trims.json")
