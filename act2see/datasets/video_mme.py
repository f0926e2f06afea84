"""Video-MME: four-option questions about YouTube videos of three durations.

Works on the published records (hub `lmms-lab/Video-MME`, Parquet or JSON; no redistribution), a
folder of videos named by YouTube id, and one of `.srt` subtitles. Does not know models. Official
metric: accuracy by duration and over all 2,700 questions, with and without subtitles. How subtitles
are shown, all lines behind their second, is our choice.
"""

import re
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any, Literal

from pandas import DataFrame
from pydantic import BaseModel, Field

from act2see.datasets import choices
from act2see.datasets.records import (
    EVERYTHING,
    Loaded,
    Text,
    Wanted,
    compare_lengths,
    find_videos,
    read_records,
)
from act2see.trace import LETTERS, Question, Trace

# When a cue begins, with the number before it; hours may be left out.
CUE = re.compile(
    r"(?:^[ \t]*\d+[ \t]*\n)?^[ \t]*((?:\d+:)?\d+:\d\d)[,.]\d+[ \t]*-->.*$", re.MULTILINE
)
MARKS = re.compile(r"<[^>]*>|\{\\[^}]*\}")  # of typeface and place
LASTS_S = {"short": (0, 150), "medium": (150, 1200), "long": (1200, 7200)}  # with room at the ends


class Record(BaseModel):
    """A record as published; options are `A. …`, answer is a letter."""

    video_id: Any
    duration: Literal["short", "medium", "long"]
    domain: Any
    sub_category: Any
    url: Any
    videoID: Text
    question_id: Text
    task_type: Any
    question: Text
    options: list[str] = Field(min_length=4, max_length=4)
    answer: Literal["A", "B", "C", "D"]


def load(
    path: str | Path, folder: str | Path, subtitles: str | Path = "", wanted: Wanted = EVERYTHING
) -> Loaded:
    """The questions, by `family` the duration. Raises ValueError for a wrong record.

    Both published forms are read: a record a question, and the evaluator's, a record a video.
    Videos that are longer or shorter than their record's kind are named in a warning.
    subtitles: a folder whose `.srt` files are put before the questions; "" asks without. In
    `truth`, `subtitles` says whether there was such a folder, `spoken` whether it had the video's.
    """
    questions = []
    for row, record in read_records(path, Record, "question_id", wanted, _flat):
        file = Path(subtitles) / f"{record.videoID}.srt"
        lines = read_subtitles(file) if subtitles and file.is_file() else ""
        questions.append(
            Question(
                id=record.question_id,
                source="video_mme",
                family=record.duration,
                video=f"{record.videoID}.mp4",
                text=f"Subtitles:\n{lines}\n\n{record.question}" if lines else record.question,
                options=choices.unlettered(record.options),
                answer=LETTERS.index(record.answer),
                truth=row | {"subtitles": bool(subtitles), "spoken": bool(lines)},
            )
        )
    loaded = find_videos(questions, folder, wanted)
    return compare_lengths(loaded, lambda question: LASTS_S[question.family])


def _flat(rows: list[Any]) -> list[Any]:
    """A row a question, where the official evaluator's file has one a video."""
    flat = []
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("questions"), list):
            flat.append(row)
            continue
        shared = {name: value for name, value in row.items() if name != "questions"}
        # The file names the video by its address; a copy without it, by the data set's number.
        address = str(shared.setdefault("url", ""))
        shared.setdefault("videoID", address.rpartition("=")[2] or shared.get("video_id"))
        flat += [shared | question for question in row["questions"] if isinstance(question, dict)]
    return flat


def read_subtitles(path: Path) -> str:
    """The spoken lines, each behind its second, and no words twice that stay for another cue."""
    lines = []
    before: list[str] = []
    # Encodings differ from file to file, and one wrong letter is better than none of the words.
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    _, *parts = CUE.split(text)
    for time, spoken in zip(parts[::2], parts[1::2], strict=True):
        cue = unescape(MARKS.sub("", spoken)).splitlines()
        words = " ".join(cue).split()
        heads = [" ".join(cue[:i]).split() for i in range(len(cue), 0, -1)]
        # A rolling caption begins with lines that were there; a growing one, with all of it.
        heads = [head for head in heads if head and before[-len(head) :] == head]
        if before and words[: len(before)] == before:
            heads.insert(0, before)
        new = words[len(heads[0]) :] if heads else words
        time_s = sum(int(part) * 60**i for i, part in enumerate(reversed(time.split(":"))))
        if new:
            lines.append(f"<{time_s} seconds> {' '.join(new)}")
        before = words or before
    return "\n".join(lines)


def scores(system: str, traces: Sequence[Trace], protocol: str) -> DataFrame:
    """Accuracy by duration and over all, as in `choices.scores`; the protocol names subtitles.

    Raises ValueError where some were asked with subtitles and some without: two settings.
    """
    settings = {t.question.truth.get("subtitles", False) for t in traces}
    # Published tables have a column for each, points apart: a mean of both compares with neither.
    if len(settings) > 1:
        raise ValueError("traces are with and without subtitles; score each setting alone")
    setting = "with" if True in settings else "without"
    return choices.scores(system, traces, f"{protocol}, {setting} subtitles")
