"""What a run shows: a grid's cells, where mistakes lie, comparisons and claims in words.

Works on traces, on the tables of `statistics` and on that of `ablations`. Knows nothing of models
or files, nor of how an interval is made. Words follow from numbers alone, so they are true of the
run, whatever it was. Our choice.
"""

from collections.abc import Mapping, Sequence
from math import isnan, sqrt

from pandas import DataFrame, crosstab

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
    """What comparing two systems over these families shows, as a list item.

    comparison: of `statistics.compare(one's traces, two's traces, families)`. A difference is
    called one only where its interval leaves out zero.
    """
    low = comparison["low"]
    high = comparison["high"]
    same = "cannot be distinguished from"
    verdict = "is better than" if low > 0 else "is worse than" if high < 0 else same
    span = f"95 % interval {100 * low:+.1f} to {100 * high:+.1f}"
    return (
        f"- On {comparison['n']} questions of {', '.join(families)}, {one} is right on "
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
    """Where the frames of a dialogue lie: `looked nowhere`, `elsewhere` or `there`.

    There: in every window that matters, which only a simulated world knows; outside it, a dialogue
    with frames `looked somewhere`.
    """
    times_s = [frame.time_s for step in trace.steps for frame in step.frames]
    windows = trace.question.truth.get("windows")
    if not times_s:
        return "looked nowhere"
    if windows is None:
        return "looked somewhere"
    # A question of order has two windows, and one alone does not answer it.
    there = all(any(low <= time_s <= high for time_s in times_s) for low, high in windows)
    return "looked there" if there else "looked elsewhere"


def answers_by_place(traces: Sequence[Trace], families: Sequence[str]) -> DataFrame:
    """How many dialogues of each family looked where, and were right or wrong.

    Returns a row a family; columns are pairs of `evidence_place` and `right` or `wrong`.
    """
    facts = DataFrame(
        {
            "family": [t.question.family for t in traces],
            "place": [evidence_place(t) for t in traces],
            "answer": ["right" if t.correct() else "wrong" for t in traces],
        }
    )
    return crosstab(facts.family, [facts.place, facts.answer]).reindex(families)
