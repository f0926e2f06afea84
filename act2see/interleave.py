"""The loop: policies think and ask, the tools answer, until there is an answer.

Works on traces; every question of a run goes through here, whoever the policy is: a teacher while
distilling, the student while answering, a baseline with other tools or another overview. Knows
nothing of what a policy or a tool is made of. The loop is the paper's; the budget and the forced
answer are our choice.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from os.path import isfile
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np
from tqdm import tqdm

from act2see.content import content
from act2see.dialects import dialect_of
from act2see.files import locked
from act2see.letters import lenient_letter
from act2see.store import Traces, add_trace
from act2see.tools.tool import Tool, run_call
from act2see.trace import Frame, Question, Reply, Step, Trace
from act2see.video import VideoError, probe, read_frames


class Policy(Protocol):
    """Whoever answers. `name` goes into the trace.

    One that cannot go on with a trace writes why into its `failed`: the dialogue ends there. May
    have `setting`, a text that says what shapes its answers; `accepts(served)`; `keeping(path)`.
    """

    name: str

    def reply(self, traces: list[Trace]) -> list[Reply | None]:
        """The next turn of every trace, in the same order; None where the trace has to wait."""

    def force(self, traces: list[Trace]) -> list[str | None]:
        """An answer line, `Answer: X`, for traces whose budget is spent; None as in `reply`."""


PROBES = 32  # frames of a video that has to be whole


@dataclass(frozen=True)
class Budget:
    """How much a dialogue may see, how many are open at a time, and how they are written down.

    overview_hz: frames per second of the overview, `overview_frames` at the most; 0 for so many.
    overview_as_video: half the tokens, since a local Qwen3-VL merges two frames into one.
    max_side_px: of an overview frame; 0 keeps the video's size. dialect: one of `DIALECTS`.
    """

    overview_frames: int = 8
    max_calls: int = 4
    open_dialogues: int = 64
    overview_as_video: bool = False
    max_side_px: int = 0
    dialect: str = "calls"
    overview_hz: float = 0.0

    def __post_init__(self) -> None:
        numbers = self.overview_frames, self.max_calls, self.overview_hz
        if self.open_dialogues < 1 or min(numbers) < 0:
            raise ValueError(f"{self}: one dialogue must be open, nothing may be below 0")

    def overview_count(self, duration_s: float) -> int:
        """How many frames the overview of a clip has.

        >>> Budget(overview_frames=64, overview_hz=1.0).overview_count(20.4)
        20
        """
        if not self.overview_hz:
            return self.overview_frames
        return min(max(round(duration_s * self.overview_hz), 1), self.overview_frames)


def interleave(
    questions: Sequence[Question],
    policy: Policy,
    tools: Sequence[Tool],
    budget: Budget = Budget(),
    label: str = "",
    progress: bool = True,
) -> Iterator[Trace]:
    """Finished traces, as they finish: short dialogues come before long ones.

    A place that a finished dialogue leaves is taken by the next question at once. What a model does
    wrong is in the trace; where a video cannot be read, the trace `failed`, and the others go on.
    """
    waiting = iter(questions)
    live: list[Trace] = []
    counted = {"total": len(questions), "desc": label or policy.name, "unit": "question"}
    with tqdm(**counted, disable=not progress) as bar:
        while True:
            while len(live) < budget.open_dialogues and (question := next(waiting, None)):
                live.append(open_trace(question, policy, tools, budget))
            if not live:
                return
            # A video that cannot be read is known before anything is asked, or paid for.
            asked = [trace for trace in live if not trace.failed]
            replies = policy.reply(asked) if asked else []
            for trace, reply in zip(asked, replies, strict=True):
                if reply:
                    take_turn(trace, reply, tools, budget)
            forced = [trace for trace in live if trace.forced and not trace.failed]
            answers = policy.force(forced) if forced else []
            for trace, answer in zip(forced, answers, strict=True):
                if not trace.failed and answer is not None:
                    trace.steps.append(Step(kind="answer", text=answer))
            ended = [t for t in live if t.failed or (t.steps and t.steps[-1].kind == "answer")]
            # By identity: two dialogues about one question may read alike.
            live = [t for t in live if all(t is not e for e in ended)]
            for trace in ended:
                bar.update()
                yield trace


def collect(
    path: Path,
    questions: Sequence[Question],
    policy: Policy,
    tools: Sequence[Tool],
    budget: Budget = Budget(),
    label: str = "",
    models: Sequence[str | Path] = (),
    ask: Callable[[Sequence[Question], str], Iterator[Trace]] | None = None,
) -> list[Trace]:
    """The traces of all questions, in their order, kept in the JSONL file `path` as they finish.

    What the file holds under the same `answer_key` is not asked again: run it once more after an
    interruption and it goes on. What failed is asked again, unless its video could not be read and
    is still the same; a question's last line is the one that counts. models: folders or hub names
    of all that answers. ask: what asks, given a label too, in the place of `interleave`. Raises as
    `store.locked` while another process collects into the file, and as `store.saving`.
    """
    questions = [with_duration(question) for question in questions]
    # The schemas of the tools are the same for all, and take most of the time.
    first = [empty(question, policy, tools, budget) for question in questions[:1]]
    bare = [first[0].model_copy(update={"question": question}) for question in questions]
    keys = {trace.question.id: answer_key(trace, policy, budget, models) for trace in bare}
    ask = ask or (lambda missing, label: interleave(missing, policy, tools, budget, label))
    with locked(path) as file:
        done = _earlier(Traces(path), bare, keys, policy)
        missing = [question for question in questions if question.id not in done]
        # Of a paid policy: the replies of dialogues that have not ended, as they come.
        keeping = getattr(policy, "keeping", nullcontext)
        try:
            with keeping(path.with_suffix(".replies.jsonl")):
                for trace in ask(missing, label):
                    trace.key = keys[trace.question.id]
                    add_trace(file, trace)
                    done[trace.question.id] = trace
        except KeyboardInterrupt:
            kept = f"{len(done)} of {len(questions)} traces are in {path}"
            raise KeyboardInterrupt(f"stopped: {kept}; run again and it goes on") from None
    return [done[question.id] for question in questions]


def _earlier(
    traces: Traces, bare: Sequence[Trace], keys: dict[str, str], policy: Policy
) -> dict[str, Trace]:
    """By question, what a file holds of it: whole, and answered by a model that may answer."""
    accepts = getattr(policy, "accepts", lambda served: True)  # of a server, the model
    old = [(place, traces[place]) for place in traces.unkeyed]
    former = {_former_key(trace): place for place, trace in old if not trace.failed}
    done = {}
    for opening in bare:
        question = opening.question
        place = traces.last.get(keys[question.id], former.get(_former_key(opening)))
        if place is None:
            continue
        trace = traces[place]
        # A video that could not be read is the same one: it would fail again, and cost again.
        lasting = not trace.failed or trace.failed.startswith(f"{trace.question.video}: ")
        pictures = (frame.folder / frame.file for frame in trace.frames())
        if lasting and accepts(trace.served) and all(map(Path.is_file, pictures)):
            done[question.id] = trace.model_copy(update={"question": question})
    return done


def answer_key(
    bare: Trace, policy: Policy, budget: Budget, models: Sequence[str | Path] = ()
) -> str:
    """24 hex digits of all that shapes an answer, and of nothing else: not of where files lie.

    That is the question and its video's content; the policy's name, setting and attempt, and what
    it is told; the tools and what shapes their evidence; dialect and limits; the models' content.
    bare: the trace as `empty` gives it.
    """
    question = bare.question
    # The id of a reader's own question is made of the path.
    skipped = {"video", "id"} if question.id.startswith("own-") else {"video"}
    facts = [
        question.model_dump_json(exclude=skipped),
        # A folder is not a video, and may be the whole disk.
        content(question.video) if isfile(question.video) else question.video,
        policy.name,
        getattr(policy, "setting", ""),
        bare.attempt,
        policy.instruction(bare) if hasattr(policy, "instruction") else "",
        bare.tools,
        bare.setting,
        budget.dialect,
        budget.overview_count(question.duration_s),
        [content(model) for model in models],
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


def _former_key(trace: Trace) -> tuple:
    """What traces that earlier versions wrote were found by: fewer facts, and a file's name."""
    question = trace.question.model_dump_json(exclude={"video", "duration_s"})
    name = Path(trace.question.video).name
    asked = (trace.policy, *trace.tool_names(), trace.setting, trace.dialect, trace.attempt)
    return question, name, asked


