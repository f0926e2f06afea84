"""Video-MME: four-option questions about YouTube videos of three durations.

Works on the published records (hub `lmms-lab/Video-MME`, Parquet or JSON; no redistribution), a
folder of videos named by YouTube id, and one of `.srt` subtitles. Does not know models. Official
metric: accuracy by duration and over all 2,700 questions, with and without subtitles. How subtitles
are shown, all lines behind their second, is our choice.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pandas import DataFrame
from pydantic import BaseModel, Field

from act2see.datasets import choices
from act2see.datasets.records import Loaded, Text, find_videos, read_records
from act2see.trace import LETTERS, Question, Trace

SPOKEN = re.compile(r"(\d+):(\d\d):(\d\d)[,.](\d{3})\s*-->.*\n((?:.*\S.*(?:\n|$))*)")


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


def load(path: str | Path, folder: str | Path, subtitles: str | Path = "") -> Loaded:
    """The questions, by `family` the duration. Raises ValueError for a wrong record.

    subtitles: a folder whose `.srt` files are put before the questions; "" asks without. In
    `truth`, `subtitles` says whether there was such a folder, `spoken` whether it had the video's.
    """
    questions = []
    for row, record in read_records(path, Record, "question_id"):
        file = Path(subtitles) / f"{record.videoID}.srt"
        lines = read_subtitles(file) if subtitles and file.is_file() else ""
        questions.append(
            Question(
                id=record.question_id,
                source="video_mme",
                family=record.duration,
                video=f"{record.videoID}.mp4",
                text=f"Subtitles:\n{lines}\n\n{record.question}" if lines else record.question,
                options=[choices.option_text(o, i) for i, o in enumerate(record.options)],
                answer=LETTERS.index(record.answer),
                truth=row | {"subtitles": bool(subtitles), "spoken": bool(lines)},
            )
        )
    return find_videos(questions, folder)


def read_subtitles(path: Path) -> str:
    """The spoken lines, each behind its second; a line that comes again at once is left out."""
    lines = [""]
    # Encodings differ from file to file, and one wrong letter is better than none of the words.
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    for hours, minutes, seconds, _, spoken in SPOKEN.findall(text):
        time_s = int(hours) * 3600 + int(minutes) * 60 + int(seconds)
        words = " ".join(re.sub(r"<[^>]*>", "", spoken).split())
        if words and not lines[-1].endswith(f"> {words}"):
            lines.append(f"<{time_s} seconds> {words}")
    return "\n".join(lines[1:])


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
