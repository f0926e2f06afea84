"""ViTIB, the benchmark of ViTCoT: VideoEspresso's questions, scored as the mean of their tasks.

Works on the published records (BRZ911/ViTCoT, `src/vitcot_data.jsonl`) and a folder of its videos.
Does not know models. Each record comes with an answer in words, evidence, and a video of key frames
that was cut by someone who knew: all three stay in `truth`, and no model is shown them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pandas import DataFrame

from act2see.datasets import choices, videoespresso
from act2see.datasets.records import EVERYTHING, Loaded, Wanted
from act2see.trace import Trace


class Record(videoespresso.Record):
    """A record as published; of its videos only `video_path` is asked about."""

    answer: Any
    # Required here, so that a file of VideoEspresso's is not taken for this benchmark.
    evidence: Any
    key_video_path: Any


def load(path: str | Path, folder: str | Path, wanted: Wanted = EVERYTHING) -> Loaded:
    """The questions, by `family` the task. Raises ValueError for a wrong record."""
    return videoespresso.load(path, folder, "vitib", Record, wanted)


def scores(system: str, traces: Sequence[Trace], protocol: str) -> DataFrame:
    """The rows of `choices.scores`, then the official figure: the unweighted mean of the tasks.

    The last row's family says how many tasks it is the mean of; officially 14.
    """
    return choices.mean_of_families(choices.scores(system, traces, protocol))
