"""Intervals, paired tests, trivial baselines, and what the similarity filter keeps.

Works on hits and misses, `Question` and `Trace`. Knows nothing of models or files, nor that several
questions may share a video, where its intervals are too narrow. A number is nan where there is
nothing to say. Our choice; the share of kept traces with frames is the paper's.
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from math import nan

import numpy as np
from pandas import DataFrame
from scipy.stats import binomtest, bootstrap
from sklearn.metrics import precision_recall_curve, roc_auc_score, roc_curve

from act2see.trace import LETTERS, Question, Step, Trace

COLUMNS = (
    "system", "family", "n", "accuracy", "low", "high",
    "calls_per_question", "tool_call_rate", "valid_call_rate", "unparsed", "truncated",
    "forced",
)  # fmt: skip


def accuracy_interval(hits: int, n: int, confidence: float = 0.95) -> tuple[float, float, float]:
    """Accuracy, and the low and high end of its Wilson interval; nan three times for n = 0."""
    if n == 0:
        return nan, nan, nan
    return hits / n, *map(float, binomtest(hits, n).proportion_ci(confidence, method="wilson"))


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Two-sided exact p that `a` and `b`, hits on the same questions, are equally good.

    >>> mcnemar([False] * 5, [True] * 5)
    0.0625
    """
    change = _change(a, b)
    won, lost = int((change > 0).sum()), int((change < 0).sum())
    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0


def paired_gain(
    a: Sequence[bool], b: Sequence[bool], seed: int = 0, resamples: int = 5000
) -> tuple[float, float, float]:
    """Accuracy of `b` minus that of `a`, with the ends of its 95 % paired bootstrap interval.

    No interval (nan) where all questions change alike: n questions cannot give such certainty.
    """
    change = _change(a, b)
    gain = _share(change.sum(), change.size)
    if np.unique(change).size < 2:
        return gain, nan, nan
    drawn = bootstrap((change,), np.mean, n_resamples=resamples, method="percentile", rng=seed)
    return gain, *map(float, drawn.confidence_interval)


def _change(a: Sequence[bool], b: Sequence[bool]) -> np.ndarray:
    """Per question 1 where only `b` is right, -1 where only `a` is, else 0."""
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} results do not pair: they must be as many")
    return np.subtract(b, a, dtype=float)


def trivial_traces(questions: Sequence[Question]) -> dict[str, list[Trace]]:
    """System -> its bare answers to the questions, six blind ways to choose; of ties the first."""
    chosen = {f"always_{x.lower()}": [i] * len(questions) for i, x in enumerate(LETTERS[:4])}
    lengths = [[len(option) for option in q.options] for q in questions]
    chosen["shortest"] = [of.index(min(of)) for of in lengths]
    chosen["longest"] = [of.index(max(of)) for of in lengths]
    return {
        name: [
            Trace(
                question=q, policy=name, steps=[Step(kind="answer", text=f"Answer: {LETTERS[i]}")]
            )
            for q, i in zip(questions, options, strict=True)
        ]
        for name, options in chosen.items()
    }


def summary(system: str, traces: Sequence[Trace], families: Sequence[str]) -> DataFrame:
    """One row per family and one, `all`, over these families.

    tool_call_rate: share of questions with a call. valid_call_rate: of calls without an error.
    unparsed, truncated, forced: how many answers had no letter, ran too long, were asked for.
    """
    rows = []
    for family, members in [*((f, [f]) for f in families), ("all", families)]:
        chosen = [t for t in traces if t.question.family in members]
        n, calls = len(chosen), sum(len(t.calls()) for t in chosen)
        valid = calls - sum(t.failed_calls() for t in chosen)
        asking = sum(bool(t.calls()) for t in chosen)
        ends = [(t.letter() == "", t.truncated, t.forced) for t in chosen]
        counts = np.array(ends, int).reshape(-1, 3).sum(0).tolist()
        accuracy = accuracy_interval(sum(t.correct() for t in chosen), n)
        rates = _share(calls, n), _share(asking, n), _share(valid, calls)
        rows.append((system, family, n, *accuracy, *rates, *counts))
    return DataFrame(rows, columns=COLUMNS)


def _share(part: float, whole: int) -> float:
    return float(part / whole) if whole else nan


def compare(
    base: Sequence[Trace], tuned: Sequence[Trace], families: Sequence[str], seed: int = 0
) -> dict[str, float]:
    """What tuning gained over the questions of these families, paired by question id.

    Returns n, base and tuned (accuracies), gain, low, high (of `paired_gain`) and p (of `mcnemar`).
    Raises ValueError, naming ids, when the two do not answer the same questions once each.
    """
    first, second = ([t for t in ts if t.question.family in families] for ts in (base, tuned))
    once, again = (Counter(t.question.id for t in traces) for traces in (first, second))
    if alone := [i for i in once | again if not once[i] == again[i] == 1]:
        raise ValueError(f"{len(alone)} questions do not pair one to one, among them {alone[:5]}")
    after = {t.question.id: t.correct() for t in second}
    a, b = [t.correct() for t in first], [after[t.question.id] for t in first]
    rates = len(a), _share(sum(a), len(a)), _share(sum(b), len(b))
    names, gain = ("n", "base", "tuned", "gain", "low", "high", "p"), paired_gain(a, b, seed)
    return dict(zip(names, (*rates, *gain, mcnemar(a, b)), strict=True))


def kept_statistics(traces: Sequence[Trace], threshold: float, by: str = "family") -> DataFrame:
    """What a similarity of at least `threshold` keeps, per family (or `source`) and over all.

    Columns after kept_share are of the kept. Raises ValueError for a trace without similarity.
    """
    if unscored := [t.question.id for t in traces if t.similarity is None]:
        raise ValueError(f"{len(unscored)} traces have no similarity, among them {unscored[:5]}")
    shares = ["with_frames", "with_generated", "correct", "calls_per_trace"]
    facts = []
    for t in traces:
        drawn = [f.generated for s in t.steps for f in s.frames]
        kept = (getattr(t.question, by), t.similarity >= threshold)
        facts.append((*kept, bool(drawn), any(drawn), t.correct(), len(t.calls())))
    table = DataFrame(facts, columns=[by, "kept", *shares]).astype({"kept": bool})
    rows = []
    for name, group in [*table.groupby(by, sort=False), ("all", table)]:
        kept = group[group.kept]
        counts = {"traces": len(group), "kept": len(kept), "kept_share": group.kept.mean()}
        rows.append({by: name, **counts, **kept[shares].mean()})
    return DataFrame(rows)


def roc(scores: Sequence[float], labels: Sequence[bool]) -> DataFrame:
    """What keeping all scores of at least a threshold means, a row per threshold, strictest first.

    The first keeps nothing: threshold inf, precision nan. Rates of a missing class are nan.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a missing class, which the nan says
        false, true, threshold = roc_curve(labels, scores, pos_label=True, drop_intermediate=False)
        precision = precision_recall_curve(labels, scores, pos_label=True)[0][::-1]
    kept = [int((np.asarray(scores) >= t).sum()) for t in threshold]
    names = "threshold precision recall true_positive_rate false_positive_rate kept"
    values = (threshold, [nan, *precision[1:]], true, true, false, kept)
    return DataFrame(dict(zip(names.split(), values, strict=True)))


def auc(scores: Sequence[float], labels: Sequence[bool]) -> float:
    """Chance that a right trace scores above a wrong one (ties half); nan with one class only."""
    return float(roc_auc_score(labels, scores)) if 0 < sum(labels) < len(labels) else nan
