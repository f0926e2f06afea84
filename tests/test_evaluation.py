"""A scripted policy is asked as notebooks 04 and 05 ask a student."""

import warnings

import pytest

from act2see.evaluation import answer, file_name
from act2see.interleave import Budget
from act2see.trace import Reply

BUDGET = Budget(overview_frames=2, open_dialogues=2)


class Scripted:
    """Always answers B, and notes how many turns it was asked for."""

    name = "scripted"

    def __init__(self):
        self.turns = 0

    def reply(self, traces):
        self.turns += len(traces)
        return [Reply("it is the second.", answer="Answer: B") for _ in traces]


def later(traces):
    """A question after each of family `static`."""
    first = [t.question for t in traces if t.question.family == "static"]
    return [q.model_copy(update={"id": f"{q.id}/why", "family": "why"}) for q in first]


def test_traces_stand_in_the_order_of_the_questions(questions, tmp_path):
    traces = answer(Scripted(), questions[:3], (), BUDGET, tmp_path, 0, [])
    assert [t.question.id for t in traces] == [q.id for q in questions[:3]]
    assert all(t.letter() == "B" and len(t.overview) == 2 for t in traces)


def test_what_the_file_holds_is_not_asked_again(questions, tmp_path):
    policy = Scripted()
    traces = answer(policy, questions[:2], (), BUDGET, tmp_path, 0, [])
    more = answer(policy, questions[:3], (), BUDGET, tmp_path, 0, [])
    assert policy.turns == 3
    assert [t.steps for t in more[:2]] == [t.steps for t in traces]


def test_questions_that_follow_are_asked_after_the_others(questions, tmp_path):
    policy = Scripted()
    for _ in range(2):
        traces = answer(policy, questions[:3], (), BUDGET, tmp_path, 0, [], later)
    ids = [q.id for q in questions[:3]]
    assert [t.question.id for t in traces] == [*ids, f"{ids[0]}/why"]
    assert policy.turns == 4
    assert len(list(tmp_path.glob("*.jsonl"))) == 1


def test_no_questions_are_no_traces_and_no_file(tmp_path):
    assert answer(Scripted(), [], (), BUDGET, tmp_path, 0, ["my/model"]) == []
    assert not list(tmp_path.iterdir())


def test_systems_seeds_frames_and_models_have_files_of_their_own(questions, tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"one")
    names = {file_name("act2see", questions, BUDGET, 0, [tmp_path])}
    names.add(file_name("base", questions, BUDGET, 0, [tmp_path]))
    names.add(file_name("act2see", questions, BUDGET, 1, [tmp_path]))
    names.add(file_name("act2see", questions, Budget(), 0, [tmp_path]))
    names.add(file_name("act2see", questions, BUDGET, 0, [tmp_path, "my/adapter"]))
    weights.write_bytes(b"two")
    names.add(file_name("act2see", questions, BUDGET, 0, [tmp_path]))
    assert len(names) == 6
    assert all(name.startswith("pocket-") and "/" not in name for name in names)


class CutOff(Scripted):
    """Runs into the token limit at every turn."""

    def reply(self, traces):
        return [Reply("it is the", truncated=True) for _ in traces]

    def force(self, traces):
        return ["Answer: A" for _ in traces]


def test_many_turns_that_were_cut_off_are_told(questions, tmp_path):
    with pytest.warns(UserWarning, match="2 of 2 dialogues of scripted ran into the token limit"):
        answer(CutOff(), questions[:2], (), BUDGET, tmp_path, 0, [])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        answer(Scripted(), questions[:2], (), BUDGET, tmp_path / "whole", 0, [])
