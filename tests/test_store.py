import json

import pytest
from PIL import Image

from act2see.dialects.calls import CALLS
from act2see.store import (
    compact,
    read_traces,
    replace_traces,
    run_folder,
    write_text,
    write_traces,
    written,
)
from act2see.tools.generate import GenerateFrame
from act2see.tools.retrieve import RetrieveFrames
from act2see.trace import Frame, Question, Step, Trace
from tests.test_trace import trace


def test_file_alone_recreates_the_dialogue_and_stores_a_picture_once(tmp_path):
    write_traces(tmp_path / "t.jsonl", [trace(), trace()])
    first, second = read_traces(tmp_path / "t.jsonl")
    assert len(list((tmp_path / "frames").iterdir())) == 2
    assert first == second
    for message, wanted in zip(CALLS.messages(first), CALLS.messages(trace()), strict=True):
        if isinstance(message["content"], str):
            assert message == wanted
            continue
        for part, other in zip(message["content"], wanted["content"], strict=True):
            if part["type"] == "image":
                assert part["image"].tobytes() == other["image"].tobytes()
            else:
                assert part == other


def test_same_traces_make_the_same_bytes(tmp_path):
    write_traces(tmp_path / "a" / "t.jsonl", [trace()])
    write_traces(tmp_path / "b" / "t.jsonl", [trace()])
    assert (tmp_path / "a/t.jsonl").read_bytes() == (tmp_path / "b/t.jsonl").read_bytes()


def test_cut_last_line_is_left_out_and_the_next_write_repairs_it(tmp_path):
    path = tmp_path / "t.jsonl"
    write_traces(path, [trace(), trace()])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.warns(UserWarning, match="line 2 was cut off"):
        assert len(read_traces(path)) == 1
    write_traces(path, [trace()])
    assert len(read_traces(path)) == 2


def test_damage_in_the_middle_names_file_and_line(tmp_path):
    path = tmp_path / "t.jsonl"
    write_traces(path, [trace(), trace()])
    path.write_text("{}\n" + path.read_text())
    with pytest.warns(UserWarning, match=r"t\.jsonl: 1 of 3 .* line 1 is not a trace: question"):
        assert len(read_traces(path)) == 2


def test_a_line_cut_inside_a_letter_is_left_out(traces, tmp_path):
    trace = traces[0].model_copy(update={"policy": "é"})
    write_traces(tmp_path / "t.jsonl", [trace, trace])
    whole = (tmp_path / "t.jsonl").read_bytes()
    (tmp_path / "t.jsonl").write_bytes(whole[: whole.rindex("é".encode()) + 1])
    with pytest.warns(UserWarning, match="line 2 was cut off"):
        assert len(read_traces(tmp_path / "t.jsonl")) == 1


# As version 0.1 wrote it: tools by name alone, and frames generated or not.
OLD = {
    "question": {
        "id": "q", "source": "s", "family": "f", "video": "v.mp4", "duration_s": 9.0,
        "text": "which?", "options": ["red", "blue"], "answer": 1, "reasoning": "", "truth": {},
    },
    "overview": [{"time_s": 1.0, "generated": False, "prompt": "", "file": "a.png"}],
    "tools": ["retrieve_frames", "generate_frame"],
    "overview_as_video": False,
    "steps": [
        {"kind": "think", "text": "look", "tool": "", "arguments": {}, "frames": []},
        {
            "kind": "evidence", "text": "", "tool": "", "arguments": {},
            "frames": [{"time_s": 3.0, "generated": True, "prompt": "p", "file": "b.png"}],
        },
    ],
    "policy": "oracle", "setting": "4 calls, 5 frames a call, 2 Hz, 0 px", "truncated": False,
    "forced": False, "failed": "", "similarity": 0.9,
}  # fmt: skip


def test_a_file_of_version_0_1_reads_with_the_schemas_of_its_tools(tmp_path):
    (tmp_path / "t.jsonl").write_text(json.dumps(OLD) + "\n")
    (old,) = read_traces(tmp_path / "t.jsonl")
    assert old.tools == [RetrieveFrames().schema(), GenerateFrame().schema()]
    assert [frame.made for frame in old.frames()] == ["real", "generated"]
    assert old.dialect == "calls" and old.similarity == 0.9


@pytest.mark.parametrize("place", [".", "notebooks", "outputs/pocket/notebooks"])
def test_a_run_is_found_from_any_folder_of_the_repository(tmp_path, monkeypatch, place):
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(tmp_path / place)
    assert run_folder("", "pocket").resolve() == tmp_path / "outputs" / "pocket"
    assert str(run_folder("elsewhere", "pocket")) == "elsewhere"


def test_a_text_is_written_whole_or_not_at_all(tmp_path):
    write_text(tmp_path / "a" / "t.csv", "one")
    write_text(tmp_path / "a" / "t.csv", "two")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["t.csv"]
    assert (tmp_path / "a" / "t.csv").read_text() == "two"


