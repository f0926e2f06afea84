"""VCR-Bench: questions whose answer is a letter, a text, a span of time or a box, with its steps.

Works on the published records (hub `VLM-Reasoning/VCR-Bench`) and a folder of its videos. Does not
know models: the judge of texts is a function from a prompt to a reply, such as any
OpenAI-compatible server. Official metric: accuracy, where a span needs an IoU above 0.7 and a box
above 0.5; recall, precision and F1 of the steps, from the means over records, steps of mere
background left out. We read letters, spans and boxes ourselves, where the official evaluator asks a
model to extract them; the judge's prompts are ours too.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from math import isnan, nan
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import numpy as np
from pandas import DataFrame
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, ValidationInfo, field_validator

from act2see.datasets.choices import (
    Judge,
    Verdict,
    Verdicts,
    lenient_letter,
    option_text,
    score_table,
    strict_letter,
)
from act2see.datasets.records import (
    EVERYTHING,
    Loaded,
    Text,
    Wanted,
    compare_lengths,
    find_videos,
    read_records,
)
from act2see.trace import LETTERS, MARKED, Question, Trace

Measure = Literal["recall", "precision"]

NUMBER = r"-?\d+(?:\.\d+)?"
TIME = rf"(?:(?:\d+:)?\d+:\d\d(?:\.\d+)?|{NUMBER})"  # of the clock, or in seconds
# As published, which tells the kind of a record.
FORMS = {
    "span": rf"\[\s*{TIME}\s*,\s*{TIME}\s*\]",
    "box": rf"\[\s*{NUMBER}(?:\s*,\s*{NUMBER}){{3}}\s*\]",
}
# As models write them too: `0:05 - 0:09`, `from 5 to 9 seconds`, (5, 9), `start: 5, end: 9`.
SECONDS = r"(?:\s*s(?:ec(?:ond)?s?)?\b)?[\"']?"
SPAN = (
    r"(?:\\boxed|from\s|between\s|start\w*)?[\[({\"'`:=\s]*(?<![\d.:])"
    rf"({TIME}){SECONDS}\s*(?:,|;|-|–|—|~|→|to|until|till|and)\s*(?:end\w*)?[:=\"'\s]*"
    rf"({TIME}){SECONDS}(?![\d:]|\s*,|\.\d)\s*[\])}}]?"
)
LIMITS = {"span": 0.7, "box": 0.5}
ENDINGS = {
    "span": "End with one line, `Answer: [start, end]`, in seconds.",
    "box": "End with one line, `Answer: [x1, y1, x2, y2]`, the corners of the box.",
    "text": "End with one line, `Answer: ` and the answer in a few words.",
}
# A judge's replies are kept on disk by prompt: another wording asks, and pays, for all anew.
CASE = """Question: {question}
Right answer: {right}
"""
SAME = f"Do two answers to a question mean the same? Reply yes or no.\n{CASE}Other: {{other}}"
STEPS = f"""{{task}} Give each of these steps its step_type, which is "Video Description Steps"
(what is seen, and when), "Logical Inference Steps" (one conclusion) or "Background Review Steps"
(the question over again), and its judgment: {{judgments}}. Reply with nothing but a JSON list of
objects with step, step_type and judgment.
{CASE}Reference steps: {{steps}}
Solution: {{solution}}"""
TASKS = {
    "recall": "Go through the reference steps below: does the solution say them?",
    "precision": "Split the solution below into steps: do the reference steps bear them out?",
}
JUDGMENTS = {"recall": ["Matched", "Unmatched"], "precision": ["Matched", "Wrong", "Redundant"]}


class Record(BaseModel):
    """A record as published; `choices` are empty where there are none to choose from."""

    id: int | str
    video_path: Text
    duration: Any
    dimension: Text
    question: Text
    multiple: bool = Field(validation_alias="multiple-choice")
    choices: dict[str, str | None]
    answer: Text
    reasoning: list[str]

    @field_validator("answer")
    @classmethod
    def _chosen(cls, value: str, info: ValidationInfo) -> str:
        value = value.strip()
        if info.data.get("multiple") and not info.data.get("choices", {}).get(value):
            raise ValueError("must be the letter of one of the choices")
        return value


class Judgement(BaseModel):
    """What a judge says of a step."""

    step_type: Literal[
        "Video Description Steps", "Logical Inference Steps", "Background Review Steps"
    ]
    judgment: Literal["Matched", "Unmatched", "Wrong", "Redundant"]


def load(path: str | Path, folder: str | Path, wanted: Wanted = EVERYTHING) -> Loaded:
    """The questions, by `family` the dimension; `truth["kind"]` is choice, text, span or box.

    Raises ValueError for a wrong record.
    """
    questions = []
    for row, record in read_records(path, Record, "id", wanted):
        kind = _kind(record)
        # An empty choice is not one, and those behind it move up.
        choices = {letter: text for letter, text in sorted(record.choices.items()) if text}
        options = [option_text(text, LETTERS.find(letter)) for letter, text in choices.items()]
        text = _alone(record.question, choices)
        questions.append(
            Question(
                id=f"vcr_bench-{record.id}",
                source="vcr_bench",
                family=record.dimension,
                video=record.video_path,
                text=f"{text}\n{ENDINGS.get(kind, '')}".strip(),
                options=options if kind == "choice" else [],
                answer=[*choices].index(record.answer) if kind == "choice" else -1,
                truth=row | {"kind": kind},
            )
        )
    return compare_lengths(find_videos(questions, folder, wanted), _length_s)


def _alone(question: str, choices: dict[str, str]) -> str:
    """The question without its choices, which stand in it once more: they would be read twice."""
    for letter, option in choices.items():
        own = option if re.match(rf"\(?{letter}[.):]", option) else f"{letter}. {option}"
        question = question.partition(own)[0]
    # What is left of choices that are empty.
    return re.sub(r"(?:(?:^|\s|(?<=[?.!]))[A-J]\.\s*)+$", "", question).strip()


def _length_s(question: Question) -> tuple[float, float] | None:
    length_s = question.truth["duration"]
    return (length_s, length_s) if isinstance(length_s, int | float) else None


def read_answer(question: Question, text: str, lenient: bool = False) -> str:
    """The letter, span, box or text in a reply, "" where there is none.

    Strict: behind the last `Answer:`, in the form asked for. Lenient: the last of that form
    anywhere, and of a text the whole reply.
    """
    kind = question.truth["kind"]
    if kind == "choice" and lenient:
        return lenient_letter(text, question.options)
    if kind == "choice":
        return strict_letter(text, len(question.options))
    text = unicodedata.normalize("NFKC", text)
    *marked, after = MARKED.split(text)
    if kind == "text":
        return after.strip(" *\n").removesuffix("</answer>") if marked or lenient else ""
    form = re.compile(SPAN if kind == "span" else FORMS[kind], re.IGNORECASE)
    if marked and (match := form.match(after.lstrip(" *\n"))):
        return match[0].strip()
    # Two numbers may be an age: where any stand in brackets, these are meant.
    forms = re.findall(FORMS[kind], text) or [match[0].strip() for match in form.finditer(text)]
    return forms[-1] if lenient and forms else ""


def is_right(question: Question, answer: str, judge: Judge) -> Verdict:
    """Whether an answer is right; None where there is none, or a judge says neither yes nor no."""
    kind = question.truth["kind"]
    right = question.truth["answer"]
    if not answer:
        return None
    if kind == "choice":
        return LETTERS.index(answer) == question.answer
    if kind == "text":
        prompt = SAME.format(question=question.truth["question"], right=right, other=answer)
        word = re.match(r"\W*(yes|no)\b", judge(prompt), re.IGNORECASE)
        return word[1].lower() == "yes" if word else None
    numbers = span_s if kind == "span" else _numbers
    return overlap(numbers(right), numbers(answer)) > LIMITS[kind]


def span_s(text: str) -> list[float]:
    """The two ends of a span in seconds, whichever way it is written.

    >>> span_s("[0:05, 1:10]"), span_s("from 5 to 9.5 seconds")
    ([5.0, 70.0], [5.0, 9.5])
    """
    ends = re.search(SPAN, text, re.IGNORECASE).groups()
    return [sum(float(p) * 60**i for i, p in enumerate(end.split(":")[::-1])) for end in ends]


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two spans (2 numbers) or two boxes (4), 0 where one is empty.

    >>> overlap([0, 10], [5, 10]), overlap([0, 0, 2, 2], [1, 0, 3, 2])
    (0.5, 0.3333333333333333)
    """
    # Starts, then ends: of a span one each, of a box two.
    a = np.reshape(one, (2, -1))
    b = np.reshape(other, (2, -1))
    sizes = [np.maximum(ends - starts, 0).prod() for starts, ends in (a, b)]
    common = np.maximum(np.minimum(a[1], b[1]) - np.maximum(a[0], b[0]), 0).prod()
    return float(common / (sum(sizes) - common)) if all(sizes) else 0.0


