"""What a dialogue earns: small functions of a finished trace, for reinforcement.

Works on `Trace` alone. Knows nothing of models, of sampling or of advantages. What a reward needs
beyond the trace, a judge or what a question gains by looking, is handed in. Each is as reported of
the work that it names; what is not public there, every `weight` among it, is our choice.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp

from act2see.trace import Trace

Reward = Callable[[Trace], float]


def accuracy(trace: Trace) -> float:
    """1 for the right answer, else 0."""
    return float(trace.correct())


def form(trace: Trace) -> float:
    """1 for a dialogue whose every turn can be read and which ends by itself, else 0."""
    return float(trace.well_formed() and all(call.tool for call in trace.calls()))


def valid_calls(trace: Trace) -> int:
    """How many calls brought frames."""
    return len(trace.calls()) - trace.failed_calls()


def naive(trace: Trace, weight: float = 0.5) -> float:
    """Accuracy and form, and nothing for a call: what most start with."""
    return accuracy(trace) + weight * form(trace)


@dataclass(frozen=True)
class LookReward:
    """Accuracy, form, and a share for calls on questions that gain by them (AT-GRPO's shape).

    gain: by question, how much oftener it is answered rightly with tools than without, -1 to 1.
    The share is weight · gain · exp(-falloff · (n / most)²) for n calls that brought frames, and 0
    for none.
    """

    gain: Mapping[str, float]
    weight: float = 0.6
    falloff: float = 1.0  # our choice
    most: int = 6

    def __call__(self, trace: Trace) -> float:
        """What the trace earns."""
        count = valid_calls(trace)
        share = exp(-self.falloff * (count / self.most) ** 2) if count else 0.0
        return naive(trace) + self.weight * self.gain[trace.question.id] * share


def framemind(trace: Trace, weight: float = 0.5) -> float:
    """FrameMind's: accuracy, form, a valid call, and 0.5 for two or three turns."""
    turns = sum(step.kind == "think" for step in trace.steps)
    called = bool(trace.calls()) and not trace.failed_calls()
    return naive(trace, weight) + weight * called + 0.5 * (2 <= turns <= 3)


@dataclass(frozen=True)
class ChainReward:
    """ReWatch-R1's: accuracy · (1 + observed + reasoned) + form.

    observed: the share of the trace's self-written observations that the video bears out. reasoned:
    whether question and chain alone lead to the right answer. In a simulated world both are rules;
    on real data each asks a judge.
    """

    observed: Reward
    reasoned: Reward
    weight: float = 0.5  # of the form

    def __call__(self, trace: Trace) -> float:
        """What the trace earns."""
        grounded = 1 + self.observed(trace) + self.reasoned(trace)
        return accuracy(trace) * grounded + self.weight * form(trace)


def facts(traces: list[list[Trace]], rewards: Sequence[Sequence[float]]) -> dict[str, float]:
    """What a round was like, per dialogue: its reward, and what was called and answered."""
    every = [trace for group in traces for trace in group]
    calls = sum(len(trace.calls()) for trace in every)
    count = len(every)
    return {
        "reward": sum(map(sum, rewards)) / count,
        "right": sum(trace.correct() for trace in every) / count,
        "calls": calls / count,
        "callers": sum(bool(trace.calls()) for trace in every) / count,
        "valid_calls": sum(map(valid_calls, every)) / count,
        "forced": sum(trace.forced for trace in every) / count,
        "mixed_groups": sum(len({*row}) > 1 for row in rewards) / len(rewards),
    }
