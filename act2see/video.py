"""What a video file truly holds, and the frames on screen at wanted moments.

Works on paths and seconds from the file's start, as the frames' own time stamps have them: headers
cannot be trusted. Knows nothing of questions, tools or models, nor of damage that still decodes.
PyAV indexes a file; decord decodes large pictures where it is installed and finds frames exactly.
Files stay open and pictures are kept while they are among the last few, for one thread. Our choice.
"""

import atexit
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from cachetools import LRUCache
from PIL import Image

Moments = Sequence[float] | np.ndarray
EPSILON_S = 1e-4  # shorter than any frame, longer than the rounding of a time written down
# Containers that can be sought exactly. In a transport stream decord is silently a group off.
SEEKABLE = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
# What may be opened: no playlist, which reads other files, and no text, which ffmpeg draws.
OPENED = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,gif,"
    "apng,jpeg_pipe,png_pipe,webp_pipe,bmp_pipe,mpegvideo,m4v,h264,hevc,ivf,nut,mxf,rm,dv,wtv",
    "protocol_whitelist": "file",
}
CHECKED = 8  # first frames that packets and pictures must agree on: wrong stamps show in these
# Qwen's processor refuses more; a plain 8K frame has half as many pixels.
MOST_LONG_TO_SHORT = 200
MOST_PIXELS = 1 << 26
# Dialogues take turns, so that the same files come up again: one for each that `pocket` opens.
OPEN_FILES = 64
OPEN_BYTES = 600e6  # of open files, by `_open_bytes`
THREADS = 4  # of a decoder: each holds frames, and a machine with many cores would open fewer files
KEPT_BYTES = 256e6  # of decoded pictures
LARGE = 200 * 200  # pixels; for less, decord's threads cost more than they save


class VideoError(ValueError):
    """A file that cannot be read as video, or not at a moment; the message says what is wrong."""


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
    # A name with a zero in it is a ValueError.
    except (OSError, ValueError) as error:
        raise VideoError(f"{path}: {getattr(error, 'strerror', error)}") from error
    # A pipe would be waited on for ever.
    if not stat.S_ISREG(status.st_mode):
        raise VideoError(f"{path}: is a directory or a device; it must be a file")
    return _scan(str(path), status.st_mtime_ns, status.st_size)


def read_frames(
    path: str | Path, times_s: Moments, max_side_px: int = 0
) -> tuple[list[Image.Image], np.ndarray]:
    """RGB pictures on screen at the wanted moments, in their order, and when each began.

    times_s: (n,) seconds from the file's start, any order; before the first frame, the first.
    max_side_px: the longer side is shrunk to it, never enlarged; 0 keeps the size.
    Returns n pictures, one object for all moments of a frame, and their (n,) times in seconds. The
    same object may be handed out again later: copy it before you draw on it.
    Raises VideoError as `nearest_frames` does, and where a frame wanted cannot be read.
    """
    video = probe(path)
    indices = nearest_frames(video.times_s, times_s, video.duration_s)
    size = _shrunk(video, max_side_px)
    every = set(indices.tolist())
    pictures = {i: _KEPT[video, size, i] for i in every if (video, size, i) in _KEPT}
    rest = np.array(sorted(every - {*pictures}), int)
    if rest.size:
        # Measured, decord takes 0.5 to 1.2 of PyAV's time for large pictures and 1.6 for small
        # ones; and there is none for macOS arm64 and Linux aarch64 (`tests.perf.reading`).
        suits = video.exact and video.width * video.height >= LARGE and find_spec("decord")
        decoded = (suits and _by_decord(video, rest, size)) or _by_pyav(video, rest, size)
        _KEPT.update({(video, size, i): picture for i, picture in decoded.items()})
        pictures |= decoded
    return [pictures[i] for i in indices.tolist()], video.times_s[indices]


