"""Retrieval: real frames of a window, closer together than the overview.

Works on a `Trace` and its video. Knows nothing of policies. The paper retrieves real frames at a
higher rate, by a text, which is `search`; the window, its limits and the ranking inside it are our
choice.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from pydantic import model_validator

from act2see.tools.tool import Arguments, CallError, Seconds, Tool
from act2see.trace import Frame, Trace
from act2see.video import read_frames

SAME_MOMENT_S = 0.02
CANDIDATES = 8  # frames looked at for every one that a query keeps


class Window(Arguments):
    """Two moments, and what to look for between them."""

    start_s: Seconds
    end_s: Seconds
    query: str = ""

    @model_validator(mode="after")
    def _forwards(self) -> Self:
        if self.start_s >= self.end_s:
            limit = f"it must be less than end_s, {self.end_s:g}."
            raise ValueError(f"start_s is {self.start_s:g}; {limit}")
        return self


@dataclass(frozen=True)
class RetrieveFrames(Tool):
    """At most `frames_per_call` real frames of a window, in time order, none shown before.

    rate_hz: frames per second inside the window, counted from its start; where these are more than
        `frames_per_call`, evenly chosen ones of them.
    ranker: folder or hub name of the model that chooses by a query, "" for none; once `loaded`, the
        function (frames, query) -> scores itself.
    """

    frames_per_call: int = 5
    rate_hz: float = 4.0
    max_side_px: int = 0
    ranker: object = ""

    name = "retrieve_frames"
    description = (
        "Real frames of the video between two times, closer together than the overview; with a "
        "query, those that match it best."
    )
    arguments = Window

    def __post_init__(self) -> None:
        if self.frames_per_call < 1:
            raise ValueError(f"frames_per_call is {self.frames_per_call}; it must be 1 or more")
        if not self.rate_hz > 0:
            raise ValueError(f"rate_hz is {self.rate_hz:g}; it must be above 0")

    @property
    def setting(self) -> str:
        """Frames a call, their rate and size, and the ranker."""
        limits = f"{self.frames_per_call} frames a call, {self.rate_hz:g} Hz, {self.max_side_px} px"
        return ", ".join(filter(None, (limits, getattr(self.ranker, "__name__", ""))))

    def loaded(self) -> Self:
        """The tool with its ranker in memory."""
        if not isinstance(self.ranker, str) or not self.ranker:
            return self
        from act2see.tools.ranker import load_ranker

        return replace(self, ranker=load_ranker(self.ranker))

    def run(self, trace: Trace, window: Window) -> list[Frame]:
        """Frames of the window. Raises CallError where all of them were shown already."""
        ranked = bool(window.query) and callable(self.ranker)
        last = math.floor((window.end_s - window.start_s) * self.rate_hz + 1e-6)
        count = min(last + 1, self.frames_per_call * (CANDIDATES if ranked else 1))
        wanted_s = window.start_s + np.round(np.linspace(0, last, count)) / self.rate_hz
        images, times_s = read_frames(trace.question.video, wanted_s, self.max_side_px)
        # What another tool made of a moment does not show the moment itself.
        known_s = [frame.time_s for frame in trace.frames() if frame.made == "real"]
        frames = []
        for image, time_s in zip(images, times_s.tolist(), strict=True):
            if all(abs(time_s - known) > SAME_MOMENT_S for known in known_s):
                frames.append(Frame(time_s=time_s, pixels=image))
                known_s.append(time_s)
        if not frames:
            span = f"between {window.start_s:g} and {window.end_s:g}"
            raise CallError(f"every frame {span} was shown already.")
        if ranked:
            best = np.argsort(-self.ranker(frames, window.query), kind="stable")
            frames = [frames[i] for i in sorted(best[: self.frames_per_call])]
        return frames
