"""Eight frames of a clip by decord and by PyAV: `python -m tests.perf.reading [VIDEO …]`.

Without videos of your own, one of the pocket world's and two of noise. Both readers start cold, as
a dialogue's first look does; the verdict is that the reader which `act2see.video` takes is at most
a fifth slower than the other.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from act2see import video
from act2see.pocket.world import sample_scene, write_clip
from tests.perf.frames import write
from tests.perf.report import compare


def measure(path: Path) -> None:
    """The reader that is taken against the other one."""
    held = video.probe(path)
    size = held.width, held.height
    wanted = np.linspace(0, len(held.pts) - 1, 8).astype(int)

    def decord() -> None:
        video._READERS.clear()
        video._by_decord(held, wanted, size)

    def pyav() -> None:
        video._by_pyav(held, wanted, size)

    decord(), pyav()
    large = size[0] * size[1] >= video.LARGE
    pair = (decord, pyav) if large else (pyav, decord)
    names = " to ".join(work.__name__ for work in pair)
    case = f"8 frames of {path.name}, {size[0]} x {size[1]}, {names}"
    compare("reading", case, "<= 1.2", *pair, pairs=9)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        made = [
            write_clip(sample_scene(4), Path(folder) / "pocket.mp4"),
            write(Path(folder) / "small.mp4", 20, 320, 50),
            write(Path(folder) / "large.mp4", 20, 720, 50),
        ]
        for path in [Path(word) for word in sys.argv[1:]] or made:
            measure(path)
