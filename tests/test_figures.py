"""Figures: units on every axis, the numbers of the table in the picture, the same bytes again."""

import json
from base64 import b64decode
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from IPython.core.formatters import DisplayFormatter
from matplotlib.figure import Figure
from matplotlib.text import Text

from act2see import figures, findings, fonts, statistics
from act2see.trace import Question, Step, Trace

SYSTEMS = ("base", "act2see")
WORLD = "pocket world"


def results():
    rows = []
    for system, shift in (("base", 0.0), ("act2see", 0.5)):
        for family, share, calls in (("static", 0.45, 0.0), ("moment", 0.25, 1.5)):
            accuracy = share + shift
            ends = (accuracy - 0.1, min(1.0, accuracy + 0.1))
            rate = (calls > 0) * 0.98
            rows.append((system, family, 125, accuracy, *ends, calls, rate, 1, 0, 0, 0, 0))
    return pd.DataFrame(rows, columns=statistics.COLUMNS)


def answer(letter, similarity):
    question = Question(text="?", video="v", duration_s=8.0, options=["a", "b"], answer=1)
    steps = [Step(kind="answer", text=f"Answer: {letter}")]
    return Trace(question=question, steps=steps, similarity=similarity)


def traces():
    rng = np.random.default_rng(0)
    return [
        answer("AB"[i % 3 > 0], float(rng.normal(0.75 + 0.1 * (i % 3 > 0), 0.08)))
        for i in range(60)
    ]


def roc_figure(threshold=0.8):
    scores = [t.similarity for t in traces()]
    labels = [t.correct() for t in traces()]
    curve = statistics.roc(scores, labels)
    return figures.roc_curve_figure(curve, statistics.auc(scores, labels), threshold, WORLD)


def cells(*rows, reference="base"):
    table = pd.DataFrame(rows, columns=["cell", "n", "accuracy", "low", "high"])
    return figures.cells(table, "Calls allowed", "calls (most a question)", WORLD, reference)


BASE = ("base", 120, 0.3, 0.2, 0.4)
ONE = ("1", 120, 0.8, 0.7, 0.9)


LOG = [
    {"loss": 2.0, "step": 10},
    {"eval_loss": 1.5, "step": 10},
    {"loss": 1.0, "step": 20},
    {"train_runtime": 3.0, "step": 20},
]
ROOT = Path(__file__).parents[1]
PAPER = pd.read_csv(ROOT / "data" / "paper" / "tables.csv")


def gains_figure(comparisons=None):
    comparisons = findings.published_comparisons(PAPER) if comparisons is None else comparisons
    return figures.published_gains(comparisons, "By the authors, in a pocket world.")


DRAW = {
    "accuracy": lambda: figures.accuracy_by_family(results(), SYSTEMS, WORLD),
    "calls": lambda: figures.calls_by_family(results(), "act2see", WORLD),
    "cells": lambda: cells(BASE, ONE),
    "histogram": lambda: figures.similarity_histogram(traces(), 0.8, WORLD),
    "roc": roc_figure,
    "loss": lambda: figures.loss_curve(LOG, WORLD),
    "gains": gains_figure,
}


