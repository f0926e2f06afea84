"""What a video file truly holds, and the frames on screen at wanted moments.

Works on paths and seconds from the file's start, as the frames' own time stamps have them: headers
cannot be trusted. Knows nothing of questions, tools or models, nor of damage that still decodes.
PyAV indexes a file; decord decodes where it is installed and finds frames exactly, PyAV elsewhere.
Files stay open and pictures are kept while they are among the last few, for one thread. Our choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
from cachetools import LRUCache
from PIL import Image

Moments = Sequence[float] | np.ndarray
EPSILON_S = 1e-4  # shorter than any frame, longer than the rounding of a time written down
# Containers that can be sought exactly. In a transport stream decord is silently a group off.
SEEKABLE = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
# Dialogues take turns, so that the same files come up again: one for each that `pocket` opens.
OPEN_FILES = 64
KEPT_BYTES = 256e6  # of decoded pictures


class VideoError(ValueError):
    """A file that cannot be read as video; the message names the file and what is wrong."""


# Hashed by identity: the index of a changed file is another object, and caches cannot mix them.
@dataclass(frozen=True, eq=False)
class Video:
    """What a file holds: the frames it shows, in order, and their width and height when upright."""

    path: str
    duration_s: float
    fps: float
    width: int
    height: int
    times_s: np.ndarray  # (n,) when each frame begins
    pts: np.ndarray  # (n,) the same as time stamps
    seeks: np.ndarray  # (k,) time stamps of key frames, but for the first
    exact: bool  # whether decord, which seeks a key frame and counts on, finds every frame


def probe(path: str | Path) -> Video:
    """The best video stream by its frame times: it ends when its last frame does.

    Raises VideoError for a file that is not a whole video (Matroska cut off is just shorter).
    """
    try:
        status = Path(path).stat()
    except OSError as error:
        raise VideoError(f"{path}: {error.strerror}") from error
    return _scan(str(path), status.st_mtime_ns, status.st_size)


def read_frames(
    path: str | Path, times_s: Moments, max_side_px: int = 0
) -> tuple[list[Image.Image], np.ndarray]:
    """RGB pictures on screen at the wanted moments, in their order, and when each began.

    times_s: (n,) seconds from the file's start, any order; before the first frame, the first.
    max_side_px: the longer side is shrunk to it, never enlarged; 0 keeps the size.
    Returns n pictures, one object for all moments of a frame, and their (n,) times in seconds. The
    same object may be handed out again later: copy it before you draw on it.
    Raises ValueError as `nearest_frames` does, VideoError where a frame wanted cannot be read.
    """
    video = probe(path)
    indices = nearest_frames(video.times_s, times_s, video.duration_s)
    size = _shrunk(video, max_side_px)
    unique = np.unique(indices).tolist()
    pictures = {i: _KEPT[video, size, i] for i in unique if (video, size, i) in _KEPT}
    rest = np.array([i for i in unique if i not in pictures], int)
    if rest.size:
        # decord takes two thirds of the time, but there is none for macOS arm64 and Linux aarch64.
        decoded = video.exact and find_spec("decord") and _by_decord(video, rest, size)
        decoded = decoded or _by_pyav(video, rest, size)
        _KEPT.update({(video, size, i): picture for i, picture in decoded.items()})
        pictures |= decoded
    return [pictures[i] for i in indices.tolist()], video.times_s[indices]


def nearest_frames(times_s: np.ndarray, wanted_s: Moments, end_s: float = 0.0) -> np.ndarray:
    """Index of the frame on screen at each wanted moment: the last that has begun.

    times_s:  (n,) frame times in seconds, strictly increasing.
    wanted_s: (k,) moments in seconds, any order.
    end_s:    when the last frame goes; 0.0 gives it the usual (median) duration.
    Returns (k,) int64 indices into `times_s`.
    Raises ValueError when a moment lies over half a frame outside the clip.

    >>> nearest_frames(np.array([0.0, 0.5, 1.0]), np.array([0.7]))
    array([1])
    """
    wanted_s = np.asarray(wanted_s, dtype=float)
    frame_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else end_s
    end_s = end_s or float(times_s[-1]) + frame_s
    # A rounded time may lie just outside: half a frame more is still that frame.
    slack_s = 0.5 * frame_s + EPSILON_S
    # Not `wanted_s < -slack_s`, which is false for NaN.
    outside = ~((wanted_s >= -slack_s) & (wanted_s <= end_s + slack_s))
    if outside.any():
        raise ValueError(f"moment {wanted_s[outside][0]:g} s is not within 0 to {end_s:.3f} s")
    return np.maximum(np.searchsorted(times_s, wanted_s + EPSILON_S, "right") - 1, 0)


_KEPT = LRUCache(KEPT_BYTES, getsizeof=lambda picture: 3 * picture.width * picture.height)


def _shrunk(video: Video, side_px: int) -> tuple[int, int]:
    """Width and height, the longer one at most `side_px`."""
    ratio = min(1.0, side_px / max(video.width, video.height)) if side_px else 1.0
    return max(1, round(video.width * ratio)), max(1, round(video.height * ratio))


# An index is a few numbers a frame: far more of them fit than open files.
@lru_cache(maxsize=4 * OPEN_FILES)
def _scan(path: str, mtime_ns: int, size: int) -> Video:
    """What a file holds as it was at that time and size: a changed file is read anew."""
    try:
        with av.open(path) as container:
            stream = container.streams.best("video")
            # The cover of a song is a video stream of one picture.
            if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
                raise VideoError(f"{path}: holds no video")
            rows = []
            # Packets, not pictures: some twenty times faster, with all that an index needs.
            for packet in container.demux(stream):
                if packet.is_corrupt or (packet.size and packet.pts is None):
                    raise VideoError(f"{path}: damaged, cut off or without frame times")
                # The last packet is empty: it only says that the file has ended.
                if packet.size:
                    row = (packet.pts, packet.duration or 0, packet.is_keyframe, packet.is_discard)
                    rows.append(row)
            return _arrange(path, container, stream, np.array(rows, np.int64).reshape(-1, 4))
    except av.FFmpegError as error:
        raise VideoError(f"{path}: {size} bytes, not video: {error.strerror}") from error


def _arrange(path: str, container, stream, rows: np.ndarray) -> Video:
    """A `Video` out of (n, 4) packets in file order: time stamp, duration, key, hidden."""
    stamps, durations, keys, hidden = rows.T
    # An edited file keeps frames before its beginning to decode from, and hides them.
    pts, packets = np.unique(stamps[hidden == 0], return_index=True)
    if len(pts):
        container.seek(int(stamps[0]), stream=stream)
    # A decoded picture shows how the camera was held, and that there is one at all.
    first = next(container.decode(stream), None)
    if first is None:
        raise VideoError(f"{path}: shows no frame")
    tick_s = float(stream.time_base)
    times_s = np.round(pts * tick_s - (container.start_time or 0) / av.time_base, 6) + 0.0
    # The last frame lasts as its packet says, else as the one before it, else a second.
    lasts_s = [durations[hidden == 0][packets[-1]] * tick_s, *np.diff(times_s)[-1:], 1.0]
    end_s = float(times_s[-1] + next(s for s in lasts_s if s > 0))
    length_s = end_s - float(times_s[0])
    # One header alone may be wrong about a whole file: two have to say that frames are missing.
    if stream.frames > len(rows) and length_s + 0.1 < (stream.duration or 0) * tick_s:
        raise VideoError(f"{path}: cut off after {len(rows)} of {stream.frames} frames")
    size = (first.width, first.height)[:: -1 if first.rotation % 180 else 1]
    # Pictures of an open group follow their key frame in the file and precede it on screen: decord
    # drops them after a seek, counts on, and hands out a later frame without a word.
    closed = np.all(stamps >= np.maximum.accumulate(np.where(keys > 0, stamps, stamps.min())))
    seekable = container.format.name in SEEKABLE
    # PyAV goes by time stamps after a seek too, which is exact for open groups as well.
    seeks = np.unique(stamps[keys * seekable > 0])[1:]
    fps = len(pts) / length_s
    return Video(path, end_s, fps, *size, times_s, pts, seeks, exact=bool(seekable and closed))


@lru_cache(maxsize=OPEN_FILES)
def _reader(video: Video, size: tuple[int, int]):
    """An open decord reader that hands out frames of this size."""
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    whole = size == (video.width, video.height)
    resize = {} if whole else {"width": size[0], "height": size[1]}
    # Without `fault_tol` decord repairs a damaged frame with a neighbour and does not say so.
    return decord.VideoReader(video.path, fault_tol=1e-9, **resize)


def _by_decord(
    video: Video, indices: np.ndarray, size: tuple[int, int]
) -> dict[int, Image.Image] | None:
    """Pictures by frame index; None where decord gives up, and PyAV has to say what is wrong."""
    import torch  # noqa: F401  before decord, which crashes otherwise (decord#293)
    from decord._ffi.base import DECORDError, DECORDLimitReachedError

    pictures = {}
    try:
        reader = _reader(video, size)
        for i in indices.tolist():
            pixels = reader[i].asnumpy()
            # Where decord counts other frames than the index, its numbers mean other pictures.
            if (len(reader), *pixels.shape) != (len(video.pts), *size[::-1], 3):
                return None
            pictures[i] = _picture(pixels, 0, size)
    except (DECORDError, DECORDLimitReachedError, RuntimeError):
        return None
    return pictures


def _by_pyav(video: Video, indices: np.ndarray, size: tuple[int, int]) -> dict[int, Image.Image]:
    """Pictures by frame index. Raises VideoError where one of them cannot be decoded."""
    pictures = {}
    # Frames behind the same key frame are read in one go; group 0 is at the start of the file.
    groups = np.searchsorted(video.seeks, video.pts[indices], "right")
    try:
        with av.open(video.path) as container:
            stream = container.streams.best("video")
            for group in np.unique(groups):
                targets = {int(video.pts[i]): int(i) for i in indices[groups == group]}
                if group:
                    container.seek(int(video.seeks[group - 1]), stream=stream)
                for frame in container.decode(stream):
                    if frame.pts in targets and not frame.is_corrupt:
                        pixels = frame.to_ndarray(format="rgb24")
                        pictures[targets[frame.pts]] = _picture(pixels, frame.rotation, size)
                    if frame.pts is not None and frame.pts >= max(targets):
                        break
    except av.FFmpegError as error:
        raise VideoError(f"{video.path}: damaged: {error.strerror}") from error
    if gaps := [video.times_s[i] for i in indices.tolist() if i not in pictures]:
        raise VideoError(f"{video.path}: the frame at {gaps[0]:.3f} s cannot be decoded")
    return pictures


def _picture(pixels: np.ndarray, turn_deg: int, size: tuple[int, int]) -> Image.Image:
    """Pixels as an upright picture of this size."""
    picture = Image.fromarray(np.rot90(pixels, round(turn_deg / 90)))
    return picture if picture.size == size else picture.resize(size)
