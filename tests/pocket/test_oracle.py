from dataclasses import replace

import pytest

from act2see.interleave import Budget, interleave
from act2see.pocket.oracle import OraclePolicy
from act2see.pocket.questions import FAMILIES, pocket_questions
from act2see.profiles import IMAGINE
from act2see.store import write_traces

RETRIEVE, GENERATE = IMAGINE.tools
TOOLS = (RETRIEVE, replace(GENERATE, generator=lambda frame, prompt: frame))
FAULTLESS = OraclePolicy(wrong_window=0, misread=0, jump=0, wander=0)


@pytest.fixture(scope="module")
def fifty(tmp_path_factory):
    return pocket_questions("validation", 77, 50, tmp_path_factory.mktemp("clips"), FAMILIES)


def test_a_faultless_teacher_is_right_and_calls_as_the_family_needs(fifty):
    calls = {family: set() for family in FAMILIES}
    for trace in interleave(fifty, FAULTLESS, TOOLS, Budget()):
        assert trace.correct(), trace.steps
        assert trace.failed_calls() == 0 and not trace.forced
        calls[trace.question.family].add(len(trace.calls()))
    wanted = {"static": {0}, "moment": {1}, "search": {1, 2}, "order": {1, 2}}
    assert calls == wanted | {"counterfactual": {1}}


@pytest.mark.parametrize("mistake", ["wrong_window", "misread", "jump", "wander"])
def test_every_mistake_is_made_and_never_crashes(fifty, mistake):
    rates = dict.fromkeys(("wrong_window", "misread", "jump", "wander"), 0.0) | {mistake: 1.0}
    traces = list(interleave(fifty, OraclePolicy(**rates), TOOLS, Budget()))
    right = {t.question.id: t for t in interleave(fifty, FAULTLESS, TOOLS, Budget())}
    changed = [t for t in traces if t.steps != right[t.question.id].steps]
    assert len(changed) >= 15
    wrong = [t for t in traces if not t.correct()]
    assert (len(wrong) == 0) if mistake == "wander" else wrong


def test_the_same_seed_gives_byte_identical_traces(fifty, tmp_path):
    for name in ("a", "b"):
        write_traces(tmp_path / name / "t.jsonl", interleave(fifty, OraclePolicy(), TOOLS))
    assert (tmp_path / "a/t.jsonl").read_bytes() == (tmp_path / "b/t.jsonl").read_bytes()
    assert [f.name for f in sorted((tmp_path / "a/frames").iterdir())] == [
        f.name for f in sorted((tmp_path / "b/frames").iterdir())
    ]


@pytest.mark.parametrize(("tool", "family"), [(0, "counterfactual"), (1, "moment")])
def test_without_a_tool_the_teacher_guesses_and_does_not_call(fifty, tool, family):
    questions = [q for q in fifty if q.family == family]
    traces = list(interleave(questions, FAULTLESS, (TOOLS[tool],), Budget()))
    assert not any(t.calls() for t in traces) and all(t.letter() for t in traces)
    assert not all(t.correct() for t in traces)
