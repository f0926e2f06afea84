"""Social Genome: four-option questions about people in clips of a minute.

Works on the published questions (CMU-MultiComp-Lab/social-genome, `qa_test.json`), on `trims.json`
of Social-IQ 2.0, which says where in its YouTube video a clip begins, and a folder of clips. Does
not know answers or human reasoning: both stay on the authors' server, so that these questions can
be asked but not scored here, and nothing can be filtered against them. One of the paper's sources.
"""

import json
from pathlib import Path

from pydantic import BaseModel

from act2see.datasets.records import (
    EVERYTHING,
    Loaded,
    Text,
    Wanted,
    download_command,
    find_videos,
    read_records,
)
from act2see.trace import Question

CLIP_S = 60.0
TERMS = (
    "answers and reasoning of Social Genome are on its authors' server: it is for evaluation only"
)
LONGEST_S = 70.0  # a cut at key frames leaves a few seconds more


class Record(BaseModel):
    """A record as published; `ts` is the span asked about, in seconds of the clip."""

    qid: Text
    q: Text
    vid_name: Text
    ts: Text
    a0: str
    a1: str
    a2: str
    a3: str


def load(
    path: str | Path, folder: str | Path, trims: str | Path = "", wanted: Wanted = EVERYTHING
) -> Loaded:
    """The questions, with `start_s` of their clip in `truth` (None where `trims` has none).

    trims: where clips begin; "" for `trims.json` in the folder of the records. A video that has not
    been cut counts as missing. Raises ValueError for a wrong record.
    """
    starts = read_trims(trims or Path(path).with_name("trims.json"))
    questions = [
        Question(
            id=record.qid,
            source="social_genome",
            family="social",
            video=f"{record.vid_name}.mp4",
            text=record.q,
            options=[record.a0, record.a1, record.a2, record.a3],
            truth=row | {"start_s": starts.get(record.vid_name)},
        )
        for row, record in read_records(path, Record, "qid", wanted)
    ]
    return find_videos(questions, folder, wanted, _uncut)


def _uncut(question: Question) -> str:
    # A whole video would be asked about other seconds than the question means.
    if question.duration_s <= LONGEST_S:
        return ""
    return f"lasts {question.duration_s:.0f} s; it must be cut to {CLIP_S:.0f} s"


def read_trims(path: str | Path) -> dict[str, float]:
    """Video -> where its clip begins, in seconds. Raises ValueError naming a wrong time."""
    starts = json.loads(Path(path).read_text(encoding="utf-8"))
    for name, start_s in starts.items():
        if not isinstance(start_s, int | float) or start_s < 0:
            raise ValueError(f"{path}: {name}: start is {start_s!r}; it must be seconds from 0 on")
    return starts


def download_commands(trims: str | Path, folder: str | Path) -> list[list[str]]:
    """A yt-dlp command for each clip, which cuts its minute out; nothing is run here."""
    starts = read_trims(trims)
    return [download_command([name], folder, start_s, CLIP_S) for name, start_s in starts.items()]