def setting(tools: Sequence[Tool], budget: Budget) -> str:
    """The limits of a dialogue, and what shapes the evidence of its tools, in words."""
    overview = f"overview {budget.max_side_px} px" if budget.max_side_px else ""
    rate = f"overview {budget.overview_hz:g} Hz" if budget.overview_hz else ""
    video = "overview as video" if budget.overview_as_video else ""
    parts = [f"{budget.max_calls} calls", rate, overview, video, *(t.setting for t in tools)]
    return ", ".join(filter(None, parts))


def with_duration(question: Question) -> Question:
    """The question with the length of its video, probed where it is not known yet.

    It stays unknown where the video cannot be read: opening its trace says why.
    """
    if question.duration_s:
        return question
    try:
        return question.model_copy(update={"duration_s": probe(question.video).duration_s})
    except VideoError:
        return question


def first_readable(
    questions: Sequence[Question], times_s: Mapping[str, Sequence[float]] = MappingProxyType({})
) -> Question:
    """The first question whose video shows frames all over; a warning names those before it.

    times_s: by question, further moments at which it must. Raises VideoError where there is none.
    """
    faults = []
    for question in map(with_duration, questions):
        moments_s = (np.arange(PROBES) + 0.5) * question.duration_s / PROBES
        try:
            read_frames(question.video, [*moments_s, *times_s.get(question.id, ())])
        except VideoError as error:
            faults.append(str(error))
            continue
        for fault in faults:
            warnings.warn(f"{fault}; another question is looked at", stacklevel=2)
        return question
    raise VideoError(f"0 of {len(questions)} videos can be read: {faults[:1]}")


