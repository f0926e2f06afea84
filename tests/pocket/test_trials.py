import pandas as pd
import pytest

from act2see.pocket.questions import FOUNDATION
from act2see.pocket.trial_tables import CURVE, chosen, curves, gains
from act2see.pocket.trials import ARMS, Arm, Trials, reward, runs
from act2see.rewards import LookReward, framemind, naive
from act2see.trace import LETTERS, Step

FACTS = dict.fromkeys(CURVE, 0.5)


@pytest.fixture
def study(tmp_path):
    return Trials(tmp_path, lessons=4, passes=4, asked=4, steps=2, tested=8)


def answered(trace, right):
    letter = LETTERS[(trace.question.answer + (not right)) % 4]
    steps = [*trace.steps[:-1], Step(kind="answer", text=f"Answer: {letter}")]
    return trace.model_copy(update={"steps": steps})


def test_every_reinforced_arm_has_its_start_among_the_arms():
    starts = {arm.start: arm for arm in ARMS if not arm.reward}
    for arm in ARMS:
        assert starts[arm.start].way.tools == arm.way.tools or arm.name == "FrameMind"
    assert len({arm.name for arm in ARMS}) == len(ARMS)


def test_no_two_runs_share_a_folder_and_a_start_without_a_seed_is_asked_once(study):
    names = [study.name(arm, seed) for arm in ARMS for seed in runs(arm, 3)]
    assert len({*names}) == len(names)
    assert len(names) == sum(3 if a.reward or a.start in ("half", "chains") else 1 for a in ARMS)
    assert not any(set(name) & set(", /") for name in names)


def test_rewards_are_the_arms(study, questions):
    assert reward(Arm("a", "base", "naive"), questions) is naive
    assert reward(Arm("a", "base", "framemind"), questions) is framemind
    look = reward(Arm("a", "half", "look"), questions)
    assert isinstance(look, LookReward)
    static = [q for q in questions if q.family == "static"]
    assert {look.gain[q.id] for q in static} == {0.0}
    assert {look.gain[q.id] for q in questions if q.family == "moment"} == {1.0}


def test_a_gain_is_paired_over_all_seeds_by_family(traces):
    before = Arm("SFT", "half")
    after = Arm("SFT, then RL", "half", "naive")
    asked = [t for t in traces if t.question.family in FOUNDATION]
    answers = {
        (arm, seed): [answered(t, arm is after or t.question.family == "static") for t in asked]
        for arm in (before, after)
        for seed in range(2)
    }
    table = gains(answers).set_index("family")
    assert table.loc["static", "accuracy"] == 0
    assert table.loc["need a look", "accuracy"] == 1
    assert table.loc["moment", "n"] == 2 * sum(t.question.family == "moment" for t in asked)
    assert set(table.system) == {"SFT, then RL: gain"} and set(table.seed) == {"all"}
    assert (table.calls_per_question == 0).all()


def test_one_start_is_compared_with_every_seed_and_counts_once_among_the_results(traces):
    before = Arm("base", "base")
    after = Arm("RL from the base", "base", "naive")
    asked = [t for t in traces if t.question.family == "moment"]
    answers = {(before, 0): [answered(t, False) for t in asked]}
    answers |= {(after, seed): [answered(t, seed > 0) for t in asked] for seed in range(3)}
    table = gains(answers).set_index("family")
    assert table.loc["moment", "accuracy"] == pytest.approx(2 / 3)
    assert table.loc["moment", "n"] == 3 * len(asked)
    assert len(chosen(answers, before, "all")) == len(asked)
    assert len({t.question.id for t in chosen(answers, after, "all")}) == 3 * len(asked)


def test_curves_are_those_of_the_logs():
    arm = Arm("SFT, then RL", "half", "naive")
    logs = {
        (arm, seed): [FACTS | {"step": 0, "reward": seed}, {"loss": 1.0}, FACTS | {"step": 1}]
        for seed in range(2)
    }
    table = curves(logs)
    assert list(table.columns) == ["system", "seed", "step", *CURVE]
    assert list(table.reward) == [0, 0.5, 1, 0.5]
    assert isinstance(table, pd.DataFrame) and set(table.system) == {"SFT, then RL"}
