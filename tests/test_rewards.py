from math import exp

import pytest

from act2see.rewards import ChainReward, LookReward, facts, framemind, naive, valid_calls
from act2see.trace import Frame, Question, Step, Trace


def trace(letter="A", calls=0, failed=0, id="q"):
    """A dialogue of so many calls, the last of them answered with an error."""
    question = Question(id=id, video="v.mp4", text="which?", options=["x", "y"], answer=0)
    steps = []
    for number in range(calls):
        steps.append(Step(kind="think", text="i look."))
        steps.append(Step(kind="call", tool="look", arguments={"time_s": number}))
        shown = {"frames": [Frame(time_s=number)]} if number < calls - failed else {"text": "no."}
        steps.append(Step(kind="evidence", **shown))
    steps += [Step(kind="think", text="so."), Step(kind="answer", text=f"Answer: {letter}")]
    return Trace(question=question, steps=steps)


def test_the_naive_reward_is_for_answer_and_form_alone():
    assert naive(trace()) == naive(trace(calls=3)) == 1.5
    assert naive(trace("B")) == 0.5
    assert naive(trace().model_copy(update={"forced": True})) == 1.0


def test_a_look_pays_where_the_question_gains_by_it_and_less_with_every_further_one():
    reward = LookReward({"q": 1.0, "static": 0.0, "harmed": -0.5})
    assert reward(trace()) == 1.5
    assert reward(trace(calls=1)) == pytest.approx(1.5 + 0.6 * exp(-1 / 36))
    assert reward(trace(calls=6)) == pytest.approx(1.5 + 0.6 * exp(-1))
    assert reward(trace(calls=2, id="static")) == 1.5
    assert reward(trace(calls=1, id="harmed")) < 1.5


def test_a_call_that_brought_nothing_earns_nothing():
    assert valid_calls(trace(calls=2, failed=1)) == 1
    assert LookReward({"q": 1.0})(trace(calls=1, failed=1)) == 1.5


def test_framemind_pays_two_or_three_turns():
    assert framemind(trace()) == 1.5
    assert framemind(trace(calls=1)) == framemind(trace(calls=2)) == 2.5
    assert framemind(trace(calls=3)) == 2.0
    assert framemind(trace(calls=1, failed=1)) == 2.0


def test_rewatch_multiplies_what_the_chain_earns_by_the_answer():
    reward = ChainReward(lambda t: 0.5, lambda t: 1.0)
    assert reward(trace()) == 1 * (1 + 0.5 + 1.0) + 0.5
    assert reward(trace("B")) == 0.5


def test_facts_are_per_dialogue():
    groups = [[trace(calls=2, failed=1), trace("B")], [trace(), trace()]]
    numbers = facts(groups, [[1.0, 0.0], [1.0, 1.0]])
    assert numbers["reward"] == numbers["right"] == 0.75
    assert (numbers["calls"], numbers["valid_calls"], numbers["callers"]) == (0.5, 0.25, 0.25)
    assert numbers["mixed_groups"] == 0.5 and numbers["forced"] == 0
