"""FrameMind's two tools: the frame at a moment, and a clip.

Works on a `Trace` and its video. Knows nothing of policies. The names are FrameMind's, as reported;
it has published no code. Limits and texts are our choice (there a clip has 8 to 20 frames).
"""

from dataclasses import dataclass

from act2see.tools.retrieve import RetrieveFrames
from act2see.tools.tool import Arguments, Seconds, Tool
from act2see.trace import Frame, Trace
from act2see.video import read_frames


class Moment(Arguments):
    """A moment of the video."""

    time_s: Seconds


@dataclass(frozen=True)
class FrameAt(Tool):
    """The one frame on screen at a moment."""

    max_side_px: int = 0

    name = "frame_at"
    description = "The frame of the video at a time."
    arguments = Moment

    @property
    def setting(self) -> str:
        """The frame's size."""
        return f"a frame, {self.max_side_px} px"

    def run(self, trace: Trace, moment: Moment) -> list[Frame]:
        """The frame, also where it was shown before: it may be out of sight."""
        (image,), (time_s,) = read_frames(trace.question.video, [moment.time_s], self.max_side_px)
        return [Frame(time_s=float(time_s), pixels=image)]


@dataclass(frozen=True)
class VideoClip(RetrieveFrames):
    """Frames of a window at an even rate, as `RetrieveFrames` gives them."""

    name = "video_clip"
    description = "Frames of the video between two times."
