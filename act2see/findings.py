"""Findings of a run, and of the paper: cells, places of mistakes, comparisons, claims in words.

Works on traces, on the tables of `statistics` and of `ablations`, and on the paper's published
ones (data/paper/). Knows nothing of models or files, nor of how an interval is made. Words follow
from numbers alone, so they are true of the run, whatever it was. Our choice.
"""

from collections.abc import Mapping, Sequence
from math import isnan, sqrt

from pandas import DataFrame, crosstab

from act2see.plain import markdown
from act2see.pocket.claims import false_claims
from act2see.statistics import questions_needed, unpaired_gain
from act2see.trace import Trace


def grid_cells(
    results: DataFrame,
    grids: Sequence[str],
    references: Sequence[str] = (),
    family: str = "need a look",
    seed: int = 0,
) -> DataFrame:
    """The cells of these grids, behind those of the grid `tools` that they compare with.

    results: the table of `ablations`. references: cells of `tools`. Returns cell, n, accuracy, low,
    high in the order of the table; 0 rows, no references either, where it lacks the grids.
    """
    # One seed: a reference asked other questions would differ by these as well.
    rows = results[(results.family == family) & (results.seed.astype(str) == str(seed))]
    chosen = rows.grid.isin(grids)
    if chosen.any():
        chosen |= (rows.grid == "tools") & rows.cell.isin(references)
    return rows.loc[chosen, ["cell", "n", "accuracy", "low", "high"]].reset_index(drop=True)


def cell_difference(table: DataFrame, one: str, two: str) -> tuple[float, float]:
    """The ends of the 95 % interval of the accuracy of `one` minus that of `two`, as shares.

    table: of `grid_cells`. nan twice where it lacks a cell. Half the widths of both intervals are
    added as squares, as for independent questions. The cells were asked the same ones, which a
    table cannot pair, so the interval is rather too wide.
    """
    cells = table.set_index("cell").reindex([one, two])
    gap = float(cells.accuracy[one] - cells.accuracy[two])
    half = sqrt((((cells.high - cells.low) / 2) ** 2).sum())
    return gap - half, gap + half


def claim_in_words(claim: str, name: str, low: float, high: float) -> str:
    """Whether the interval of a difference bears out a claim that it is positive, as a list item.

    claim: of the paper. name: what differs. low, high: ends of the interval as shares, or nan.

    >>> claim_in_words("Both tools beat one", "both over one", 0.02, 0.1)
    '- Both tools beat one: both over one +2.0 to +10.0 points; **agrees**.'
    """
    # With nan no comparison holds, which leaves the last.
    agrees = "**agrees**" if low > 0 else "**disagrees**" if high < 0 else "**cannot tell**"
    span = f"{100 * low:+.1f} to {100 * high:+.1f} points"
    return f"- {claim}: {name} {'without an interval' if isnan(low) else span}; {agrees}."


def comparison_in_words(
    one: str, two: str, families: Sequence[str], comparison: Mapping[str, float]
) -> str:
    """The comparison of two systems over these families, as a list item.

    comparison: of `statistics.compare(one's traces, two's traces, families)`. A difference is
    called one only where its interval leaves out zero.
    """
    one = markdown(one)
    two = markdown(two)
    named = markdown(", ".join(families))
    low = comparison["low"]
    high = comparison["high"]
    same = "cannot be distinguished from"
    verdict = "is better than" if low > 0 else "is worse than" if high < 0 else same
    span = f"95 % interval {100 * low:+.1f} to {100 * high:+.1f}"
    return (
        f"- On {comparison['n']} questions of {named}, {one} is right on "
        f"{comparison['base']:.1%}, {two} on {comparison['tuned']:.1%}: "
        f"{100 * comparison['gain']:+.1f} points, {'no interval' if isnan(low) else span}, "
        f"p = {comparison['p']:.2g}. **{two} {verdict} {one}.**"
    )


