"""Intervals, paired tests, trivial baselines, and what the similarity filter keeps.

Works on hits and misses, `Question` and `Trace`. Knows nothing of models or files. Questions that
share a video are no independent ones: intervals are wider for it. A number is nan where there is
nothing to say. Our choice; the share of kept traces with frames is the paper's.
"""

from collections import Counter
from collections.abc import Sequence
from math import nan, sqrt

import numpy as np
from pandas import DataFrame
from scipy.stats import binomtest, bootstrap, norm
from sklearn.metrics import roc_auc_score

from act2see.trace import LETTERS, Question, Step, Trace

COLUMNS = (
    "system", "family", "n", "accuracy", "low", "high",
    "calls_per_question", "tool_call_rate", "valid_call_rate", "unparsed", "truncated", "forced",
    "failed",
)  # fmt: skip


def accuracy_interval(right: Sequence[bool], videos: Sequence = ()) -> tuple[float, float, float]:
    """Accuracy, and the ends of its 95 % Wilson interval; nan three times for nothing.

    videos: of each question; the interval is that of as many fewer questions as the design effect
    says, where some share one.
    """
    if not (n := len(right)):
        return nan, nan, nan
    z = norm.ppf(0.975) * sqrt(design_effect(right, videos))
    p = float(np.mean(right))
    middle, half = p + z * z / 2 / n, z * sqrt(p * (1 - p) / n + (z / 2 / n) ** 2)
    return p, *(float((middle + side) / (1 + z * z / n)) for side in (-half, half))


def design_effect(values: Sequence[float], videos: Sequence) -> float:
    """How many times sharing videos multiplies the variance of a mean, at least 1.

    The ratio of the cluster-robust variance to the plain one; where all values are alike, or there
    is but one video, the largest that it can be: the questions of a video.
    """
    away = np.asarray(values, float) - np.mean(values)
    names, place = np.unique(videos, return_inverse=True)
    if len(names) in (0, len(away)):
        return 1.0
    if not away.any() or len(names) == 1:
        return len(away) / len(names)
    return max(1.0, float((np.bincount(place, away) ** 2).sum() / (away**2).sum()))


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Two-sided exact p that `a` and `b`, hits on the same questions, are equally good.

    >>> mcnemar([False] * 5, [True] * 5)
    0.0625
    """
    won = [y for x, y in zip(a, b, strict=True) if x != y]
    return float(binomtest(int(sum(won)), len(won)).pvalue) if won else 1.0


def paired_gain(
    a: Sequence[bool],
    b: Sequence[bool],
    seed: int = 0,
    resamples: int = 5000,
    videos: Sequence = (),
) -> tuple[float, float, float]:
    """Accuracy of `b` minus that of `a`, with the ends of its 95 % paired bootstrap interval.

    Whole videos are drawn, with all their questions, where `videos` names them. No interval (nan)
    where all questions change alike, or share one video: they cannot give such certainty.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} results do not pair: they must be as many")
    change = np.subtract(b, a, dtype=float)
    gain = _share(change.sum(), change.size)
    names, place = np.unique(videos, return_inverse=True)
    if np.unique(change).size < 2 or len(names) == 1:
        return gain, nan, nan
    told, statistic = (change,), np.mean
    if len(names) not in (0, change.size):
        told, statistic = (np.bincount(place, change), np.bincount(place)), _ratio
    how = {"method": "percentile", "paired": len(told) > 1, "rng": seed}
    drawn = bootstrap(told, statistic, n_resamples=resamples, **how)
    return gain, *map(float, drawn.confidence_interval)


def trivial_traces(questions: Sequence[Question]) -> dict[str, list[Trace]]:
    """System -> its bare answers to the questions, six blind ways to choose; of ties the first."""
    rules = {f"always_{x.lower()}": lambda _, i=i: i for i, x in enumerate(LETTERS[:4])}
    rules |= {"shortest": np.argmin, "longest": np.argmax}
    answered = {name: [] for name in rules}
    for name, choose in rules.items():
        for q in questions:
            letter = LETTERS[choose([len(option) for option in q.options])]
            steps = [Step(kind="answer", text=f"Answer: {letter}")]
            answered[name].append(Trace(question=q, policy=name, steps=steps))
    return answered


def summary(system: str, traces: Sequence[Trace], families: Sequence[str]) -> DataFrame:
    """One row per family and one, `all`, over these families.

    tool_call_rate: share of questions with a call. valid_call_rate: of calls without an error.
    unparsed, truncated, forced: how many answers had no letter, ran too long, were asked for.
    failed: how many questions have no answer, because a server gave none.
    """
    rows = []
    for family, members in [*((f, [f]) for f in families), ("all", families)]:
        chosen = [t for t in traces if t.question.family in members]
        n, calls = len(chosen), [len(t.calls()) for t in chosen]
        valid = sum(calls) - sum(t.failed_calls() for t in chosen)
        right, videos = [t.correct() for t in chosen], [t.question.video for t in chosen]
        accuracy = accuracy_interval(right, videos)
        rates = _share(sum(calls), n), _share(np.count_nonzero(calls), n), _share(valid, sum(calls))
        silent = [t.letter() == "" and not t.failed for t in chosen]
        ends = [
            (s, t.truncated, t.forced, t.failed != "") for s, t in zip(silent, chosen, strict=True)
        ]
        counts = np.array(ends, int).reshape(-1, 4).sum(0).tolist()
        rows.append((system, family, n, *accuracy, *rates, *counts))
    return DataFrame(rows, columns=COLUMNS)


def pooled(table: DataFrame, by: Sequence[str]) -> DataFrame:
    """Rows of several seeds as one, with the interval of all their questions together.

    Columns of `by`, then n, accuracy, low, high; in the order in which they first come.
    """
    rows = []
    for key, group in table.groupby([*by], sort=False):
        hits, n = round((group.accuracy * group.n).sum()), int(group.n.sum())
        rows.append((*key, n, *accuracy_interval(np.arange(n) < hits)))
    return DataFrame(rows, columns=[*by, "n", "accuracy", "low", "high"])


def _ratio(sums: np.ndarray, counts: np.ndarray, axis: int = -1) -> np.ndarray:
    return sums.sum(axis) / counts.sum(axis)


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
    gain, low, high = paired_gain(a, b, seed, videos=[t.question.video for t in first])
    told = {"n": len(a), "base": _share(sum(a), len(a)), "tuned": _share(sum(b), len(b))}
    return told | {"gain": gain, "low": low, "high": high, "p": mcnemar(a, b)}


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
    right, rows = np.asarray(labels, bool), []
    for threshold in [np.inf, *np.unique(scores)[::-1]]:
        kept = right[np.asarray(scores) >= threshold]
        recall, false = _share(kept.sum(), right.sum()), _share((~kept).sum(), (~right).sum())
        rows.append((threshold, _share(kept.sum(), kept.size), recall, recall, false, kept.size))
    names = "threshold precision recall true_positive_rate false_positive_rate kept"
    return DataFrame(rows, columns=names.split())


def auc(scores: Sequence[float], labels: Sequence[bool]) -> float:
    """Chance that a right trace scores above a wrong one (ties half); nan with one class only."""
    return float(roc_auc_score(labels, scores)) if 0 < sum(labels) < len(labels) else nan
