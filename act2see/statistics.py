"""Intervals, paired and unpaired tests, trivial baselines, and what the similarity filter keeps.

Works on hits and misses, `Question` and `Trace`. Knows nothing of models or files; `findings` puts
its numbers in words. Questions that share a video are not independent: intervals are wider for it.
A number is nan where there is nothing to say. Our choice; the share of kept traces with frames is
the paper's.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from math import ceil, inf, nan, sqrt

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

    videos: of each question. Where some share one, the interval is that of fewer questions: n over
    the design effect.

    >>> accuracy_interval([False] * 6)[:2], accuracy_interval([True] * 6)[::2]
    ((0.0, 0.0), (1.0, 1.0))
    """
    n = len(right)
    if not n:
        return nan, nan, nan
    z = norm.ppf(0.975) * sqrt(design_effect(right, videos))
    share = float(np.mean(right))
    middle = share + z * z / 2 / n
    half = z * sqrt(share * (1 - share) / n + (z / 2 / n) ** 2)
    low, high = (float((middle + side) / (1 + z * z / n)) for side in (-half, half))
    # Exact where all are wrong or right: a rounding would put the end beyond the accuracy itself.
    return share, low if share > 0 else 0.0, high if share < 1 else 1.0


def choice_traces(traces: Sequence[Trace], families: Sequence[str]) -> list[Trace]:
    """The traces of questions that have options and are of these families."""
    return [t for t in traces if t.question.options and t.question.family in families]


def accuracy(traces: Sequence[Trace], families: Sequence[str]) -> float:
    """Share of right answers over the questions of these families; nan for no question."""
    right = [t.correct() for t in traces if t.question.family in families]
    return _share(sum(right), len(right))


