"""Figures: units on every axis, the numbers of the table in the picture, the same bytes again."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from act2see import figures, statistics
from act2see.pocket.world import render, sample_scene
from act2see.trace import Frame, Question, Step, Trace

SYSTEMS = ("base", "act2see")


def results():
    rows = []
    for system, shift in (("base", 0.0), ("act2see", 0.5)):
        for family, accuracy, calls in (("static", 0.45, 0.0), ("moment", 0.25, 1.5)):
            low, high = accuracy + shift - 0.1, min(1.0, accuracy + shift + 0.1)
            rate = (calls > 0) * 0.98
            numbers = accuracy + shift, low, high, calls, rate
            rows.append((system, family, 125, *numbers, 1, 0, 0, 0, 0))
    return pd.DataFrame(rows, columns=statistics.COLUMNS)


def shown(times_s, generated=False):
    pictures = render(sample_scene(5), np.array(times_s, float))
    return [
        Frame(time_s=t, pixels=Image.fromarray(p), generated=generated)
        for t, p in zip(times_s, pictures, strict=True)
    ]


def trace(calls=1, overview=8, letter="B", answer=1, similarity=0.9):
    steps = [Step(kind="think", text="the frames cost $5, not $6. " * 200)]
    for i in range(calls):
        asked = {"start_s": float(i), "end_s": i + 2.0}
        steps.append(Step(kind="call", tool="retrieve_frames", arguments=asked))
        steps.append(Step(kind="evidence", frames=shown(np.linspace(i, i + 2, 11).tolist())))
    steps += [Step(kind="call", text="{"), Step(kind="evidence", text="not JSON: {")]
    steps += [Step(kind="call", tool="generate_frame", arguments={"prompt": "a", "time_s": 3.0})]
    steps += [Step(kind="evidence", frames=shown([3.0], generated=True))]
    steps += [Step(kind="answer", text=f"Answer: ({letter})")]
    question = Question(
        id="q", source="pocket", family="moment", video="v.mp4", duration_s=32.0,
        text="what colour?", options=["red", "green"], answer=answer,
    )  # fmt: skip
    times = ((np.arange(overview) + 0.5) * 32 / max(overview, 1)).tolist()
    return Trace(
        question=question, overview=shown(times) if overview else [], steps=steps,
        similarity=similarity,
    )  # fmt: skip


def traces():
    rng = np.random.default_rng(0)
    blank = Question(
        id="q", source="pocket", family="static", video="v", duration_s=8.0, text="?",
        options=["a", "b"], answer=1,
    )  # fmt: skip
    return [
        Trace(
            question=blank,
            steps=[Step(kind="answer", text=f"Answer: {'AB'[i % 3 > 0]}")],
            similarity=float(rng.normal(0.75 + 0.1 * (i % 3 > 0), 0.08)),
        )
        for i in range(60)
    ]


def roc_figure(threshold=0.8):
    scores, labels = [t.similarity for t in traces()], [t.correct() for t in traces()]
    curve = statistics.roc(scores, labels)
    return figures.roc_curve_figure(curve, statistics.auc(scores, labels), threshold)


LOG = [
    {"loss": 2.0, "step": 10},
    {"eval_loss": 1.5, "step": 10},
    {"loss": 1.0, "step": 20},
    {"train_runtime": 3.0, "step": 20},
]
DRAW = {
    "accuracy": lambda: figures.accuracy_by_family(results(), SYSTEMS),
    "calls": lambda: figures.calls_by_family(results(), "act2see"),
    "histogram": lambda: figures.similarity_histogram(traces(), 0.8),
    "roc": roc_figure,
    "loss": lambda: figures.loss_curve(LOG),
    "trace": lambda: figures.trace_figure(trace()),
}


def texts(figure: Figure) -> str:
    return "\n".join(t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text")))


@pytest.mark.parametrize("name", DRAW)
def test_saved_again_and_drawn_again_it_is_the_same_bytes(name, tmp_path):
    figure = DRAW[name]()
    for place, drawn in (("a", figure), ("b/again", figure), ("c", DRAW[name]())):
        figures.save(drawn, tmp_path / place)
    for kind in ("pdf", "png"):
        first = (tmp_path / f"a.{kind}").read_bytes()
        assert first == (tmp_path / f"b/again.{kind}").read_bytes(), kind
        assert first == (tmp_path / f"c.{kind}").read_bytes(), kind
    assert b"CreationDate" not in (tmp_path / "a.pdf").read_bytes()
    assert b"Software" not in (tmp_path / "a.png").read_bytes()


def test_save_keeps_a_dot_in_the_name(tmp_path):
    figures.save(figures.loss_curve(LOG), tmp_path / "kept_0.80")
    assert {p.name for p in tmp_path.iterdir()} == {"kept_0.80.pdf", "kept_0.80.png"}


@pytest.mark.parametrize("name", [n for n in DRAW if n != "trace"])
def test_every_axis_has_its_unit(name):
    for axes in DRAW[name]().axes:
        y, x = axes.get_ylabel(), axes.get_xlabel()
        assert "(" in y and ("(" in x or x == "question family"), (x, y)


@pytest.mark.parametrize("name", [n for n in DRAW if n != "trace"])
def test_every_chart_says_which_world_its_numbers_are_from(name):
    assert "pocket world" in texts(DRAW[name]())


def test_accuracy_shows_the_tables_numbers():
    figure = figures.accuracy_by_family(results(), SYSTEMS, world="real world")
    axes = figure.axes[0]
    heights = [bar.get_height() for bars in axes.containers[1::2] for bar in bars]
    assert heights == pytest.approx([45, 25, 95, 75])
    written = texts(figure)
    assert "n = 125" in written and "chance, 25 %" in written and "real world" in written
    assert "pocket" not in written
    assert "chance, 20 %" in texts(figures.accuracy_by_family(results(), SYSTEMS, chance=0.2))


def test_accuracy_names_differing_counts_and_draws_empty_rows():
    table = results()
    table.loc[3, "n"] = 100
    assert "n = 100/125" in texts(figures.accuracy_by_family(table, SYSTEMS))
    nothing = pd.concat([statistics.summary(s, [], ["static"]) for s in SYSTEMS])
    figures.accuracy_by_family(nothing, SYSTEMS).draw_without_rendering()
    figures.calls_by_family(nothing, "base").draw_without_rendering()


def test_an_unknown_system_is_named():
    with pytest.raises(KeyError, match="tuned"):
        figures.accuracy_by_family(results(), ["base", "tuned"])
    with pytest.raises(KeyError, match="tuned"):
        figures.calls_by_family(results(), "tuned")


def test_histogram_counts_every_trace():
    many = [*traces(), trace(0, similarity=1.0000001), trace(0, similarity=-0.2)]
    axes = figures.similarity_histogram(many, 0.8).axes[0]
    right, wrong = ([bar.get_height() for bar in bars] for bars in axes.containers)
    assert sum(right) == 42 and sum(wrong) == 20
    assert {"right, n = 42", "wrong, n = 20"} <= {*axes.get_legend_handles_labels()[1]}
    figures.similarity_histogram([], 0.8).draw_without_rendering()


def test_roc_marks_what_the_threshold_keeps():
    scores, labels = np.array([t.similarity for t in traces()]), [t.correct() for t in traces()]
    mark = next(line for line in roc_figure(0.8).axes[0].lines if line.get_marker() == "o")
    kept = [label for s, label in zip(scores, labels, strict=True) if s >= 0.8]
    reference = 100 * kept.count(False) / labels.count(False), 100 * sum(kept) / sum(labels)
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == pytest.approx(reference)


def test_roc_draws_a_threshold_that_keeps_nothing_and_a_missing_class():
    roc_figure(threshold=2.0).draw_without_rendering()
    curve = statistics.roc([0.5, 0.9], [True, True])
    figures.roc_curve_figure(curve, float("nan"), 0.8).draw_without_rendering()


def test_loss_takes_each_loss_from_the_log():
    training, held_out = figures.loss_curve(LOG).axes[0].lines
    assert list(training.get_xdata()) == [10, 20] and list(training.get_ydata()) == [2, 1]
    assert list(held_out.get_xdata()) == [10] and list(held_out.get_ydata()) == [1.5]
    figures.loss_curve([]).draw_without_rendering()


def test_trace_figure_shows_every_frame_step_and_time():
    figure = figures.trace_figure(trace(calls=2))
    page, clip = figure.axes[0], figure.axes[0].child_axes[0]
    assert len(page.images) == 8 + 2 * 11 + 1
    assert clip.get_xlabel() == "time in the clip (s)" and len(clip.collections) == 8 + 23
    assert [t.get_text() for t in clip.texts] == ["1", "2", "4"]
    said = [t.get_text() for t in page.texts]
    assert {"question", "call 3", "is told", "not JSON: {", "[…]", "3.0 s\ngenerated"} <= {*said}
    assert "retrieve_frames(start_s=1.0, end_s=3.0)" in said and "A) red      B) green" in said
    assert said[-2] == "Answer: (B)   ✓ right"
    dashed = [p for p in page.patches if p.get_linestyle() not in ("-", "solid")]
    assert len(dashed) == 1


def test_trace_figure_shows_things_in_the_order_of_the_dialogue_without_overlap():
    page = figures.trace_figure(trace(calls=3)).axes[0]
    tops = [image.get_extent()[3] for image in page.images]
    assert all(later <= earlier for earlier, later in pairwise(tops))
    bars = [p.get_bbox() for p in page.patches if p.get_width() == pytest.approx(0.035)]
    assert all(later.y1 <= earlier.y0 for earlier, later in pairwise(bars))
    assert page.get_ylim()[0] <= bars[-1].y0


@pytest.mark.parametrize(
    ("letter", "answer", "words"),
    [("B", 1, "Answer: (B)   ✓ right"), ("A", 1, "Answer: (A)   ✗ right is B"),
     ("A", -1, "Answer: (A)")],
)  # fmt: skip
def test_trace_figure_judges_only_where_the_truth_is_known(letter, answer, words):
    page = figures.trace_figure(trace(letter=letter, answer=answer)).axes[0]
    assert words in [t.get_text() for t in page.texts]


@pytest.mark.parametrize(("calls", "overview"), [(0, 0), (0, 20), (6, 8), (1, 40)])
def test_trace_figure_stays_inside_the_page(calls, overview):
    figure = figures.trace_figure(trace(calls, overview), columns=10)
    figure.draw_without_rendering()
    page = figure.bbox
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= page.x1 and box.y0 >= 0 and box.y1 <= page.y1, text
    assert figure.get_figwidth() == 10


def own_rows(**changed):
    row = {"benchmark": "Video-MME", "system": "act2see", "accuracy": 0.5, "low": 0.4, "high": 0.6}
    return pd.DataFrame([row | {"n": 90, "protocol": "12 frames, NF4"} | changed])


PUBLISHED = pd.read_csv(Path(__file__).parents[1] / "data" / "paper" / "benchmarks.csv")


def test_an_own_score_stands_beside_the_papers_with_n_and_both_protocols():
    figure = figures.beside_the_paper(PUBLISHED, own_rows())
    written = texts(figure)
    heights = {round(bar.get_height(), 1) for bar in figure.axes[0].patches}
    assert heights == {*PUBLISHED.score, 50.0}
    assert (
        "Video-MME, n = 90: 12 frames" in written
        and "Protocol of the paper: not stated." in written
    )
    assert "12 frames, NF4 (the protocols differ)" in written
    same = texts(figures.beside_the_paper(PUBLISHED, own_rows(protocol="not stated")))
    assert "differ" not in same


def test_the_pocket_world_is_never_drawn_beside_the_paper():
    figure = figures.beside_the_paper(PUBLISHED, own_rows(benchmark="pocket world"))
    assert len(figure.axes[0].patches) == len(PUBLISHED)
    assert "this run" not in texts(figure) and "pocket" not in texts(figure)


@pytest.mark.parametrize("changed", [{"n": 0}, {"protocol": ""}, {"protocol": np.nan}])
def test_an_own_score_without_n_or_protocol_is_not_drawn(changed):
    with pytest.raises(ValueError, match="give both"):
        figures.beside_the_paper(PUBLISHED, own_rows(**changed))
