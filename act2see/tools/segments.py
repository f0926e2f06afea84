"""Where in a video a sentence holds: segments that stand out of the frames' scores, and one frame.

Works on an array of scores, one a frame, in time order. Knows nothing of videos, models or tools.
Static and dynamic score are TFVTG's (arXiv 2408.16219), which the paper retrieves with, written
after its description; lengths, reach and the frame of the best segment are our choice.
"""

from dataclasses import dataclass

import numpy as np

FLOOR = 0.2  # TFVTG: scores up to here say nothing
OVERLAP = 0.3  # TFVTG: two segments that overlap more, as intersection over union, are one
# An event of three quarters of a second is on two or three frames at 3 Hz. A stride of one would
# reduce the static score to the highest single frame.
STRIDE = 2
LONGEST = 90  # frames: half a minute at 3 Hz
KEPT = 10
SMOOTH = 3  # frames that a rise is averaged over


@dataclass(frozen=True)
class Segment:
    """Frames `start` to `end`, the last not included, and why they were chosen."""

    start: int
    end: int
    static: float  # mean score inside less mean score outside
    dynamic: float  # the steepest rise that led to it, 0 where there was none


def segments(
    scores: np.ndarray, floor: float = FLOOR, stride: int = STRIDE, longest: int = LONGEST
) -> list[Segment]:
    """The segments that stand out, best static score first, at most 10; none where nothing counts.

    scores:  (n,) cosines, in time order.
    floor:   scores up to it count as 0.
    stride:  windows are of stride, 2 · stride, … frames.
    longest: the most frames of a window.
    Raises ValueError as `count`, and for a stride below 1.
    """
    if stride < 1:
        raise ValueError(f"stride is {stride}; it must be 1 or more")
    counted = count(scores, floor)
    spans = windows(len(counted), stride, longest)
    statics = static_scores(counted, spans)
    rise = rises(counted)
    found = []
    for i in suppress(spans, statics):
        start, end = spans[i].tolist()
        earlier, dynamic = earlier_start(rise, start, end)
        found.append(Segment(earlier, end, float(statics[i]), dynamic))
    return found


def best_frame(
    scores: np.ndarray,
    barred: np.ndarray | None = None,
    floor: float = FLOOR,
    stride: int = STRIDE,
    longest: int = LONGEST,
) -> int:
    """Index of the best-scoring frame of the best segment; which one the paper shows is not known.

    barred: (n,) whether a frame may not be returned; None bars nothing. Where all that counts in a
        segment is barred, the next segment is asked, and after the last the whole video.
    The rest as in `segments`. Raises ValueError as `count`, and where every frame is barred.

    >>> best_frame(np.array([0.1, 0.1, 0.6, 0.7, 0.1, 0.3]))
    3
    """
    free = np.ones(len(scores), bool) if barred is None else ~np.asarray(barred, bool)
    if not free.any():
        raise ValueError(f"all of {len(scores)} frames are barred; one must be free")
    for segment in segments(scores, floor, stride, longest):
        inside = np.arange(segment.start, segment.end)
        usable = inside[free[inside] & (scores[inside] > floor)]
        if usable.size:
            return int(usable[np.argmax(scores[usable])])
    return int(np.argmax(np.where(free, scores, -np.inf)))


def count(scores: np.ndarray, floor: float = FLOOR) -> np.ndarray:
    """(n,) float64: the scores above the floor, 0 elsewhere.

    Raises ValueError where they are not one row of finite numbers, or none.
    """
    scores = np.asarray(scores, float)
    if scores.ndim != 1 or not scores.size or not np.isfinite(scores).all():
        shape = f"scores have shape {scores.shape}"
        raise ValueError(f"{shape}; they must be a row of finite numbers, one at the least")
    return np.where(scores > floor, scores, 0.0)


def windows(frames: int, stride: int = STRIDE, longest: int = LONGEST) -> np.ndarray:
    """(m, 2) start and end of every window of stride, 2 · stride, … up to `longest` frames.

    The whole video is one only where nothing shorter fits: it has no outside to stand out of.
    """
    if frames <= stride:
        return np.array([[0, frames]])
    lengths = np.arange(stride, min(longest, frames - 1) + 1, stride)
    starts, lengths = np.broadcast_arrays(np.arange(frames), lengths[:, None])
    ends = starts + lengths
    inside = ends <= frames
    return np.stack([starts[inside], ends[inside]], 1)


def static_scores(scores: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """(m,) mean score inside each span less the mean outside, which is 0 where nothing is."""
    sums = np.concatenate([[0.0], np.cumsum(scores)])
    starts, ends = spans.T
    inside = sums[ends] - sums[starts]
    lengths = ends - starts
    outside = (sums[-1] - inside) / np.maximum(len(scores) - lengths, 1)
    return inside / lengths - outside


def suppress(
    spans: np.ndarray, scores: np.ndarray, overlap: float = OVERLAP, kept: int = KEPT
) -> list[int]:
    """Indices of the best spans with a score above 0, best first, none like one before it."""
    starts, ends = spans.T
    left = np.where(scores > 0, scores, -np.inf)
    chosen: list[int] = []
    # One pass over all windows for each that is kept: a sort of a million would cost more.
    while len(chosen) < kept and np.isfinite(left[best := int(np.argmax(left))]):
        chosen.append(best)
        start, end = spans[best]
        shared = np.maximum(np.minimum(ends, end) - np.maximum(starts, start), 0)
        either = (ends - starts) + (end - start) - shared
        left[shared > overlap * either] = -np.inf
        left[best] = -np.inf
    return chosen


def rises(scores: np.ndarray, smooth: int = SMOOTH) -> np.ndarray:
    """(n,) by how much the smoothed score of each frame exceeds the one before; 0 for the first."""
    # The ends are repeated, so that a video does not seem to begin with a rise from 0.
    padded = np.pad(scores, smooth // 2, mode="edge")
    smoothed = np.convolve(padded, np.full(smooth, 1 / smooth), mode="valid")
    return np.diff(smoothed, prepend=smoothed[:1])


def earlier_start(rise: np.ndarray, start: int, end: int) -> tuple[int, float]:
    """Where the steepest rise before a segment begins, and how steep it is; (start, 0.0) if none.

    One looks back as far as the segment is long: what rose long before led to something else.
    """
    first = max(0, start - (end - start))
    before = rise[first : start + 1]
    steepest = first + int(np.argmax(before))
    if rise[steepest] <= 0:
        return start, 0.0
    return steepest, float(rise[steepest])
