"""What a server said, read as it was meant: in each dialect, wherever the server put it."""

import pytest
from PIL import Image

from act2see.dialects.tags import TAGS
from act2see.policies.wire import Said, closed, hear, rounds
from act2see.trace import Frame, Question, Step, Trace

QUESTION = Question(video="v.mp4", text="which?", options=["red", "blue", "green", "white"])
CALL = '<tool_call>{"name": "retrieve_frames", "arguments": {"start_s": 1}}</tool_call>'


def heard(dialect="calls", **fields):
    return hear(Said(**fields), Trace(question=QUESTION, dialect=dialect)).reply


def test_a_call_that_a_server_took_for_a_thought_is_a_call():
    reply = heard(thinking=f"not shown yet.\n{CALL}")
    assert reply.thinking == "not shown yet." and reply.answer == ""
    assert reply.calls[0].arguments == {"start_s": 1}


def test_a_call_beside_its_thought_is_counted_once():
    call = Step(kind="call", tool="retrieve_frames", arguments={"start_s": 1})
    reply = heard(thinking=f"i will write {CALL}", calls=[call])
    assert reply.calls == [call]


@pytest.mark.parametrize(
    "text",
    [
        "At 3 s the cup is blue. So it must be option (B).",
        "At 3 s the cup is blue.\n\nThe answer is B.",
        "At 3 s the cup is blue.\n\n(B)",
        "At 3 s the cup is blue; \\boxed{B}",
    ],
)
def test_reasoning_that_ends_without_an_answer_line_is_kept_and_its_letter_read(text):
    reply = heard(text=text)
    assert (reply.thinking, reply.answer) == (text, "Answer: B")


def test_words_that_state_no_letter_are_kept_and_not_made_into_one():
    text = "A man opens the door. I cannot tell."
    assert (heard(text=text).thinking, heard(text=text).answer) == (text, "")
    free = Trace(question=QUESTION.model_copy(update={"options": []}))
    assert hear(Said(text=text), free).reply.answer == text


TOLD = "<retrieve> a cup </retrieve>"


@pytest.mark.parametrize(
    ("said", "thinking", "query", "answer"),
    [
        # The model writes its thinking out, and the stop text is gone.
        ({"text": "<think>hm. <retrieve> a cup ", "stop": None}, "hm.", "a cup", ""),
        ({"text": "<think>hm. <retrieve> a cup ", "stop": "</retrieve>"}, "hm.", "a cup", ""),
        ({"text": f"<think>hm. {TOLD}", "stop": "</retrieve>"}, "hm.", "a cup", ""),
        # A server with a parser of thoughts takes all of it for one.
        ({"thinking": "hm. <retrieve> a cup ", "stop": "</retrieve>"}, "hm.", "a cup", ""),
        ({"thinking": f"hm. {TOLD}", "stop": ""}, "hm.", "a cup", ""),
        # The thought apart, the call said aloud.
        ({"thinking": "hm.", "text": f"so: {TOLD}"}, "hm.\n\nso:", "a cup", ""),
        # A call that was only thought of: the visible text carries the trace.
        (
            {"thinking": f"{TOLD}? no.", "text": "<answer> B </answer>"},
            "a cup ? no.",
            None,
            "Answer: B",
        ),
        (
            {"thinking": f"{TOLD}? no.", "text": "<think>blue.</think><answer> B"},
            "blue.",
            None,
            "Answer: B",
        ),
        # Nothing behind the call counts: the frame in it was made up.
        ({"text": f"hm. {TOLD}<frame>a cup</frame><answer> C </answer>"}, "hm.", "a cup", ""),
    ],
)
def test_tags_are_read_wherever_a_server_puts_them(said, thinking, query, answer):
    reply = heard("tags", **said)
    assert (" ".join(reply.thinking.split()), reply.answer) == (" ".join(thinking.split()), answer)
    assert [call.arguments for call in reply.calls] == ([] if query is None else [{"query": query}])


def test_a_turn_that_ended_by_itself_with_an_open_tag_holds_a_call_that_cannot_be_read():
    for fields in ({"text": "hm. <retrieve> a cup"}, {"thinking": "hm. <retrieve> a cup"}):
        (call,) = heard("tags", **fields, stop="").calls
        assert not call.tool and call.text == "<retrieve> a cup"


def test_a_turn_cut_at_its_limit_is_not_closed():
    reply = heard("tags", text="hm. <retrieve> a c", truncated=True)
    assert reply.truncated and not reply.calls[0].tool


@pytest.mark.parametrize(
    ("text", "stop", "whole"),
    [
        ("hm", None, "hm"),
        ("<generate> a", None, "<generate> a</generate>"),
        ("<answer> B", None, "<answer> B</answer>"),
        (f"{TOLD} hm", None, f"{TOLD} hm"),
        ("<retrieve> a <generate> b", None, "<retrieve> a <generate> b</generate>"),
        ("<retrieve> a", "<|im_end|>", "<retrieve> a"),
        ("", None, ""),
    ],
)
def test_only_the_tag_that_is_open_at_the_end_is_closed(text, stop, whole):
    assert closed(text, TAGS, stop) == whole


def test_a_turn_in_tags_is_words_and_what_it_got_is_the_users():
    frame = Frame(time_s=3, pixels=Image.new("RGB", (8, 8)))
    look = Step(kind="call", tool="retrieve", arguments={"query": "a cup"})
    steps = [
        Step(kind="think", text="hm."),
        look,
        Step(kind="evidence", frames=[frame]),
        Step(kind="think", text="again."),
        Step(kind="call", text="<retrieve> a"),
        Step(kind="evidence", text="the call must be closed."),
    ]
    first, second = rounds(Trace(question=QUESTION, steps=steps, dialect="tags"))
    assert first.words == "<think>\nhm.\n<retrieve> a cup </retrieve>" and not first.functions
    assert second.words == "again.\n<retrieve> a"
    (shown,) = first.answers
    (told,) = second.answers
    assert shown.tool == "" and [part["type"] for part in shown.parts] == [
        "text",
        "text",
        "image",
        "text",
    ]
    assert [part["text"] for part in told.parts] == [
        "<frame>",
        "the call must be closed.",
        "</frame>",
    ]
