"""Question, Frame, Step, Trace, and the one way a trace is written down.

Works on plain data. Knows nothing of models, tools or decoding. `Trace.messages()` is the only
serializer: distillation, training and inference all read a dialogue through it, in the chat form
that Qwen3-VL was trained on and every OpenAI-compatible server speaks. The interleaving of thought
and frames is the paper's; this form of it is our choice.
"""

import hashlib
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

LETTERS = "ABCDEFGHIJ"


class Question(BaseModel):
    """A multiple-choice question about one video. `answer` is an index into `options`, -1 unknown.

    `reasoning` is a human's; `truth` is what only a simulated world can know.
    """

    id: str
    source: str
    family: str
    video: str
    duration_s: float
    text: str
    options: list[str] = []
    answer: int = -1
    reasoning: str = ""
    truth: dict[str, Any] = {}

    def prompt(self) -> str:
        """The question as the model reads it: text, then one lettered option a line."""
        pairs = zip(LETTERS, self.options, strict=False)
        return "\n".join([self.text, *(f"{letter}) {option}" for letter, option in pairs)])


class Frame(BaseModel):
    """One picture at a moment of the video; `generated` when a model drew it after `prompt`.

    The picture is `pixels` while it is new, and the PNG `file` in `folder` once it is written.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    time_s: float
    generated: bool = False
    prompt: str = ""
    file: str = ""
    folder: Path = Field(default=Path(), exclude=True, repr=False)
    pixels: Image.Image | None = Field(default=None, exclude=True, repr=False)

    def image(self) -> Image.Image:
        """The picture in RGB. Raises FileNotFoundError when its file is gone."""
        if self.pixels is None:
            self.pixels = Image.open(self.folder / self.file).convert("RGB")
        return self.pixels

    def label(self) -> str:
        """The text that stands before the picture, in Qwen3-VL's form for video frames."""
        return f"<{self.time_s:.1f} seconds{', generated' if self.generated else ''}>"


class Step(BaseModel):
    """One move of the dialogue.

    think: `text`. call: `tool` and `arguments`, or no tool and the raw `text` where it could not be
    read. evidence: `frames`, or an error `text`. answer: `text`.
    """

    kind: Literal["think", "call", "evidence", "answer"]
    text: str = ""
    tool: str = ""
    arguments: dict[str, Any] = {}
    frames: list[Frame] = []


class Trace(BaseModel):
    """A question, the overview, and what was thought, asked for, shown and answered.

    `truncated` says that a turn ran into the token limit, `forced` that the answer was asked for
    because the budget was spent.
    """

    question: Question
    overview: list[Frame] = []
    tools: list[str] = []
    steps: list[Step] = []
    policy: str = ""
    truncated: bool = False
    forced: bool = False
    similarity: float | None = None

    def messages(self) -> list[dict[str, Any]]:
        """The dialogue as chat messages, pictures as PIL images.

        The messages after n turns are the first messages after n + 1 turns.
        """
        asked = [*_shown(self.overview), {"type": "text", "text": self.question.prompt()}]
        messages: list[dict[str, Any]] = [{"role": "user", "content": asked}]
        for step in self.steps:
            if step.kind == "think":
                messages.append(_assistant(step.text))
                continue
            if step.kind == "evidence":
                told = [{"type": "text", "text": step.text}] if step.text else []
                messages.append({"role": "tool", "content": told + _shown(step.frames)})
                continue
            if messages[-1]["role"] != "assistant":
                messages.append(_assistant(""))
            _speak(messages[-1], step)
        return messages

    def letter(self) -> str:
        """The letter answered, "" if there is none or it names no option."""
        said = self.steps[-1].text if self.steps and self.steps[-1].kind == "answer" else ""
        return read_letter(said, len(self.question.options))

    def correct(self) -> bool:
        """Whether the answer given is the right one."""
        return self.letter() != "" and LETTERS.index(self.letter()) == self.question.answer

    def calls(self) -> list[Step]:
        """The calls made, in order, readable or not."""
        return [s for s in self.steps if s.kind == "call"]

    def failed_calls(self) -> int:
        """How many calls were answered with an error text."""
        return sum(s.kind == "evidence" and not s.frames for s in self.steps)

    def frames(self) -> list[Frame]:
        """Every frame shown, overview first, in the order of the dialogue."""
        return [*self.overview, *(f for s in self.steps for f in s.frames)]

    def reasoning(self) -> str:
        """What was thought, in order, without frames or calls: what the filter compares."""
        return " ".join(s.text for s in self.steps if s.kind == "think" and s.text)


def read_letter(text: str, options: int) -> str:
    """The letter after the last `Answer:` in `text`, "" if there is none or it names no option.

    >>> read_letter("so it is green.\\n\\nAnswer: (B)", 4)
    'B'
    """
    found = re.findall(r"Answer:\s*\**\s*\(?([A-J])\b", text)
    return found[-1] if found and found[-1] in LETTERS[:options] else ""


def _assistant(thinking: str) -> dict[str, Any]:
    return {"role": "assistant", "reasoning_content": thinking, "content": "", "tool_calls": []}


def _speak(message: dict[str, Any], step: Step) -> None:
    """Add an answer or a call to the assistant's message."""
    if step.kind == "call" and step.tool:
        function = {"name": step.tool, "arguments": step.arguments}
        message["tool_calls"].append({"type": "function", "function": function})
    elif step.kind == "call":
        message["content"] += f"<tool_call>\n{step.text}\n</tool_call>"
    else:
        message["content"] += step.text


def _shown(frames: list[Frame]) -> list[dict[str, Any]]:
    parts = []
    for frame in frames:
        parts.append({"type": "text", "text": frame.label()})
        parts.append({"type": "image", "image": frame.image()})
    return parts


def write_traces(path: Path, traces: Iterable[Trace]) -> int:
    """Append traces to a JSONL file, one a line; returns how many.

    Pictures go once each, named by their content, into the folder `frames` beside the file.
    """
    folder = path.parent / "frames"
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    _drop_cut_line(path)
    with path.open("a") as file:
        for trace in traces:
            for frame in trace.frames():
                frame.file, frame.folder = _store(frame, folder), folder
            file.write(trace.model_dump_json() + "\n")
            file.flush()
            count += 1
    return count


def read_traces(path: Path) -> list[Trace]:
    """The traces of a JSONL file.

    A last line without its line end, cut off by an interruption, is left out with a warning. Raises
    ValueError, naming file and line, where another line is not a trace.
    """
    *lines, cut = path.read_text().split("\n")
    if cut:
        warnings.warn(f"{path}: line {len(lines) + 1} was cut off and is left out", stacklevel=2)
    traces = []
    for number, line in enumerate(lines, 1):
        try:
            traces.append(Trace.model_validate_json(line))
        except ValidationError as error:
            raise ValueError(f"{path}: line {number} is not a trace: {error}") from error
        for frame in traces[-1].frames():
            frame.folder = path.parent / "frames"
    return traces


def _store(frame: Frame, folder: Path) -> str:
    image = frame.image()
    name = hashlib.sha1(image.tobytes() + str(image.size).encode()).hexdigest()[:20] + ".png"
    if not (folder / name).exists():
        partial = folder / f"{name}.partial"
        image.save(partial, "PNG")
        partial.replace(folder / name)
    return name


def _drop_cut_line(path: Path) -> None:
    """Take away a last line without its line end, which an interruption left."""
    if path.exists() and (data := path.read_bytes()) and not data.endswith(b"\n"):
        path.write_bytes(data[: data.rfind(b"\n") + 1])
