"""Tables of reinforcement's trials: accuracy by arm, seed and family, paired gains, curves.

Works on the answers and logs of `trials`' arms. Knows nothing of files or of how arms are run. Our
choice.
"""

from collections.abc import Sequence
from typing import Protocol

import pandas as pd

from act2see import statistics
from act2see.pocket.questions import FOUNDATION
from act2see.trace import Trace

COLUMNS = ["family", "n", "accuracy", "low", "high", "calls_per_question", "valid_call_rate"]
CURVE = ["reward", "right", "calls", "callers", "valid_calls", "tokens", "entropy"]


class Arm(Protocol):
    """What is read of an arm: its name, its start, and its reward, "" for a start."""

    name: str
    start: str
    reward: str


Answers = dict[tuple[Arm, int], list[Trace]]  # by arm and seed


def results(answers: Answers, swaps: Answers) -> pd.DataFrame:
    """A row an arm, seed and family, one of all that need a look, and one with the moment of
    evidence swapped, each also over all seeds; then the paired gains of reinforcement."""
    parts = []
    for arm, seed in [*answers, *((arm, "all") for arm in arms_of(answers))]:
        traces = chosen(answers, arm, seed)
        rows = [statistics.summary(arm.name, traces, FOUNDATION), looks(arm.name, traces)]
        if other := chosen(swaps, arm, seed):
            rows.append(looks(arm.name, other, "another time shown"))
        parts += [table.assign(seed=seed) for table in rows]
    whole = pd.concat(parts)[["system", "seed", *COLUMNS]]
    return pd.concat([whole, gains(answers)]).round(4)


def arms_of(answers: Answers) -> list[Arm]:
    """The arms, in their order, once each."""
    return list(dict.fromkeys(arm for arm, _ in answers))


def chosen(answers: Answers, arm: Arm, seed: int | str) -> list[Trace]:
    """An arm's answers of one seed, or of "all"."""
    pairs = [pair for pair in answers if pair[0] is arm and seed in (pair[1], "all")]
    return [numbered(trace, pair[1]) for pair in pairs for trace in answers[pair]]


def looks(name: str, traces: Sequence[Trace], family: str = "need a look") -> pd.DataFrame:
    """One row over the families that need a look."""
    return statistics.summary(name, traces, FOUNDATION[1:]).tail(1).assign(family=family)


def gains(answers: Answers) -> pd.DataFrame:
    """What reinforcement changed, over all seeds: `accuracy` is the gain over the arm's start,
    paired, and `calls_per_question` how many more there are."""
    arms = arms_of(answers)
    starts = {arm.start: arm for arm in arms if not arm.reward}
    rows = []
    for arm in (arm for arm in arms if arm.reward and arm.start in starts):
        before = []
        for seed in (seed for one, seed in answers if one is arm):
            # One start for all seeds is compared with each.
            pair = starts[arm.start], seed
            traces = answers[pair if pair in answers else (pair[0], 0)]
            before += [numbered(trace, seed) for trace in traces]
        after = chosen(answers, arm, "all")
        for family in (*FOUNDATION, "need a look"):
            members = FOUNDATION[1:] if family == "need a look" else (family,)
            row = statistics.compare(before, after, members)
            more = calls(after, members) - calls(before, members)
            names = {"system": f"{arm.name}: gain", "seed": "all", "family": family}
            rows.append(names | row | {"accuracy": row["gain"], "calls_per_question": more})
    return pd.DataFrame(rows).reindex(columns=["system", "seed", *COLUMNS])


def calls(traces: Sequence[Trace], families: Sequence[str]) -> float:
    """Calls per question of these families."""
    counts = [len(trace.calls()) for trace in traces if trace.question.family in families]
    return sum(counts) / max(len(counts), 1)


def numbered(trace: Trace, seed: int) -> Trace:
    """The trace as the answer of one seed's run; its video stays, by which answers cluster."""
    question = trace.question.model_copy(update={"id": f"{trace.question.id}-{seed}"})
    return trace.model_copy(update={"question": question})


def curves(logs: dict[tuple[Arm, int], list[dict]]) -> pd.DataFrame:
    """A row an arm, seed and step of what its dialogues were like.

    logs: of each run, as the training writes it.
    """
    rows = [
        {"system": arm.name, "seed": seed} | entry
        for (arm, seed), log in logs.items()
        for entry in log
        if "reward" in entry
    ]
    return pd.DataFrame(rows, columns=["system", "seed", "step", *CURVE]).round(4)
