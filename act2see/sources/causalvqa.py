"""CausalVQA: questions on cause and effect, each asked twice with other options, for evaluation.

Works on the published CSV file (bucket of Ego-Exo4D, under its licence) and a folder of its videos.
Knows no reasoning, since none is published, and answers only of the `debug` part. Its terms allow
evaluation alone, so it is no training data unless whoever loads it states the right to that. The
paper filters against human reasoning for it which is not public.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from pandas import DataFrame
from pydantic import BaseModel, ValidationInfo, field_validator

from act2see.benchmarks.choices import mean_of_families, score_table, verdicts
from act2see.sources.records import Loaded, Text, find_videos, read_records
from act2see.trace import Question, Trace

OF_ONE_ORDER = "calls_per_question tool_call_rate valid_call_rate truncated forced failed".split()


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
        number = value.removesuffix(".0")
        choices = info.data.get(f"choices{info.field_name[-1]}", "")
        if number and choices and number not in options_of(choices):
            raise ValueError(f"must be one of {', '.join(options_of(choices))} or nothing")
        return number


def load(
    path: str | Path, folder: str | Path, training: bool = False, may_train: bool = False
) -> Loaded:
    """Two questions per record, ids ending in /1 and /2, by `family` type and difficulty.

    training: whether they are meant to become training data.
    may_train: your statement that you hold the right to train on them.
    Raises ValueError when they are to be trained on without it, or for a wrong record.
    """
    if training and not may_train:
        raise ValueError(
            f"{path}: training is True and may_train is False: CausalVQA's terms allow evaluation "
            "only; set may_train=True if you hold the right to train on it"
        )
    asked = []
    for row, record in read_records(path, Record, "qid"):
        for order in (1, 2):
            options = options_of(getattr(record, f"choices{order}"))
            right = getattr(record, f"correct{order}")
            question = Question(
                id=f"{record.qid}/{order}", source="causalvqa", video=record.renamed_video,
                family=f"{record.type}_{record.difficulty}", duration_s=0, text=record.question,
                options=list(options.values()), truth=row,
                answer=list(options).index(right) if right else -1,
            )  # fmt: skip
            asked.append(question)
    return find_videos(asked, folder)


def options_of(choices: str) -> dict[str, str]:
    """Number -> option.

    >>> options_of("1. it falls | 2. it stays")
    {'1': 'it falls', '2': 'it stays'}
    """
    parts = [re.match(r"\s*(\d+)\.\s*(.*?)\s*$", p) for p in re.split(r"\|(?=\s*\d+\.)", choices)]
    return {part[1]: part[2] for part in parts if part}


def paired_scores(system: str, traces: Sequence[Trace], protocol: str) -> DataFrame:
    """Paired accuracy per stratum, over all, and the official figure: the mean of the 15 strata.

    An item counts where both its questions are answered right, and as unparsed where one of them
    has no letter. Raises ValueError naming an item without its two questions or its answers.
    """
    items: dict[str, list[tuple[Trace, tuple[bool | None, ...]]]] = {}
    for trace, *read in zip(traces, *verdicts(traces), strict=True):
        items.setdefault(trace.question.id.rpartition("/")[0], []).append((trace, tuple(read)))
    for item, two in items.items():
        ids = sorted(trace.question.id for trace, _ in two)
        if ids != [f"{item}/1", f"{item}/2"]:
            raise ValueError(f"{item}: questions are {ids}; they must be {item}/1 and {item}/2")
    first = [two[0][0] for two in items.values()]
    read = zip(*[zip(*(v for _, v in two), strict=True) for two in items.values()], strict=True)
    both = [[None if None in pair else all(pair) for pair in parser] for parser in read]
    table = score_table(system, first, *both, protocol)
    return mean_of_families(table.drop(columns=OF_ONE_ORDER))
