from pydantic import BaseModel

from act2see.datasets import Dataset, find_videos, read_records
from act2see.trace import Question


class Record(BaseModel):
    video: str
    text: str
    options: list[str]
    answer: int


def load(path, folder):
    records = [published.record for published in read_records(path, Record)]
    questions = [Question(source="mine", **record.model_dump()) for record in records]
    return find_videos(questions, folder)


def follow_up(traces):
    return [t.question.model_copy(update={"id": f"{t.question.id}/sure"}) for t in traces]


MINE = Dataset("My questions", load, follow_up=follow_up, trains=True)
