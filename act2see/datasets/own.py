"""Your own questions: a table with a row a question, the videos next to it.

Works on a CSV file with the columns video, question and options, and if you know them answer and
reasoning, and a folder of videos. Does not know models. Options are separated by `|`; the answer is
the letter of the right one, or its text. Our choice.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from act2see.datasets.records import EVERYTHING, Loaded, Text, Wanted, find_videos, read_records
from act2see.trace import LETTERS, Question


class Record(BaseModel):
    """A row; `answer` becomes the place of the right option, -1 where the cell is empty."""

    video: Text
    question: Text
    options: list[Text] = Field(min_length=2, max_length=len(LETTERS))
    answer: int = -1
    reasoning: str = ""

    @field_validator("options", mode="before")
    @classmethod
    def _parts(cls, text: Any) -> Any:
        return [part.strip() for part in text.split("|")] if isinstance(text, str) else text

    @field_validator("answer", mode="before")
    @classmethod
    def _place(cls, answer: Any, info: ValidationInfo) -> Any:
        if not isinstance(answer, str):
            return answer
        options = info.data.get("options", [])
        names = {"": -1} | {letter: i for i, letter in enumerate(LETTERS[: len(options)])}
        # An option that is a letter itself goes first.
        names |= {option: i for i, option in enumerate(options)}
        if answer.strip() not in names:
            raise ValueError(f"must be the text or the letter of one of {options}")
        return names[answer.strip()]


def load(
    path: str | Path, folder: str | Path, wanted: Wanted = EVERYTHING, source: str = "own"
) -> Loaded:
    """The questions, by name of this source. Raises ValueError naming a wrong row and column."""
    questions = [
        Question(
            source=source,
            video=record.video,
            text=record.question,
            options=record.options,
            answer=record.answer,
            reasoning=record.reasoning,
            truth=row,
        )
        for row, record in read_records(path, Record, wanted=wanted)
    ]
    return find_videos(questions, folder, wanted)
