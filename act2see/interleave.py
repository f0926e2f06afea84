"""The loop: policies think and ask, the toolbox answers, until there is an answer.

Works on traces; every question of a run goes through here, whoever the policy is: a teacher while
distilling, the student while answering, a baseline with another toolbox or overview. Knows nothing
of what a policy is made of. The loop is the paper's; the budget and the forced answer are our
choice.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm.auto import tqdm

from act2see.toolbox import Toolbox, read_call
from act2see.trace import Frame, Question, Step, Trace, read_letter, read_traces, write_traces
from act2see.video import read_frames

NO_CALLS_LEFT = "no calls are left: answer now."


@dataclass
class Reply:
    """One turn of a policy: its thinking, then calls or an answer. `truncated`: it ran too long."""

    thinking: str = ""
    calls: list[Step] = field(default_factory=list)
    answer: str = ""
    truncated: bool = False


class Policy(Protocol):
    """Whoever answers. `name` goes into the trace.

    One that cannot go on with a trace writes why into its `failed`: the dialogue ends there.
    """

    name: str

    def reply(self, traces: list[Trace]) -> list[Reply | None]:
        """The next turn of every trace, in the same order; None for those that shall wait."""

    def force(self, traces: list[Trace]) -> list[str]:
        """An answer line, `Answer: X`, for traces whose budget is spent."""


@dataclass(frozen=True)
class Budget:
    """How much a dialogue may see: overview frames, calls, and how many are open at a time.

    overview_as_video: half the tokens, since a local Qwen3-VL merges two frames into one.
    """

    overview_frames: int = 8
    max_calls: int = 4
    open_dialogues: int = 64
    overview_as_video: bool = False

    def __post_init__(self):
        if self.open_dialogues < 1 or self.overview_frames < 0 or self.max_calls < 0:
            raise ValueError(f"{self}: one dialogue must be open, nothing may be below 0")


def interleave(
    questions: Sequence[Question],
    policy: Policy,
    toolbox: Toolbox,
    budget: Budget = Budget(),
    label: str = "",
) -> Iterator[Trace]:
    """Finished traces, as they finish: short dialogues come before long ones.

    A place that a finished dialogue leaves is taken by the next question at once. Raises what
    reading a video raises (`VideoError`); everything that a model does wrong is in the trace.
    """
    waiting = iter(questions)
    live: list[Trace] = []
    with tqdm(total=len(questions), desc=label or policy.name, unit="question") as bar:
        while True:
            while len(live) < budget.open_dialogues and (question := next(waiting, None)):
                live.append(open_trace(question, policy, toolbox, budget))
            if not live:
                return
            for trace, reply in zip(live, policy.reply(live), strict=True):
                if reply:
                    take_turn(trace, reply, toolbox, budget)
            stuck = [t for t in live if t.forced]
            for trace, answer in zip(stuck, policy.force(stuck) if stuck else [], strict=True):
                if not trace.failed:
                    trace.steps.append(Step(kind="answer", text=answer))
            ended = [t for t in live if t.failed or (t.steps and t.steps[-1].kind == "answer")]
            live = [t for t in live if all(t is not e for e in ended)]
            for trace in ended:
                bar.update()
                yield trace


def collect(
    path: Path,
    questions: Sequence[Question],
    policy: Policy,
    toolbox: Toolbox,
    budget: Budget = Budget(),
    label: str = "",
) -> list[Trace]:
    """The traces of all questions, in their order, kept in the JSONL file `path` as they finish.

    What the file holds already of this policy, tools, limits and question is not asked again: run
    it once more after an interruption and it goes on. What failed is asked again; a question's last
    line is the one that counts.
    """
    kept = read_traces(path) if path.exists() else []
    how = (policy.name, [*toolbox.tools], setting(toolbox, budget), "")
    asked = {q.id: q for q in questions}
    done = {
        t.question.id: t
        for t in kept
        if (t.policy, t.tools, t.setting, t.failed) == how
        and len(t.overview) == budget.overview_frames
        and t.question == asked.get(t.question.id)
    }
    missing = [q for q in questions if q.id not in done]
    for trace in interleave(missing, policy, toolbox, budget, label):
        write_traces(path, [trace])
        done[trace.question.id] = trace
    return [done[q.id] for q in questions]


def setting(toolbox: Toolbox, budget: Budget) -> str:
    """The limits of a dialogue, and the models behind its tools, in words."""
    behind = {"retrieve_frames": toolbox.ranker, "generate_frame": toolbox.generator}
    models = [getattr(behind[t], "__name__", "") for t in toolbox.tools if behind.get(t)]
    return (
        f"{budget.max_calls} calls, {toolbox.frames_per_call} frames a call, "
        f"{toolbox.rate_hz:g} Hz, {toolbox.max_side_px} px"
        f"{', overview as video' if budget.overview_as_video else ''}"
        f"{''.join(f', {name}' for name in models)}"
    )


def open_trace(question: Question, policy: Policy, toolbox: Toolbox, budget: Budget) -> Trace:
    """A trace with its overview: the frames at the middles of equal parts of the clip."""
    moments = (np.arange(budget.overview_frames) + 0.5) * question.duration_s
    moments /= max(budget.overview_frames, 1)
    images, times_s = read_frames(question.video, moments, toolbox.max_side_px)
    frames = zip(images, times_s.tolist(), strict=True)
    overview = [Frame(time_s=time_s, pixels=image) for image, time_s in frames]
    told = {"policy": policy.name, "setting": setting(toolbox, budget)}
    told["overview_as_video"] = budget.overview_as_video
    return Trace(question=question, overview=overview, tools=list(toolbox.tools), **told)


def take_turn(trace: Trace, reply: Reply, toolbox: Toolbox, budget: Budget) -> None:
    """Write the reply into the trace and answer its calls; mark it where the budget is spent.

    The first turn that calls with nothing left is told so; a second one is not run any more. A call
    that was refused before, word for word, ends the budget: it would be refused for ever. A reply
    with neither call nor letter is forced to choose, too.
    """
    trace.steps.append(Step(kind="think", text=reply.thinking))
    if trace.failed:
        return
    told = any(s.kind == "evidence" and s.text == NO_CALLS_LEFT for s in trace.steps)
    options = len(trace.question.options)
    silent = not reply.calls and options and not read_letter(reply.answer, options)
    if reply.truncated or silent or (reply.calls and told):
        trace.truncated = trace.truncated or reply.truncated
        trace.forced = True
        return
    if not reply.calls:
        trace.steps.append(Step(kind="answer", text=reply.answer))
        return
    before = trace.calls()
    answers = [s for s in trace.steps if s.kind == "evidence"]
    refused = [call for call, answer in zip(before, answers, strict=True) if answer.text]
    trace.steps += reply.calls
    over = False
    for number, call in enumerate(reply.calls, len(before) + 1):
        over = over or number > budget.max_calls or call in refused
        ended = Step(kind="evidence", text=NO_CALLS_LEFT)
        trace.steps.append(ended if over else toolbox.run(trace, call))
        if trace.steps[-1].text:
            refused.append(call)


def read_reply(text: str, truncated: bool = False) -> Reply:
    """What a chat model said after `<think>`, taken apart.

    >>> read_reply("it is red.\\n</think>\\n\\nAnswer: A").answer
    'Answer: A'
    """
    text = text.removeprefix("<think>")
    thinking, closed, said = text.partition("</think>")
    if not closed and "<tool_call>" in text:
        thinking, said = text.split("<tool_call>")[0], text[text.index("<tool_call>") :]
    calls = [
        read_call(raw) for raw in re.findall(r"<tool_call>(.*?)(?:</tool_call>|$)", said, re.S)
    ]
    return Reply(thinking.strip(), calls, "" if calls else said.strip(), truncated)
