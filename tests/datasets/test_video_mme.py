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


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        # Rolling: a line stays while the next one comes, with moments of one line in between.
        (
            "1\n00:00:01,000 --> 00:00:02,000\nit was\n\n"
            "2\n00:00:02,000 --> 00:00:02,010\nit was\n\n"
            "3\n00:00:02,010 --> 00:00:04,000\nit was\na long day\n\n"
            "4\n00:00:04,000 --> 00:00:04,010\na long day\n\n"
            "5\n00:00:04,010 --> 00:00:06,000\na long day\nin May\n",
            ["<1 seconds> it was", "<2 seconds> a long day", "<4 seconds> in May"],
        ),
        # Growing, word by word.
        (
            "1\n00:00:01,000 --> 00:00:02,000\nit\n\n2\n00:00:02,000 --> 00:00:03,000\nit was\n",
            ["<1 seconds> it", "<2 seconds> was"],
        ),
        # A word that comes again in another sentence is not the same one.
        (
            "1\n00:00:01,000 --> 00:00:02,000\nthere I said I\n\n"
            "2\n00:00:02,000 --> 00:00:03,000\nI know\n",
            ["<1 seconds> there I said I", "<2 seconds> I know"],
        ),
        ("1\n00:07,000 --> 00:09,000\nno hours\n", ["<7 seconds> no hours"]),
        ("1\n61:07.500 --> 61:09.000\nan hour\n", ["<3667 seconds> an hour"]),
        # No blank line between cues, and a number that was spoken.
        (
            "1\n00:00:01,000 --> 00:00:02,000\nhow many?\n42\n2\n"
            "00:00:03,000 --> 00:00:04,000\n{\\an8}so &amp; so\n",
            ["<1 seconds> how many? 42", "<3 seconds> so & so"],
        ),
    ],
)
def test_words_are_read_once_and_numbers_of_cues_never(text, lines, tmp_path):
    (tmp_path / "a.srt").write_text(text)
    assert video_mme.read_subtitles(tmp_path / "a.srt").splitlines() == lines


def test_the_evaluators_file_gives_the_same_questions(folder, tmp_path):
    names = ("question_id", "task_type", "question", "options", "answer")
    videos = [
        {k: v for k, v in r.items() if k not in (*names, "videoID")}
        | {"questions": [{k: r[k] for k in names} | {"response": "C"}]}
        for r in RECORDS
    ]
    (tmp_path / "official.json").write_text(json.dumps(videos))
    flat = video_mme.load(folder / "test.jsonl", folder)
    nested = video_mme.load(tmp_path / "official.json", folder)
    assert [q.prompt() for q in nested.questions] == [q.prompt() for q in flat.questions]
    assert [q.video for q in nested.questions] == [q.video for q in flat.questions]
    assert [*nested.missing] == [*flat.missing]


def test_stand_ins_are_listed(folder):
    with pytest.warns(UserWarning, match=r"1 videos .*\n.*j2.mp4: lasts 32 s; .* 1200 to 7200 s"):
        video_mme.load(folder / "test.jsonl", folder)


def test_options_in_another_order_keep_their_letters(tmp_path, folder):
    options = ["B. Two.", "A. One.", "D. None.", "C. A man."]
    (tmp_path / "test.json").write_text(json.dumps([RECORDS[0] | {"options": options}]))
    (question,), _ = video_mme.load(tmp_path / "test.json", folder)
    assert question.options[question.answer] == "Two."


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
