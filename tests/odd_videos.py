"""Odd videos by a seed: codecs, containers, timings, streams and damage, thrown together.

Works on PyAV and NumPy alone, so that what is made does not depend on what is tested. The picture
of a frame tells its number. Knows nothing of how the files are read.
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SIZE = (64, 48)
BF = {"bf": "2"}
ALT = {"auto-alt-ref": "1", "lag-in-frames": "16"}
OPEN = {"bf": "3", "x264-params": "open-gop=1"}
X265 = {"x265-params": "log-level=none:pools=1"}
# Codec, pixel format, options, endings of containers that take it.
FORMS = [
    ("libx264", "yuv420p", {}, "mp4 mov mkv avi ts flv nut h264"),
    ("libx264", "yuv420p", OPEN, "mp4 mkv ts avi"),
    ("libx264", "yuv444p", BF, "mp4 mkv"),
    ("libx264", "gray", {}, "mp4"),
    ("libx265", "yuv420p", X265, "mp4 mkv ts"),
    ("libvpx", "yuv420p", ALT, "webm mkv avi ivf"),
    ("libvpx-vp9", "yuv420p", ALT, "webm mkv mp4 ivf"),
    ("libvpx-vp9", "yuv444p", ALT, "webm"),
    ("libsvtav1", "yuv420p", {"preset": "12"}, "mp4 mkv webm"),
    ("mpeg4", "yuv420p", BF, "mp4 avi mkv 3gp"),
    ("mpeg2video", "yuv420p", BF, "mpg ts mkv vob"),
    ("mpeg1video", "yuv420p", BF, "mpg mkv"),
    ("mjpeg", "yuvj420p", {}, "avi mov mkv"),
    ("ffv1", "yuv420p", {}, "mkv avi nut"),
    ("huffyuv", "yuv422p", {}, "avi mkv"),
    ("rawvideo", "yuv420p", {}, "avi nut mkv"),
    ("prores_ks", "yuv422p10le", {}, "mov"),
    ("png", "rgb24", {}, "mov avi mkv"),
    ("gif", "rgb8", {}, "gif"),
    ("apng", "rgb24", {}, "apng"),
    ("flv", "yuv420p", {}, "flv"),
    ("wmv2", "yuv420p", {}, "wmv avi"),
    ("msmpeg4", "yuv420p", {}, "avi wmv"),
]
MUXERS = {"m4v": "mp4", "wmv": "asf"}
TIMINGS = ("even", "late", "uneven", "gap", "one", "two", "early")
EXTRAS = ("none", "none", "sound", "two videos", "title", "fragmented", "faststart")
DAMAGES = ("none",) * 6 + ("zeroed", "cut", "flipped", "tail", "head", "grown")


@dataclass(frozen=True)
class Odd:
    """One way of making a video."""

    seed: int
    codec: str
    pixels: str
    options: dict
    ending: str
    timing: str
    extra: str
    damage: str
    group: int


def grey(number: int) -> av.VideoFrame:
    """A frame of this number: its lower half is grey 4 * number, its upper left white."""
    width, height = SIZE
    pixels = np.full((height, width, 3), 4 * number % 256, np.uint8)
    pixels[: height // 2, : width // 2] = 255
    return av.VideoFrame.from_ndarray(pixels, format="rgb24")


def odd(seed: int) -> Odd:
    """The oddities of a seed; seeds in a row go through all codecs."""
    random = np.random.default_rng(seed)
    codec, pixels, options, endings = FORMS[seed % len(FORMS)]
    return Odd(
        seed=seed,
        codec=codec,
        pixels=pixels,
        options=options,
        ending=str(random.choice(endings.split())),
        timing=str(random.choice(TIMINGS)),
        extra=str(random.choice(EXTRAS)),
        damage=str(random.choice(DAMAGES)),
        group=int(random.choice([1, 6, 12, 300])),
    )


def write(kind: Odd, folder: Path) -> Path | None:
    """The file, None where this PyAV cannot write such a one."""
    random = np.random.default_rng(kind.seed)
    path = folder / f"odd{kind.seed}.{kind.ending}"
    flags = {"fragmented": "frag_keyframe+empty_moov", "faststart": "faststart"}.get(kind.extra)
    muxer = {"movflags": flags} if flags and kind.ending in ("mp4", "mov", "3gp") else {}
    form = {"format": MUXERS.get(kind.ending), "options": muxer, "metadata_encoding": "latin-1"}
    try:
        with av.open(str(path), "w", **form) as container:
            if kind.extra == "title":
                container.metadata["title"] = "caf\xe9 \xff"
            _mux(container, kind, _stamps(kind.timing, random))
    except (ValueError, av.FFmpegError):
        return None
    path.write_bytes(_damaged(path.read_bytes(), kind.damage, random))
    return path


def _stamps(timing: str, random: np.random.Generator) -> list[int]:
    count = {"one": 1, "two": 2}.get(timing, int(random.integers(20, 60)))
    stamps = np.arange(count)
    if timing == "late":
        stamps += 17
    if timing == "early":
        stamps -= 5
    if timing == "uneven":
        stamps = np.cumsum(random.integers(1, 5, count)) - 1
    if timing == "gap":
        stamps[count // 2 :] += 40
    return stamps.tolist()


def _mux(container: av.container.OutputContainer, kind: Odd, stamps: list[int]) -> None:
    rate = 25 if kind.codec in ("mpeg1video", "mpeg2video") else 10
    options = kind.options | {"g": str(kind.group)}
    streams = []
    for _ in range(2 if kind.extra == "two videos" else 1):
        stream = container.add_stream(kind.codec, rate=rate, options=options)
        stream.width, stream.height = SIZE
        stream.pix_fmt = kind.pixels
        streams.append(stream)
    if kind.extra == "sound":
        sound = container.add_stream("libopus" if kind.ending == "webm" else "aac", rate=48000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 48000), np.float32), "fltp", "mono")
        silence.sample_rate = 48000
        silence.pts = 0
        container.mux(sound.encode(silence))
        container.mux(sound.encode())
    for i, stamp in enumerate(stamps):
        for stream in streams:
            frame = grey(i)
            frame.pts = stamp
            frame.time_base = Fraction(1, rate)
            container.mux(stream.encode(frame))
    for stream in streams:
        container.mux(stream.encode())


def _damaged(data: bytes, damage: str, random: np.random.Generator) -> bytes:
    data = bytearray(data)
    size = len(data)
    if damage == "zeroed":
        data[int(0.45 * size) : int(0.6 * size)] = bytes(int(0.6 * size) - int(0.45 * size))
    if damage == "cut":
        del data[int(random.uniform(0.3, 0.98) * size) :]
    if damage == "flipped":
        for place in random.integers(size // 5, max(size, 6), 20):
            data[min(place, size - 1)] ^= 1 << int(random.integers(8))
    if damage == "tail":
        data += random.bytes(5000)
    if damage == "head":
        data[: int(random.integers(1, 64))] = b""
    if damage == "grown":
        data += data[size // 2 :]
    return bytes(data)
