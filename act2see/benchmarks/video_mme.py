"""Video-MME: four-option questions about YouTube videos of three durations.

Works on the published records (hub `lmms-lab/Video-MME`, Parquet or JSON; no redistribution), a
folder of videos named by YouTube id, and one of `.srt` subtitles. Knows no model. Official metric:
accuracy by duration and over all 2,700 questions, with and without subtitles. How subtitles are
shown, all lines behind their second, is our choice.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pandas import DataFrame
from pydantic import BaseModel, Field

from act2see.benchmarks import choices
from act2see.sources.records import Loaded, Text, find_videos, read_records
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

    subtitles: a folder whose `.srt` files are put before the questions; `truth["spoken"]` says
    whether there was one for the video. "" asks without.
    """
    asked = []
    for row, record in read_records(path, Record, "question_id"):
        spoken = Path(subtitles) / f"{record.videoID}.srt" if subtitles else None
        lines = read_subtitles(spoken) if spoken and spoken.is_file() else ""
        question = Question(
            id=record.question_id,
            source="video_mme_subtitles" if subtitles else "video_mme",
            family=record.duration,
            video=f"{record.videoID}.mp4",
            duration_s=0,
            text=f"Subtitles:\n{lines}\n\n{record.question}" if lines else record.question,
            options=[choices.option_text(o, i) for i, o in enumerate(record.options)],
            answer=LETTERS.index(record.answer),
            truth=row | {"spoken": bool(lines)},
        )
        asked.append(question)
    return find_videos(asked, folder)


def read_subtitles(path: Path) -> str:
    """What is said, a line each behind its second; a line said again at once is left out."""
    lines = [""]
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    for hours, minutes, seconds, _, said in SPOKEN.findall(text):
        time_s = int(hours) * 3600 + int(minutes) * 60 + int(seconds)
        words = " ".join(re.sub(r"<[^>]*>", "", said).split())
        if words and not lines[-1].endswith(f"> {words}"):
            lines.append(f"<{time_s} seconds> {words}")
    return "\n".join(lines[1:])


def scores(system: str, traces: Sequence[Trace], protocol: str) -> DataFrame:
    """Accuracy by duration and over all, as in `choices.scores`; the protocol names subtitles.

    Raises ValueError where some were asked with subtitles and some without: two settings.
    """
    sources = sorted({t.question.source for t in traces})
    if len(sources) > 1:
        raise ValueError(f"questions are of {sources}; they must be of one, or score each alone")
    told = "with" if sources == ["video_mme_subtitles"] else "without"
    return choices.scores(system, traces, f"{protocol}, {told} subtitles")
