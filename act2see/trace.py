"""Question, Frame, Step, Trace: a dialogue about a video, and how it shows itself.

Works on plain data. Knows nothing of models, tools or decoding, nor of how a dialogue is written
for a model: `dialects` does that, `store` keeps it on disk. Interleaving thought and frames is the
paper's; this form is our choice.
"""

import hashlib
import io
import re
import unicodedata
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from act2see.pictures import read_picture
from act2see.plain import DOLLARS, mended, printable
from act2see.style import BLUE, ORANGE, frame_colour

LETTERS = "ABCDEFGHIJ"
# A letter, perhaps between brackets, quotes or stars, and no other letter listed next to it.
OPENED = r"[\s*_\"'“”„«「『【\[({<`]*"
CLOSED = r"[*_\"'“”»」』】\])}>`]*"
SEVERAL = rf"{CLOSED}\s*(?:[,/&+、]|and\b|or\b|(?=[(\[])){OPENED}[A-J](?![\w'’]|\s+[a-z])"
# Words behind which another answer follows.
TAKEN_BACK = (
    r"(?i:\b(?:wait[,:.]|actually,|correction:|on (?:second thought|reflection)\b|sorry,|I mean\b"
    r"|that makes it\b|(?:scratch|strike) that\b|oops\b|edit:|let me correct\b))"
)
STATED = re.compile(
    rf"{OPENED}([A-J])(?!{SEVERAL})(?!(?s:.*){TAKEN_BACK}){CLOSED}(?:(?<!\w)|[:.,;!。、]|\s*(?:\n|$|</answer>))"
)
ALONE = re.compile(rf"{OPENED}([A-J]){CLOSED}[:.。]?{CLOSED}\s*")
MARKED = re.compile(r"Answer[*_]*\s?:|<answer>")
FIGURE = (
    "<figure style='display:inline-block;margin:0 6px 6px 0;font-size:85%'>"
    "<img src='data:image/jpeg;base64,{data}' alt='{label}' style='height:96px;border:{line}'>"
    "<figcaption>{label}</figcaption></figure>"
)
NAME = r"^([^/\\:\x00]*[^/\\:\x00.][^/\\:\x00]*)?$"  # of a file, on any system
ROW = "<p style='margin:4px 0;white-space:pre-wrap'><b>{name}</b> {text}</p>{figures}"


class Question(BaseModel):
    """A question about one video, multiple-choice where it has options.

    `text` and `video` are enough: an id is made of them, and the length is probed when it is asked.
    """

    id: str = ""
    source: str = "own"
    family: str = "own"
    video: str
    duration_s: float = 0.0  # 0: not probed yet
    text: str
    options: list[str] = Field(default=[], max_length=len(LETTERS))
    answer: int = -1  # index into `options`, -1 unknown
    reasoning: str = ""  # a human's
    truth: dict[str, Any] = {}  # what only a simulated world can know

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, fields: Any, info: ValidationInfo) -> Any:
        return fields if info.mode == "json" else mended(fields)

    @model_validator(mode="after")
    def _name(self) -> "Question":
        if not isfinite(self.duration_s):
            self.duration_s = 0.0  # as records write what they do not know
        if not self.id:
            whole = repr((self.video, self.text, self.options)).encode("utf-8", "replace")
            self.id = f"own-{hashlib.sha1(whole).hexdigest()[:12]}"
        return self

    def prompt(self) -> str:
        """The question as the model reads it: text, then one lettered option a line."""
        pairs = zip(LETTERS, self.options, strict=False)
        return "\n".join([self.text, *(f"{letter}) {option}" for letter, option in pairs)])


class Frame(BaseModel):
    """One picture at a moment of the video. `made` says what made it, in one word.

    `real`: decoded from the video. `generated`: drawn by a model after `prompt`. A tool from
    outside uses a word that fits, such as `cropped`; label, figures and statistics follow it.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    time_s: float
    made: str = Field(default="real", min_length=1)
    prompt: str = ""
    # A PNG in `folder`, and no path; "" until the picture is written, when it is in `pixels`.
    file: str = Field("", pattern=NAME)
    folder: Path = Field(default=Path(), exclude=True, repr=False)
    pixels: Image.Image | None = Field(default=None, exclude=True, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _old_form(cls, fields: Any) -> Any:
        # Files written before version 0.2 say `"generated": true` or false instead.
        if isinstance(fields, dict) and "generated" in fields:
            fields = dict(fields)
            generated = fields.pop("generated")
            fields.setdefault("made", "generated" if generated else "real")
        return fields

    def image(self) -> Image.Image:
        """The picture in RGB; one that is on disk is read anew each time.

        Raises FileNotFoundError where its file is gone, and OSError where the file is damaged, too
        large, or not the picture that it is named after.
        """
        return self.pixels or read_picture(self.folder / self.file)

    def label(self) -> str:
        """The text that stands before the picture, in Qwen3-VL's form for video frames."""
        origin = "" if self.made == "real" else f", {self.made}"
        return f"<{self.time_s:.1f} seconds{origin}>"


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

    def words(self) -> str:
        """The step as one text: a call as `tool(name=value)`, evidence as the frames' labels."""
        if self.tool:
            arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
            return f"{self.tool}({arguments})"
        return self.text or " ".join(frame.label() for frame in self.frames)


@dataclass
class Reply:
    """One turn of a policy: its thinking, then calls or an answer. `truncated`: it ran too long.

    tokens: those that it said, of a local student; text written down again may have others.
    """

    thinking: str = ""
    calls: list[Step] = field(default_factory=list)
    answer: str = ""
    truncated: bool = False
    tokens: list[int] = field(default_factory=list, compare=False)


