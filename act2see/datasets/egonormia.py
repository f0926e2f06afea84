"""EgoNormia: what to do next, why, and what else would be sensible, seen by who is to act.

Works on the published records (hub `open-social-world/EgoNormia`, or its `final_data.json`) and
its folder `video`. Does not know models. Each item is asked three times: the best action, its
justification once an action is chosen, and the set of sensible actions. Official scores: accuracy
of action, justification and both, and the mean IoU of the sets. Option numbers are the record's;
shuffled options are mapped back by where each option came from, which the released evaluator does
the wrong way round. Our choice: the wording of the three questions, and to show the video before
the action, in which frames can be retrieved, where the official input is a strip of its frames.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from pandas import DataFrame
from pydantic import AliasChoices, BaseModel, Field

from act2see.datasets.choices import lenient_letter, original, strict_letter
from act2see.datasets.records import EVERYTHING, Loaded, Text, Wanted, find_videos, read_records
from act2see.statistics import accuracy_interval, paired_gain
from act2see.trace import LETTERS, Question, Trace

VIDEO = "video_prev.mp4"  # what happens before the action
STRIP = "frame_all_prev.jpg"  # the official input: frames of it, side by side
NONE = "none of these"  # how the record's empty option is shown
BEST = "Seen from the eyes of a person: what is most fitting for them to do next?"
ALL = "Seen from the eyes of a person: which of these would be sensible to do next?"
ENDING = "End with one line, `Answer: ` and all their letters (`Answer: A, C`), or none."
# Columns of `points` and rows of the table of scores, with the questions that each rests on.
MEASURES = {
    "action": ("action",),
    "justification": ("justification",),
    "sensible": ("sensible",),
    "both": ("action", "justification"),
}
Place = Annotated[int, Field(ge=0, le=4)]


class Record(BaseModel):
    """A record as published: the right option is `correct`, the sensible ones `sensibles`."""

    id: Text
    behaviors: list[str] = Field(min_length=5, max_length=5)
    justifications: list[str] = Field(min_length=5, max_length=5)
    correct: Place = Field(validation_alias=AliasChoices("correct", "correct_idx"))
    sensibles: list[Place] = Field(validation_alias=AliasChoices("sensibles", "sensible_idx"))


class Replies(NamedTuple):
    """The answers to an item, as numbers of the record's options; None where unreadable."""

    action: int | None = None
    justification: int | None = None
    sensible: set[int] | None = None


def load(
    path: str | Path, folder: str | Path, view: str = VIDEO, wanted: Wanted = EVERYTHING
) -> Loaded:
    """The first of the three questions, for the action. Raises ValueError for a wrong record.

    view: the file that is seen, VIDEO or STRIP, in the item's folder in `folder` or its `video`.
    """
    questions = [
        Question(
            id=f"{record.id}/action",
            source="egonormia",
            family="action",
            video=f"video/{record.id}/{view}",
            text=BEST,
            options=[option or NONE for option in record.behaviors],
            answer=record.correct,
            truth=row,
        )
        for row, record in read_records(path, Record, "id", wanted)
    ]
    return find_videos(questions, folder, wanted, _of_another)


def _of_another(question: Question) -> str:
    # The files of all items have one name: only the folder tells whose one is.
    own = Path(question.video).parent.name == question.truth["id"]
    return "" if own else f"is not in the folder of the item {question.truth['id']}"


def follow_up(traces: Sequence[Trace]) -> list[Question]:
    """The second and third question of every item whose action is among these traces."""
    questions = []
    for trace in traces:
        if trace.question.family == "action":
            questions += justification(trace), sensible(trace.question)
    return questions


def justification(action: Trace) -> Question:
    """The second question, about the action that was chosen (none if it could not be read).

    Its options stand in the order of the first one's.
    """
    first = action.question
    record = Record.model_validate(first.truth)
    letter = strict_letter(action.answer(), len(first.options))
    choice = first.options[LETTERS.index(letter)] if letter else NONE
    # In the same order, so that `answer` and `truth` of the first question hold for this one.
    order = [original(first, place) for place in range(len(first.options))]
    return first.model_copy(
        update={
            "id": f"{record.id}/justification",
            "family": "justification",
            "text": f'The person chooses: "{choice}". Which reason supports what is fitting best?',
            "options": [record.justifications[i] or NONE for i in order],
        }
    )


def sensible(action: Question) -> Question:
    """The third question, for all sensible actions, in the order of the first question."""
    lines = [f"{letter}) {o}" for letter, o in zip(LETTERS, action.options, strict=False)]
    # Options stand in the text: as options, one letter would be the whole answer.
    return action.model_copy(
        update={
            "id": f"{action.truth['id']}/sensible",
            "family": "sensible",
            "text": "\n".join([ALL, *lines, ENDING]),
            "options": [],
            "answer": -1,
        }
    )


