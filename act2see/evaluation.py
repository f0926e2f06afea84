"""Asking a system a data set's questions, once: its traces are found again in a file.

Works on a policy, questions, tools and the names of models. Knows nothing of how the answers are
scored, nor of which questions follow an answer: a data set says both. Our choice.
"""

import warnings
from collections.abc import Callable, Sequence
from math import nan
from pathlib import Path
from statistics import fmean

from transformers import ProcessorMixin

from act2see.encoding import encode
from act2see.interleave import Budget, Policy, collect
from act2see.student import fingerprint
from act2see.tools.tool import Tool
from act2see.trace import Question, Trace

MOST_CUT = 0.05  # of the dialogues
FollowUp = Callable[[Sequence[Trace]], list[Question]]


def _nothing(traces: Sequence[Trace]) -> list[Question]:
    return []


def answer(
    policy: Policy,
    questions: Sequence[Question],
    tools: Sequence[Tool],
    budget: Budget,
    folder: Path,
    seed: int,
    models: Sequence[str | Path],
    follow_up: FollowUp = _nothing,
) -> list[Trace]:
    """The policy's traces of these questions in their order, then of those that follow them.

    They are kept in a file in `folder`, of the name that `file_name` gives: run it once more after
    an interruption and it goes on; run it again when all is there and nothing is asked.
    seed: that the questions were drawn with. models: folders or hub names of all that answers, base
    and adapter. follow_up: of a `Dataset`, the questions that come after these traces.
    Raises as `interleave.collect`, and warns where many turns were cut off: a system that needs
    more words than its limit is measured too low.
    """
    if not questions:
        return []
    path = folder / file_name(policy.name, questions, budget, seed, models)
    traces = collect(path, questions, policy, tools, budget, models=models)
    if following := follow_up(traces):
        traces += collect(path, following, policy, tools, budget, models=models)
    cut = sum(trace.truncated for trace in traces)
    if cut > MOST_CUT * len(traces):
        rule = "what they say counts as a forced letter: raise reply_tokens"
        message = (
            f"{cut} of {len(traces)} dialogues of {policy.name} ran into the token limit; {rule}"
        )
        warnings.warn(message, stacklevel=2)
    return traces


def mean_cost(
    traces: Sequence[Trace], processor: ProcessorMixin, system: str = "", counted: int = 40
) -> tuple[float, float]:
    """Frames and tokens of a dialogue, the mean of these traces; nan twice where there are none.

    Tokens, those of frames included, are counted of the first `counted` traces, encoded as for
    training.
    """
    if not traces:
        return nan, nan
    tokens = [len(encode(trace, processor, system=system).ids) for trace in traces[:counted]]
    return fmean(len(trace.frames()) for trace in traces), fmean(tokens)


def file_name(
    system: str,
    questions: Sequence[Question],
    budget: Budget,
    seed: int,
    models: Sequence[str | Path],
) -> str:
    """The name of a system's file: source, system, overview frames, seed, and what its models are.

    >>> question = Question(video="v.mp4", text="who comes?")
    >>> file_name("base", [question], Budget(), 0, ["Qwen/Qwen3-VL-8B-Thinking"])
    'own-base-8frames-seed0-Qwen--Qwen3-VL-8B-Thinking.jsonl'
    """
    # Fingerprints, not paths: an adapter that was trained again lies where the old one did.
    marks = [fingerprint(model) for model in models]
    frames = f"{budget.overview_frames}frames"
    parts = [questions[0].source, system, frames, f"seed{seed}", *marks]
    # A hub name would otherwise open a folder.
    return "-".join(parts).replace("/", "--") + ".jsonl"