def test_what_was_written_is_counted_and_what_is_not_there_left_out(tmp_path):
    write_traces(tmp_path / "t.jsonl", [trace()])
    table = written(tmp_path / "t.jsonl", tmp_path / "frames", tmp_path / "none")
    assert table.files.tolist() == [1, 2] and table.written[0].endswith("t.jsonl")


@pytest.mark.parametrize(
    "garbage",
    [
        b"", b"{}", b"null", b"[]", b"\0" * 500, b"\xff\xfe", b'{"question": 1}', b"nonsense",
        b'{"check":"00000000","key":"","question":{}}', b'"' * 9, b"{" * 3000,
    ],
)  # fmt: skip
def test_a_line_of_garbage_costs_itself_only_and_is_named(tmp_path, garbage):
    path = tmp_path / "t.jsonl"
    write_traces(path, [trace(), trace()])
    first, second = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([first, garbage, second, b""]))
    with pytest.warns(UserWarning, match="1 of 3 lines are left out: line 2 is "):
        assert len(read_traces(path)) == 2


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_changed_letter_is_noticed(tmp_path, share):
    path = tmp_path / "t.jsonl"
    write_traces(path, [trace(), trace()])
    content = bytearray(path.read_bytes())
    content[int(share * content.index(b"\n"))] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="1 of 2 lines are left out: line 1 is damaged"):
        assert len(read_traces(path)) == 1


def test_half_a_character_and_no_number_are_written_and_read(tmp_path):
    question = Question(video="v", text="\ud83d half", truth={"a": float("nan"), "\ud83d": 1})
    steps = [Step(kind="think", text="ok \udc00"), Step(kind="call", arguments={"q": "\ud800"})]
    odd = Trace(question=question, steps=steps, similarity=float("nan"))
    question = Question(video="v", text="?", duration_s=float("nan"))
    write_traces(tmp_path / "t.jsonl", [odd, Trace(question=question)])
    one, other = read_traces(tmp_path / "t.jsonl")
    assert one.question.text == "� half" and one.steps[0].text == "ok �"
    assert one.steps[1].arguments == {"q": "�"} and other.question.duration_s == 0


def test_pictures_leave_the_memory_once_they_are_on_disk(tmp_path):
    kept = trace()
    before = [frame.image().tobytes() for frame in kept.frames()]
    write_traces(tmp_path / "t.jsonl", [kept])
    assert all(frame.pixels is None for frame in kept.frames())
    assert [frame.image().tobytes() for frame in kept.frames()] == before


def test_a_picture_that_is_not_what_it_is_named_after_is_refused_and_written_again(tmp_path):
    write_traces(tmp_path / "t.jsonl", [trace()])
    (frame, *_) = read_traces(tmp_path / "t.jsonl")[0].frames()
    file = tmp_path / "frames" / frame.file
    whole = file.read_bytes()
    Image.new("RGB", (3, 3)).save(file)
    for damage in (file.read_bytes(), b"", whole[:-30], b"no picture"):
        file.write_bytes(damage)
        with pytest.raises(OSError, match="is damaged"):
            frame.image()
    write_traces(tmp_path / "t.jsonl", [trace()])
    assert frame.image().size and file.read_bytes() == whole


@pytest.mark.parametrize(
    "file", ["../secret.png", "/etc/passwd", "a/b.png", "..", ".", "C:\\x.png", "a\\b", "x\0.png"]
)
def test_a_picture_outside_its_folder_is_refused(tmp_path, file):
    with pytest.raises(ValueError, match="file"):
        Frame(time_s=1.0, file=file)
    path = tmp_path / "t.jsonl"
    write_traces(path, [trace()])
    fields = json.loads(path.read_text())
    del fields["check"]
    fields["overview"][0]["file"] = file
    path.write_text(json.dumps(fields) + "\n")
    with pytest.warns(UserWarning, match="line 1 is not a trace: overview.0.file"):
        assert len(read_traces(path)) == 0


def test_a_file_is_read_trace_by_trace(tmp_path):
    write_traces(tmp_path / "t.jsonl", [trace() for _ in range(5)])
    kept = read_traces(tmp_path / "t.jsonl")
    assert len(kept) == 5 and kept[-1] == kept[4] == list(kept)[2] and len(kept[1:3]) == 2
    with pytest.raises(IndexError):
        kept[5]


def test_a_file_of_traces_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "kept.jsonl"
    replace_traces(path, [trace(), trace()])

    def half():
        yield trace()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_traces(path, half())
    assert len(read_traces(path)) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["frames", "kept.jsonl"]


def test_compacting_keeps_the_last_line_of_each_key_and_imports_old_ones(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(OLD) + "\n")
    for key, policy in (("a1", "x"), ("b2", "y"), ("a1", "z")):
        write_traces(path, [trace().model_copy(update={"key": key, "policy": policy})])
    assert compact(path) == 1
    assert [t.policy for t in read_traces(path)] == ["oracle", "y", "z"]
    assert path.read_bytes().count(b'{"check":"') == 3