def own_scores(official: DataFrame, systems: Sequence[str], world: str) -> DataFrame:
    """A benchmark's own scores of these systems, as `figures.beside_the_paper` wants them.

    official: tables of a data set's scorer, one under the other; the last row of a system is that
    of the whole benchmark. world: the benchmark's title, which begins its protocol. Raises KeyError
    for a system that is not in the table.
    """
    last = official.groupby("system").tail(1).set_index("system").loc[list(systems)].reset_index()
    # The figure names the benchmark itself.
    protocol = last.protocol.str.removeprefix(f"{world}, ")
    return last.assign(benchmark=world, protocol=protocol)


def evidence_place(trace: Trace) -> str:
    """Where the frames of a dialogue lie: `looked nowhere`, `elsewhere`, `at a part` or `there`.

    There: in every window that matters, which only a simulated world knows; at a part: in some of
    them. Outside a simulated world, a dialogue with frames `looked somewhere`.
    """
    times_s = [frame.time_s for step in trace.steps for frame in step.frames]
    windows = trace.question.truth.get("windows")
    if not times_s:
        return "looked nowhere"
    if windows is None:
        return "looked somewhere"
    seen = [any(low <= time_s <= high for time_s in times_s) for low, high in windows]
    # A question of order has two windows, and the first can settle it.
    return "looked there" if all(seen) else "looked at a part" if any(seen) else "looked elsewhere"


def answer_kind(trace: Trace) -> str:
    """`right`, `misread` or `misjudged`; `wrong` outside a simulated world, where nobody can tell.

    misread: a sentence about a frame is false. misjudged: only the conclusion is.
    """
    if trace.correct():
        return "right"
    if "seed" not in trace.question.truth:
        return "wrong"
    misread = any("so it is " not in claim for claim in false_claims(trace))
    return "misread" if misread else "misjudged"


def answers_by_place(traces: Sequence[Trace], families: Sequence[str]) -> DataFrame:
    """How many dialogues of each family looked where, and how they answered.

    Returns a row a family; columns are pairs of `evidence_place` and `answer_kind`.
    """
    facts = DataFrame(
        {
            "family": [t.question.family for t in traces],
            "place": [evidence_place(t) for t in traces],
            "answer": [answer_kind(t) for t in traces],
        }
    )
    return crosstab(facts.family, [facts.place, facts.answer]).reindex(families)


def published_comparisons(tables: DataFrame, effects: Mapping[str, float] = {}) -> DataFrame:
    """The comparisons of the paper's tables, each with the unpaired test, in the tables' order.

    tables: data/paper/tables.csv, where `against` names the system of the same table and benchmark
    that a row is the baseline of; score in percent. Returns table, benchmark, n, one, two, gain,
    low, high, p (of `statistics.unpaired_gain`; shares), shown (whether p is under 0.05) and needed
    (`statistics.questions_needed`, where these accuracies are the true ones). effects: the design
    effect of a benchmark whose questions share videos; 1 for the others.
    """
    place = ["table", "benchmark"]
    other = tables[[*place, "system", "score"]].rename(columns={"system": "against"})
    pairs = tables.merge(other, on=[*place, "against"], suffixes=("", "_two"))
    rows = []
    for row in pairs.itertuples():
        shares = (row.score / 100, row.score_two / 100)
        test = unpaired_gain(*shares, row.n, effects.get(row.benchmark, 1.0))
        names = (row.table, row.benchmark, row.n, row.system, row.against)
        rows.append((*names, *test, test[-1] < 0.05, questions_needed(*shares)))
    columns = [*place, "n", "one", "two", "gain", "low", "high", "p", "shown", "needed"]
    return DataFrame(rows, columns=columns)


def published_in_words(comparisons: DataFrame) -> str:
    """How many of the paper's differences the test shows, and what it means where it does not.

    comparisons: of `published_comparisons`, with one row or more.
    """
    total = len(comparisons)
    shown = comparisons[comparisons.shown]
    names = (shown.benchmark + " (" + shown.table + ")").to_list()
    return (
        f"Of the paper's {total} differences, an unpaired test shows {len(shown)}: "
        f"{markdown(', '.join(names)) or 'none'}. The other {total - len(shown)} are not shown, "
        "which does not mean that there is no effect. The systems answered the same questions, so "
        "a paired test would be sharper, and it needs their answers, which are not published. Each "
        "p stands "
        f"alone: of {total} tests of no effect, {0.05 * total:.1f} would be expected under 0.05."
    )
