import json

import pandas as pd
import pytest

from act2see.datasets import video_mme
from act2see.pocket.world import sample_scene, write_clip
from act2see.trace import Step, Trace
from act2see.video import probe

RECORDS = [
    {
        "video_id": f"00{i}",
        "duration": duration,
        "domain": "Knowledge",
        "sub_category": "Physics",
        "url": f"https://www.youtube.com/watch?v=abcdefghij{i}",
        "videoID": f"abcdefghij{i}",
        "question_id": f"00{i}-1",
        "task_type": "Counting",
        "question": "How many cups fall?",
        "options": ["A. One.", "B. Two.", "C. A man.", "D. None."],
        "answer": "B",
    }
    for i, duration in enumerate(["short", "medium", "long"])
]
SPOKEN = """1
00:00:01,500 --> 00:00:02,000
<i>Look</i> at
the cup

2
00:00:02,000 --> 00:00:03,000
Look at the cup

3
01:00:03,000 --> 01:00:04,000
It falls.
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mme")
    for i in (0, 2):
        write_clip(sample_scene(5), folder / f"abcdefghij{i}.mp4")
    (folder / "abcdefghij0.srt").write_text(SPOKEN)
    (folder / "test.jsonl").write_text("".join(json.dumps(r) + "\n" for r in RECORDS))
    pd.DataFrame(RECORDS).to_parquet(folder / "test.parquet")
    return folder


@pytest.mark.parametrize("name", ["test.jsonl", "test.parquet"])
def test_records_become_questions_and_stay_whole(folder, name):
    questions, missing = video_mme.load(folder / name, folder)
    assert [q.truth for q in questions] == [
        r | {"subtitles": False, "spoken": False} for r in RECORDS[::2]
    ]
    assert list(missing) == ["abcdefghij1.mp4"] and "No such file" in missing["abcdefghij1.mp4"]
    first = questions[0]
    assert (first.id, first.family, first.answer) == ("000-1", "short", 1)
    assert first.prompt().splitlines() == [
        "How many cups fall?", "A) One.", "B) Two.", "C) A man.", "D) None.",
    ]  # fmt: skip
    assert first.duration_s == probe(folder / "abcdefghij0.mp4").duration_s


def test_subtitles_stand_before_the_question_where_there_are_any(folder):
    spoken, silent = video_mme.load(folder / "test.jsonl", folder, folder).questions
    assert spoken.text == (
        "Subtitles:\n<1 seconds> Look at the cup\n<3603 seconds> It falls.\n\nHow many cups fall?"
    )
    assert silent.text == "How many cups fall?"
    assert (spoken.truth["spoken"], silent.truth["spoken"]) == (True, False)


def test_scores_are_by_duration_and_never_mix_settings(folder):
    with_, without = (
        [
            Trace(question=q, steps=[Step(kind="answer", text=f"Answer: {letter}")])
            for q, letter in zip(video_mme.load(*paths).questions, "BA", strict=True)
        ]
        for paths in [(folder / "test.jsonl", folder, folder), (folder / "test.jsonl", folder)]
    )
    table = video_mme.scores("mine", with_, "8 frames").set_index("family")
    assert table.accuracy.to_dict() == {"short": 1, "long": 0, "all": 0.5}
    assert table.protocol["all"] == "8 frames, with subtitles"
    assert video_mme.scores("m", without, "x").protocol[0] == "x, without subtitles"
    with pytest.raises(ValueError, match="with and without subtitles"):
        video_mme.scores("mine", with_ + without, "8 frames")


@pytest.mark.parametrize("field", RECORDS[0])
def test_a_field_that_is_not_there_is_named(tmp_path, field):
    rest = {k: v for k, v in RECORDS[1].items() if k != field}
    (tmp_path / "test.json").write_text(json.dumps([RECORDS[0], rest]))
    with pytest.raises(ValueError, match=rf"test.json: record 1 \(.*\): {field}: Field required"):
        video_mme.load(tmp_path / "test.json", tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"answer": "E"}, {"options": ["A. x"]}, {"duration": "brief"}, {"question": ""}]
)
def test_a_wrong_field_is_named(tmp_path, wrong):
    (tmp_path / "test.json").write_text(json.dumps([RECORDS[0] | wrong]))
    with pytest.raises(ValueError, match=rf"record 0 \(000-1\): {next(iter(wrong))}: "):
        video_mme.load(tmp_path / "test.json", tmp_path)