def scores(system: str, traces: Sequence[Trace], protocol: str, judge: Judge) -> DataFrame:
    """Accuracy per dimension and over all, as in `choices.scores`; `judge` judges texts."""
    questions = [t.question for t in traces]
    # Both parsers mostly find the same text, and a judge costs money: it is asked once.
    verdict = partial(is_right, judge=cache(judge))
    strict = [read_answer(t.question, t.answer()) for t in traces]
    lenient = [read_answer(t.question, t.answer(), lenient=True) for t in traces]
    by_parser = Verdicts(
        strict=_at_once(verdict, questions, strict),
        lenient=_at_once(verdict, questions, lenient),
    )
    return score_table(system, traces, by_parser, protocol)


def step_share(trace: Trace, measure: Measure, judge: Judge) -> float | None:
    """Steps matched of those that count; nan where none does, None where the judge is unreadable.

    Background does not count, nor what is redundant. Where nothing was said, nothing is matched.
    """
    truth = trace.question.truth
    # Of nothing a judge would have to make something up.
    if not f"{trace.reasoning()}{trace.answer()}".strip():
        return 0.0
    prompt = STEPS.format(
        task=TASKS[measure],
        judgments=" or ".join(JUDGMENTS[measure]),
        question=truth["question"],
        right=truth["answer"],
        steps="\n".join(truth["reasoning"]),
        solution=f"{trace.reasoning()}\n{trace.answer()}",
    )
    reply = judge(prompt)
    # Judges put prose or a code fence around their list.
    text = reply[reply.find("[") : reply.rfind("]") + 1]
    try:
        steps = TypeAdapter(list[Judgement]).validate_json(text)
    except ValidationError:
        return None
    judgments = [s.judgment for s in steps if not s.step_type.startswith("Background")]
    if not set(judgments) <= set(JUDGMENTS[measure]):
        return None
    counted = [judgment for judgment in judgments if judgment != "Redundant"]
    return counted.count("Matched") / len(counted) if counted else nan


