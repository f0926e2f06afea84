"""CausalVQA: questions on cause and effect, each asked twice with other options, for evaluation.

Works on the published CSV file (bucket of Ego-Exo4D, under its licence) and a folder of its videos.
Does not know reasoning, since none is published, and answers only of the `debug` part. Its terms
allow evaluation alone. The paper filters against human reasoning for it, which is not public.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from pandas import DataFrame
from pydantic import BaseModel, ValidationInfo, field_validator

from act2see.datasets.choices import Verdict, Verdicts, mean_of_families, score_table, verdicts
from act2see.datasets.records import (
    EVERYTHING,
    Loaded,
    Text,
    Wanted,
    find_videos,
    item,
    read_records,
)
from act2see.trace import Question, Trace

TERMS = "the terms of CausalVQA allow evaluation only"
# An item is two dialogues, and these columns would count those of the first order alone.
OF_ONE_ORDER = [
    "calls_per_question",
    "tool_call_rate",
    "valid_call_rate",
    "truncated",
    "forced",
    "failed",
]


class Record(BaseModel):
    """A record as published: choices are `1. … | 2. …`, correct is a number or withheld."""

    qid: Text
    type: Text
    question: Text
    choices1: Text
    correct1: str = ""
    choices2: Text
    correct2: str = ""
    difficulty: Text
    renamed_video: Text

    @field_validator("choices1", "choices2")
    @classmethod
    def _numbered(cls, value: str) -> str:
        if len(options_of(value)) < 2:
            raise ValueError("must be options like '1. … | 2. …'")
        return value

    @field_validator("correct1", "correct2")
    @classmethod
    def _listed(cls, value: str, info: ValidationInfo) -> str:
        # A column with gaps comes out of pandas as decimals: 2 is written 2.0.
        number = value.removesuffix(".0")
        choices = info.data.get(f"choices{info.field_name[-1]}", "")
        if number and choices and number not in options_of(choices):
            raise ValueError(f"must be one of {', '.join(options_of(choices))} or nothing")
        return number


def load(path: str | Path, folder: str | Path, wanted: Wanted = EVERYTHING) -> Loaded:
    """Two questions per record, ids ending in /1 and /2, by `family` type and difficulty.

    Raises ValueError for a wrong record.
    """
    questions = []
    for row, record in read_records(path, Record, "qid", wanted):
        for order in (1, 2):
            options = options_of(getattr(record, f"choices{order}"))
            number = getattr(record, f"correct{order}")
            questions.append(
                Question(
                    id=f"{record.qid}/{order}",
                    source="causalvqa",
                    family=f"{record.type}_{record.difficulty}",
                    video=record.renamed_video,
                    text=record.question,
                    options=list(options.values()),
                    answer=list(options).index(number) if number else -1,
                    truth=row,
                )
            )
    return find_videos(questions, folder, wanted)


def options_of(choices: str) -> dict[str, str]:
    """Number -> option.

    >>> options_of("1. it falls | 2. it stays")
    {'1': 'it falls', '2': 'it stays'}
    """
    # An option may hold a bar itself: only one before a number parts two options.
    parts = [re.match(r"\s*(\d+)\.\s*(.*?)\s*$", p) for p in re.split(r"\|(?=\s*\d+\.)", choices)]
    return {part[1]: part[2] for part in parts if part}


def scores(system: str, traces: Sequence[Trace], protocol: str) -> DataFrame:
    """Paired accuracy per stratum, over all, and the official figure: the mean of the 15 strata.

    An item counts where both its questions are answered right, and as unparsed where one of them
    has no letter. Raises ValueError naming an item without its two questions or its answers.
    """
    places: dict[str, list[int]] = {}
    for place, trace in enumerate(traces):
        places.setdefault(item(trace.question), []).append(place)
    for name, pair in places.items():
        ids = sorted(traces[i].question.id for i in pair)
        if ids != [f"{name}/1", f"{name}/2"]:
            raise ValueError(f"{name}: questions are {ids}; they must be {name}/1 and {name}/2")
    by_parser = verdicts(traces)
    strict = [_of_both([by_parser.strict[i] for i in pair]) for pair in places.values()]
    lenient = [_of_both([by_parser.lenient[i] for i in pair]) for pair in places.values()]
    # One trace stands for its item, so that n, family and video are those of items.
    items = [traces[pair[0]] for pair in places.values()]
    table = score_table(system, items, Verdicts(strict, lenient), protocol)
    return mean_of_families(table.drop(columns=OF_ONE_ORDER))


def _of_both(pair: Sequence[Verdict]) -> Verdict:
    return None if None in pair else all(pair)
