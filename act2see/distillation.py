"""Distillation: wrong answers are discarded and asked again, as in the paper.

Works on questions with a known answer, a policy and tools, through `interleave.collect`. Knows
nothing of what the policy is made of. Two retries at most are the paper's (as reported in a third
party's section-by-section note on it); to keep every attempt in the file is our choice.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from act2see.interleave import Budget, Policy, collect
from act2see.tools.tool import Tool
from act2see.trace import Question, Reply, Trace

RETRIES = 2  # the paper's


@dataclass(frozen=True)
class Attempt:
    """The policy `inner`, asked for the n-th time: its traces say so, in `Trace.attempt`."""

    inner: Policy
    attempt: int

    def __getattr__(self, name: str) -> Any:
        """All else is the policy's own, its name too: an attempt is told apart by its number."""
        return getattr(self.inner, name)

    def reply(self, traces: list[Trace]) -> list[Reply | None]:
        """The policy's turns; it may look at a trace's `attempt` to do otherwise than before."""
        for trace in traces:
            trace.attempt = self.attempt
        return self.inner.reply(traces)

    def force(self, traces: list[Trace]) -> list[str | None]:
        """The policy's answers."""
        return self.inner.force(traces)


def distil(
    path: Path,
    questions: Sequence[Question],
    policy: Policy,
    tools: Sequence[Tool],
    budget: Budget,
    retries: int = RETRIES,
    label: str = "",
) -> list[Trace]:
    """Of every question, in order, the first trace that is right, else the last one answered.

    A question answered wrongly is asked again, `retries` times at most; one that failed, or whose
    answer is not known, is not. All attempts stay in the file, and as with `collect` no attempt
    that it holds is made again. To ask again helps where the policy draws its replies, as servers
    do by default; one that always says the same, greedy or with a fixed seed, says it again, unless
    it looks at `Trace.attempt`. Raises ValueError for retries below 0.
    """
    if retries < 0:
        raise ValueError(f"retries is {retries}; it must be 0 or more")
    final: dict[str, Trace] = {}
    open_questions = list(questions)
    for attempt in range(1, retries + 2):
        again = f"{label or policy.name}, attempt {attempt}" if attempt > 1 else label
        policy_now = Attempt(policy, attempt)
        traces = collect(path, open_questions, policy_now, tools, budget, again)
        # An attempt that failed leaves the answer before it, and is made again in the next run.
        final |= {t.question.id: t for t in traces if not t.failed or attempt == 1}
        open_questions = [t.question for t in traces if wrong(t)]
        if not open_questions:
            break
    return [final[question.id] for question in questions]


def wrong(trace: Trace) -> bool:
    """Whether it has an answer, or none of the letters, and the right one is known and another."""
    return not trace.failed and trace.question.answer >= 0 and not trace.correct()


def attempt_counts(traces: Sequence[Trace]) -> dict[str, int]:
    """How many of `distil`'s traces were right at which attempt, never right, or failed.

    >>> attempt_counts([])
    {'never right': 0, 'failed': 0}
    """
    right = Counter(t.attempt for t in traces if not t.failed and t.correct())
    counts = {f"right at attempt {attempt}": right[attempt] for attempt in sorted(right)}
    failed = sum(t.failed != "" for t in traces)
    return counts | {"never right": sum(map(wrong, traces)), "failed": failed}