def step_scores(traces: Sequence[Trace], judge: Judge) -> dict[str, float]:
    """Means over records of step precision and recall, the F1 of these means, n, and `unjudged`.

    A record without a step that counts is left out of a mean, and so is a reply of the judge that
    cannot be read, which `unjudged` counts.
    """
    means = {}
    unjudged = 0
    for measure in ("precision", "recall"):
        shares = _at_once(partial(step_share, measure=measure, judge=judge), traces)
        counted = [share for share in shares if share is not None and not isnan(share)]
        means[measure] = fmean(counted) if counted else nan
        unjudged += shares.count(None)
    total = sum(means.values())
    # The official F1 is that of the two means, not the mean of the records' own.
    f1 = 2 * means["precision"] * means["recall"] / total if total else 0.0
    return {"n": len(traces), **means, "f1": f1, "unjudged": unjudged}


def _kind(record: Record) -> str:
    """`choice`, or what the form of the right answer says; the records do not."""
    if record.multiple:
        return "choice"
    kinds = [kind for kind, form in FORMS.items() if re.fullmatch(form, record.answer)]
    return kinds[0] if kinds else "text"


def _numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(NUMBER, text)]


def _at_once(function: Callable, *arguments: Sequence) -> list:
    """`map`, in order, eight at a time: a judge is far away."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(function, *arguments))
