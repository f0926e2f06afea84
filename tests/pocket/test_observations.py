import re

from act2see.interleave import Budget, open_trace
from act2see.pocket.observations import RIGHT, observations, observed, reasoned, with_chain
from act2see.pocket.questions import FOUNDATION, pocket_questions
from act2see.pocket.world import COLOURS
from act2see.trace import Step


def chains(tmp_path, count=32):
    questions = pocket_questions("validation", 4321, count, tmp_path, FOUNDATION)
    dense = Budget(overview_frames=40)
    return [with_chain(open_trace(question, RIGHT, (), dense)) for question in questions]


def rewritten(trace, change):
    text = change(trace.reasoning())
    return trace.model_copy(update={"steps": [Step(kind="think", text=text), trace.steps[-1]]})


def test_a_faultless_chain_is_true_and_leads_to_the_answer(tmp_path):
    traces = [t for t in chains(tmp_path) if t.question.family != "static"]
    assert all(t.well_formed() and observations(t) for t in traces)
    assert {observed(t) for t in traces} == {1.0}
    # A colour that a shape had before may be an option too; then the chain alone does not decide.
    assert sum(map(reasoned, traces)) >= 0.85 * len(traces)


def test_a_false_observation_is_found_and_leads_elsewhere(tmp_path):
    def other(text):
        return re.sub("|".join(COLOURS), lambda m: COLOURS[COLOURS.index(m[0]) - 1], text)

    moments = [t for t in chains(tmp_path) if t.question.family == "moment"]
    colours = [t for t in moments if "colour" in t.question.text and reasoned(t)]
    assert len(colours) > 1
    assert not any(observed(rewritten(t, other)) for t in colours)
    assert not any(reasoned(rewritten(t, other)) for t in colours)


def test_a_time_outside_the_clip_a_missing_time_and_no_observation_earn_nothing(tmp_path):
    trace = next(t for t in chains(tmp_path, 8) if t.question.family == "moment")
    step = "<action>segment_query(1.0, 2.0)</action><observation>{}</observation>"
    for text in ("at 999.9 the wall is dark.", "no visitor.", "nothing.", ""):
        assert observed(rewritten(trace, lambda _, text=text: step.format(text))) == 0
    assert observed(rewritten(trace, lambda text: "so it is red.")) == 0
