import json

import pytest
from pydantic import BaseModel

from act2see.datasets.records import download_command, find_videos, read_records
from act2see.pocket.world import sample_scene, write_clip
from act2see.trace import Question
from act2see.video import probe


class Kind(BaseModel):
    name: str
    size: int = 0


ROWS = [{"name": "a", "size": 1}, {"name": "b", "size": 2}]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("list.json", json.dumps(ROWS, indent=2)),
        ("keyed.json", json.dumps({"a": ROWS[0], "b": ROWS[1]}, indent=2)),
        ("lines.jsonl", "\n".join(map(json.dumps, ROWS)) + "\n"),
        ("lines.json", "\n\n".join(map(json.dumps, ROWS))),
        ("table.csv", "name,size\na,1\nb,2\n"),
    ],
)
def test_every_form_of_file_gives_the_same_records(tmp_path, file, text):
    (tmp_path / file).write_text(text)
    pairs = read_records(tmp_path / file, Kind, "name")
    assert [(record.name, record.size) for _, record in pairs] == [("a", 1), ("b", 2)]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('[{"name": "a"}, {"size": 3}]', r"x.json: record 1 \(None\): name: Field required"),
        ('[{"name": "a", "size": "x"}]', r"record 0 \(a\): size: .*integer.*got 'x'"),
        ('[{"name": "a"}, {"name": "a"}]', r"record 1 \(a\): name: an earlier record has it"),
        ("[1]", r"record 0 is 1; it must be an object"),
        ('[{"name": "a"},', r"x.json: line 1 is not JSON: "),
        ('{"name": "a"}\n{"name"', r"x.json: line 2 is not JSON: "),
        ('[\n{"name": "a"},\n{"name" 3}\n]', r"x.json: line 3 is not JSON: "),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, error):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=error):
        read_records(tmp_path / "x.json", Kind, "name")


@pytest.mark.parametrize(
    ("file", "data", "error"),
    [
        ("a.json", b'[{"id": "\xe9"}]', "utf-8"),
        ("a.csv", b"", "No columns"),
        ("a.csv", b"<html>404</html>\n", "0 records"),
    ],
)
def test_a_file_that_holds_no_records_is_named(tmp_path, file, data, error):
    (tmp_path / file).write_bytes(data)
    with pytest.raises(ValueError, match=f"{file}.*{error}"):
        read_records(tmp_path / file, BaseModel)


def test_missing_and_damaged_videos_are_named_and_not_fatal(tmp_path):
    (tmp_path / "deep").mkdir()
    write_clip(sample_scene(5), tmp_path / "deep" / "a.mp4")
    (tmp_path / "b.webm").write_bytes(b"no video")
    names = ["deep/a.mp4", "/data/of/theirs/deep/a.mp4", "b.mp4", "c.mp4", "c.mp4"]
    published = [Question(id=f"q{i}", video=name, text="?") for i, name in enumerate(names)]
    questions, missing = find_videos(published, tmp_path)
    assert [q.id for q in questions] == ["q0", "q1"]
    assert {q.video for q in questions} == {str(tmp_path / "deep" / "a.mp4")}
    assert {q.duration_s for q in questions} == {probe(questions[0].video).duration_s}
    assert list(missing) == ["b.mp4", "c.mp4"]
    assert "not video" in missing["b.mp4"] and "No such file" in missing["c.mp4"]


def test_the_download_command_is_an_argument_list():
    command = download_command(["-bcdefghijk", "abcdefghij_"], "my clips", 12.5, 60)
    assert command[0] == "yt-dlp" and "my clips/%(id)s.%(ext)s" in command
    assert command[command.index("--download-sections") + 1] == "*12.500-72.500"
    assert command[-3:] == ["--", *(f"https://www.youtube.com/watch?v={i}" for i in (
        "-bcdefghijk", "abcdefghij_"))]  # fmt: skip
    assert "--download-sections" not in download_command(["abcdefghij_"], "clips")
    with pytest.raises(ValueError, match=r"video id is 'a; rm'; it must be 11 letters"):
        download_command(["a; rm"], "clips")
