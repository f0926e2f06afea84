"""The faithfulness test: at the moment of evidence other pictures are shown, all else as it was.

Works on tools. Knows nothing of policies. A model that uses what it sees must fall to what it knows
without; one that does not look answers as before. Our choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from act2see.tools.tool import Arguments, Tool
from act2see.trace import Frame, Question, Trace
from act2see.video import read_frames

SWAPS = ("time", "clip", "grey")


@dataclass(frozen=True)
class SwappedTool(Tool):
    """A tool whose evidence shows something else under the same label.

    swap: `time` (half the clip away), `clip` (the next of `others`, as far into it) or `grey`.
    """

    inner: Tool
    swap: str
    others: tuple[Question, ...] = ()

    @property
    def name(self) -> str:
        """The inner tool's."""
        return self.inner.name

    @property
    def description(self) -> str:
        """The inner tool's."""
        return self.inner.description

    @property
    def arguments(self) -> type[Arguments]:
        """The inner tool's."""
        return self.inner.arguments

    @property
    def setting(self) -> str:
        """The inner tool's, and what is swapped."""
        return ", ".join(filter(None, (self.inner.setting, f"{self.swap} swapped")))

    def run(self, trace: Trace, arguments: Any) -> list[Frame]:
        """The frames of the call, their pictures swapped."""
        frames = self.inner.run(trace, arguments)
        for frame in frames:
            frame.pixels = self._picture(trace.question, frame)
        return frames

    def _picture(self, question: Question, frame: Frame) -> Image.Image:
        size = frame.image().size
        if self.swap == "grey":
            return Image.new("RGB", size, (128, 128, 128))
        time_s = (frame.time_s + question.duration_s / 2) % question.duration_s
        if self.swap == "clip":
            ids = [other.id for other in self.others]
            here = ids.index(question.id) if question.id in ids else -1
            other = self.others[(here + 1) % len(ids)]
            time_s = frame.time_s * other.duration_s / question.duration_s
            question = other
        max_side_px = getattr(self.inner, "max_side_px", 0)
        (picture,), _ = read_frames(question.video, [time_s], max_side_px)
        return picture.resize(size)


def swapped(
    tools: Sequence[Tool], swap: str, others: Sequence[Question] = ()
) -> tuple[SwappedTool, ...]:
    """The tools, each with its evidence swapped. Raises ValueError for an unknown swap."""
    if swap not in SWAPS:
        raise ValueError(f"swap is {swap!r}; it must be one of: {', '.join(SWAPS)}")
    return tuple(SwappedTool(tool, swap, tuple(others)) for tool in tools)
