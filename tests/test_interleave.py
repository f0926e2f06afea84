from dataclasses import dataclass, field

import pytest

from act2see.interleave import (
    NO_CALLS_LEFT,
    Budget,
    Reply,
    collect,
    interleave,
    read_reply,
    setting,
)
from act2see.policies.oracle import OraclePolicy
from act2see.toolbox import Toolbox
from act2see.trace import Step, read_traces

LOOK = Step(kind="call", tool="retrieve_frames", arguments={"start_s": 1, "end_s": 3})


@dataclass
class Script:
    """A policy that says the same for every question; counts how many were open at once."""

    turns: list[Reply]
    name: str = "script"
    widths: list[int] = field(default_factory=list)

    def reply(self, traces):
        self.widths.append(len(traces))
        spoken = [sum(s.kind == "think" for s in t.steps) for t in traces]
        return [self.turns[min(n, len(self.turns) - 1)] for n in spoken]

    def force(self, traces):
        return ["Answer: C" for _ in traces]


def one(questions, turns, budget):
    return next(interleave(questions[:1], Script(turns), Toolbox(), budget))


def test_an_answer_ends_the_dialogue(questions):
    turns = [Reply("hm", [LOOK]), Reply("so", answer="Answer: A")]
    trace = one(questions, turns, Budget())
    assert [s.kind for s in trace.steps] == ["think", "call", "evidence", "think", "answer"]
    assert len(trace.overview) == 8 and trace.letter() == "A" and not trace.forced


def test_a_spent_budget_is_told_once_and_then_an_answer_is_forced(questions):
    trace = one(questions, [Reply("more", [LOOK])], Budget(max_calls=1))
    assert [s.text for s in trace.steps if s.kind == "evidence"][1:] == [NO_CALLS_LEFT]
    assert trace.forced and trace.letter() == "C" and not trace.truncated


def test_a_call_that_was_refused_before_ends_the_budget(questions):
    trace = one(questions, [Reply("more", [LOOK])], Budget(max_calls=4))
    shown, again, ended = [s.text for s in trace.steps if s.kind == "evidence"]
    assert not shown and "shown already" in again and ended == NO_CALLS_LEFT
    assert trace.forced and trace.failed_calls() == 2


def test_nothing_is_shown_once_the_budget_has_ended(questions):
    bad = Step(kind="call", tool="zoom")
    trace = one(questions, [Reply("hm", [bad, bad, LOOK]), Reply("", answer="Answer: A")], Budget())
    assert [bool(s.frames) for s in trace.steps if s.kind == "evidence"] == [False] * 3
    assert [s.text for s in trace.steps if s.kind == "evidence"][1:] == [NO_CALLS_LEFT] * 2


def test_a_turn_that_runs_too_long_is_counted_and_answered(questions):
    trace = one(questions, [Reply("on and on", truncated=True)], Budget())
    assert trace.truncated and trace.forced and trace.letter() == "C"


def test_neither_call_nor_letter_is_made_to_choose(questions):
    trace = one(questions, [Reply("hm", answer="it is red")], Budget())
    assert trace.forced and trace.letter() == "C"


def test_two_calls_in_one_turn_get_an_answer_each(questions):
    other = Step(kind="call", tool="zoom")
    turns = [Reply("hm", [LOOK, other]), Reply("", answer="Answer: A")]
    trace = one(questions, turns, Budget())
    assert [s.kind for s in trace.steps[:5]] == ["think", "call", "call", "evidence", "evidence"]
    assert trace.failed_calls() == 1
    assert [m["role"] for m in trace.messages()][1:4] == ["assistant", "tool", "tool"]


def test_places_are_filled_as_dialogues_finish(questions):
    script = Script([Reply("", answer="Answer: A")])
    assert len(list(interleave(questions, script, Toolbox(), Budget(open_dialogues=3)))) == 10
    assert script.widths == [3, 3, 3, 1]


def test_collect_asks_nothing_twice_and_survives_an_interruption(questions, tmp_path):
    path, teacher = tmp_path / "t.jsonl", OraclePolicy()
    whole = collect(path, questions[:4], teacher, Toolbox())
    path.write_bytes(path.read_bytes()[:-30])
    counted = Script([Reply("", answer="Answer: A")], name=teacher.name)
    with pytest.warns(UserWarning, match="cut off"):
        again = collect(path, questions[:4], counted, Toolbox())
    assert counted.widths == [1]
    same = [a.model_dump_json() == b.model_dump_json() for a, b in zip(whole, again, strict=True)]
    assert sum(same) in (0, 3)
    assert len(read_traces(path)) == 4


def test_another_policy_or_other_tools_are_asked_anew(questions, tmp_path):
    path = tmp_path / "t.jsonl"
    for name, tools in (("a", ()), ("b", ()), ("b", ("retrieve_frames",))):
        script = Script([Reply("", answer="Answer: A")], name=name)
        collect(path, questions[:2], script, Toolbox(tools=tools))
        assert script.widths == [2]


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
    reply = read_reply(text)
    assert (reply.thinking, len(reply.calls), reply.answer) == (thinking, calls, answer)


def test_other_limits_are_asked_anew(questions, tmp_path):
    path, script = (
        tmp_path / "t.jsonl",
        Script([Reply("hm", [LOOK]), Reply("so", answer="Answer: A")]),
    )
    first = collect(path, questions[:2], script, Toolbox(), Budget())
    again = collect(path, questions[:2], script, Toolbox(), Budget(max_calls=0))
    fewer = collect(path, questions[:2], script, Toolbox(frames_per_call=2), Budget())
    assert [len(t.frames()) for t in (first[0], again[0], fewer[0])] == [12, 8, 10]
    asked = len(script.widths)
    collect(path, questions[:2], script, Toolbox(frames_per_call=2), Budget())
    assert len(script.widths) == asked


def named(name):
    """A ranker or a generator of this name."""

    def model(*given):
        return given[0]

    model.__name__ = name
    return model


def test_another_model_behind_a_tool_on_offer_is_asked_anew(questions, tmp_path):
    script = Script([Reply("", answer="Answer: A")])
    both = {"tools": ("retrieve_frames", "generate_frame"), "generator": named("g")}
    for box in (both, both | {"ranker": named("r")}, both | {"generator": named("g, 9 steps")}):
        for _ in range(2):
            collect(tmp_path / "t.jsonl", questions[:2], script, Toolbox(**box))
    assert script.widths == [2, 2, 2]


def test_a_setting_names_no_model_that_no_tool_uses():
    plain = "4 calls, 5 frames a call, 4 Hz, 0 px"
    assert setting(Toolbox(generator=named("g")), Budget()) == plain
    assert setting(Toolbox(ranker=named("r")), Budget()) == f"{plain}, r"
    assert setting(Toolbox(tools=(), ranker=named("r")), Budget()) == plain
    other = Toolbox(tools=("generate_frame",), ranker=named("r"), generator=named("g"))
    assert setting(other, Budget()) == f"{plain}, g"
