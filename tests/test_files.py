"""Files are whole or not there, and one process at a time adds lines."""

import os
import subprocess
import sys

import pytest

from act2see import files
from act2see.files import add_line, alone, locked, remembered, replacing, write_text

FULL = """
import resource, signal, sys
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
from act2see.files import add_line, alone, locked, write_text
folder = Path(sys.argv[1])
for act in (
    lambda: write_text(folder / "t.csv", "x" * 5000),
    lambda: [add_line(file, b"y" * 900) for file in [locked_file] for _ in range(9)],
):
    try:
        with locked(folder / "t.jsonl") as locked_file:
            act()
    except OSError as error:
        print(error)
"""


def test_a_full_disk_names_the_file_what_is_kept_and_how_to_go_on(tmp_path):
    (tmp_path / "t.csv").write_text("before")
    command = [sys.executable, "-c", FULL, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    table, lines = run.stdout.splitlines()
    assert "t.csv could not be written (File too large)" in table and "before is kept" in table
    assert "t.jsonl could not be written" in lines and "run again: it goes on" in lines
    assert (tmp_path / "t.csv").read_text() == "before"
    assert (tmp_path / "t.jsonl").read_bytes() == (b"y" * 900 + b"\n") * 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.csv", "t.jsonl"]


def test_what_is_interrupted_leaves_the_file_of_before_and_nothing_else(tmp_path):
    write_text(tmp_path / "t.csv", "one")
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "t.csv") as partial:
        partial.write_text("two")
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]
    assert (tmp_path / "t.csv").read_text() == "one"


def test_what_killed_processes_left_half_goes_and_what_lives_stays(tmp_path):
    living = tmp_path / f"a.csv.{os.getppid()}.partial"
    for file in (living, tmp_path / "b.csv.4194399.partial", tmp_path / "mine.partial"):
        file.touch()
    write_text(tmp_path / "t.csv", "one")
    assert {p.name for p in tmp_path.iterdir()} == {living.name, "mine.partial", "t.csv"}


WRITER = """
import sys
from pathlib import Path
from act2see import files
file, name, count = sys.argv[1:]
files.WAIT_S = 60
for number in range(int(count)):
    with files.locked(Path(file)) as opened:
        files.add_line(opened, f'"{name} {number}"'.encode())
"""


def test_two_writers_lose_no_line(tmp_path):
    file = tmp_path / "t.jsonl"
    runs = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(file), name, "100"]) for name in "ab"
    ]
    assert [run.wait(90) for run in runs] == [0, 0]
    wanted = sorted(f'"{name} {number}"' for name in "ab" for number in range(100))
    assert sorted(file.read_text().splitlines()) == wanted


def test_a_second_writer_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "WAIT_S", 0.0)
    with locked(tmp_path / "t.jsonl") as file:
        add_line(file, b"1")
        with pytest.raises(BlockingIOError, match=r"t.jsonl is being written by another process"):
            with locked(tmp_path / "t.jsonl"):
                pass
    with locked(tmp_path / "t.jsonl") as file:
        add_line(file, b"2")
    assert (tmp_path / "t.jsonl").read_bytes() == b"1\n2\n"


def test_one_process_at_a_time_works_in_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "WAIT_S", 0.0)
    place = tmp_path / "run"

    @alone
    def work(again, folder):
        return work(False, folder) if again else [p.name for p in tmp_path.iterdir()]

    for rank in ("", "0"):
        monkeypatch.setenv("RANK", rank) if rank else monkeypatch.delenv("RANK", raising=False)
        assert work(False, folder=place) == ["run.lock"]
        with pytest.raises(BlockingIOError, match=r"run.lock is being written by another process"):
            work(True, place)
        assert not [*tmp_path.iterdir()]
    # Another process of one launcher, whose first one holds the lock.
    monkeypatch.setenv("RANK", "1")
    assert work(True, place) == []


def test_a_file_that_nothing_was_written_to_is_not_left(tmp_path):
    with locked(tmp_path / "t.jsonl"):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("last", "then"), [(b'{"a": 1', b""), (b'{"a": 1}', b'{"a": 1}\n'), (b"\0\0", b"")]
)
@pytest.mark.filterwarnings("ignore:.*cut off")
def test_a_last_line_without_an_end_stays_if_it_is_whole(tmp_path, last, then):
    (tmp_path / "t.jsonl").write_bytes(b"1\n" + last)
    with locked(tmp_path / "t.jsonl") as file:
        add_line(file, b"2")
    assert (tmp_path / "t.jsonl").read_bytes() == b"1\n" + then + b"2\n"


def test_a_reply_is_kept_and_a_broken_line_is_asked_again(tmp_path):
    asked = []

    def ask(prompt, model):
        asked.append(prompt)
        return f"{model}: {prompt} \ud83d"

    file = tmp_path / "judge.jsonl"
    for _ in range(2):
        reply = remembered(file, ask, model="m")
        assert [reply("a"), reply("b"), reply("a")] == ["m: a �", "m: b �", "m: a �"]
    assert asked == ["a", "b"]
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0][:-9] + b"\n" + b"[]\n\0\0\n" + lines[1])
    reply = remembered(file, ask, model="m")
    assert [reply("b"), reply("a")] == ["m: b �", "m: a �"] and asked == ["a", "b", "a"]
