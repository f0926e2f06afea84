"""A table of one's own, as a person types it."""

import pytest

from act2see.datasets import DATASETS, load_questions, own
from act2see.pocket.world import sample_scene, write_clip

HEAD = "video,question,options,answer,reasoning\n"


def test_a_row_becomes_a_question_and_the_answer_may_be_a_letter_a_text_or_open(tmp_path):
    write_clip(sample_scene(5), tmp_path / "kitchen.mp4")
    rows = 'kitchen.mp4,"What falls, and when?",a cup | a key,B,"At 0:03 it falls."\n'
    rows += "kitchen.mp4,Who comes?,a man|a woman,a man,\n"
    rows += "kitchen.mp4,Which letter?,B|A,A,\nkitchen.mp4,Why?,x|y,,\ngone.mp4,Why?,x|y,A,\n"
    (tmp_path / "mine.csv").write_text(HEAD + rows)
    questions, missing = own.load(tmp_path / "mine.csv", tmp_path)
    assert [q.answer for q in questions] == [1, 0, 1, -1]
    assert questions[0].text == "What falls, and when?"
    assert questions[0].options == ["a cup", "a key"]
    assert questions[0].reasoning == "At 0:03 it falls." not in questions[0].prompt()
    assert {q.source for q in questions} == {"own"} and len({q.id for q in questions}) == 4
    assert questions[0].duration_s > 20 and list(missing) == ["gone.mp4"]


def test_three_columns_are_enough(tmp_path):
    write_clip(sample_scene(5), tmp_path / "a.mp4")
    (tmp_path / "mine.csv").write_text("video,question,options\na.mp4,Why?,x|y\n")
    (question,), _ = own.load(tmp_path / "mine.csv", tmp_path)
    assert (question.answer, question.reasoning) == (-1, "")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a.mp4,Why?,x|y,C,", r"record 0: answer: .*letter of one of \['x', 'y'\], got 'C'"),
        ("a.mp4,Why?,x,A,", "record 0: options: .*at least 2"),
        ("a.mp4,,x|y,A,", "record 0: question: "),
    ],
)
def test_a_wrong_row_is_named_with_its_column(tmp_path, row, reason):
    (tmp_path / "mine.csv").write_text(f"{HEAD}{row}\n")
    with pytest.raises(ValueError, match=reason):
        own.load(tmp_path / "mine.csv", tmp_path)


def test_it_is_split_by_video_as_a_source_that_trains(tmp_path):
    names = [f"{i}.mp4" for i in range(40)]
    for name in names:
        (tmp_path / name).symlink_to(tmp_path / "clip")
    write_clip(sample_scene(5), tmp_path / "clip.mp4")
    (tmp_path / "clip").symlink_to(tmp_path / "clip.mp4")
    (tmp_path / "mine.csv").write_text(HEAD + "".join(f"{n},Why?,x|y,A,\n" for n in names))
    splits = [
        load_questions("own", split, 0, 40, tmp_path / "mine.csv").questions
        for split in ("train", "validation", "test")
    ]
    assert sum(map(len, splits)) == 40 and len(splits[0]) > 20
    whole = load_questions("own_test", "test", 0, 40, tmp_path / "mine.csv").questions
    assert len(whole) == 40 and {q.source for q in whole} == {"own_test"}
    assert not DATASETS["own_test"].trains