def design_effect(values: Sequence[float], videos: Sequence) -> float:
    """How many times sharing videos multiplies the variance of a mean, at least 1.

    The ratio of the cluster-robust variance to the plain one; where all values are alike, or there
    is but one video, the largest that it can be: the questions of a video.
    """
    deviations = np.asarray(values, float) - np.mean(values)
    names, places = np.unique(videos, return_inverse=True)
    if len(names) in (0, len(deviations)):
        return 1.0
    # All alike: the data cannot show how much a video's questions agree, so they may agree fully.
    if not deviations.any() or len(names) == 1:
        return len(deviations) / len(names)
    clusters = np.bincount(places, deviations)
    return max(1.0, float((clusters**2).sum() / (deviations**2).sum()))


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Two-sided exact p that `a` and `b`, hits on the same questions, are equally good.

    >>> mcnemar([False] * 5, [True] * 5)
    0.0625
    """
    wins = [y for x, y in zip(a, b, strict=True) if x != y]
    return float(binomtest(int(sum(wins)), len(wins)).pvalue) if wins else 1.0


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
        raise ValueError(f"a has {len(a)} results and b has {len(b)}; pairs need the same number")
    change = np.subtract(b, a, dtype=float)
    gain = _share(change.sum(), change.size)
    names, places = np.unique(videos, return_inverse=True)
    if np.unique(change).size < 2 or len(names) == 1:
        return gain, nan, nan
    if len(names) in (0, change.size):
        places = np.arange(change.size)
    # A video drawn brings its sum and its number of questions: the mean is a ratio of two sums.
    samples = (np.bincount(places, change), np.bincount(places))
    options = {"method": "percentile", "paired": True, "rng": seed}
    outcome = bootstrap(samples, _ratio, n_resamples=resamples, **options)
    return gain, *map(float, outcome.confidence_interval)


def unpaired_gain(
    first: float, second: float, n: int, effect: float = 1.0
) -> tuple[float, float, float, float]:
    """Gain of one accuracy over another, the ends of its 95 % interval, and p; all nan for n = 0.

    For accuracies that were published without the answers. first, second: shares of n questions
    each. The items are taken as independent and the two systems' as drawn separately; on the same
    items the test is conservative: it can fail to show a difference that `paired_gain` would show.
    effect: the design effect, by which questions that share a video multiply the variance; at the
    most, the questions of a video. Interval by Wald, p of the pooled z-test; p is nan where all are
    right or all wrong. Raises ValueError for a share that is not between 0 and 1.

    >>> gain, low, high, p = unpaired_gain(0.718, 0.742, 2700)
    >>> f"{gain:.3f}, {low:.4f} to {high:.4f}, p = {p:.3f}"
    '0.024, 0.0003 to 0.0477, p = 0.047'
    """
    _check_shares(first, second)
    if not n:
        return nan, nan, nan, nan
    gain = second - first
    pooled = (first + second) / 2
    alone = sqrt((first * (1 - first) + second * (1 - second)) * effect / n)
    together = sqrt(2 * pooled * (1 - pooled) * effect / n)
    half = float(norm.ppf(0.975)) * alone
    p = float(2 * norm.sf(abs(gain) / together)) if together else nan
    return gain, gain - half, gain + half, p


def questions_needed(first: float, second: float, power: float = 0.8, alpha: float = 0.05) -> float:
    """Questions each for the test of `unpaired_gain` to show this difference with this power.

    A whole number, or inf for no difference. first, second: the true accuracies, as shares. alpha:
    of the two-sided test. Normal approximation without continuity correction (Fleiss). Raises
    ValueError for a share that is not between 0 and 1.

    >>> questions_needed(0.5, 0.75, power=0.9)
    77
    """
    _check_shares(first, second)
    if first == second:
        return inf
    pooled = (first + second) / 2
    chance = norm.ppf(1 - alpha / 2) * sqrt(2 * pooled * (1 - pooled))
    spread = norm.ppf(power) * sqrt(first * (1 - first) + second * (1 - second))
    return ceil(((chance + spread) / (second - first)) ** 2)


def _check_shares(*shares: float) -> None:
    # Published tables hold percents, which would give intervals that look right and are not.
    if wrong := [share for share in shares if not 0 <= share <= 1]:
        raise ValueError(f"accuracy is {wrong[0]:g}; it must be a share, between 0 and 1")


def trivial_traces(questions: Sequence[Question]) -> dict[str, list[Trace]]:
    """System -> its bare answers to the questions, six blind ways to choose; of ties the first."""
    rules = {f"always_{x.lower()}": lambda _, i=i: i for i, x in enumerate(LETTERS[:4])}
    rules |= {"shortest": np.argmin, "longest": np.argmax}
    return {name: [_blind(name, rule, q) for q in questions] for name, rule in rules.items()}


def _blind(name: str, rule: Callable, question: Question) -> Trace:
    letter = LETTERS[rule([len(option) for option in question.options])]
    steps = [Step(kind="answer", text=f"Answer: {letter}")]
    return Trace(question=question, policy=name, steps=steps)


def summary(system: str, traces: Sequence[Trace], families: Sequence[str]) -> DataFrame:
    """One row per family and one, `all`, over these families.

    tool_call_rate: share of questions with a call. valid_call_rate: of calls without an error.
    unparsed, truncated, forced: how many answers had no letter, ran too long, were asked for.
    failed: how many questions have no answer, because a server gave none.
    """
    rows = []
    for family, members in [*((f, [f]) for f in families), ("all", families)]:
        chosen = [t for t in traces if t.question.family in members]
        calls = [len(t.calls()) for t in chosen]
        valid = sum(calls) - sum(t.failed_calls() for t in chosen)
        row = (
            system,
            family,
            len(chosen),
            *accuracy_interval([t.correct() for t in chosen], [t.question.video for t in chosen]),
            _share(sum(calls), len(calls)),
            _share(np.count_nonzero(calls), len(calls)),
            _share(valid, sum(calls)),
            # What a server refused is not the model's reply, so it is not unparsed as well.
            sum(t.letter() == "" and not t.failed for t in chosen),
            sum(t.truncated for t in chosen),
            sum(t.forced for t in chosen),
            sum(t.failed != "" for t in chosen),
        )
        rows.append(row)
    return DataFrame(rows, columns=COLUMNS)


def pooled(table: DataFrame, by: Sequence[str]) -> DataFrame:
    """Rows of several seeds as one, with the interval of all their questions together.

    Columns of `by`, then n, accuracy, low, high; in the order in which they first come.
    """
    rows = []
    for key, group in table.groupby([*by], sort=False):
        n = int(group.n.sum())
        # The table holds shares, rounded ones where it was saved; hits are whole.
        hits = round((group.accuracy * group.n).sum())
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
    once, twice = (Counter(t.question.id for t in traces) for traces in (first, second))
    if unpaired := [i for i in once | twice if not once[i] == twice[i] == 1]:
        raise ValueError(
            f"{len(unpaired)} questions are not answered once by each, among them {unpaired[:5]}; "
            "every question must be"
        )
    # The two may stand in different orders, as an interrupted run goes on where it stopped.
    hits = {t.question.id: t.correct() for t in second}
    a = [t.correct() for t in first]
    b = [hits[t.question.id] for t in first]
    gain, low, high = paired_gain(a, b, seed, videos=[t.question.video for t in first])
    shares = {"n": len(a), "base": _share(sum(a), len(a)), "tuned": _share(sum(b), len(b))}
    return shares | {"gain": gain, "low": low, "high": high, "p": mcnemar(a, b)}


def kept_statistics(traces: Sequence[Trace], threshold: float, by: str = "family") -> DataFrame:
    """What a similarity of at least `threshold` keeps, per family (or `source`) and over all.

    Columns after kept_share are of the kept: with_frames, the share with any frame as evidence, and
    a column such as with_generated for every other kind of frame that any of the traces has.
    Raises ValueError for a trace without similarity.
    """
    if unscored := [t.question.id for t in traces if t.similarity is None]:
        raise ValueError(f"{len(unscored)} traces have no similarity, among them {unscored[:5]}")
    words = [{frame.made for step in t.steps for frame in step.frames} for t in traces]
    # Out of all traces, not only the kept: a kind that the filter drops whole is worth its column.
    kinds = sorted(set().union(*words) - {"real"})
    shares = ["with_frames", *(f"with_{kind}" for kind in kinds), "correct", "calls_per_trace"]
    facts = [
        (
            getattr(t.question, by),
            t.similarity >= threshold,
            bool(own),
            *(kind in own for kind in kinds),
            t.correct(),
            len(t.calls()),
        )
        for t, own in zip(traces, words, strict=True)
    ]
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
    right = np.asarray(labels, bool)
    rows = []
    for threshold in [np.inf, *np.unique(scores)[::-1]]:
        kept = right[np.asarray(scores) >= threshold]
        recall = _share(kept.sum(), right.sum())
        false = _share((~kept).sum(), (~right).sum())
        rows.append((threshold, _share(kept.sum(), kept.size), recall, recall, false, kept.size))
    names = "threshold precision recall true_positive_rate false_positive_rate kept"
    return DataFrame(rows, columns=names.split())


def auc(scores: Sequence[float], labels: Sequence[bool]) -> float:
    """Chance that a right trace scores above a wrong one (ties half); nan with one class only."""
    return float(roc_auc_score(labels, scores)) if 0 < sum(labels) < len(labels) else nan
