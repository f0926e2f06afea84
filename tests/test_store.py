import json

import pytest

from act2see.dialects.calls import CALLS
from act2see.store import read_traces, write_text, write_traces, written
from act2see.tools.generate import GenerateFrame
from act2see.tools.retrieve import RetrieveFrames
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


def test_a_text_is_written_whole_or_not_at_all(tmp_path):
    write_text(tmp_path / "a" / "t.csv", "one")
    write_text(tmp_path / "a" / "t.csv", "two")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["t.csv"]
    assert (tmp_path / "a" / "t.csv").read_text() == "two"


def test_what_was_written_is_counted_and_what_is_not_there_left_out(tmp_path):
    write_traces(tmp_path / "t.jsonl", [trace()])
    table = written(tmp_path / "t.jsonl", tmp_path / "frames", tmp_path / "none")
    assert table.files.tolist() == [1, 2] and table.written[0].endswith("t.jsonl")
