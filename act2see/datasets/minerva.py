"""MINERVA: five-option questions about YouTube videos, with reasoning written by people.

Works on `minerva.json` (Google DeepMind, CC-BY 4.0, bucket `neptunedata`; on the hub
`lmms-lab-eval/minerva`) and a folder of videos named by YouTube id. Does not know teachers. One of
the paper's three sources of human reasoning, and the only one whose reasoning is public: a filter
against it can be checked by anyone.
"""

from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, Field

from act2see.datasets.records import EVERYTHING, Loaded, Text, Wanted, find_videos, read_records
from act2see.trace import Question


class Record(BaseModel):
    """A record as published; `reasoning` names times as a person does."""

    key: Text
    video_id: Text
    question: Text
    answer: Any
    answer_choice_0: str
    answer_choice_1: str
    answer_choice_2: str
    answer_choice_3: str
    answer_choice_4: str
    answer_id: int = Field(ge=0, le=4)
    reasoning: str
    # Google's file and the hub's copy name it differently.
    question_type: Any = Field(validation_alias=AliasChoices("question type", "question_type"))
    split: Any
    category: Any


def load(path: str | Path, folder: str | Path, wanted: Wanted = EVERYTHING) -> Loaded:
    """The questions with their human reasoning, by `family` the type of question.

    Raises ValueError for a wrong record.
    """
    questions = []
    for row, record in read_records(path, Record, "key", wanted):
        kinds = record.question_type
        questions.append(
            Question(
                id=record.key,
                source="minerva",
                family=", ".join(kinds) if isinstance(kinds, list) else str(kinds),
                video=f"{record.video_id}.mp4",
                text=record.question,
                options=[getattr(record, f"answer_choice_{i}") for i in range(5)],
                answer=record.answer_id,
                reasoning=record.reasoning,
                truth=row,
            )
        )
    return find_videos(questions, folder, wanted)