class Trace(BaseModel):
    """A question, the overview, and what was thought, called, shown and answered.

    At the end of a notebook cell it shows its frames and words; `print` gives a transcript.
    """

    key: str = ""  # a digest of all that shaped it, as `interleave.answer_key` gives it
    question: Question
    overview: list[Frame] = []
    tools: list[dict[str, Any]] = []  # the schemas on offer, so that anyone can write it down again
    dialect: str = "calls"  # how the dialogue was written for the model, in `dialects.DIALECTS`
    overview_as_video: bool = False  # two of its frames merged into one picture
    steps: list[Step] = []
    policy: str = ""
    served: str = ""  # the models that answered, as their server named them; "" if it did not
    attempt: int = 1  # after the first, the question was asked again, its answer having been wrong
    setting: str = ""  # the limits it was asked under
    truncated: bool = False  # a turn ran into the token limit
    forced: bool = False  # the answer was asked for because the budget was spent
    failed: str = ""  # why there is no answer
    similarity: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _old_form(cls, fields: Any) -> Any:
        # Files written before version 0.2 hold the tools' names alone; `store` adds the schemas.
        if isinstance(fields, dict) and any(isinstance(t, str) for t in fields.get("tools", [])):
            tools = fields["tools"]
            tools = [{"function": {"name": t}} if isinstance(t, str) else t for t in tools]
            fields = fields | {"tools": tools}
        return fields

    def tool_names(self) -> list[str]:
        """The names of the tools on offer."""
        return [tool["function"]["name"] for tool in self.tools]

    def answer(self) -> str:
        """The words of the answer, "" where there is none."""
        return self.steps[-1].text if self.steps and self.steps[-1].kind == "answer" else ""

    def letter(self) -> str:
        """The letter answered, "" if there is none or it names no option."""
        return read_letter(self.answer(), len(self.question.options))

    def correct(self) -> bool:
        """Whether the answer given is the right one."""
        return self.letter() != "" and LETTERS.index(self.letter()) == self.question.answer

    def verdict(self) -> str:
        """`✓ right` or `✗ right is B`, "" where the right answer is not known."""
        if self.question.answer < 0:
            return ""
        return "✓ right" if self.correct() else f"✗ right is {LETTERS[self.question.answer]}"

    def well_formed(self) -> bool:
        """Whether a student may learn the form from it: the paper's format check, in our words.

        Thoughts and calls by turns, and in the end one answer, which names an option. Every call is
        answered by evidence, or refused by a text that says what is wrong with it: it is read, and
        not learnt. Nothing was cut off, forced or failed.
        """
        kinds = "".join(step.kind[0] for step in self.steps)
        counts = [(len(calls), len(shown)) for calls, shown in re.findall("t(c+)(e+)", kinds)]
        whole = re.fullmatch("(tc+e+)*ta", kinds) and all(made == got for made, got in counts)
        ended = not (self.truncated or self.forced or self.failed)
        return bool(whole and ended and self.letter())

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

    def rows(self) -> Iterator[tuple[str, str, list[Frame]]]:
        """Name, words and frames of the question, the overview and each step, in order."""
        yield "question", self.question.prompt(), []
        if self.overview:
            yield "overview", "", self.overview
        for step in self.steps:
            words = step.text if step.frames else step.words()
            yield step.kind, words, step.frames
        if self.failed:
            yield "failed", self.failed, []
        elif verdict := self.verdict():
            yield "verdict", verdict, []

    def __str__(self) -> str:
        lines = []
        for name, words, frames in self.rows():
            labels = " ".join(frame.label() for frame in frames)
            text = "\n".join(filter(None, (words, labels)))
            lines.append(f"{name:<9} " + text.replace("\n", f"\n{'':<10}"))
        return printable("\n".join(lines))

    def __repr__(self) -> str:
        calls = len(self.calls())
        return f"Trace({self.question.text!r}, {calls} calls, {self.answer()!r})"

    def _repr_html_(self) -> str:
        parts = []
        for name, words, frames in self.rows():
            figures = "".join(_figure(frame, name) for frame in frames)
            parts.append(ROW.format(name=name, text=escape(words), figures=figures))
        return f"<div class='{DOLLARS}' style='max-width:60em'>{''.join(parts)}</div>"


def _figure(frame: Frame, row: str) -> str:
    """The frame with its label, as HTML that needs no file: the picture is in it.

    A frame that a call brought has a thicker border than one of the overview.
    """
    picture = frame.image().copy()
    picture.thumbnail((320, 320))
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=85)
    width, colour = ("2px", BLUE) if row == "overview" else ("4px", ORANGE)
    dash = "solid" if frame.made == "real" else "dashed"
    line = f"{width} {dash} {frame_colour(frame.made, colour)}"
    label = escape(frame.label().strip("<>"), quote=True)
    return FIGURE.format(data=b64encode(jpeg.getvalue()).decode(), label=label, line=line)


def read_letter(text: str, options: int) -> str:
    """The letter stated after the last `Answer:` or `<answer>`, or the reply where it is a letter
    alone; "" where several are stated, none, or one of no option.

    >>> read_letter("so it is green.\\n\\nAnswer: (B)", 4), read_letter("Answer: A man walks.", 4)
    ('B', '')
    """
    *before, after = MARKED.split(unicodedata.normalize("NFKC", text))
    found = STATED.match(after) if before else ALONE.fullmatch(after)
    return found[1] if found and found[1] in LETTERS[:options] else ""
