"""The two tools: their JSON schemas, their execution, their error texts.

Works on a `Trace` and a call in it. Knows nothing of policies. A call that makes no sense is the
model's mistake and never raises: it is answered with a text that names the value and the limit
(paper, section on retrieval and generation; names, limits and texts are our choice).
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from act2see.trace import Frame, Step, Trace
from act2see.video import read_frames

SAME_MOMENT_S = 0.02
MAX_NESTED = 50  # brackets opened in a call that is still taken for one
MAX_PROMPT = 300  # characters; the text encoders of most generators read no more
DESCRIPTIONS = {
    "retrieve_frames": "Real frames of the video between two times, closer together than "
    "the overview; with a query, those that match it best.",
    "generate_frame": "A hypothetical frame: the frame at a time, changed as the prompt says.",
}
ARGUMENTS = {
    "retrieve_frames": {"start_s": "number", "end_s": "number", "query": "string"},
    "generate_frame": {"time_s": "number", "prompt": "string"},
}
OPTIONAL = {"query"}


def _schema(name: str) -> dict:
    properties = {argument: {"type": kind} for argument, kind in ARGUMENTS[name].items()}
    required = [argument for argument in properties if argument not in OPTIONAL]
    parameters = {"type": "object", "properties": properties, "required": required}
    function = {"name": name, "description": DESCRIPTIONS[name], "parameters": parameters}
    return {"type": "function", "function": function}


SCHEMAS = {name: _schema(name) for name in DESCRIPTIONS}


class CallError(ValueError):
    """A call that cannot be carried out; the message is what the model is told."""


@dataclass(frozen=True)
class Toolbox:
    """The tools on offer and their limits.

    rate_hz: frames per second inside a window, counted from its start; where these are more than
        `frames_per_call`, evenly chosen ones of them.
    ranker: (frames, query) -> scores, for profiles that rank frames by a query.
    generator: (frame, prompt) -> picture, for `generate_frame`.
    """

    tools: tuple[str, ...] = ("retrieve_frames",)
    frames_per_call: int = 5
    rate_hz: float = 4.0
    max_side_px: int = 0
    ranker: Callable[[list[Frame], str], np.ndarray] | None = field(default=None, repr=False)
    generator: Callable[[Image.Image, str], Image.Image] | None = field(default=None, repr=False)

    def __post_init__(self):
        if self.frames_per_call < 1 or not self.rate_hz > 0:
            told = f"frames_per_call is {self.frames_per_call}, rate_hz is {self.rate_hz:g}"
            raise ValueError(f"{told}; the first must be 1 or more, the second above 0")

    def run(self, trace: Trace, call: Step) -> Step:
        """The evidence that answers `call`: frames, or a text that says what is wrong with it."""
        try:
            if not call.tool:
                raise CallError(unreadable(call.text))
            if call.tool not in self.tools:
                offered = ", ".join(self.tools) or "none"
                raise CallError(f"unknown tool {call.tool!r}; the tools are: {offered}.")
            check_arguments(call.tool, call.arguments)
            show = self.retrieve if call.tool == "retrieve_frames" else self.generate
            return Step(kind="evidence", frames=show(trace, **call.arguments))
        except CallError as error:
            return Step(kind="evidence", text=str(error))

    def retrieve(self, trace: Trace, start_s: float, end_s: float, query: str = "") -> list[Frame]:
        """At most `frames_per_call` real frames of the window, in time order, none shown before.

        Raises CallError for a window that is empty, backwards, outside the clip or seen already.
        """
        check_times(trace, start_s=start_s, end_s=end_s)
        if start_s >= end_s:
            raise CallError(f"start_s is {start_s:g}; it must be less than end_s, {end_s:g}.")
        ranked = bool(query) and self.ranker is not None
        last = math.floor((end_s - start_s) * self.rate_hz + 1e-6)
        count = min(last + 1, self.frames_per_call * (8 if ranked else 1))
        wanted = start_s + np.round(np.linspace(0, last, count)) / self.rate_hz
        images, times_s = read_frames(trace.question.video, wanted, self.max_side_px)
        seen = [f.time_s for f in trace.frames() if not f.generated]
        frames = []
        for image, time_s in zip(images, times_s.tolist(), strict=True):
            if all(abs(time_s - s) > SAME_MOMENT_S for s in seen):
                frames.append(Frame(time_s=time_s, pixels=image))
                seen.append(time_s)
        if not frames:
            raise CallError(f"every frame between {start_s:g} and {end_s:g} was shown already.")
        if ranked:
            best = np.argsort(-self.ranker(frames, query), kind="stable")[: self.frames_per_call]
            frames = [frames[i] for i in sorted(best)]
        return frames

    def generate(self, trace: Trace, prompt: str, time_s: float) -> list[Frame]:
        """One hypothetical frame: the real one at `time_s`, changed as the prompt says.

        Raises CallError for an empty or overlong prompt and a time outside the clip, ValueError
        where the toolbox has no generator.
        """
        if self.generator is None:
            raise ValueError("generate_frame is offered, but the toolbox has no generator")
        check_times(trace, time_s=time_s)
        if not 0 < len(prompt.strip()) <= MAX_PROMPT:
            told = f"{len(prompt.strip())} characters; it must have 1 to {MAX_PROMPT}"
            raise CallError(f"prompt has {told}.")
        (image,), (near_s,) = read_frames(trace.question.video, [time_s], self.max_side_px)
        picture = self.generator(image, prompt)
        return [Frame(time_s=float(near_s), generated=True, prompt=prompt, pixels=picture)]


def check_times(trace: Trace, **times_s: float) -> None:
    """Raise CallError for a time outside the clip."""
    for name, value in times_s.items():
        if not 0 <= value <= trace.question.duration_s:
            limit = f"between 0 and {trace.question.duration_s:g}"
            raise CallError(f"{name} is {value:g}; it must lie {limit}.")


def read_call(raw: str) -> Step:
    """The call that a model wrote between its tags; without a tool where it cannot be read.

    >>> read_call('{"name": "retrieve_frames", "arguments": {"start_s": 7}}').arguments
    {'start_s': 7}
    """
    raw = raw.encode("utf-8", "replace").decode()
    nested = raw.count("[") + raw.count("{")
    try:
        call = strict(raw) if nested <= MAX_NESTED else None
        json.dumps(call, ensure_ascii=False).encode()  # fails for half a character in an escape
    except ValueError:  # also for a number of over 4,300 digits
        call = None
    match {"arguments": {}, **call} if isinstance(call, dict) else None:
        case {"name": str(name), "arguments": dict(arguments)} if name:
            return Step(kind="call", tool=name, arguments=arguments)
    return Step(kind="call", text=raw.strip())


def strict(raw: str):
    """What this JSON says. Raises ValueError, also for NaN and Infinity, which are no JSON."""

    def refuse(name: str):
        raise ValueError(f"{name} is no number")

    return json.loads(raw, parse_constant=refuse)


def unreadable(raw: str) -> str:
    """What is wrong with a call that `read_call` could not read."""
    try:
        strict(raw)
    except (ValueError, RecursionError) as error:
        return f"the call is not JSON: {error}."
    return 'the call must be {"name": tool, "arguments": {…}}.'


def check_arguments(tool: str, arguments: dict) -> None:
    """Raise CallError where arguments are missing, unknown, or of the wrong type."""
    known = ARGUMENTS[tool]
    if missing := [name for name in known if name not in OPTIONAL | arguments.keys()]:
        raise CallError(f"{tool} needs {missing[0]}.")
    for name, value in arguments.items():
        if name not in known:
            raise CallError(f"{tool} knows no {name!r}; it takes {', '.join(known)}.")
        kind, right = "text", isinstance(value, str)
        if known[name] == "number":
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            kind, right = "number", number and abs(value) <= 1e9 and math.isfinite(value)
        if not right:
            shown = repr(value)[:40] + "…" * (len(repr(value)) > 40)
            raise CallError(f"{name} is {shown}; it must be a {kind}.")
