from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from act2see.interleave import Budget, interleave
from act2see.pocket.making.retriever import true_sentences
from act2see.pocket.oracle import OraclePolicy
from act2see.pocket.questions import pocket_questions
from act2see.pocket.world import FPS, sample_scene
from act2see.profiles import IMAGINE, PAPER_POCKET
from act2see.store import write_traces
from act2see.tools.search import ImagineFrame, SearchFrame

RETRIEVE, GENERATE = IMAGINE.tools
TOOLS = (RETRIEVE, replace(GENERATE, generator=lambda frame, prompt: frame))
FAULTLESS = OraclePolicy(wrong_window=0, misread=0, jump=0, wander=0)


@pytest.fixture(scope="module")
def fifty(tmp_path_factory):
    return pocket_questions(
        "validation", 77, 50, tmp_path_factory.mktemp("clips"), IMAGINE.families
    )


def test_a_faultless_teacher_is_right_and_calls_as_the_family_needs(fifty):
    calls = {family: set() for family in IMAGINE.families}
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


def test_a_call_in_a_wrong_form_is_refused_and_mended(fifty):
    slipping = replace(FAULTLESS, slips=1.0)
    right = {t.question.id: t for t in interleave(fifty, FAULTLESS, TOOLS, Budget())}
    reasons, places = set(), Counter()
    for trace in interleave(fifty, slipping, TOOLS, Budget()):
        assert trace.correct() and not trace.forced, trace.steps
        expected = right[trace.question.id].steps
        refusals = [
            i for i, step in enumerate(trace.steps) if step.kind == "evidence" and step.text
        ]
        # What is answered at once has no second turn to slip in.
        assert len(refusals) == trace.failed_calls() == (trace.steps != expected)
        for place in refusals:
            thought, call, refusal = trace.steps[place - 2 : place + 1]
            assert (thought.kind, call.kind) == ("think", "call") and not refusal.frames
            # Else all is as if nothing had happened.
            assert trace.steps[: place - 2] + trace.steps[place + 1 :] == expected
            reasons.add(refusal.text.split(":")[0])
            places[place] += 1
    assert len(reasons) >= 3 and min(places[2], places[5]) >= 5
    some = list(interleave(fifty, replace(FAULTLESS, slips=0.3), TOOLS, Budget()))
    assert 5 <= sum(t.failed_calls() for t in some) <= 25


def test_slips_change_nothing_else_that_is_drawn(fifty):
    plain = list(interleave(fifty, OraclePolicy(), TOOLS, Budget()))
    slipping = list(interleave(fifty, OraclePolicy(slips=1e-9), TOOLS, Budget()))
    by_question = {t.question.id: t.steps for t in slipping}
    assert all(by_question[t.question.id] == t.steps for t in plain)


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


# Who is described, by windows and by a text


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    clips = tmp_path_factory.mktemp("clips")
    return pocket_questions("validation", 78, 20, clips, ("described",))


def test_without_a_text_the_teacher_looks_through_gaps_and_answers_what_it_saw(described):
    traces = list(interleave(described, FAULTLESS, TOOLS, Budget()))
    for trace in traces:
        assert 1 <= len(trace.calls()) <= 4 and not trace.failed_calls()
        window = trace.question.truth["windows"][0]
        shown = [f for s in trace.steps for f in s.frames if window[0] <= f.time_s < window[1]]
        assert trace.correct() or not shown
    assert 5 <= sum(t.correct() for t in traces) < 20


def perfect(video, query, rate_hz):
    """Scores of a retriever that never errs: 1 where the scene bears out every fact."""
    scene = sample_scene(int(Path(video).stem))
    times_s = np.floor(np.arange(0, scene.duration_s, 1 / rate_hz) * FPS) / FPS
    facts = {f"{fact}." for fact in query.rstrip(".").split(". ")}
    known = [true_sentences(scene.facts(time_s)) for time_s in times_s]
    return times_s, np.array([float(facts <= texts) for texts in known])


SEARCH = (
    SearchFrame(retriever=perfect),
    ImagineFrame(retriever=perfect, generator=lambda frame, query: frame),
)
TAGS = PAPER_POCKET.budget


def test_by_texts_the_teacher_finds_who_is_described_and_what_is_supposed(described, fifty):
    supposed = [question for question in fifty if question.family == "counterfactual"]
    for trace in interleave([*described, *supposed], FAULTLESS, SEARCH, TAGS):
        assert trace.correct() and len(trace.calls()) == 1 and not trace.failed_calls()
        assert set(trace.calls()[0].arguments) == {"query"}


def test_a_text_names_no_time_so_one_frame_leaves_moments_and_searches_open(fifty):
    traces = list(interleave(fifty, FAULTLESS, SEARCH, TAGS))
    right = {f: [t.correct() for t in traces if t.question.family == f] for f in IMAGINE.families}
    assert all(right["static"]) and all(right["counterfactual"])
    assert sum(right["moment"]) + sum(right["search"]) <= 15
    assert all(len(t.calls()) <= 1 and t.letter() and not t.forced for t in traces)


def test_a_teacher_that_may_searches_on_until_a_frame_settles_it(fifty):
    policy = replace(FAULTLESS, searches=4)
    traces = list(interleave(fifty, policy, SEARCH, replace(TAGS, max_calls=4)))
    assert {len(t.calls()) for t in traces} >= {0, 1, 4} and max(
        len(t.calls()) for t in traces
    ) == 4
    for trace in (t for t in traces if len(t.calls()) > 1):
        texts = [s.text for s in trace.steps if s.kind == "think"]
        assert all(text.endswith("i search for it.") for text in texts[:-1])
        times_s = [frame.time_s for frame in trace.frames()]
        assert len(times_s) == len({*times_s})


@pytest.mark.parametrize("mistake", ["wrong_window", "misread", "jump", "wander"])
def test_every_mistake_is_made_in_tags_too(described, fifty, mistake):
    rates = dict.fromkeys(("wrong_window", "misread", "jump", "wander"), 0.0) | {mistake: 1.0}
    questions = [*described, *fifty]
    traces = {t.question.id: t for t in interleave(questions, OraclePolicy(**rates), SEARCH, TAGS)}
    right = {t.question.id: t for t in interleave(questions, FAULTLESS, SEARCH, TAGS)}
    changed = [t for t in traces.values() if t.steps != right[t.question.id].steps]
    assert len(changed) >= 30 and all(t.letter() for t in traces.values())
