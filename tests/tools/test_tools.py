import json

import pytest

from act2see.dialects.calls import CALLS, read_call
from act2see.store import read_traces, write_traces
from act2see.tools.generate import GenerateFrame
from act2see.tools.retrieve import RetrieveFrames
from act2see.tools.tool import run_call
from act2see.trace import Frame, Step, Trace

RETRIEVE = RetrieveFrames()


def run(questions, raw: str, overview=(), tool=RETRIEVE) -> Step:
    trace = Trace(question=questions[0], overview=list(overview))
    return run_call((tool,), trace, read_call(raw))


def call(**arguments) -> str:
    return json.dumps({"name": "retrieve_frames", "arguments": arguments})


def test_frames_come_denser_in_order_and_never_more_than_allowed(questions):
    frames = run(questions, call(start_s=4, end_s=6)).frames
    assert [f.time_s for f in frames] == [4.0, 4.5, 5.0, 5.5, 6.0]
    whole = run(questions, call(start_s=0, end_s=questions[0].duration_s)).frames
    assert len(whole) == 5


def test_frames_already_shown_are_not_sent_again(questions):
    overview = [Frame(time_s=4.5), Frame(time_s=6.0)]
    frames = run(questions, call(start_s=4, end_s=6), overview).frames
    assert [f.time_s for f in frames] == [4.0, 5.0, 5.5]
    again = run(questions, call(start_s=4, end_s=6), [*overview, *frames])
    assert "was shown already" in again.text and not again.frames


@pytest.mark.parametrize(
    ("start", "end"),
    [("00:04", "00:06"), ("4", "6.0"), ("4 s", "6 seconds"), ("0:00:04.0", " 0:06 ")],
)
def test_a_time_may_be_a_text(questions, start, end):
    frames = run(questions, call(start_s=start, end_s=end)).frames
    assert [f.time_s for f in frames] == [4.0, 4.5, 5.0, 5.5, 6.0]
    late = run(questions, call(start_s=start, end_s="1:00:00"))
    assert "end_s is 3600; it must lie between 0 and" in late.text


def test_a_window_may_end_at_the_rounded_length(questions):
    question = questions[0].model_copy(update={"duration_s": 9.967})
    trace = Trace(question=question)
    evidence = run_call((RETRIEVE,), trace, read_call(call(start_s=9, end_s=10)))
    assert evidence.frames and all(frame.time_s <= 9.967 for frame in evidence.frames)
    late = run_call((RETRIEVE,), trace, read_call(call(start_s=9, end_s=10.1)))
    assert "end_s is 10.1; it must lie between 0 and 9.967" in late.text
    assert "lasts 9.967 seconds" in CALLS.instruction(trace)


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (call(start_s=6, end_s=4), "start_s is 6; it must be less than end_s, 4"),
        (call(start_s=4, end_s=4), "must be less than end_s"),
        (call(start_s=4, end_s=10_000), "end_s is 10000; it must lie between 0 and"),
        (call(start_s=-1, end_s=4), "start_s is -1"),
        (call(start_s=4), "needs end_s"),
        (call(start_s=4, end_s=6, frames=10_000), "knows no 'frames'; it takes start_s, end_s"),
        (call(start_s="noon", end_s=6), "start_s is 'noon'; it must be a number"),
        (call(start_s=True, end_s=6), "start_s is True; it must be a number"),
        (call(start_s=4, end_s=6, query=7), "query is 7; it must be a text"),
        (
            '{"name": "zoom", "arguments": {}}',
            "unknown tool 'zoom'; the tools are: retrieve",
        ),
        (call(start_s=float("1e300"), end_s=6), "start_s is 1e+300; it must lie between"),
        (call(start_s=None, end_s=6), "start_s is None; it must be a number"),
    ],
)
def test_a_senseless_call_is_answered_in_words(questions, raw, told):
    evidence = run(questions, raw)
    assert told in evidence.text
    assert evidence.kind == "evidence" and not evidence.frames


def test_a_query_keeps_the_best_frames_in_time_order(questions):
    ranker = lambda frames, query: -abs_from(frames, 5.0)  # noqa: E731
    tool = RetrieveFrames(frames_per_call=2, ranker=ranker)
    frames = run(questions, call(start_s=4, end_s=6, query="x"), tool=tool).frames
    assert len(frames) == 2 and frames[0].time_s < frames[1].time_s
    assert all(abs(f.time_s - 5) <= 0.25 for f in frames)


def imagined(**arguments) -> str:
    return json.dumps({"name": "generate_frame", "arguments": arguments})


