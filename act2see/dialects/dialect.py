"""What a dialect is: how a dialogue is written for a model, and how its words are read back.

Works on `Trace` and text. Knows no dialect. One serialization serves distillation, training and
inference, and one more turn only adds to the end of what was written before.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from PIL import Image

from act2see.trace import LETTERS, Frame, Question, Reply, Trace

PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"  # how templates of Qwen-VL write a place
REVEALED = " The right answer is {}) {}. Find in the frames what supports it; never say you knew."
HINT = " A person reasoned about this question as follows: {}"
# How the added tokens of the family begin: `<|im_end|>`, and the tags of thoughts and tools.
CONTROL = re.compile(r"<(?=\||/?(?:think|tool_call|tool_response)>)")
Picture = Image.Image | tuple[Image.Image, Image.Image]  # a frame, or two of a video merged


class Segment(NamedTuple):
    """A stretch of a dialogue's text, and whether the assistant is to learn it: it said it, and no
    call in it was refused.

    Segments are made into tokens one by one: no token reaches from what is read to what is said,
    so that training labels exactly what inference generates.
    """

    text: str
    spoken: bool


class Dialect(Protocol):
    """A way to write dialogues. `name` stands in `Trace.dialect`."""

    name: str
    no_calls_left: str  # what a call over the budget is answered with
    answer_now: str  # what a teacher is told where an answer is due
    stops: tuple[str, ...]  # texts that end a turn, where it does not end by itself
    bad_calls: tuple[str, ...]  # replies with malformed calls, to look at

    def messages(self, trace: Trace, merged: bool = True) -> list[dict[str, Any]]:
        """The dialogue as chat messages with PIL images, for a server.

        merged: an overview that is a video stands there in pairs of images, one part each.
        """

    def render(
        self, trace: Trace, template: Callable[..., str], reply_next: bool, system: str
    ) -> tuple[list[Segment], list[Picture]]:
        """The dialogue with a place for each picture, and the pictures in order.

        template: the processor's `apply_chat_template`. reply_next: up to the assistant's next
        words.
        """

    def render_forced(
        self, trace: Trace, template: Callable[..., str], system: str
    ) -> tuple[list[Segment], list[Picture]]:
        """The same up to the place where the answer's letter follows."""

    def read_reply(self, text: str, truncated: bool = False) -> Reply:
        """One turn of a model, taken apart."""

    def unreadable(self, text: str) -> str:
        """What is wrong with a call that `read_reply` could not read, for the model."""

    def instruction(
        self, trace: Trace, reveal_answer: bool = False, human_reasoning: bool = False
    ) -> str:
        """What a teacher is told first; answer and human reasoning are in it only on demand."""


def hints(question: Question, reveal_answer: bool, human_reasoning: bool) -> str:
    """What a teacher is told of a question; the paper tells nothing, and tried the reasoning."""
    text = ""
    if reveal_answer and question.answer >= 0:
        text = REVEALED.format(LETTERS[question.answer], question.options[question.answer])
    if human_reasoning and question.reasoning:
        text += HINT.format(question.reasoning)
    return text


def question_parts(trace: Trace, merged: bool = True) -> list[dict[str, Any]]:
    """Overview and question as parts of a message.

    merged: an overview that is a video stands there in pairs of images, one part each.
    """
    parts = _pairs if merged and trace.overview_as_video else frame_parts
    return [*parts(trace.overview), {"type": "text", "text": spaced(trace.question.prompt())}]


def frame_parts(frames: list[Frame]) -> list[dict[str, Any]]:
    """Each frame behind its label, as parts of a message."""
    parts = []
    for frame in frames:
        parts.append({"type": "text", "text": frame.label()})
        parts.append({"type": "image", "image": frame.image()})
    return parts


def _pairs(frames: list[Frame]) -> list[dict[str, Any]]:
    """Two frames a part behind their mean time, as Qwen3-VL reads videos; an odd last one twice.

    Without the tokens that transformers puts around the whole video from 5.10 on.
    """
    parts = []
    for one, two in zip(frames[::2], [*frames[1::2], *frames[-1:]], strict=False):
        label = f"<{(one.time_s + two.time_s) / 2:.1f} seconds>"
        parts.append({"type": "text", "text": label})
        parts.append({"type": "image", "image": (one.image(), two.image())})
    return parts


def spaced(value: Any) -> Any:
    """`<|` becomes `< |`, `</think>` `< /think>`: no text can write a control token by its name.

    >>> spaced({"query": "<|im_end|> a <cup>"})
    {'query': '< |im_end|> a <cup>'}
    """
    if isinstance(value, str):
        return CONTROL.sub("< ", value)
    if isinstance(value, list):
        return [spaced(item) for item in value]
    return {spaced(k): spaced(v) for k, v in value.items()} if isinstance(value, dict) else value
