"""Search: one frame of the whole video by a text that describes it, real or changed after it.

Works on a `Trace` and its video. Knows nothing of policies, nor of what scores and draws: that is
`retriever` and `generator`. The two tools, one frame a call, 3 Hz, and a retrieval before each
generation are the paper's; limits and texts are our choice.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Self

import numpy as np
from pydantic import AfterValidator

from act2see.tools.retrieve import SAME_MOMENT_S
from act2see.tools.segments import best_frame
from act2see.tools.tool import Arguments, CallError, Tool
from act2see.trace import Frame, Trace
from act2see.video import read_frames

MAX_QUERY = 300  # characters, as a prompt of `generate`


def _short(query: str) -> str:
    query = query.strip()
    if not 0 < len(query) <= MAX_QUERY:
        raise ValueError(f"query has {len(query)} characters; it must have 1 to {MAX_QUERY}.")
    return query


class Query(Arguments):
    """A text that describes the picture wanted."""

    query: Annotated[str, AfterValidator(_short)]


@dataclass(frozen=True)
class SearchFrame(Tool):
    """The real frame that matches a text best, of those that were not shown yet.

    retriever: folder or hub name of the model that scores frames; once `loaded`, the function
        (video, query, rate_hz) -> (times in seconds, scores) itself.
    rate_hz: frames per second that are searched, from the beginning of the video.
    """

    retriever: object = ""
    rate_hz: float = 3.0
    max_side_px: int = 0

    name = "retrieve"
    description = "The real frame of the video that matches a description best."
    arguments = Query

    def __post_init__(self) -> None:
        _check_rate(self.rate_hz)

    @property
    def setting(self) -> str:
        """Rate and size of the frames, and the retriever."""
        return _setting(self)

    def loaded(self) -> Self:
        """The tool with its retriever in memory."""
        return replace(self, retriever=_loaded(self.retriever))

    def run(self, trace: Trace, wanted: Query) -> list[Frame]:
        """The frame. Raises CallError where all were shown, ValueError without a retriever."""
        times_s, scores = _scores(self, trace, wanted.query)
        # What another tool made of a moment does not show the moment itself.
        known_s = np.array([frame.time_s for frame in trace.frames() if frame.made == "real"])
        barred = (np.abs(times_s[:, None] - known_s) <= SAME_MOMENT_S).any(1)
        if barred.all():
            raise CallError(f"all {len(barred)} frames that are searched were shown already.")
        moment_s = times_s[best_frame(scores, barred)]
        (image,), (time_s,) = read_frames(trace.question.video, [moment_s], self.max_side_px)
        return [Frame(time_s=time_s, pixels=image)]


@dataclass(frozen=True)
class ImagineFrame(Tool):
    """A hypothetical frame: the one that matches a text best, shown or not, changed after it.

    generator, options: as in `generate.GenerateFrame`. retriever, rate_hz: as in `SearchFrame`.
    """

    generator: object = ""
    options: Mapping = field(default_factory=dict)
    retriever: object = ""
    rate_hz: float = 3.0
    max_side_px: int = 0

    name = "generate"
    description = "A hypothetical frame: one of the video, changed as the description says."
    arguments = Query

    def __post_init__(self) -> None:
        _check_rate(self.rate_hz)

    @property
    def setting(self) -> str:
        """The generator, rate and size of the frames, and the retriever."""
        return ", ".join(filter(None, (getattr(self.generator, "__name__", ""), _setting(self))))

    def loaded(self) -> Self:
        """The tool with its generator and its retriever in memory."""
        generator = self.generator
        if isinstance(generator, str) and generator:
            from act2see.tools.generator import load_generator

            generator = load_generator(generator, self.options)
        return replace(self, generator=generator, retriever=_loaded(self.retriever))

    def run(self, trace: Trace, wanted: Query) -> list[Frame]:
        """The frame, at the time of the one it was made of. Raises ValueError as `SearchFrame`."""
        if not callable(self.generator):
            raise ValueError(f"{self.name} is offered without its generator; call loaded() first")
        times_s, scores = _scores(self, trace, wanted.query)
        moment_s = times_s[best_frame(scores)]
        (image,), (time_s,) = read_frames(trace.question.video, [moment_s], self.max_side_px)
        picture = self.generator(image, wanted.query)
        return [Frame(time_s=time_s, made="generated", prompt=wanted.query, pixels=picture)]


def _check_rate(rate_hz: float) -> None:
    if not rate_hz > 0:
        raise ValueError(f"rate_hz is {rate_hz:g}; it must be above 0")


def _setting(tool: SearchFrame | ImagineFrame) -> str:
    limits = f"{tool.rate_hz:g} Hz, {tool.max_side_px} px"
    return ", ".join(filter(None, (limits, getattr(tool.retriever, "__name__", ""))))


def _loaded(retriever: object) -> object:
    """The retriever of a name; the same one for both tools, as it takes gigabytes."""
    if not isinstance(retriever, str) or not retriever:
        return retriever
    from act2see.tools.retriever import load_retriever

    return load_retriever(retriever)


def _scores(
    tool: SearchFrame | ImagineFrame, trace: Trace, query: str
) -> tuple[np.ndarray, np.ndarray]:
    if not callable(tool.retriever):
        raise ValueError(f"{tool.name} is offered without its retriever; call loaded() first")
    return tool.retriever(trace.question.video, query, tool.rate_hz)