def test_a_generated_frame_comes_from_the_real_one_at_that_time(questions):
    asked = []

    def generator(frame, prompt):
        asked.append((frame, prompt))
        return frame.rotate(90)

    tool = GenerateFrame(generator=generator)
    (frame,) = run(questions, imagined(prompt="remove it", time_s=4.02), tool=tool).frames
    real = run(questions, call(start_s=4, end_s=5)).frames[0]
    assert (frame.time_s, frame.made, frame.prompt) == (4.0, "generated", "remove it")
    assert asked[0][0].tobytes() == real.image().tobytes() and asked[0][1] == "remove it"
    assert frame.image().tobytes() == real.image().rotate(90).tobytes()
    assert frame.label() == "<4.0 seconds, generated>"


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (imagined(prompt="", time_s=4), "prompt has 0 characters; it must have 1 to 300"),
        (imagined(prompt=" \n", time_s=4), "prompt has 0 characters"),
        (imagined(prompt="x" * 10_000, time_s=4), "prompt has 10000 characters"),
        (imagined(prompt=7, time_s=4), "prompt is 7; it must be a text"),
        (imagined(prompt=["remove"], time_s=4), "it must be a text"),
        (imagined(prompt="remove it", time_s=4_000), "time_s is 4000; it must lie between 0 and"),
        (imagined(prompt="remove it", time_s=-1), "time_s is -1"),
        (imagined(prompt="remove it", time_s="noon"), "time_s is 'noon'; it must be a number"),
        (imagined(prompt="remove it"), "generate_frame needs time_s"),
    ],
)
def test_a_senseless_wish_is_answered_in_words(questions, raw, told):
    tool = GenerateFrame(generator=lambda frame, prompt: frame)
    evidence = run(questions, raw, tool=tool)
    assert told in evidence.text and not evidence.frames


def test_a_tool_without_its_generator_in_memory_is_the_users_mistake(questions):
    with pytest.raises(ValueError, match="call loaded"):
        run(questions, imagined(prompt="x", time_s=4), tool=GenerateFrame())


def abs_from(frames, time_s):
    import numpy as np

    return np.array([abs(f.time_s - time_s) for f in frames])


def test_limits_that_allow_no_frame_are_the_users_mistake():
    for wrong in {"frames_per_call": 0}, {"frames_per_call": -1}, {"rate_hz": 0}:
        with pytest.raises(ValueError, match="must be"):
            RetrieveFrames(**wrong)


def test_schemas_are_what_servers_expect():
    for tool in (RETRIEVE, GenerateFrame()):
        schema = tool.schema()
        function = schema["function"]
        assert schema["type"] == "function" and function["name"] == tool.name
        assert "title" not in json.dumps(schema) and "default" not in json.dumps(schema)
        assert set(function["parameters"]["required"]) <= set(function["parameters"]["properties"])


@pytest.mark.parametrize(
    "raw",
    [
        '{"name": "retrieve_frames", "arguments": {"start_s": 1, "end_s": 2, "query": "\\ud800"}}',
        '{"name": "\\ud800", "arguments": {}}',
        '{"name": "retrieve_frames", "arguments": {"start_s": ' + "[" * 250 + "]" * 250 + "}}",
        '{"name": "retrieve_frames", "arguments": {"start_s": ' + "[" * 900 + "]" * 900 + "}}",
    ],
)
def test_a_call_that_could_not_be_written_down_is_kept_as_text(raw, traces, tmp_path):
    call = read_call(raw)
    assert (call.tool, call.text) == ("", raw)
    trace = traces[1].model_copy(update={"steps": [call]})
    write_traces(tmp_path / "t.jsonl", [trace])
    assert read_traces(tmp_path / "t.jsonl")[0].steps[0].text == raw


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (
            '{"name": "retrieve_frames", "arguments": {"start_s": NaN, "end_s": 6}}',
            "NaN is no number",
        ),
        ('{"name": "retrieve_frames", "arg', "the call is not JSON"),
        ("[" * 100_000, "recursion"),
        ("[1, 2]", 'the call must be {"name"'),
        ('{"name": 7, "arguments": {}}', 'the call must be {"name"'),
        ('{"name": "retrieve_frames", "arguments": [4, 6]}', 'the call must be {"name"'),
        ("", "the call is not JSON"),
    ],
)
def test_a_call_that_cannot_be_read_is_explained(raw, reason):
    call = read_call(raw)
    assert not call.tool and reason in CALLS.unreadable(call.text)
