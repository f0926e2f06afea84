"""What a tool is: a name, a description, a model of its arguments, and what it shows.

Works on a `Trace` and a call in it. Knows no tool. A malformed call is the model's
mistake and never raises: it is answered with a text that names the value and the limit (paper,
section on retrieval and generation; names, limits and texts are our choice).
"""

import math
import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidationInfo,
)

from act2see.trace import Frame, Step, Trace
from act2see.video import VideoError

# `12`, `12.5 s`, `00:12`, `1:02:03.5`
CLOCK = re.compile(r"\s*(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)\s?(?:s|secs?|seconds?)?\s*")
KINDS = {"float": "number", "finite": "number", "int": "whole number", "string": "text"}
KINDS |= {"bool": "truth value", "list": "list", "dict": "object"}


class CallError(ValueError):
    """A call that cannot be carried out; the message is what the model is told."""


class Arguments(BaseModel):
    """What a tool is called with: no other names, no other types, no infinite numbers.

    A validator that raises ValueError gives the text that the model reads; the clip's length is in
    its `info.context["duration_s"]`.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def _moment(value: Any) -> Any:
    """Seconds, where a text says a time; else what it was."""
    found = CLOCK.fullmatch(value) if isinstance(value, str) else None
    if not found:
        return value
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


def _inside(value: float, info: ValidationInfo) -> float:
    duration_s = info.context["duration_s"]
    # A clip of 9.967 s ends at 10 s for whoever rounds.
    if not 0 <= value <= math.ceil(duration_s):
        limits = f"between 0 and {duration_s:g}"
        raise ValueError(f"{info.field_name} is {value:g}; it must lie {limits}.")
    return min(value, duration_s)


# A moment inside the clip.
Seconds = Annotated[float, BeforeValidator(_moment), AfterValidator(_inside)]


class Tool:
    """A tool that a model may call. A subclass sets the class variables and writes `run`.

    setting: what shapes its evidence, in words: limits and models. Traces are filed under it.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    arguments: ClassVar[type[Arguments]]
    setting: str = ""

    def run(self, trace: Trace, arguments: Any) -> list[Frame]:
        """The frames that answer a call. Raises CallError where there are none, and why."""
        raise NotImplementedError

    def loaded(self) -> Self:
        """The tool with the models that it needs in memory; most need none."""
        return self

    def schema(self) -> dict[str, Any]:
        """The tool as a model is told of it: a JSON schema in OpenAI's form."""
        parameters = self.arguments.model_json_schema()
        # Titles and defaults cost tokens and tell a model nothing.
        for name in ("title", "description", "additionalProperties"):
            parameters.pop(name, None)
        for field in parameters["properties"].values():
            field.pop("title", None)
            field.pop("default", None)
        order = ("type", "properties", "required", "$defs")
        parameters = {name: parameters[name] for name in order if name in parameters}
        function = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}


def run_call(tools: Sequence[Tool], trace: Trace, call: Step) -> Step:
    """The evidence that answers a call: frames, or a text that says what is wrong with it.

    Where the video cannot be read, which is not the model's mistake, the trace `failed` as well.
    """
    tool = next((tool for tool in tools if tool.name == call.tool), None)
    try:
        if tool is None:
            offer = ", ".join(t.name for t in tools) or "none"
            raise CallError(f"unknown tool {call.tool!r}; the tools are: {offer}.")
        return Step(kind="evidence", frames=tool.run(trace, read_arguments(tool, trace, call)))
    except VideoError as error:
        trace.failed = str(error)
        return Step(kind="evidence", text=trace.failed)
    except CallError as error:
        return Step(kind="evidence", text=str(error))


def read_arguments(tool: Tool, trace: Trace, call: Step) -> Arguments:
    """The call's arguments, checked. Raises CallError naming the first one that is wrong."""
    context = {"duration_s": trace.question.duration_s}
    try:
        return tool.arguments.model_validate(call.arguments, context=context)
    except ValidationError as error:
        raise CallError(_explain(tool, error)) from error


def _explain(tool: Tool, error: ValidationError) -> str:
    """The first thing wrong, in the words of a tool: missing before unknown before wrong."""
    faults = sorted(error.errors(), key=lambda fault: RANK.get(fault["type"], 2))
    fault = faults[0]
    name = ".".join(map(str, fault["loc"]))
    if fault["type"] == "missing":
        return f"{tool.name} needs {name}."
    if fault["type"] == "extra_forbidden":
        known = ", ".join(tool.arguments.model_fields)
        return f"{tool.name} knows no {name!r}; it takes {known}."
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"])
    value = repr(fault["input"])
    value = value[:40] + "…" * (len(value) > 40)
    kind = KINDS.get(fault["type"].split("_")[0])
    rule = f"it must be a {kind}." if kind else f"{fault['msg']}."
    return f"{name} is {value}; {rule}"


RANK = {"missing": 0, "extra_forbidden": 1}
