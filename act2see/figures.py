"""Figures: results by family, the filter, the loss, and the picture of one trace.

Works on tables of `statistics`, on `Trace` and on transformers' log. Knows nothing of how they were
made. Functions return a `Figure`; only `save` writes. The colours are Okabe and Ito's. Our choice.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from pandas import DataFrame

from act2see.trace import LETTERS, Frame, Trace

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#7F7F7F"
PALETTE = ("#A6A6A6", "#56B4E9", BLUE, ORANGE, GREEN, "#CC79A7", RED, "#F0E442")
DASHED = (0, (4, 3))
LEGEND = {"fontsize": 9, "edgecolor": "none", "framealpha": 0.85}
SIZE_IN = (6.4, 3.6)
PAGE_IN, LEFT_IN, BODY_IN, GAP_IN = 10.0, 0.95, 8.85, 0.13  # of the picture of a trace
WORLD = "pocket world"  # stands in the title: no figure leaves open where its numbers are from


def _panels(size_in: tuple[float, float], *labels: tuple[str, str, str]) -> tuple:
    """A figure and panels side by side, one per (title, x label, y label), in the one style."""
    figure = Figure(figsize=size_in, layout="constrained")  # styled here: rcParams act late
    for place, (title, x, y) in enumerate(labels, 1):
        axes = figure.add_subplot(1, len(labels), place, xlabel=x, ylabel=y, axisbelow=True)
        axes.set_title(title, fontsize=11, loc="left")
        axes.tick_params(labelsize=9, color=GREY, length=3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GREY)
        axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
    return figure, *figure.axes


def accuracy_by_family(
    results: DataFrame, systems: Sequence[str], world: str = WORLD, chance: float = 0.25
) -> Figure:
    """Accuracy of these systems in each family as bars, with 95 % intervals and the chance line."""
    tables = [results.set_index(["system", "family"]).loc[system] for system in systems]
    families = list(tables[0].index)
    labels = f"Accuracy, {world}, with 95 % intervals", "question family", "accuracy (%)"
    figure, axes = _panels((1.6 + 1.5 * len(families), 4), labels)
    width = 0.82 / len(systems)
    for i, (system, table) in enumerate(zip(systems, tables, strict=True)):
        percent, low, high = 100 * table.loc[families, ["accuracy", "low", "high"]].to_numpy().T
        whiskers = np.clip([percent - low, high - percent], 0, None)
        at = np.arange(len(families)) + (i - (len(systems) - 1) / 2) * width
        style = {"color": PALETTE[i % len(PALETTE)], "ecolor": "#333333", "capsize": 2}
        bars = axes.bar(at, percent, 0.92 * width, yerr=whiskers, label=system, **style)
        axes.bar_label(bars, fmt="{:.0f}", fontsize=8, padding=1)
    line = {"color": "black", "linewidth": 1, "linestyle": DASHED}
    axes.axhline(100 * chance, label=f"chance, {100 * chance:.0f} %", **line)
    counts = ["/".join(str(n) for n in sorted({t.n[f] for t in tables})) for f in families]
    names = [f"{family}\nn = {n}" for family, n in zip(families, counts, strict=True)]
    axes.set_xticks(range(len(families)), names)
    axes.set(ylim=(0, 107), yticks=range(0, 101, 25))
    figure.legend(loc="outside lower center", ncols=len(systems) + 1, **LEGEND)
    return figure


def beside_the_paper(published: DataFrame, own: DataFrame) -> Figure:
    """Published scores as hatched bars; your own of the same benchmarks beside them, with n.

    published: benchmark, system, score (%), protocol. own: benchmark, system, accuracy, low, high
    (shares), n, protocol; rows of other benchmarks, such as the pocket world, are left out. Both
    protocols stand below, and whether they differ. Raises ValueError for a row without n or one.
    """
    own = own[own.benchmark.isin(published.benchmark)]
    for row in own.itertuples():
        if not (row.n > 0 and isinstance(row.protocol, str) and row.protocol):
            raise ValueError(f"{row.system} has n {row.n}, protocol {row.protocol!r}; give both")
    benchmarks = list(dict.fromkeys(published.benchmark))
    labels = "Published scores" + ", and this run's" * (len(own) > 0), "benchmark", "score (%)"
    figure, axes = _panels((8.4, 4.6), labels)
    paper = published.assign(accuracy=published.score / 100, low=np.nan, high=np.nan)
    groups = [("paper", table) for _, table in paper.groupby("system", sort=False)]
    groups += [("this run", table) for _, table in own.groupby("system", sort=False)]
    width = 0.84 / len(groups)
    for i, (who, table) in enumerate(groups):
        at = [benchmarks.index(b) + (i - (len(groups) - 1) / 2) * width for b in table.benchmark]
        percent, low, high = 100 * table[["accuracy", "low", "high"]].to_numpy(float).T
        style = {"label": f"{table.system.iloc[0]}, {who}", "color": PALETTE[i], "capsize": 2}
        style |= {"hatch": "///", "edgecolor": "white"} if who == "paper" else {}
        bars = axes.bar(at, percent, 0.94 * width, yerr=[percent - low, high - percent], **style)
        axes.bar_label(bars, fmt="{:.1f}", fontsize=8, padding=1)
    axes.set_xticks(range(len(benchmarks)), benchmarks)
    axes.set_ylim(0, 107)
    theirs = "; ".join(dict.fromkeys(published.protocol))
    told = [f"Protocol of the paper: {theirs}."]
    for (name, n, protocol), _ in own.groupby(["benchmark", "n", "protocol"], sort=False):
        same = "the same" if {protocol} == set(published.protocol) else "the protocols differ"
        told.append(f"Of this run, {name}, n = {n}: {protocol} ({same}).")
    lines = [line for text in told for line in textwrap.wrap(text, 130)]
    figure.supxlabel("\n".join(lines), fontsize=8, x=0.02, ha="left", color="#555555")
    figure.legend(loc="outside upper center", ncols=4, **LEGEND)
    return figure


def calls_by_family(results: DataFrame, system: str, world: str = WORLD) -> Figure:
    """Tool calls per question in each family; above a bar, the share of questions with a call."""
    table = results.set_index(["system", "family"]).loc[system]
    title = f"When {system} looks again, {world}"
    figure, axes = _panels(SIZE_IN, (title, "question family", "tool calls (count per question)"))
    names = [f"{family}\nn = {n}" for family, n in table.n.items()]
    bars = axes.bar(names, table.calls_per_question, 0.62, color=BLUE)
    axes.bar_label(bars, [f"{100 * rate:.0f} % call" for rate in table.tool_call_rate], fontsize=9)
    axes.set_ylim(0, max(1, 1.15 * table.calls_per_question.max()))
    return figure


def cells(table: DataFrame, title: str, x: str, reference: str = "") -> Figure:
    """Accuracy of the cells of one grid, in their order, with 95 % intervals.

    table: cell, n, accuracy, low, high. reference: a cell that is drawn as a dashed line instead.
    """
    figure, axes = _panels(SIZE_IN, (f"{title}, {WORLD}", x, "accuracy (%)"))
    percent = table.set_index("cell")[["accuracy", "low", "high"]] * 100
    if reference:
        style = {"color": GREY, "linestyle": DASHED, "linewidth": 1, "label": reference}
        axes.axhline(percent.accuracy[reference], **style)
        percent = percent.drop(reference)
    names = [textwrap.fill(str(name), 13) for name in percent.index]
    whiskers = [percent.accuracy - percent.low, percent.high - percent.accuracy]
    points = {"fmt": "o", "color": BLUE, "ecolor": "#333333", "capsize": 3, "label": "student"}
    axes.errorbar(names, percent.accuracy, np.clip(whiskers, 0, None), **points)
    axes.set_ylim(0, 105)
    axes.margins(x=0.1)
    if reference:
        axes.legend(loc="lower right", **LEGEND)
    return figure


def similarity_histogram(traces: Sequence[Trace], threshold: float, world: str = WORLD) -> Figure:
    """How similar right and wrong traces are to human reasoning, and where the filter cuts."""
    x = "similarity to human reasoning (cosine)"
    figure, axes = _panels(SIZE_IN, (f"What the filter keeps, {world}", x, "traces (count)"))
    scores = [[min(t.similarity, 1.0) for t in traces if t.correct() is w] for w in (True, False)]
    edges = np.arange(np.floor(50 * min([threshold, *scores[0], *scores[1]])) - 1, 51) / 50
    names = [f"{name}, n = {len(s)}" for name, s in zip(("right", "wrong"), scores, strict=True)]
    style = {"color": [BLUE, ORANGE], "hatch": ["", "////"], "edgecolor": "white"}
    axes.hist(scores, edges, stacked=True, label=names, linewidth=0.6, **style)
    axes.axvline(threshold, color="black", linestyle=DASHED, label=f"kept from {threshold:.2f} on")
    axes.margins(y=0.14)
    axes.legend(loc="upper left", **LEGEND)
    return figure


def roc_curve_figure(curve: DataFrame, auc: float, threshold: float, world: str = WORLD) -> Figure:
    """How well similarity tells right traces from wrong: ROC, and precision and recall."""
    first = f"Similarity as a judge, {world}", "wrong traces kept (%)", "right traces kept (%)"
    second = "Along the threshold", "similarity threshold (cosine)", "share of traces (%)"
    figure, roc, along = _panels((8.4, 4.2), first, second)
    percent = 100 * curve.drop(columns="threshold")
    here = percent[curve.threshold >= threshold].iloc[-1]
    dot = {"marker": "o", "color": RED, "markersize": 8, "markeredgecolor": "white", "zorder": 5}
    dot |= {"linestyle": "", "label": f"threshold {threshold:.2f}", "clip_on": False}
    roc.plot([0, 100], [0, 100], color=GREY, linewidth=1, linestyle=DASHED, label="chance")
    rates = percent.false_positive_rate, percent.true_positive_rate
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


def loss_curve(log: Sequence[dict], world: str = WORLD) -> Figure:
    """Training and held-out loss against the step, from `trainer.state.log_history`."""
    labels = "optimiser step (count)", "loss (nats per assistant token)"
    figure, axes = _panels(SIZE_IN, (f"Learning from traces, {world}", *labels))
    styles = ("loss", "training", "-", BLUE), ("eval_loss", "held-out", "o--", ORANGE)
    for key, name, style, colour in styles:
        points = np.array([(entry["step"], entry[key]) for entry in log if key in entry])
        axes.plot(*points.reshape(-1, 2).T, style, color=colour, label=name, markersize=5)
    axes.set_ylim(bottom=0)
    axes.legend(**LEGEND)
    return figure


def trace_figure(trace: Trace, columns: int = 8) -> Figure:
    """One trace as a picture: the clip's time axis, then what was seen, thought, called, answered.

    Evidence stands `columns` frames a row; the middle of a text of more than 12 lines is left out.
    """
    figure = Figure(figsize=(PAGE_IN, PAGE_IN))
    page = figure.add_axes((0, 0, 1, 1))
    page.axis("off")
    asked, answer = trace.question.text, trace.question.answer
    y = _say(page, -0.15, "question", GREY, asked, 12, weight="bold")
    options = trace.question.prompt().removeprefix(asked).strip().replace("\n", " " * 6)
    y = _say(page, y, "options", GREY, options) - 0.34
    clip = page.inset_axes((LEFT_IN, y, BODY_IN, 0.34), transform=page.transData)
    clip.spines[["left", "top", "right"]].set_visible(False)
    clip.set(xlim=(0, trace.question.duration_s), ylim=(0, 1), yticks=[])
    clip.set_xlabel("time in the clip (s)")
    y = _show(page, clip, y - 0.49, "overview", trace.overview, min(len(trace.overview), 24))
    calls = 0
    for step in trace.steps:
        if step.kind == "call":
            calls += 1
            given = ", ".join(f"{name}={value!r}" for name, value in step.arguments.items())
            said = f"{step.tool}({given})" if step.tool else step.text
            y = _say(page, y, f"call {calls}", ORANGE, said, family="monospace")
        elif step.kind == "answer":
            right, wrong = (GREEN, "✓ right"), (RED, f"✗ right is {LETTERS[answer]}")
            colour, verdict = right if trace.correct() else wrong if answer >= 0 else (GREY, "")
            y = _say(page, y, "answer", colour, f"{step.text}   {verdict}", weight="bold")
        else:
            label, colour = ("thinks", GREY) if step.kind == "think" else ("is told", RED)
            y = _say(page, y, label, colour, step.text)
        if step.frames:
            y = _show(page, clip, y, f"sees {calls}", step.frames, columns)
            at_s = np.mean([f.time_s for f in step.frames])
            clip.text(at_s, 0.66, calls, ha="center", fontsize=9)
    page.set(xlim=(0, PAGE_IN), ylim=(y, 0), aspect="auto")
    figure.set_size_inches(PAGE_IN, -y)
    return figure


def _say(page: Axes, y: float, label: str, colour: str, text: str, size=10, **font) -> float:
    """Write wrapped text from `y` down; returns where the next thing may start."""
    width = int(BODY_IN * 72 / size / (0.61 if font else 0.51))
    lines = [line for part in text.splitlines() for line in textwrap.wrap(part, width)]
    lines = lines if len(lines) <= 12 else [*lines[:6], "[…]", *lines[-5:]]
    line_in, font = 1.35 * size / 72, {"fontsize": size, "va": "top", "parse_math": False, **font}
    for i, line in enumerate(lines):
        page.text(LEFT_IN, y - i * line_in, line, **font)
    return _mark(page, y, y - len(lines) * line_in, label, colour) if lines else y


def _show(page: Axes, clip: Axes, y: float, label: str, frames: list[Frame], per_row: int) -> float:
    """Draw frames from `y` down and their ticks on `clip`; returns where the next may start."""
    top = y
    colour, size, tick = (BLUE, 0.8, 0.35) if label == "overview" else (ORANGE, 0.94, 0.6)
    for first in range(0, len(frames), max(per_row, 1)):
        row = frames[first : first + per_row]
        wide = size * BODY_IN / max(per_row, 8)
        tall = max(wide * f.image().height / f.image().width for f in row)
        for i, frame in enumerate(row):
            x = LEFT_IN + (i + 0.5) * BODY_IN / per_row - wide / 2
            page.imshow(frame.image(), extent=(x, x + wide, y - tall, y), interpolation="lanczos")
            edge, dash = (GREEN, DASHED) if frame.generated else (colour, "-")
            line = {"edgecolor": edge, "linestyle": dash, "linewidth": 1.6}
            page.add_patch(Rectangle((x, y - tall), wide, tall, fill=False, **line))
            note = f"{frame.time_s:.1f} s" + "\ngenerated" * frame.generated
            page.text(x + wide / 2, y - tall - 0.04, note, ha="center", va="top", fontsize=8)
            clip.vlines(frame.time_s, 0, tick, color=edge, linewidth=2)
        y -= tall + 0.2 + 0.14 * any(f.generated for f in row)
    return _mark(page, top, y, label, colour) if frames else y


def _mark(page: Axes, top: float, end: float, label: str, colour: str) -> float:
    """Name the band between `top` and `end` at the left; returns where the next may start."""
    page.add_patch(Rectangle((LEFT_IN - 0.12, end), 0.035, top - end, color=colour, linewidth=0))
    page.text(LEFT_IN - 0.2, top, label, ha="right", va="top", fontsize=10, color="#555555")
    return end - GAP_IN


def save(figure: Figure, path: Path | str) -> None:
    """Write `path`.pdf and `path`.png, byte for byte the same when drawn again."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"pdf.fonttype": 42, "svg.hashsalt": "act2see"}):
        figure.savefig(f"{path}.pdf", dpi=160, metadata={"CreationDate": None})
        figure.savefig(f"{path}.png", dpi=160, metadata={"Software": None})
