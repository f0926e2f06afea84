"""The faithfulness test: at the moment of evidence other pictures are shown, all else as it was.

Works on a `Toolbox`. Knows nothing of policies. A model that uses what it sees must fall to what it
knows without; one that does not look answers as before. Our choice; the paper has no such test.
"""

from dataclasses import dataclass

from PIL import Image

from act2see.toolbox import Toolbox
from act2see.trace import Frame, Question, Step, Trace
from act2see.video import read_frames

SWAPS = ("time", "clip", "grey")


@dataclass(frozen=True)
class SwappedToolbox(Toolbox):
    """A toolbox whose evidence shows something else under the same label.

    swap: `time` (half the clip away), `clip` (the next of `others`, as far into it) or `grey`.
    """

    swap: str = "grey"
    others: tuple[Question, ...] = ()

    def run(self, trace: Trace, call: Step) -> Step:
        """The evidence of the call, its pictures swapped; an error text stays."""
        evidence = super().run(trace, call)
        for frame in evidence.frames:
            frame.pixels = self._other(trace.question, frame)
        return evidence

    def _other(self, question: Question, frame: Frame) -> Image.Image:
        if self.swap == "grey":
            return Image.new("RGB", frame.image().size, (128, 128, 128))
        time_s = (frame.time_s + question.duration_s / 2) % question.duration_s
        if self.swap == "clip":
            ids = [other.id for other in self.others]
            here = ids.index(question.id) if question.id in ids else -1
            other = self.others[(here + 1) % len(ids)]
            time_s = frame.time_s * other.duration_s / question.duration_s
            question = other
        (picture,), _ = read_frames(question.video, [time_s], self.max_side_px)
        return picture.resize(frame.image().size)
