"""EgoNormia: what to do next, why, and what else would be sensible, seen by who is to act.

Works on the published records (hub `open-social-world/EgoNormia`, or its `final_data.json`) and
its folder `video`. Knows no model. Each item is asked three times: the best action, its
justification once an action is chosen, and the set of sensible actions. Official scores: accuracy
of action, justification and both, and the mean IoU of the sets. Option numbers are the record's;
shuffled options are mapped back by where each option came from, which the released evaluator does
the wrong way round. Our choice: the wording of the three questions, and to show the video before
the action, in which frames can be retrieved, where the official input is a strip of its frames.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pandas import DataFrame
from pydantic import AliasChoices, BaseModel, Field

from act2see.benchmarks.choices import lenient_letter, original, said, strict_letter
from act2see.sources.records import Loaded, Text, find_videos, read_records
from act2see.statistics import accuracy_interval, paired_gain
from act2see.trace import LETTERS, Question, Trace

VIDEO = "video_prev.mp4"  # what happens before the action
STRIP = "frame_all_prev.jpg"  # the official input: frames of it, side by side
NONE = "none of these"  # how the record's empty option is shown
BEST = "Seen from the eyes of a person: what is most fitting for them to do next?"
ALL = "Seen from the eyes of a person: which of these would be sensible to do next?"
ENDING = "End with one line, `Answer: ` and all their letters (`Answer: A, C`), or none."
MEASURES = {"action": 0, "justification": 1, "sensible": 3, "both": 2}  # in columns of `points`
Place = Annotated[int, Field(ge=0, le=4)]


class Record(BaseModel):
    """A record as published: the right option is `correct`, the sensible ones `sensibles`."""

    id: Text
    behaviors: list[str] = Field(min_length=5, max_length=5)
    justifications: list[str] = Field(min_length=5, max_length=5)
    correct: Place = Field(validation_alias=AliasChoices("correct", "correct_idx"))
    sensibles: list[Place] = Field(validation_alias=AliasChoices("sensibles", "sensible_idx"))
    taxonomy: Any = None
    desc: Any = Field("", validation_alias=AliasChoices("desc", "description"))


class Replies(NamedTuple):
    """What was answered to an item, as numbers of the record's options; None where unreadable."""

    action: int | None
    justification: int | None
    sensible: set[int] | None


def load(path: str | Path, folder: str | Path, name: str = VIDEO) -> Loaded:
    """The first of the three questions, for the action. Raises ValueError for a wrong record.

    name: the file that is seen, VIDEO or STRIP, in the item's folder in `folder` or its `video`.
    """
    asked = [
        Question(
            id=f"{record.id}/action", source="egonormia", family="action",
            video=f"video/{record.id}/{name}", duration_s=0,
            text=BEST,
            options=[b or NONE for b in record.behaviors], answer=record.correct, truth=row,
        )
        for row, record in read_records(path, Record, "id")
    ]  # fmt: skip
    return find_videos(asked, folder)


def justification(action: Trace) -> Question:
    """The second question, about the action that was chosen (none if it could not be read).

    Its options stand in the order of the first one's.
    """
    asked = action.question
    record = Record.model_validate(asked.truth)
    letter = strict_letter(said(action), len(asked.options))
    chosen = asked.options[LETTERS.index(letter)] if letter else NONE
    order = [original(asked, place) for place in range(len(asked.options))]
    update = {
        "id": f"{record.id}/justification", "family": "justification",
        "text": f'The person chooses: "{chosen}". Which reason supports what is fitting best?',
        "options": [record.justifications[i] or NONE for i in order],
    }  # fmt: skip
    return asked.model_copy(update=update)


def sensible(action: Question) -> Question:
    """The third question, for all sensible actions, in the order of the first question."""
    listed = [f"{letter}) {o}" for letter, o in zip(LETTERS, action.options, strict=False)]
    update = {
        "id": f"{action.truth['id']}/sensible", "family": "sensible", "options": [], "answer": -1,
        "text": "\n".join([ALL, *listed, ENDING]),
    }  # fmt: skip
    return action.model_copy(update=update)


def read_set(text: str, lenient: bool = False) -> set[int] | None:
    """The places of the letters listed after the last `Answer:`, None where it is no such list.

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
    alone = re.findall(r"\b(?!A\s+(?!and|or)[a-z])([A-E])\b", line) if lenient else []
    return {LETTERS.index(letter) for letter in alone} or None


def replies(traces: Sequence[Trace], lenient: bool = False) -> dict[str, Replies]:
    """Item -> its three replies, from the traces of the three questions; None for one missing."""
    read: dict[str, dict[str, Any]] = {}
    for trace in traces:
        asked, text = trace.question, said(trace)
        if asked.family == "sensible":
            places = read_set(text, lenient)
            value = None if places is None else {original(asked, i) for i in places}
        else:
            letter = lenient_letter(text, asked.options) if lenient else strict_letter(text, 5)
            value = original(asked, LETTERS.index(letter)) if letter else None
        read.setdefault(asked.truth["id"], {})[asked.family] = value
    names = ("action", "justification", "sensible")
    return {item: Replies(*map(found.get, names)) for item, found in read.items()}


def points(records: dict[str, Record], given: dict[str, Replies]) -> np.ndarray:
    """(n, 4) points from 0 to 1: action, justification, both, IoU of the sensible sets.

    What cannot be read is wrong; two empty sets are the same. Raises ValueError for an item that
    has no record.
    """
    if unknown := sorted(given.keys() - records):
        raise ValueError(f"{len(unknown)} items have no record, among them {unknown[:5]}")
    rows = []
    for item, (action, reason, chosen) in given.items():
        right, wanted = records[item].correct, set(records[item].sensibles)
        union = wanted | (chosen or set())
        iou = len(wanted & chosen) / len(union) if union and chosen is not None else 0.0
        iou = 1.0 if chosen == wanted == set() else iou
        rows.append((action == right, reason == right, action == reason == right, iou))
    return np.array(rows, dtype=float).reshape(-1, 4)


def scores(system: str, traces: Sequence[Trace], protocol: str) -> DataFrame:
    """One row per measure that was asked for, `both` last; columns as in `choices.scores`.

    The interval of the mean IoU is a bootstrap one. The protocol names the file that was seen.
    """
    records = {t.question.truth["id"]: Record.model_validate(t.question.truth) for t in traces}
    strict, lenient = (replies(traces, lenient) for lenient in (False, True))
    won, made = points(records, strict), points(records, lenient).mean(0)
    asked = {t.question.family for t in traces}
    protocol += f", {len(asked)} replies an item, of {Path(traces[0].question.video).name}"
    rows = []
    for measure, column in MEASURES.items():
        parts = ("action", "justification") if measure == "both" else (measure,)
        if not asked.issuperset(parts):
            continue
        lost, still = (
            sum(any(getattr(r, part) is None for part in parts) for r in given.values())
            for given in (strict, lenient)
        )
        truncated = sum(t.truncated for t in traces if t.question.family in parts)
        hits, n = won[:, column], len(won)
        interval = accuracy_interval(hits)
        if measure == "sensible":
            interval = paired_gain(np.zeros(n), hits)  # over nothing: the mean itself
        rows.append((system, measure, n, *interval, lost, truncated, made[column], still, protocol))
    names = "system family n accuracy low high unparsed truncated lenient lenient_unparsed protocol"
    return DataFrame(rows, columns=names.split())
