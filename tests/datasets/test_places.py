import os

import pytest

from act2see.datasets.places import locate
from act2see.datasets.records import find_videos
from act2see.trace import Question


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    "name",
    ["../secret.mp4", "sub/../../x.mp4", "sub/..", "..", ".", "", "a\0b.mp4", "x" * 300, "\x1b[2J"],
)
def test_a_name_stays_inside_its_folder_and_is_named_when_refused(name, tmp_path):
    folder = tmp_path / "records"
    touch(tmp_path, "secret.mp4", "x.mp4", "records/sub/a.mp4")
    found, wrong = locate([name, "a.mp4"], folder)
    assert [*found] == ["a.mp4"]
    assert repr(name)[:40].strip("'") in wrong[name] and "inside the folder" in wrong[name]


def test_an_absolute_name_begins_inside_the_folder(tmp_path):
    touch(tmp_path, "secret.mp4", "records/deep/a.mp4")
    found, wrong = locate([f"{tmp_path}/secret.mp4", "/of/theirs/deep/a.mp4"], tmp_path / "records")
    assert found == {"/of/theirs/deep/a.mp4": tmp_path / "records" / "deep" / "a.mp4"}
    assert "No such file" in wrong[f"{tmp_path}/secret.mp4"]


def test_pipes_and_folders_are_not_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    assert locate(["pipe.mp4", "folder.mp4"], tmp_path)[0] == {}


def test_one_stray_file_serves_no_record(tmp_path):
    names = [f"video/clip-{i}/video_prev.mp4" for i in range(3)]
    touch(tmp_path, "video_prev.mp4", "clip-2/video_prev.mp4")
    found, wrong = locate(names, tmp_path)
    assert found == {names[2]: tmp_path / "clip-2" / "video_prev.mp4"}
    assert [*wrong] == names[:2]


def test_videos_of_one_base_name_get_no_file_that_could_be_either(tmp_path):
    touch(tmp_path, "1.mp4", "two/2.mp4", "3.mp4")
    names = ["one/1.mp4", "two/1.mp4", "one/2.mp4", "two/2.mp4", "3.mp4", "3.mkv", "one/4.mp4"]
    touch(tmp_path, "4.mp4")
    found, _ = locate(names, tmp_path)
    assert {name: str(path.relative_to(tmp_path)) for name, path in found.items()} == {
        "two/2.mp4": "two/2.mp4",
        "3.mp4": "3.mp4",
        "one/4.mp4": "4.mp4",
    }


def test_a_bare_name_may_lie_in_another_folder_if_it_lies_in_one(tmp_path):
    touch(tmp_path, "data/a.mp4", "one/b.mp4", "two/b.mp4", "data/c.webm", "data/d.txt")
    found, _ = locate(["a.mp4", "b.mp4", "c.mp4", "d.mp4"], tmp_path)
    assert found == {"a.mp4": tmp_path / "data/a.mp4", "c.mp4": tmp_path / "data/c.webm"}


def test_names_that_are_refused_are_listed_with_the_missing(tmp_path):
    questions = [Question(video="../secret.mp4", text="?"), Question(video="a.mp4", text="?")]
    kept, missing = find_videos(questions, tmp_path)
    assert not kept and [*missing] == ["../secret.mp4", "a.mp4"]