def open_trace(
    question: Question, policy: Policy, tools: Sequence[Tool], budget: Budget = Budget()
) -> Trace:
    """A trace with its overview: the frames at the middles of equal parts of the clip.

    One of them that cannot be read is why the trace `failed`.
    """
    question = with_duration(question)
    count = budget.overview_count(question.duration_s)
    moments_s = (np.arange(count) + 0.5) * question.duration_s / max(count, 1)
    trace = empty(question, policy, tools, budget)
    try:
        images, times_s = read_frames(question.video, moments_s, budget.max_side_px)
    except VideoError as error:
        trace.failed = str(error)
        return trace
    pairs = zip(images, times_s.tolist(), strict=True)
    trace.overview = [Frame(time_s=time_s, pixels=image) for image, time_s in pairs]
    return trace


def empty(question: Question, policy: Policy, tools: Sequence[Tool], budget: Budget) -> Trace:
    """A trace before anything was seen or said."""
    return Trace(
        question=question,
        overview_as_video=budget.overview_as_video,
        tools=[tool.schema() for tool in tools],
        dialect=budget.dialect,
        policy=policy.name,
        setting=setting(tools, budget),
        attempt=getattr(policy, "attempt", 1),
    )


def take_turn(trace: Trace, reply: Reply, tools: Sequence[Tool], budget: Budget) -> None:
    """Write the reply into the trace and answer its calls; mark it where the budget is spent.

    The first turn that calls with nothing left is told so; a second one is not run any more. A call
    that was refused before, word for word, ends the budget: it would be refused for ever. A reply
    with neither call nor letter is forced to choose, too.
    """
    dialect = dialect_of(trace)
    options = trace.question.options
    silent = not reply.calls and options and not lenient_letter(reply.answer, options)
    # What was said in an answer's place stays, as a thought, where a letter has to be asked for.
    words = [reply.thinking, reply.answer if silent and not trace.failed else ""]
    trace.steps.append(Step(kind="think", text="\n\n".join(filter(None, words))))
    if trace.failed:
        return
    evidence = [step for step in trace.steps if step.kind == "evidence"]
    warned = any(step.text == dialect.no_calls_left for step in evidence)
    if reply.truncated or silent or (reply.calls and warned):
        trace.truncated = trace.truncated or reply.truncated
        trace.forced = True
        return
    if not reply.calls:
        trace.steps.append(Step(kind="answer", text=reply.answer))
        return
    calls = trace.calls()
    refused = [call for call, answer in zip(calls, evidence, strict=True) if answer.text]
    trace.steps += reply.calls
    spent = False
    for number, call in enumerate(reply.calls, len(calls) + 1):
        spent = spent or number > budget.max_calls or call in refused
        if spent:
            answer = Step(kind="evidence", text=dialect.no_calls_left)
        elif call.tool:
            answer = run_call(tools, trace, call)
        else:
            answer = Step(kind="evidence", text=dialect.unreadable(call.text))
        trace.steps.append(answer)
        if answer.text:
            refused.append(call)
