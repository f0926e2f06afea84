"""Figures of tables: results by family, one grid's cells, the filter, the loss.

Works on tables of `statistics` and `findings`, on scored traces and on transformers' log. Knows
nothing of how they were made, nor of which world they are from: the caller names it, and it stands
in the title. Functions return a `Figure`; only `save` writes. Our choice.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from act2see.files import replacing
from act2see.fonts import Readable, folded
from act2see.plain import drawn
from act2see.style import BLUE, DASHED, GREY, ORANGE, PALETTE, RED
from act2see.trace import Trace

# So that `figures` is all that a notebook imports to draw.
from act2see.trace_figure import trace_figure as trace_figure

LEGEND = {"fontsize": 9, "edgecolor": "none", "framealpha": 0.85}
HATCHED = {"hatch": "///", "edgecolor": "white"}
SIZE_IN = (6.4, 3.6)


def accuracy_by_family(
    results: DataFrame, systems: Sequence[str], world: str, chance: float = 0.25
) -> Figure:
    """Accuracy of these systems in each family as bars, with 95 % intervals and the chance line.

    results: of `statistics.summary`, or with its columns system, family, n, accuracy, low, high.
    A table without rows is drawn as words. Raises KeyError for a system that is not in the table.
    """
    labels = (f"Accuracy, {world}, with 95 % intervals", "question family", "accuracy (%)")
    if results.empty:
        return _words(labels, "This table has 0 results.")
    tables = {name: results.set_index(["system", "family"]).loc[name] for name in systems}
    families = list(tables[systems[0]].index)
    figure, axes = _panels((1.6 + 1.5 * len(families), 4), labels)
    # One n a family, or all that there are where the systems were not asked the same questions.
    counts = {f: sorted({table.n[f] for table in tables.values()}) for f in families}
    names = {f: f"{folded(f, 11)}\nn = {'/'.join(map(str, n))}" for f, n in counts.items()}
    _bars(axes, [(name, table.loc[families], {}) for name, table in tables.items()], names)
    label = f"chance, {100 * chance:.0f} %"
    axes.axhline(100 * chance, color="black", linewidth=1, linestyle=DASHED, label=label)
    # More than six in a row would run off the picture.
    figure.legend(
        loc="outside lower center", ncols=len(systems) + 1 if len(systems) < 6 else 4, **LEGEND
    )
    return figure


def beside_the_paper(published: DataFrame, own: DataFrame) -> Figure:
    """Published scores as hatched bars; your own of the same benchmarks next to them, with n.

    published: benchmark, system, score (%), protocol. own: of `findings.own_scores`: benchmark,
    system, accuracy, low, high (shares), n, protocol; rows of other benchmarks, such as a simulated
    world, are left out. Both protocols stand below, and whether they differ. Raises ValueError for
    a row without n or protocol.
    """
    own = own[own.benchmark.isin(published.benchmark)]
    for row in own.itertuples():
        # A number whose protocol is not stated cannot be compared with anything.
        if not (row.n > 0 and isinstance(row.protocol, str) and row.protocol):
            raise ValueError(
                f"n of {row.system} is {row.n} and its protocol is {row.protocol!r}; n must be 1 "
                "or more and the protocol must be stated; give both"
            )
    title = "Published scores" + ", and this run's" * (len(own) > 0)
    figure, axes = _panels((8.4, 4.6), (title, "benchmark", "score (%)"))
    paper = published.assign(accuracy=published.score / 100, low=np.nan, high=np.nan)
    groups = []
    for origin, table, style in (("paper", paper, HATCHED), ("this run", own, {})):
        for system, rows in table.set_index("benchmark").groupby("system", sort=False):
            groups.append((f"{system}, {origin}", rows, style))
    _bars(axes, groups, {name: name for name in published.benchmark}, "{:.1f}")
    notes = [f"Protocol of the paper: {'; '.join(dict.fromkeys(published.protocol))}."]
    for (name, n, protocol), _ in own.groupby(["benchmark", "n", "protocol"], sort=False):
        same = "the same" if {protocol} == set(published.protocol) else "the protocols differ"
        notes.append(f"Of this run, {name}, n = {n}: {protocol} ({same}).")
    _note(figure, "\n".join(notes))
    figure.legend(loc="outside upper center", ncols=4, **LEGEND)
    return figure


def published_gains(comparisons: DataFrame, credit: str) -> Figure:
    """The paper's differences with 95 % intervals, a row each; at the right, p and the questions.

    comparisons: of `findings.published_comparisons`. A filled point: the unpaired test shows a
    difference; a hollow one: it does not, which is not to say that there is none. credit: whose
    numbers these are; it stands below.
    """
    table = comparisons.iloc[::-1].reset_index(drop=True)
    labels = ("Do the paper's tables show a difference?", "gain (points)", "comparison (one → two)")
    figure, axes = _panels((9.6, 1.6 + 0.4 * len(table)), labels)
    gain, low, high = 100 * table[["gain", "low", "high"]].to_numpy(float).T
    style = {"fmt": "o", "ecolor": "#333333", "capsize": 3, "markeredgecolor": BLUE}
    for shown, colour, label in ((True, BLUE, "shown"), (False, "white", "not shown")):
        rows = np.flatnonzero(table.shown == shown)
        ends = [(gain - low)[rows], (high - gain)[rows]]
        label = f"{label} by the unpaired test ({len(rows)})"
        axes.errorbar(gain[rows], rows, xerr=ends, color=colour, label=label, **style)
    axes.axvline(0, color="black", linewidth=1, linestyle=DASHED)
    names = [drawn(f"{r.table}, {r.benchmark}: {r.one} → {r.two}") for r in table.itertuples()]
    axes.set_yticks(table.index, names, fontsize=8)
    chances = ["< 0.001" if p < 0.001 else f"= {p:.2g}" for p in table.p]
    notes = [
        f"p {chance}, n = {row.n:,}, needed {row.needed:,}"
        for chance, row in zip(chances, table.itertuples(), strict=True)
    ]
    right = axes.secondary_yaxis("right")
    right.set_yticks(table.index, notes, fontsize=8)
    right.tick_params(length=0)
    right.spines["right"].set_visible(False)
    below = f"n, needed: questions asked, and for a power of 80 % if the gain is true. {credit}"
    _note(figure, below)
    figure.legend(loc="outside upper center", ncols=2, **LEGEND)
    return figure


def calls_by_family(results: DataFrame, system: str, world: str) -> Figure:
    """Tool calls per question in each family; above a bar, the share of questions with a call."""
    table = results.set_index(["system", "family"]).loc[system]
    title = f"When {system} looks again, {world}"
    figure, axes = _panels(SIZE_IN, (title, "question family", "tool calls (count per question)"))
    names = [drawn(f"{folded(f, 44 / len(table))}\nn = {n}") for f, n in table.n.items()]
    bars = axes.bar(names, table.calls_per_question, 0.62, color=BLUE)
    axes.bar_label(bars, [f"{100 * rate:.0f} % call" for rate in table.tool_call_rate], fontsize=9)
    axes.set_ylim(0, max(1, 1.15 * table.calls_per_question.max()))
    return figure


def cells(table: DataFrame, title: str, x: str, world: str, reference: str = "") -> Figure:
    """Accuracy of the cells of one grid, in their order, with 95 % intervals and n below.

    table: of `findings.grid_cells`, which takes one seed, with cell, n, accuracy, low, high.
    reference: a cell that is drawn as a dashed line instead. Where the table lacks the grid or the
    reference, as that of a run in part may, words say so.
    """
    labels = (f"{title}, {world}", x, "accuracy (%)")
    points = table[table.cell != reference]
    if points.empty or (reference and len(points) == len(table)):
        return _words(labels, f"Not enough cells in this table: {', '.join(table.cell) or 'none'}.")
    figure, axes = _panels(SIZE_IN, labels)
    if reference:
        style = {"color": GREY, "linestyle": DASHED, "linewidth": 1, "label": drawn(reference)}
        axes.axhline(100 * table.set_index("cell").accuracy[reference], **style)
    names = [drawn(folded(str(name), 7.5)) for name in points.cell]
    style = {"fmt": "o", "color": BLUE, "ecolor": "#333333", "capsize": 3, "label": "student"}
    axes.errorbar(names, *_percent(points), **style)
    counts = "/".join(map(str, sorted({*table.n})))
    axes.set_xlabel(f"{drawn(x)}\nn = {counts} a cell; 95 % Wilson intervals; one seed")
    axes.set_ylim(0, 105)
    axes.margins(x=0.1)
    if reference:
        axes.legend(loc="lower right", **LEGEND)
    return figure


def similarity_histogram(traces: Sequence[Trace], threshold: float, world: str) -> Figure:
    """How similar right and wrong traces are to human reasoning, and where the filter cuts."""
    figure, axes = _panels(
        SIZE_IN,
        (
            f"What the filter keeps, {world}",
            "similarity to human reasoning (cosine)",
            "traces (count)",
        ),
    )
    # A cosine may be 1 and a rounding more, which would fall off the last bin.
    scores = [[min(t.similarity, 1.0) for t in traces if t.correct() is w] for w in (True, False)]
    edges = np.arange(np.floor(50 * min([threshold, *scores[0], *scores[1]])) - 1, 51) / 50
    names = [f"{name}, n = {len(s)}" for name, s in zip(("right", "wrong"), scores, strict=True)]
    style = {"color": [BLUE, ORANGE], "hatch": ["", "////"], "edgecolor": "white"}
    axes.hist(scores, edges, stacked=True, label=names, linewidth=0.6, **style)
    axes.axvline(threshold, color="black", linestyle=DASHED, label=f"kept from {threshold:.2f} on")
    axes.margins(y=0.14)
    axes.legend(loc="upper left", **LEGEND)
    return figure


def roc_curve_figure(curve: DataFrame, auc: float, threshold: float, world: str) -> Figure:
    """How well similarity tells right traces from wrong: ROC, and precision and recall.

    curve: of `statistics.roc`. auc: of `statistics.auc`. threshold: marked in both panels.
    """
    first = (f"Similarity as a judge, {world}", "wrong traces kept (%)", "right traces kept (%)")
    second = ("Along the threshold", "similarity threshold (cosine)", "share of traces (%)")
    figure, roc, along = _panels((8.4, 4.2), first, second)
    percent = 100 * curve.drop(columns="threshold")
    # The loosest of the curve's thresholds that keeps what this one keeps.
    here = percent[curve.threshold >= threshold].iloc[-1]
    dot = {"marker": "o", "color": RED, "markersize": 8, "markeredgecolor": "white", "zorder": 5}
    dot |= {"linestyle": "", "label": f"threshold {threshold:.2f}", "clip_on": False}
    roc.plot([0, 100], [0, 100], color=GREY, linewidth=1, linestyle=DASHED, label="chance")
    rates = (percent.false_positive_rate, percent.true_positive_rate)
    roc.plot(*rates, color=BLUE, linewidth=2, label=f"similarity, AUC = {auc:.2f}")
    roc.plot(here.false_positive_rate, here.true_positive_rate, **dot)
    roc.set(xlim=(0, 100), ylim=(0, 102))
    roc.legend(loc="lower right", **LEGEND)
    along.plot(curve.threshold, percent.precision, color=BLUE, label="precision: right of kept")
    along.plot(curve.threshold, percent.recall, "--", color=ORANGE, label="recall: kept of right")
    along.plot([threshold] * 2, here[["precision", "recall"]], **dot)
    along.set_ylim(0, 102)
    along.legend(loc="lower left", **LEGEND)
    return figure


def loss_curve(log: Sequence[dict], world: str) -> Figure:
    """Training and held-out loss against the step, from `trainer.state.log_history`."""
    y = "loss (nats per assistant token)"
    figure, axes = _panels(SIZE_IN, (f"Learning from traces, {world}", "optimiser step (count)", y))
    styles = [("loss", "training", "-", BLUE), ("eval_loss", "held-out", "o--", ORANGE)]
    for key, name, style, colour in styles:
        points = np.array([(entry["step"], entry[key]) for entry in log if key in entry])
        axes.plot(*points.reshape(-1, 2).T, style, color=colour, label=name, markersize=5)
    axes.set_ylim(bottom=0)
    axes.legend(**LEGEND)
    return figure


def learning_curves(table: DataFrame, systems: Sequence[str], world: str) -> Figure:
    """Along the steps of reinforcement: answers that are right, dialogues that call, their tokens.

    table: system, seed, step, right, callers (shares), tokens. A thin line a seed, a thick one the
    mean of all.
    """
    titles = ("Right answers", "Dialogues that call", "Tokens that a dialogue says")
    columns = {"right": "share (%)", "callers": "share (%)", "tokens": "tokens (count)"}
    labels = [(t, "step", y) for t, y in zip(titles, columns.values(), strict=True)]
    figure, *panels = _panels((11, 4.2), *labels)
    for name, colour in zip(systems, PALETTE[1:], strict=False):
        runs = table[table.system == name]
        for axes, column in zip(panels, columns, strict=True):
            scale = 1 if column == "tokens" else 100
            lines = scale * runs.pivot(index="step", columns="seed", values=column)
            axes.plot(lines, color=colour, linewidth=0.7, alpha=0.5)
            axes.plot(lines.mean(axis=1), color=colour, linewidth=2.2, label=drawn(name))
    for axes, top in zip(panels, (103, 103, None), strict=True):
        axes.set_ylim(0, top)
    figure.suptitle(drawn(f"Reinforcement, {world}"), fontsize=12)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, **LEGEND
    )
    return figure


def save(figure: Figure, path: Path | str) -> None:
    """Write `path`.pdf and `path`.png, byte for byte the same when drawn again."""
    # The date and the version of matplotlib would differ; fonts stay text that can be searched.
    facts = {"pdf": {"CreationDate": None}, "png": {"Software": None}}
    for form, metadata in facts.items():
        with rc_context({"pdf.fonttype": 42}), replacing(Path(f"{path}.{form}")) as partial:
            figure.savefig(partial, format=form, dpi=160, metadata=metadata)


def _panels(size_in: tuple[float, float], *labels: tuple[str, str, str]) -> tuple:
    """A figure and panels side by side, one per (title, x label, y label), in the one style."""
    # Styled panel by panel: matplotlib reads most of rcParams only when it draws.
    figure = Readable(figsize=size_in, layout="constrained")
    figure.alt = "; ".join(f"{title}: {y} by {x}" for title, x, y in labels)
    for place, (title, x, y) in enumerate(labels, 1):
        axes = figure.add_subplot(1, len(labels), place, axisbelow=True)
        axes.set(xlabel=drawn(x), ylabel=drawn(y))
        # The numbers at the left take 0.8 inches of a panel; a letter is 11/72 high.
        axes.set_title(
            drawn(folded(title, 6.5 * (size_in[0] / len(labels) - 0.8))), fontsize=11, loc="left"
        )
        axes.tick_params(labelsize=9, color=GREY, length=3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GREY)
        axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
    return figure, *figure.axes


def _note(figure: Figure, text: str) -> None:
    """Small print below a figure, as wide as it is."""
    words = drawn(folded(text, 8 * figure.get_figwidth()))
    figure.supxlabel(words, fontsize=8, x=0.02, ha="left", color="#555555")


def _words(labels: tuple[str, str, str], words: str) -> Figure:
    """A figure that says in words why nothing is drawn."""
    figure, axes = _panels(SIZE_IN, labels)
    axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1))
    axes.text(0.5, 0.5, drawn(folded(words, 36)), ha="center", color="#555555")
    return figure


def _percent(table: DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """(n,) accuracies in percent, and (2, n) lengths of the whiskers below and above them."""
    percent, low, high = 100 * table[["accuracy", "low", "high"]].to_numpy(float).T
    # An end may lie on the wrong side by a rounding, and matplotlib refuses such a whisker.
    return percent, np.clip([percent - low, high - percent], 0, None)


def _bars(
    axes: Axes,
    groups: list[tuple[str, DataFrame, dict]],
    names: dict[str, str],
    form: str = "{:.0f}",
) -> None:
    """Draw accuracy as bars with whiskers and its number in this form, a cluster of bars a name.

    groups: (label, table with the names as its index, style) of each system.
    names: name -> the words under its bars, in order.
    """
    width = 0.82 / len(groups)
    for i, (label, table, style) in enumerate(groups):
        offset = (i - (len(groups) - 1) / 2) * width
        places = [list(names).index(name) + offset for name in table.index]
        percent, whiskers = _percent(table)
        style = {"ecolor": "#333333", "capsize": 2, "color": PALETTE[i % len(PALETTE)]} | style
        style["label"] = drawn(folded(label, 20))
        bars = axes.bar(places, percent, 0.92 * width, yerr=whiskers, **style)
        axes.bar_label(bars, fmt=form, fontsize=8, padding=1)
    axes.set_xticks(range(len(names)), map(drawn, names.values()))
    # Room above 100 % for the number over a bar that is as high.
    axes.set(ylim=(0, 107), yticks=range(0, 101, 25))
