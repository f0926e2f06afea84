"""VideoEspresso: four-option questions of fourteen tasks, whose wrong options read alike.

Works on the published records (hub `hshjerry0315/VideoEspresso-Test`, `bench_hard.json`) and a
folder of its videos. Does not know models. Official metric: micro accuracy, the row `all` of
`choices.scores`, with the tasks as families. The shortest option is right for 54.3 % of them: read
a score next to those of `statistics.trivial_traces`.
"""

from pathlib import Path

from pydantic import BaseModel, Field

from act2see.datasets.choices import option_text
from act2see.datasets.records import EVERYTHING, Loaded, Text, Wanted, find_videos, read_records
from act2see.trace import LETTERS, Question


class Record(BaseModel):
    """A record as published; options are `(A): …`, the answer `(B)`."""

    video_path: Text
    question: Text
    options: list[str] = Field(min_length=4, max_length=4)
    correct_answer: str = Field(pattern=r"^\s*\(?[A-D]\)?\s*$")
    task: Text


def load(
    path: str | Path,
    folder: str | Path,
    source: str = "videoespresso",
    kind: type[Record] = Record,
    wanted: Wanted = EVERYTHING,
) -> Loaded:
    """The questions, by `family` the task. Raises ValueError for a wrong record.

    source, kind: of another data set whose records have these fields and more.
    """
    questions = [
        Question(
            # The records have no id, and one video has many: their place in the file must do.
            id=f"{source}-{index}",
            source=source,
            family=record.task,
            video=record.video_path,
            text=record.question.strip(),
            options=[option_text(option, i) for i, option in enumerate(record.options)],
            answer=LETTERS.index(record.correct_answer.strip(" ()")),
            truth=row,
        )
        for index, (row, record) in enumerate(read_records(path, kind, wanted=wanted))
    ]
    return find_videos(questions, folder, wanted)