def read_set(text: str, lenient: bool = False) -> set[int] | None:
    """The places of the letters listed after the last `Answer:`, None where it is not such a list.

    lenient: any letters that stand alone in the last line will do.

    >>> read_set("Answer: A, C") == {0, 2}, read_set("Answer: none"), read_set("A man")
    (True, set(), None)
    """
    _, marked, after = text.rpartition("Answer:")
    line = (after.strip().splitlines() or [""])[0 if marked else -1].strip(" *.[](){}")
    if (marked or lenient) and re.fullmatch(r"(?i)none(?: of (?:these|them))?", line):
        return set()
    if marked and re.fullmatch(r"\(?[A-E]\)?(?:(?:\s*,\s*|\s+and\s+|\s+)\(?[A-E]\)?)*", line):
        return {LETTERS.index(letter) for letter in re.findall("[A-E]", line)}
    # An A before a small letter is an article, unless it is one of `A and C`.
    alone = re.findall(r"\b(?!A\s+(?!and|or)[a-z])([A-E])\b", line) if lenient else []
    return {LETTERS.index(letter) for letter in alone} or None


def replies(traces: Sequence[Trace], lenient: bool = False) -> dict[str, Replies]:
    """Item -> its three replies, from the traces of the three questions; None for one missing."""
    found: dict[str, Replies] = {}
    for trace in traces:
        question = trace.question
        if question.family == "sensible":
            places = read_set(trace.answer(), lenient)
            value = None if places is None else {original(question, i) for i in places}
        else:
            text = trace.answer()
            letter = lenient_letter(text, question.options) if lenient else strict_letter(text, 5)
            value = original(question, LETTERS.index(letter)) if letter else None
        name = question.truth["id"]
        found[name] = found.get(name, Replies())._replace(**{question.family: value})
    return found


def points(records: Mapping[str, Record], answers: Mapping[str, Replies]) -> np.ndarray:
    """(n, 4) points from 0 to 1, by MEASURES: action, justification, IoU of the sets, both.

    What cannot be read is wrong; two empty sets are the same. Raises ValueError for an item that
    has no record.
    """
    if unknown := sorted(answers.keys() - records):
        raise ValueError(f"{len(unknown)} items have no record, among them {unknown[:5]}")
    rows = []
    for name, reply in answers.items():
        correct = records[name].correct
        action = reply.action == correct
        reason = reply.justification == correct
        rows.append((action, reason, _iou(records[name], reply.sensible), action and reason))
    return np.array(rows, dtype=float).reshape(-1, 4)


def scores(system: str, traces: Sequence[Trace], protocol: str) -> DataFrame:
    """One row per measure that was asked for, `both` last; columns as in `choices.scores`.

    The interval of the mean IoU is a bootstrap one. The protocol names the file that was seen.
    """
    records = {t.question.truth["id"]: Record.model_validate(t.question.truth) for t in traces}
    strict = replies(traces)
    lenient = replies(traces, lenient=True)
    strict_points = points(records, strict)
    lenient_means = points(records, lenient).mean(0)
    families = {t.question.family for t in traces}
    view = Path(traces[0].question.video).name
    rows = []
    for column, (measure, parts) in enumerate(MEASURES.items()):
        if not families.issuperset(parts):
            continue
        accuracy, low, high = _interval(measure, strict_points[:, column])
        rows.append(
            {
                "system": system,
                "family": measure,
                "n": len(strict_points),
                "accuracy": accuracy,
                "low": low,
                "high": high,
                "unparsed": _unread(strict.values(), parts),
                "truncated": sum(t.truncated for t in traces if t.question.family in parts),
                "lenient": lenient_means[column],
                "lenient_unparsed": _unread(lenient.values(), parts),
                "protocol": f"{protocol}, {len(families)} replies an item, of {view}",
            }
        )
    return DataFrame(rows)


def _iou(record: Record, answer: set[int] | None) -> float:
    """Intersection over union with the record's sensible set, 0 for None, 1 for two empty sets."""
    wanted = set(record.sensibles)
    if answer is None:
        return 0.0
    union = wanted | answer
    return len(wanted & answer) / len(union) if union else 1.0


def _interval(measure: str, hits: np.ndarray) -> tuple[float, float, float]:
    if measure == "sensible":
        # Shares, not hits and misses, have no Wilson interval; a gain over nothing is the mean.
        return paired_gain(np.zeros(len(hits)), hits)
    return accuracy_interval(hits)


def _unread(answers: Collection[Replies], parts: Sequence[str]) -> int:
    """How many items have a reply to one of these questions missing or unreadable."""
    return sum(any(getattr(reply, part) is None for part in parts) for reply in answers)
