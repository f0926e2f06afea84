"""Frames of a clip against raw decord with everything open, and of a long file against PyAV."""

import tempfile
from pathlib import Path

import av
import numpy as np
import torch  # noqa: F401  before decord, which crashes otherwise
from decord import VideoReader

from act2see import video
from act2see.video import probe, read_frames
from tests.perf.report import compare


def write(path: Path, seconds: int, side_px: int, group: int) -> Path:
    """A film of moving noise, 10 frames a second, a key frame every `group` frames."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (side_px * 2, side_px * 2, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "g": str(group), "crf": "30"}
        stream = container.add_stream("libx264", rate=10, options=options)
        stream.width = stream.height = side_px
        stream.pix_fmt = "yuv420p"
        for i in range(10 * seconds):
            at = i // 10 % side_px
            picture = np.ascontiguousarray(noise[at : at + side_px, at : at + side_px])
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def short_clip(path: Path) -> None:
    reader, held = VideoReader(str(path)), probe(path)
    indices = np.linspace(0, len(held.times_s) - 1, 32).astype(int).tolist()
    times_s = held.times_s[indices]

    def ours():
        video._KEPT.clear()
        read_frames(path, times_s)

    def raw():
        reader.seek(0)
        reader.get_batch(indices).asnumpy()

    ours(), raw()
    compare("frames", "32 of a 40 s clip to raw decord", "<= 1.15", ours, raw, pairs=9)
    compare("frames", "asked again", "<= 0.02", lambda: read_frames(path, times_s), raw, pairs=9)


def long_film(path: Path) -> None:
    held = probe(path)
    rng = np.random.default_rng(1)
    wanted = {}

    def ours():
        wanted["s"] = np.sort(rng.uniform(0, held.duration_s - 1, 8))
        read_frames(path, wanted["s"])

    def groups():
        """Decode, and no more, the groups of pictures that the same moments lie in."""
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            for time_s in wanted["s"]:
                container.seek(int(time_s / stream.time_base), stream=stream)
                keys = 0
                for frame in container.decode(stream):
                    keys += frame.key_frame
                    if keys == 2:
                        break

    ours(), groups()
    compare("frames", "8 of an hour to their groups of pictures", "<= 2", ours, groups, pairs=9)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        short_clip(write(Path(folder) / "clip.mp4", 40, 320, 50))
        long_film(write(Path(folder) / "film.mp4", 3600, 160, 50))
