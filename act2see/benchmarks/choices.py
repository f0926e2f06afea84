"""Multiple choice, common to the benchmarks: options, letters, shuffling, the table of scores.

Works on questions with options and their traces. Knows no benchmark. A reply is read twice: the
strict parser takes only a stated letter, the lenient one makes the best of the reply, and both
stand in the table. Neither takes the first letter it meets, for which "A man …" is an A. Our
choice; each benchmark says what its official metric is.
"""

import re
from collections.abc import Callable, Sequence
from math import nan
from zlib import crc32

import numpy as np
import pandas as pd
from pandas import DataFrame

from act2see.statistics import accuracy_interval, summary, trivial_traces
from act2see.trace import LETTERS, Question, Trace, read_letter

ALONE = re.compile(r"\s*\(?([A-J])\)?[.:]?\s*")
HINTS = (
    re.compile(r"(?i:answer|option|choice)(?i:\s+is)?[\s:*({]*(?![AI]\s+[a-z])([A-J])\b"),
    re.compile(r"(?:\(|\\boxed\{)([A-J])[)}]"),
    re.compile(r"^[^\w\n]*([A-J])[).:](?:\s|$)", re.MULTILINE),
)


def option_text(option: str, index: int) -> str:
    """The option without its own letter, if it has one, in any of the benchmarks' forms.

    >>> option_text("(B): a red disc  ", 1), option_text("A. S. Byatt", 1)
    ('a red disc', 'A. S. Byatt')
    """
    letter = LETTERS[index]
    return re.sub(rf"^\s*(?:\({letter}\)|{letter}\))\s*[:.]?|^\s*{letter}[:.]", "", option).strip()


def strict_letter(text: str, options: int) -> str:
    """The letter stated after the last `Answer:`, or the reply where it is a letter alone; or "".

    >>> strict_letter("Answer: (B) a dog", 4), strict_letter("Answer: A man walks.", 4)
    ('B', '')
    """
    alone = None if "Answer:" in text else ALONE.fullmatch(text)
    return read_letter(f"Answer: {alone[1]}" if alone else text, options)


def lenient_letter(text: str, options: Sequence[str]) -> str:
    """The strict letter, else the last one hinted at, else the only option quoted whole, else "".

    >>> lenient_letter("I would choose option C here", ["a", "b", "c"])
    'C'
    """
    if letter := strict_letter(text, len(options)):
        return letter
    for hint in HINTS:
        if found := [x for x in hint.findall(text) if x in LETTERS[: len(options)]]:
            return found[-1]
    quoted = [
        letter
        for letter, option in zip(LETTERS, options, strict=False)
        if option and re.search(rf"\b{re.escape(option.rstrip('. '))}(?!\w)", text, re.IGNORECASE)
    ]
    return quoted[0] if len(quoted) == 1 else ""


def said(trace: Trace) -> str:
    """What was answered, "" where nothing was."""
    return trace.steps[-1].text if trace.steps and trace.steps[-1].kind == "answer" else ""


def shuffled(question: Question, seed: int) -> Question:
    """The question with its options in another order, the same for a seed and a question id.

    `truth["order"]` says which option of the original stands at each place now.
    """
    random = np.random.default_rng([seed, crc32(question.id.encode())])
    order = random.permutation(len(question.options)).tolist()
    moved = {
        "options": [question.options[i] for i in order],
        "answer": order.index(question.answer) if question.answer >= 0 else -1,
        "truth": question.truth | {"order": [original(question, i) for i in order]},
    }
    return question.model_copy(update=moved)


def original(question: Question, place: int) -> int:
    """Which option, in the order of the benchmark, stands at this place of the question."""
    return question.truth["order"][place] if "order" in question.truth else place


def verdicts(traces: Sequence[Trace]) -> tuple[list[bool | None], list[bool | None]]:
    """Right, wrong or unreadable (None) of every answer, by the strict and the lenient parser.

    Raises ValueError naming questions whose answer is not known.
    """
    if withheld := [t.question.id for t in traces if t.question.answer < 0]:
        raise ValueError(f"{len(withheld)} answers are not known, among them of {withheld[:5]}")
    strict = [strict_letter(said(t), len(t.question.options)) for t in traces]
    lenient = [lenient_letter(said(t), t.question.options) for t in traces]
    right = [LETTERS[t.question.answer] for t in traces]
    first, second = (
        [letter == wanted if letter else None for letter, wanted in zip(read, right, strict=True)]
        for read in (strict, lenient)
    )
    return first, second


def scores(system: str, traces: Sequence[Trace], protocol: str) -> DataFrame:
    """One row per family, in order of appearance, and one, `all`, over them: micro accuracy.

    Columns of `statistics.summary`, accuracy and unparsed by the strict parser; then `lenient` and
    `lenient_unparsed`; then the protocol, in words.
    """
    return score_table(system, traces, *verdicts(traces), protocol)


def score_table(
    system: str,
    traces: Sequence[Trace],
    strict: Sequence[bool | None],
    lenient: Sequence[bool | None],
    protocol: str,
) -> DataFrame:
    """The table of `scores` out of what was right, wrong, or unreadable (None)."""
    families = list(dict.fromkeys(t.question.family for t in traces))
    table = summary(system, traces, families).assign(lenient=nan, lenient_unparsed=0)
    places = {"": ["accuracy", "low", "high"], "lenient_": ["lenient"]}
    for row, family in enumerate(table.family):
        for prefix, verdicts in (("", strict), ("lenient_", lenient)):
            pairs = zip(traces, verdicts, strict=True)
            mine = [(v, t.question.video) for t, v in pairs if family in ("all", t.question.family)]
            mine, videos = zip(*mine, strict=True) if mine else ((), ())
            values = accuracy_interval([v is True for v in mine], videos)
            table.loc[row, places[prefix]] = values[: len(places[prefix])]
            table.loc[row, f"{prefix}unparsed"] = mine.count(None)
    return table.assign(protocol=protocol)


def mean_of_families(table: DataFrame) -> DataFrame:
    """The table with one row more: the unweighted mean of its families, which has no interval."""
    parts = table[table.family != "all"]
    means = {name: parts[name].mean() for name in ("accuracy", "lenient") if name in table}
    mean = table[table.family == "all"].assign(
        family=f"mean of {len(parts)}", low=nan, high=nan, **means
    )
    return pd.concat([table, mean], ignore_index=True)


def trivial_scores(
    questions: Sequence[Question],
    protocol: str,
    score: Callable[[str, Sequence[Trace], str], DataFrame] = scores,
) -> DataFrame:
    """What six blind ways to choose score, by the benchmark's own function for scores."""
    asked = [q for q in questions if q.options]
    tables = [score(name, blind, protocol) for name, blind in trivial_traces(asked).items()]
    return pd.concat(tables, ignore_index=True)
