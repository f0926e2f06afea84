"""Multiple choice, common to the data sets: options, letters, shuffling, the table of scores.

Works on questions with options and their traces. Does not know any data set: each says itself what
its official metric is. A reply is read twice, by the strict parser and by the lenient one, and both
stand in the table. Neither takes the first letter it meets, for which "A man …" is an A. Our
choice.
"""

import re
from collections.abc import Callable, Sequence
from math import nan
from typing import NamedTuple
from zlib import crc32

import numpy as np
import pandas as pd
from pandas import DataFrame

from act2see.letters import lenient_letter
from act2see.statistics import accuracy_interval, summary
from act2see.trace import LETTERS, Question, Trace, read_letter

Verdict = bool | None  # right, wrong, or unreadable
Judge = Callable[[str], str]  # prompt -> reply, for answers that are texts

strict_letter = read_letter  # the parser that `Trace` has, next to `lenient_letter`


class Verdicts(NamedTuple):
    """A verdict on every answer, in order, by each of the two parsers."""

    strict: list[Verdict]
    lenient: list[Verdict]


def option_text(option: str, index: int) -> str:
    """The option without its own letter, if it has one, in any of the published forms.

    >>> option_text("(B): a red disc  ", 1), option_text("A. S. Byatt", 1)
    ('a red disc', 'A. S. Byatt')
    """
    letter = LETTERS[index]
    return re.sub(rf"^\s*(?:\({letter}\)|{letter}\))\s*[:.]?|^\s*{letter}[:.]", "", option).strip()


def unlettered(options: Sequence[str]) -> list[str]:
    """The options without their own letters and in the order of these; as they are if one has none.

    >>> unlettered(["B. blue", "A. red"]), unlettered(["A. S. Byatt", "Ann"])
    (['red', 'blue'], ['A. S. Byatt', 'Ann'])
    """
    form = re.compile(rf"\s*(?:\(([{LETTERS}])\)\s*[:.]?|([{LETTERS}])[.):])\s*(.*?)\s*", re.DOTALL)
    found = [form.fullmatch(option) for option in options]
    texts = {match[1] or match[2]: match[3] for match in found if match}
    letters = LETTERS[: len(options)]
    return [texts[letter] for letter in letters] if {*texts} == {*letters} else [*options]


def shuffled(question: Question, seed: int) -> Question:
    """The question with its options in another order, the same for a seed and a question id.

    `truth["order"]` says which option of the original stands at each place now.
    """
    random = np.random.default_rng([seed, crc32(question.id.encode())])
    order = random.permutation(len(question.options)).tolist()
    return question.model_copy(
        update={
            "options": [question.options[i] for i in order],
            "answer": order.index(question.answer) if question.answer >= 0 else -1,
            "truth": question.truth | {"order": [original(question, i) for i in order]},
        }
    )


def original(question: Question, place: int) -> int:
    """Which option, in the published order, stands at this place of the question."""
    return question.truth["order"][place] if "order" in question.truth else place


def verdicts(traces: Sequence[Trace]) -> Verdicts:
    """Right, wrong or unreadable (None) of every answer, by the strict and the lenient parser.

    Raises ValueError naming questions whose answer is not known.
    """
    # Without this check a withheld answer, -1, would count as wrong.
    if withheld := [t.question.id for t in traces if t.question.answer < 0]:
        raise ValueError(
            f"{len(withheld)} answers are not known, among them of {withheld[:5]}; they must be "
            "known: send the replies to the authors' server"
        )
    strict = [strict_letter(t.answer(), len(t.question.options)) for t in traces]
    lenient = [lenient_letter(t.answer(), t.question.options) for t in traces]
    return Verdicts(_compared(strict, traces), _compared(lenient, traces))


def _compared(letters: Sequence[str], traces: Sequence[Trace]) -> list[Verdict]:
    pairs = zip(letters, traces, strict=True)
    return [letter == LETTERS[t.question.answer] if letter else None for letter, t in pairs]


def scores(system: str, traces: Sequence[Trace], protocol: str) -> DataFrame:
    """One row per family, in order of appearance, and one, `all`, over them: micro accuracy.

    Columns of `statistics.summary`, accuracy and unparsed by the strict parser; then `lenient` and
    `lenient_unparsed`; then the protocol, in words.
    """
    return score_table(system, traces, verdicts(traces), protocol)


def score_table(
    system: str, traces: Sequence[Trace], by_parser: Verdicts, protocol: str
) -> DataFrame:
    """The table of `scores` out of what was right, wrong, or unreadable (None)."""
    families = list(dict.fromkeys(t.question.family for t in traces))
    table = summary(system, traces, families).assign(lenient=nan, lenient_unparsed=0)
    for row, family in enumerate(table.family):
        members = [i for i, t in enumerate(traces) if family in ("all", t.question.family)]
        # Questions about one video are not independent: the interval is wider for it.
        videos = [traces[i].question.video for i in members]
        strict = [by_parser.strict[i] for i in members]
        table.loc[row, ["accuracy", "low", "high"]] = accuracy_interval(
            [v is True for v in strict], videos
        )
        table.loc[row, "unparsed"] = strict.count(None)
        lenient = [by_parser.lenient[i] for i in members]
        table.loc[row, "lenient"] = accuracy_interval([v is True for v in lenient])[0]
        table.loc[row, "lenient_unparsed"] = lenient.count(None)
    return table.assign(protocol=protocol)


def mean_of_families(table: DataFrame) -> DataFrame:
    """The table with one row more: the unweighted mean of its families, which has no interval."""
    parts = table[table.family != "all"]
    means = {name: parts[name].mean() for name in ("accuracy", "lenient")}
    name = f"mean of {len(parts)}"
    last = table[table.family == "all"].assign(family=name, low=nan, high=nan, **means)
    return pd.concat([table, last], ignore_index=True)