def texts(figure: Figure) -> str:
    return "\n".join(t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text")))


@pytest.mark.parametrize("name", DRAW)
def test_saved_again_and_drawn_again_it_is_the_same_bytes(name, tmp_path):
    first = DRAW[name]()
    for place, figure in (("a", first), ("b/again", first), ("c", DRAW[name]())):
        figures.save(figure, tmp_path / place)
    for kind in ("pdf", "png"):
        first = (tmp_path / f"a.{kind}").read_bytes()
        assert first == (tmp_path / f"b/again.{kind}").read_bytes(), kind
        assert first == (tmp_path / f"c.{kind}").read_bytes(), kind
    assert b"CreationDate" not in (tmp_path / "a.pdf").read_bytes()
    assert b"Software" not in (tmp_path / "a.png").read_bytes()


def test_save_keeps_a_dot_in_the_name(tmp_path):
    figures.save(figures.loss_curve(LOG, WORLD), tmp_path / "kept_0.80")
    assert {p.name for p in tmp_path.iterdir()} == {"kept_0.80.pdf", "kept_0.80.png"}


@pytest.mark.parametrize("name", DRAW)
def test_every_axis_has_its_unit(name):
    for axes in DRAW[name]().axes:
        assert "(" in axes.get_ylabel()
        assert "(" in axes.get_xlabel() or axes.get_xlabel() == "question family"


@pytest.mark.parametrize("name", DRAW)
def test_every_chart_says_which_world_its_numbers_are_from(name):
    assert WORLD in texts(DRAW[name]())


def test_accuracy_shows_the_tables_numbers():
    figure = figures.accuracy_by_family(results(), SYSTEMS, world="real world")
    axes = figure.axes[0]
    heights = [bar.get_height() for bars in axes.containers[1::2] for bar in bars]
    assert heights == pytest.approx([45, 25, 95, 75])
    words = texts(figure)
    assert "n = 125" in words and "chance, 25 %" in words and "real world" in words
    assert "pocket" not in words
    fifth = figures.accuracy_by_family(results(), SYSTEMS, WORLD, chance=0.2)
    assert "chance, 20 %" in texts(fifth)


def test_accuracy_names_differing_counts_and_draws_empty_rows():
    table = results()
    table.loc[3, "n"] = 100
    assert "n = 100/125" in texts(figures.accuracy_by_family(table, SYSTEMS, WORLD))
    nothing = pd.concat([statistics.summary(s, [], ["static"]) for s in SYSTEMS])
    figures.accuracy_by_family(nothing, SYSTEMS, WORLD).draw_without_rendering()
    figures.calls_by_family(nothing, "base", WORLD).draw_without_rendering()


def test_a_table_without_results_is_drawn_as_words():
    figure = figures.accuracy_by_family(results().iloc[:0], SYSTEMS, WORLD)
    assert "0 results" in texts(figure) and WORLD in texts(figure)


def test_an_unknown_system_is_named():
    with pytest.raises(KeyError, match="tuned"):
        figures.accuracy_by_family(results(), ["base", "tuned"], WORLD)
    with pytest.raises(KeyError, match="tuned"):
        figures.calls_by_family(results(), "tuned", WORLD)


def test_cells_are_points_and_their_reference_a_line():
    axes = cells(BASE, ONE).axes[0]
    assert [line.get_ydata()[0] for line in axes.lines[:2]] == pytest.approx([30, 80])
    assert [t.get_text() for t in axes.get_xticklabels()] == ["1"]
    assert {"base", "student"} == {*axes.get_legend_handles_labels()[1]}
    assert "n = 120 a cell; 95 % Wilson intervals; one seed" in axes.get_xlabel()
    alone = cells(BASE, ONE, reference="").axes[0]
    assert [t.get_text() for t in alone.get_xticklabels()] == ["base", "1"]


@pytest.mark.parametrize(
    ("rows", "words"), [([], "none"), ([BASE], "table: base."), ([ONE], "table: 1.")]
)
def test_a_grid_that_the_table_lacks_is_drawn_as_words(rows, words, tmp_path):
    figure = cells(*rows)
    assert words in texts(figure) and "Calls allowed" in texts(figure)
    figures.save(figure, tmp_path / "words")


def test_histogram_counts_every_trace():
    many = [*traces(), answer("B", 1.0000001), answer("B", -0.2)]
    axes = figures.similarity_histogram(many, 0.8, WORLD).axes[0]
    right, wrong = ([bar.get_height() for bar in bars] for bars in axes.containers)
    assert sum(right) == 42 and sum(wrong) == 20
    assert {"right, n = 42", "wrong, n = 20"} <= {*axes.get_legend_handles_labels()[1]}
    figures.similarity_histogram([], 0.8, WORLD).draw_without_rendering()


def test_roc_marks_what_the_threshold_keeps():
    scores = [t.similarity for t in traces()]
    labels = [t.correct() for t in traces()]
    mark = next(line for line in roc_figure(0.8).axes[0].lines if line.get_marker() == "o")
    kept = [label for s, label in zip(scores, labels, strict=True) if s >= 0.8]
    assert mark.get_xdata()[0] == pytest.approx(100 * kept.count(False) / labels.count(False))
    assert mark.get_ydata()[0] == pytest.approx(100 * sum(kept) / sum(labels))


def test_roc_draws_a_threshold_that_keeps_nothing_and_a_missing_class():
    roc_figure(threshold=2.0).draw_without_rendering()
    curve = statistics.roc([0.5, 0.9], [True, True])
    figures.roc_curve_figure(curve, float("nan"), 0.8, WORLD).draw_without_rendering()


def test_loss_takes_each_loss_from_the_log():
    training, held_out = figures.loss_curve(LOG, WORLD).axes[0].lines
    assert list(training.get_xdata()) == [10, 20] and list(training.get_ydata()) == [2, 1]
    assert list(held_out.get_xdata()) == [10] and list(held_out.get_ydata()) == [1.5]
    figures.loss_curve([], WORLD).draw_without_rendering()


def own_rows(**changed):
    row = {"benchmark": "Video-MME", "system": "act2see", "accuracy": 0.5, "low": 0.4, "high": 0.6}
    return pd.DataFrame([row | {"n": 90, "protocol": "12 frames, NF4"} | changed])


SCORES = PAPER[PAPER.system.isin(["Qwen3-VL-8B-Thinking", "Act2See"])]
PUBLISHED = SCORES[SCORES.table == "main results"]


def test_an_own_score_stands_beside_the_papers_with_n_and_both_protocols():
    figure = figures.beside_the_paper(PUBLISHED, own_rows())
    words = texts(figure)
    heights = {round(bar.get_height(), 1) for bar in figure.axes[0].patches}
    assert heights == {*PUBLISHED.score, 50.0}
    assert "Video-MME, n = 90: 12 frames" in words
    assert "Protocol of the paper: no subtitles, frames and sampling not found; " in words
    assert "12 frames, NF4 (the protocols differ)" in words
    stated = PUBLISHED.assign(protocol="12 frames, NF4")
    assert "differ" not in texts(figures.beside_the_paper(stated, own_rows()))


def test_the_pocket_world_is_never_drawn_beside_the_paper():
    figure = figures.beside_the_paper(PUBLISHED, own_rows(benchmark="pocket world"))
    assert len(figure.axes[0].patches) == len(PUBLISHED)
    assert "this run" not in texts(figure) and "pocket" not in texts(figure)


@pytest.mark.parametrize("changed", [{"n": 0}, {"protocol": ""}, {"protocol": np.nan}])
def test_an_own_score_without_n_or_protocol_is_not_drawn(changed):
    with pytest.raises(ValueError, match="give both"):
        figures.beside_the_paper(PUBLISHED, own_rows(**changed))


@pytest.mark.parametrize("hits", [0, 6])
def test_a_score_of_none_or_all_right_stands_beside_the_paper(hits, tmp_path):
    right = [True] * hits + [False] * (6 - hits)
    numbers = dict(
        zip(("accuracy", "low", "high"), statistics.accuracy_interval(right), strict=True)
    )
    figure = figures.beside_the_paper(PUBLISHED, own_rows(n=6, **numbers))
    assert 100 * hits / 6 in [bar.get_height() for bar in figure.axes[0].patches]
    figures.save(figure, tmp_path / "six")


def test_an_end_on_the_wrong_side_by_a_rounding_is_drawn():
    figures.beside_the_paper(PUBLISHED, own_rows(accuracy=0.0, low=1e-17, high=-1e-17))


def test_published_gains_are_filled_where_the_test_shows_them_and_hollow_elsewhere():
    table = findings.published_comparisons(PAPER)
    figure = gains_figure()
    shown, hollow = (c.lines[0] for c in figure.axes[0].containers)
    assert sorted(shown.get_xdata()) == pytest.approx(sorted(100 * table.gain[table.shown]))
    assert sorted(hollow.get_xdata()) == pytest.approx(sorted(100 * table.gain[~table.shown]))
    assert hollow.get_markerfacecolor() == "white" != shown.get_markerfacecolor()
    words = texts(figure)
    assert f"not shown by the unpaired test ({sum(~table.shown)})" in words
    assert "Table 8, Video-MME: retrieval only → both tools" in words
    assert "p = 0.46, n = 2,700, needed 37,973" in words and "p < 0.001, n = 1,034" in words
    assert "By the authors" in words


def test_published_gains_of_one_kind_only_are_drawn():
    table = findings.published_comparisons(PAPER)
    for rows in (table[table.shown], table[~table.shown]):
        gains_figure(rows).draw_without_rendering()


def test_the_committed_gains_are_drawn_from_the_table_byte_for_byte(tmp_path):
    """`make picture` wrote them."""
    credit = json.loads((ROOT / "data" / "paper" / "sources.json").read_text())["paper"]
    table = findings.published_comparisons(PAPER)
    figures.save(figures.published_gains(table, credit), tmp_path / "paper_gains")
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (ROOT / "figures" / path.name).read_bytes(), "make picture"
    assert "Ma, Yuxiao Qu" in credit and "arXiv 2605.01657" in credit


LETTER = "画"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """One more font than DejaVu on this machine: its letter is a square."""
    pen = TTGlyphPen(None)
    for turn, point in enumerate(((0, 0), (0, 900), (900, 900), (900, 0))):
        (pen.lineTo if turn else pen.moveTo)(point)
    pen.closePath()
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", "square"])
    font.setupCharacterMap({ord(LETTER): "square"})
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    font.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 0)})
    font.setupHorizontalHeader(ascent=900, descent=-100)
    font.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(tmp_path / "Squares-Regular.ttf")
    monkeypatch.setattr(fonts, "findSystemFonts", lambda: [str(tmp_path / "Squares-Regular.ttf")])
    monkeypatch.setattr(fonts.fontManager, "ttflist", [*fonts.fontManager.ttflist])
    fonts._found.cache_clear()
    yield
    fonts._found.cache_clear()


