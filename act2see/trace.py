"""Question, Frame, Step, Trace, and the one way a trace is written down.

Works on plain data. Knows nothing of models, tools or decoding. `Trace.messages()` is the only
serializer, for distillation, training and inference, in the chat form of Qwen3-VL and of every
OpenAI-compatible server. Interleaving thought and frames is the paper's; this form is our choice.
"""

import hashlib
import os
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

LETTERS = "ABCDEFGHIJ"
STATED = re.compile(r"[*\s]*(?:\(([A-J])\)|([A-J])(?:[).:,*]|\s*(?:\n|$)))")


class Question(BaseModel):
    """A multiple-choice question about one video."""

    id: str
    source: str
    family: str
    video: str
    duration_s: float
    text: str
    options: list[str] = Field(default=[], max_length=len(LETTERS))
    answer: int = -1  # index into `options`, -1 unknown
    reasoning: str = ""  # a human's
    truth: dict[str, Any] = {}  # what only a simulated world can know

    def prompt(self) -> str:
        """The question as the model reads it: text, then one lettered option a line."""
        pairs = zip(LETTERS, self.options, strict=False)
        return "\n".join([self.text, *(f"{letter}) {option}" for letter, option in pairs)])


class Frame(BaseModel):
    """One picture at a moment of the video; `generated` when a model drew it after `prompt`."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    time_s: float
    generated: bool = False
    prompt: str = ""
    file: str = ""  # a PNG in `folder`, once the picture is written; until then it is `pixels`
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
    """A question, the overview, and what was thought, asked for, shown and answered."""

    question: Question
    overview: list[Frame] = []
    tools: list[str] = []
    overview_as_video: bool = False  # two of its frames merged into one picture
    steps: list[Step] = []
    policy: str = ""
    setting: str = ""  # the limits it was asked under
    truncated: bool = False  # a turn ran into the token limit
    forced: bool = False  # the answer was asked for because the budget was spent
    failed: str = ""  # why there is no answer
    similarity: float | None = None

    def messages(self, merged: bool = True) -> list[dict[str, Any]]:
        """The dialogue as chat messages with PIL images; one more turn only adds to the end.

        merged: an overview that is a video stands there in pairs of images, one part each.
        """
        shown = _paired if merged and self.overview_as_video else _shown
        asked = [*shown(self.overview), {"type": "text", "text": self.question.prompt()}]
        messages: list[dict[str, Any]] = [{"role": "user", "content": asked}]
        for step in self.steps:
            if step.kind == "evidence":
                told = [{"type": "text", "text": step.text}] if step.text else []
                messages.append({"role": "tool", "content": told + _shown(step.frames)})
                continue
            if step.kind == "think" or messages[-1]["role"] != "assistant":
                empty = {"reasoning_content": "", "content": "", "tool_calls": []}
                messages.append({"role": "assistant", **empty})
            if step.kind == "think":
                messages[-1]["reasoning_content"] = step.text
            elif step.kind == "answer":
                messages[-1]["content"] += step.text
            elif step.tool:
                function = {"name": step.tool, "arguments": step.arguments}
                messages[-1]["tool_calls"].append({"type": "function", "function": function})
            else:
                messages[-1]["content"] += f"<tool_call>\n{step.text}\n</tool_call>"
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
    """The letter stated after the last `Answer:` in `text`, "" if none or one of no option.

    >>> read_letter("so it is green.\\n\\nAnswer: (B)", 4), read_letter("Answer: A man walks.", 4)
    ('B', '')
    """
    _, marked, after = text.rpartition("Answer:")
    found = STATED.match(after) if marked else None
    letter = next(filter(None, found.groups())) if found else ""
    return letter if letter in LETTERS[:options] else ""


def _shown(frames: list[Frame]) -> list[dict[str, Any]]:
    parts = []
    for frame in frames:
        parts += {"type": "text", "text": frame.label()}, {"type": "image", "image": frame.image()}
    return parts


def _paired(frames: list[Frame]) -> list[dict[str, Any]]:
    """Two frames a part behind their mean time, as Qwen3-VL reads videos; an odd last one twice.

    Without the tokens that transformers puts around the whole video from 5.10 on.
    """
    parts = []
    for one, two in zip(frames[::2], [*frames[1::2], *frames[-1:]], strict=False):
        label = f"<{(one.time_s + two.time_s) / 2:.1f} seconds>"
        pair = {"type": "image", "image": (one.image(), two.image())}
        parts += {"type": "text", "text": label}, pair
    return parts


def digest(*images: Image.Image) -> str:
    """20 hex digits that tell a picture, or several, from any other."""
    told = b"".join(image.tobytes() + str(image.size).encode() for image in images)
    return hashlib.sha1(told).hexdigest()[:20]


def write_traces(path: Path, traces: Iterable[Trace]) -> None:
    """Append traces to a JSONL file, one a line; a last line that was cut off goes first.

    Pictures go once each, named by their content, into the folder `frames` beside the file.
    """
    folder = path.parent / "frames"
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        file.seek(-min(file.tell(), 1), os.SEEK_END)
        if file.read() not in (b"", b"\n"):
            file.truncate(path.read_bytes().rfind(b"\n") + 1)
        for trace in traces:
            for frame in trace.frames():
                image = frame.image()
                frame.file, frame.folder = f"{digest(image)}.png", folder
                if not (folder / frame.file).exists():
                    partial = folder / f"{frame.file}.{os.getpid()}.partial"
                    image.save(partial, "PNG", compress_level=1)
                    partial.replace(folder / frame.file)
            file.write(trace.model_dump_json().encode() + b"\n")
            file.flush()


def read_traces(path: Path) -> list[Trace]:
    """The traces of a JSONL file.

    A last line cut off by an interruption is left out with a warning. Raises ValueError, naming
    file and line, where another line is not a trace.
    """
    *lines, cut = path.read_bytes().split(b"\n")
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
