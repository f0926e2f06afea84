import pytest
from PIL import Image

from act2see.trace import Frame, Question, Step, Trace, read_letter, read_traces, write_traces


def question() -> Question:
    return Question(
        id="q", source="s", family="f", video="v.mp4", duration_s=9, text="which?",
        options=["red", "blue"], answer=1,
    )  # fmt: skip


def trace() -> Trace:
    picture = Image.new("RGB", (4, 4), "red")
    seen = Step(kind="evidence", frames=[Frame(time_s=3, pixels=Image.new("RGB", (4, 4), "blue"))])
    return Trace(
        question=question(),
        overview=[Frame(time_s=1, pixels=picture), Frame(time_s=2, pixels=picture)],
        tools=["retrieve_frames"],
        steps=[
            Step(kind="think", text="look"),
            Step(kind="call", tool="retrieve_frames", arguments={"start_s": 3.0, "end_s": 4.0}),
            seen,
            Step(kind="think", text="blue"),
            Step(kind="answer", text="Answer: B"),
        ],
    )


def test_messages_after_n_steps_begin_those_after_more():
    whole = trace()
    for count in (0, 3):
        shorter = whole.model_copy(update={"steps": whole.steps[:count]})
        assert whole.messages()[: len(shorter.messages())] == shorter.messages()


def test_messages_keep_roles_calls_and_times():
    messages = trace().messages()
    assert [m["role"] for m in messages] == ["user", "assistant", "tool", "assistant"]
    call = messages[1]["tool_calls"][0]["function"]
    assert call == {"name": "retrieve_frames", "arguments": {"start_s": 3.0, "end_s": 4.0}}
    assert messages[2]["content"][0]["text"] == "<3.0 seconds>"
    assert messages[3]["content"] == "Answer: B"


def test_generated_frames_say_so():
    assert Frame(time_s=3, generated=True).label() == "<3.0 seconds, generated>"


def test_unreadable_call_is_told_as_it_was_written():
    steps = [Step(kind="think"), Step(kind="call", text='{"name": ')]
    message = Trace(question=question(), steps=steps).messages()[-1]
    assert message["content"] == '<tool_call>\n{"name": \n</tool_call>'


def test_file_alone_recreates_the_dialogue_and_stores_a_picture_once(tmp_path):
    write_traces(tmp_path / "t.jsonl", [trace(), trace()])
    first, second = read_traces(tmp_path / "t.jsonl")
    assert len(list((tmp_path / "frames").iterdir())) == 2
    assert first == second
    for told, wanted in zip(first.messages(), trace().messages(), strict=True):
        if isinstance(told["content"], str):
            assert told == wanted
            continue
        for part, other in zip(told["content"], wanted["content"], strict=True):
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
    with pytest.raises(ValueError, match=r"t\.jsonl: line 1 is not a trace"):
        read_traces(path)


@pytest.mark.parametrize(
    ("said", "letter"),
    [
        ("Answer: B", "B"), ("Answer: (B)", "B"), ("Answer: A\nno. Answer: B", "B"),
        ("A man walks", ""), ("Answer: D", ""), ("Answer: Bob", ""), ("", ""),
    ],
)  # fmt: skip
def test_letters_are_read_strictly(said, letter):
    assert read_letter(said, 2) == letter


def test_right_and_wrong():
    assert trace().correct()
    assert not Trace(question=question()).correct()


def test_a_line_cut_inside_a_letter_is_left_out(traces, tmp_path):
    trace = traces[0].model_copy(update={"policy": "é"})
    write_traces(tmp_path / "t.jsonl", [trace, trace])
    whole = (tmp_path / "t.jsonl").read_bytes()
    (tmp_path / "t.jsonl").write_bytes(whole[: whole.rindex("é".encode()) + 1])
    with pytest.warns(UserWarning, match="line 2 was cut off"):
        assert len(read_traces(tmp_path / "t.jsonl")) == 1


def test_more_options_than_letters_are_refused():
    with pytest.raises(ValueError, match="at most 10"):
        Question(
            id="",
            source="",
            family="",
            video="",
            duration_s=1.0,
            text="",
            options=list("abcdefghijk"),
        )