def figures_of(name):
    """Figures in which this name stands wherever a caller gives one."""
    table = results()
    table["family"] = table.family.map({"static": name, "moment": "moment"})
    table["system"] = table.system.map({"base": name, "act2see": "act2see"})
    ends = (0.3, 0.2, 0.4)
    log = pd.DataFrame([{"system": name, "seed": 0, "step": 1, "right": 1, "callers": 1}])
    return {
        "accuracy": figures.accuracy_by_family(table, [name, "act2see"], name),
        "calls": figures.calls_by_family(table, name, name),
        "cells": cells((name, 120, *ends), ("1", 120, *ends), reference=""),
        "words": cells((name, 120, *ends), reference=name),
        "loss": figures.loss_curve(LOG, name),
        "learning": figures.learning_curves(log.assign(tokens=9), [name], name),
        "paper": figures.beside_the_paper(PUBLISHED, own_rows(protocol=name, system=name)),
    }


def test_a_figure_in_a_notebook_has_words_for_those_who_do_not_see_it():
    display = DisplayFormatter().format
    data, metadata = display(DRAW["loss"]())
    alt = (
        f"Learning from traces, {WORLD}: loss (nats per assistant token) by optimiser step (count)"
    )
    assert metadata["image/png"]["alt"] == alt
    assert b64decode(data["image/png"]).startswith(b"\x89PNG")
    question = Question(text="who comes?", video="v", duration_s=8.0)
    _, metadata = display(figures.trace_figure(Trace(question=question)))
    assert metadata["image/png"]["alt"] == "A trace about: who comes?"