def nearest_frames(times_s: np.ndarray, wanted_s: Moments, end_s: float = 0.0) -> np.ndarray:
    """Index of the frame on screen at each wanted moment: the last that has begun.

    times_s:  (n,) frame times in seconds, strictly increasing.
    wanted_s: (k,) moments in seconds, any order.
    end_s:    when the last frame goes; 0.0 gives it the usual (median) duration.
    Returns (k,) int64 indices into `times_s`.
    Raises VideoError when a moment lies over half a frame outside the clip.

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
        raise VideoError(f"moment {wanted_s[outside][0]:g} s is not within 0 to {end_s:.3f} s")
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
        first, stamps = _beginning(path)
        with _opened(path) as container:
            stream = container.streams.best("video")
            if container.format.name in SEEKABLE:
                # Packets, not pictures: some twenty times faster, with all that an index needs.
                rows = _packet_rows(path, container.demux(stream), stream.codec.canonical_name)
                video = _arrange(path, container, stream, first, rows, seekable=True)
                whole = len(video.pts) == np.sum(rows[:, 3] == 0)
                if whole and video.pts[: len(stamps)].tolist() == stamps:
                    return video
        # Some packets are never shown, or bear the stamps of others: pictures show which are right.
        with _opened(path) as container:
            stream = container.streams.best("video")
            rows = _picture_rows(path, container.decode(stream))
            return _arrange(path, container, stream, first, rows, seekable=False)
    except av.FFmpegError as error:
        raise VideoError(f"{path}: {size} bytes, not video: {error.strerror}") from error


def _opened(path: str) -> av.container.InputContainer:
    # A title in another encoding says nothing about the frames.
    return av.open(path, metadata_errors="replace", options=OPENED)


def _beginning(path: str) -> tuple[av.VideoFrame, list[int]]:
    """The first picture, which shows how the camera was held, and the stamps of the first few."""
    frames = []
    with _opened(path) as container:
        stream = container.streams.best("video")
        # The cover of a song is a video stream of one picture.
        if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
            raise VideoError(f"{path}: holds no video")
        if stream.codec_context is None:
            raise VideoError(f"{path}: not video, or in a codec that is not known")
        short, long = sorted((stream.codec_context.width, stream.codec_context.height))
        if short * long > MOST_PIXELS or long > MOST_LONG_TO_SHORT * short:
            limits = f"{MOST_PIXELS} pixels, and {MOST_LONG_TO_SHORT} times as long as short"
            raise VideoError(f"{path}: {long} pixels by {short}; it must be at most {limits}")
        try:
            frames += islice(container.decode(stream), CHECKED)
        except av.FFmpegError:
            # Who reads the frames behind the damage is told of it.
            pass
    if not frames:
        raise VideoError(f"{path}: shows no frame")
    return frames[0], [frame.pts for frame in frames]


def _packet_rows(path: str, packets: Iterable[av.Packet], codec: str) -> np.ndarray:
    """(n, 4) packets in file order: time stamp, duration, key, hidden."""
    rows = []
    for packet in packets:
        if packet.is_corrupt or (packet.size and packet.pts is None):
            raise VideoError(f"{path}: damaged, cut off or without frame times")
        # The last packet is empty: it only says that the file has ended.
        if packet.size:
            hiding = codec in ("vp8", "vp9") and _never_shown(codec, bytes(packet))
            hidden = packet.is_discard or hiding
            rows.append((packet.pts, packet.duration or 0, packet.is_keyframe, hidden))
    return np.array(rows, np.int64).reshape(-1, 4)


def _never_shown(codec: str, data: bytes) -> bool:
    """Whether a packet holds only a frame that others are decoded from.

    Bits of the frame headers of RFC 6386 (VP8) and of the VP9 bitstream specification.
    """
    if codec == "vp8":
        return not data[0] & 0x10
    # A packet that ends in an index holds several frames, the last of which is shown.
    if data[-1] & 0xE0 == 0xC0:
        return False
    # Profile 3 has one more bit before these: shown again, key, shown.
    bits = data[0] if data[0] & 0x30 == 0x30 else data[0] >> 1
    return not bits & 0b101


def _picture_rows(path: str, pictures: Iterable[av.VideoFrame]) -> np.ndarray:
    """(n, 4) pictures in order, in the form of `_packet_rows`."""
    rows = []
    for picture in pictures:
        if picture.pts is None:
            raise VideoError(f"{path}: damaged, cut off or without frame times")
        rows.append((picture.pts, picture.duration or 0, picture.key_frame, 0))
    rows = np.array(rows, np.int64).reshape(-1, 4)
    if wrong := np.flatnonzero(np.diff(rows[:, 0]) < 0).tolist():
        raise VideoError(f"{path}: time stamps are out of order from frame {wrong[0] + 1} on")
    return rows


def _arrange(
    path: str,
    container: av.container.InputContainer,
    stream: av.VideoStream,
    first: av.VideoFrame,
    rows: np.ndarray,
    seekable: bool,
) -> Video:
    """A `Video` out of rows of packets or pictures."""
    stamps, durations, keys, hidden = rows.T
    # An edited file keeps frames before its beginning to decode from, and hides them.
    pts, packets = np.unique(stamps[hidden == 0], return_index=True)
    if not len(pts):
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
    # PyAV goes by time stamps after a seek too, which is exact for open groups as well.
    seeks = np.unique(stamps[keys * seekable > 0])[1:]
    # Of damaged HEVC decord makes up pictures, where a newer ffmpeg shows none.
    exact = bool(seekable and closed and stream.codec.canonical_name != "hevc")
    return Video(path, end_s, len(pts) / length_s, *size, times_s, pts, seeks, exact)


def _open_bytes(entry: tuple[Video, Any]) -> float:
    """What an open reader takes at most, measured: two dozen pictures of half the bytes of RGB."""
    video, _ = entry
    return min(max(36.0 * video.width * video.height, OPEN_BYTES / OPEN_FILES), OPEN_BYTES)


_READERS = LRUCache(OPEN_BYTES, getsizeof=_open_bytes)
# A decoder that is still open when the interpreter ends can crash it.
atexit.register(_READERS.clear)


def _reader(video: Video, size: tuple[int, int]):
    """An open decord reader that hands out frames of this size."""
    import decord

    if (video, size) not in _READERS:
        decord.logging.set_level(decord.logging.QUIET)
        # Without `fault_tol` decord repairs a damaged frame with a neighbour and does not say so.
        how = {"num_threads": THREADS, "fault_tol": 1e-9}
        how |= {} if size == (video.width, video.height) else {"width": size[0], "height": size[1]}
        _READERS[video, size] = (video, decord.VideoReader(video.path, **how))
    return _READERS[video, size][1]


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
        # Where it stands it would decode on, into memory, until the file ends.
        reader.seek(0)
    except (DECORDError, DECORDLimitReachedError, RuntimeError):
        _READERS.pop((video, size), None)
        return None
    return pictures


def _by_pyav(video: Video, indices: np.ndarray, size: tuple[int, int]) -> dict[int, Image.Image]:
    """Pictures by frame index. Raises VideoError where one of them cannot be decoded."""
    pictures = {}
    # Frames behind the same key frame are read in one go; group 0 is at the start of the file.
    groups = np.searchsorted(video.seeks, video.pts[indices], "right")
    try:
        with _opened(video.path) as container:
            stream = container.streams.best("video")
            for group in np.unique(groups):
                targets = {int(video.pts[i]): int(i) for i in indices[groups == group]}
                if group:
                    container.seek(int(video.seeks[group - 1]), stream=stream)
                for frame in container.decode(stream):
                    if frame.pts in targets and not frame.is_corrupt:
                        # To start threads (0: one a core) takes longer than a small picture.
                        pixels = frame.to_ndarray(
                            format="rgb24", threads=int(video.width * video.height < LARGE)
                        )
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
