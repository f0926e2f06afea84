"""VideoEspresso: four-option questions of fourteen tasks, whose wrong options read alike.

Works on the published records (hub `hshjerry0315/VideoEspresso-Test`, `bench_hard.json`) and a
folder of its videos. Knows no model. Official metric: micro accuracy, the row `all` of
`choices.scores`, with the tasks as families. The shortest option is right for 54.3 % of them: read
a score beside `choices.trivial_scores`.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from act2see.benchmarks.choices import option_text
from act2see.sources.records import Loaded, Text, find_videos, read_records
from act2see.trace import LETTERS, Question


class Record(BaseModel):
    """A record as published; options are `(A): …`, the answer `(B)`. Evidence is never shown."""

    video_path: Text
    question: Text
    options: list[str] = Field(min_length=4, max_length=4)
    correct_answer: str = Field(pattern=r"^\s*\(?[A-D]\)?\s*$")
    evidence: Any = ""
    task: Text


def load(path: str | Path, folder: str | Path) -> Loaded:
    """The questions, by `family` the task. Raises ValueError for a wrong record."""
    records = read_records(path, Record)
    asked = [question("videoespresso", i, *pair) for i, pair in enumerate(records)]
    return find_videos(asked, folder)


def question(source: str, index: int, row: dict[str, Any], record: Record) -> Question:
    """The question of a record, which has no id but its place; its video is still a name."""
    return Question(
        id=f"{source}-{index}",
        source=source,
        family=record.task,
        video=record.video_path,
        duration_s=0,
        text=record.question.strip(),
        options=[option_text(option, i) for i, option in enumerate(record.options)],
        answer=LETTERS.index(record.correct_answer.strip(" ()")),
        truth=row,
    )