def test_a_name_in_another_script_is_drawn_in_every_figure(installed, tmp_path, recwarn):
    for name, figure in figures_of(LETTER * 3).items():
        figures.save(figure, tmp_path / name)
        letters = [t for t in figure.findobj(Text) if LETTER in t.get_text()]
        assert letters and all("Squares" in t.get_fontfamily() for t in letters), name
    assert [w for w in recwarn if "missing from font" in str(w.message)] == []


@pytest.mark.parametrize("name", ["accuracy", "calls", "cells", "words", "loss"])
def test_boxes_of_a_long_name_without_a_font_stay_inside_the_figure(name, monkeypatch):
    monkeypatch.setattr(fonts, "_found", lambda letters: ([], "".join(letters)))
    figure = figures_of(LETTER * 30)[name]
    figure.draw_without_rendering()
    for text in figure.findobj(Text):
        box = text.get_window_extent()
        inside = 0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert inside or LETTER not in text.get_text(), text


NAMES = [r"$\frac{1}{0$", "cost $5 and $6", "$", "a\x1b[31mb"]


def test_a_dollar_in_a_name_is_a_dollar(tmp_path):
    table = results()
    table["family"] = table.family.map({"static": NAMES[0], "moment": NAMES[1]})
    table["system"] = table.system.map({"base": NAMES[2], "act2see": NAMES[3]})
    drawings = [figures.accuracy_by_family(table, NAMES[2:], NAMES[1])]
    drawings += [figures.calls_by_family(table, NAMES[2], NAMES[0])]
    drawings += [cells((NAMES[0], 120, 0.3, 0.2, 0.4), (NAMES[1], 120, 0.5, 0.4, 0.6), BASE)]
    drawings += [figures.loss_curve([{"step": 1, "loss": 1.0}], NAMES[0])]
    for number, figure in enumerate(drawings):
        figures.save(figure, tmp_path / str(number))
    assert "\x1b" not in texts(drawings[0])
    pages = [(tmp_path / f"{number}.pdf").read_bytes() for number in range(4)]
    assert all(page.startswith(b"%PDF") for page in pages)
    assert len(list(tmp_path.iterdir())) == 8
