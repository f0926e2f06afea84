import pytest

from act2see.dialects.calls import CALLS
from act2see.trace import Step, Trace
from tests.test_trace import question, trace


def test_messages_after_n_steps_begin_those_after_more():
    whole = trace()
    for count in (0, 3):
        shorter = CALLS.messages(whole.model_copy(update={"steps": whole.steps[:count]}))
        assert CALLS.messages(whole)[: len(shorter)] == shorter


def test_messages_keep_roles_calls_and_times():
    messages = CALLS.messages(trace())
    assert [m["role"] for m in messages] == ["user", "assistant", "tool", "assistant"]
    call = messages[1]["tool_calls"][0]["function"]
    assert call == {"name": "retrieve_frames", "arguments": {"start_s": 3.0, "end_s": 4.0}}
    assert messages[2]["content"][0]["text"] == "<3.0 seconds>"
    assert messages[3]["content"] == "Answer: B"


def test_an_unreadable_call_stands_as_it_was_written():
    steps = [Step(kind="think"), Step(kind="call", text='{"name": ')]
    message = CALLS.messages(Trace(question=question(), steps=steps))[-1]
    assert message["content"] == '<tool_call>\n{"name": \n</tool_call>'


@pytest.mark.parametrize(
    ("text", "thinking", "calls", "answer"),
    [
        ("a\n</think>\n\nAnswer: B", "a", 0, "Answer: B"),
        ("<think>a</think><tool_call>{}</tool_call>", "a", 1, ""),
        ("a</think><tool_call>{}</tool_call><tool_call>{}</tool_call>", "a", 2, ""),
        ("a<tool_call>{}", "a", 1, ""),
        ("never closed", "never closed", 0, ""),
        ("", "", 0, ""),
    ],
)
def test_replies_are_taken_apart(text, thinking, calls, answer):
    reply = CALLS.read_reply(text)
    assert (reply.thinking, len(reply.calls), reply.answer) == (thinking, calls, answer)
