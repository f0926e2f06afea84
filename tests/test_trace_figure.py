"""The picture of a trace: every frame, step and time, in order, inside the page."""

import io
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from act2see import figures, fonts
from act2see.pocket.world import render, sample_scene
from act2see.style import BLUE, GREEN, ORANGE, frame_colour
from act2see.trace import Frame, Question, Step, Trace
from act2see.trace_figure import clip_end_s, trace_figure, trace_png


def frames(times_s, **more):
    pictures = render(sample_scene(5), np.array(times_s, float))
    return [
        Frame(time_s=t, pixels=Image.fromarray(p), **more)
        for t, p in zip(times_s, pictures, strict=True)
    ]


def trace(calls=1, overview=8, letter="B", answer=1, made="generated"):
    steps = [Step(kind="think", text="the frames cost $5, not $6. " * 200)]
    for i in range(calls):
        window = {"start_s": float(i), "end_s": i + 2.0}
        steps.append(Step(kind="call", tool="retrieve_frames", arguments=window))
        steps.append(Step(kind="evidence", frames=frames(np.linspace(i, i + 2, 11).tolist())))
    steps += [Step(kind="call", text="{"), Step(kind="evidence", text="not JSON: {")]
    steps += [Step(kind="call", tool="another_tool", arguments={"prompt": "a", "time_s": 3.0})]
    steps += [Step(kind="evidence", frames=frames([3.0], made=made))]
    steps += [Step(kind="answer", text=f"Answer: ({letter})")]
    question = Question(
        text="what colour?", video="v.mp4", duration_s=32.0, options=["red", "green"], answer=answer
    )
    times_s = ((np.arange(overview) + 0.5) * 32 / max(overview, 1)).tolist()
    return Trace(question=question, overview=frames(times_s) if overview else [], steps=steps)


def borders(page):
    """Colour and line style of the border of each frame, in the order in which they were drawn."""
    patches = [patch for patch in page.patches if not patch.get_fill()]
    return [(to_hex(p.get_edgecolor()).upper(), p.get_linestyle()) for p in patches]


def test_it_shows_every_frame_step_and_time():
    page = trace_figure(trace(calls=2)).axes[0]
    clip = page.child_axes[0]
    assert len(page.images) == 8 + 2 * 11 + 1
    assert clip.get_xlabel() == "time in the clip (s)"
    assert len(clip.collections) == 8 + 23
    assert [t.get_text() for t in clip.texts] == ["1", "2", "4"]
    words = [t.get_text() for t in page.texts]
    assert {"question", "call 3", "is told", "not JSON: {", "[…]", "3.0 s\ngenerated"} <= {*words}
    assert "retrieve_frames(start_s=1.0, end_s=3.0)" in words
    assert "A) red      B) green" in words
    assert words[-2] == "Answer: (B)   ✓ right"


@pytest.mark.parametrize("made", ["generated", "cropped", "a$b$c"])
def test_what_is_not_real_is_dashed_in_its_own_colour_and_named(made):
    page = trace_figure(trace(made=made)).axes[0]
    colour = GREEN if made == "generated" else frame_colour(made, ORANGE)
    assert borders(page)[:-1] == [(BLUE, "-")] * 8 + [(ORANGE, "-")] * 11
    edge, dash = borders(page)[-1]
    assert edge == colour
    assert dash not in ("-", "solid")
    tick = page.child_axes[0].collections[-1]
    assert to_hex(tick.get_color()[0]).upper() == colour
    (words,) = [t for t in page.texts if t.get_text() == f"3.0 s\n{made}"]
    assert not words.get_parse_math()


def test_frames_of_the_overview_that_are_not_real_are_named_too():
    blurred = trace().model_copy(update={"overview": frames([1.0, 2.0], made="blurred")})
    page = trace_figure(blurred).axes[0]
    assert "2.0 s\nblurred" in [t.get_text() for t in page.texts]
    assert borders(page)[0][0] == frame_colour("blurred", BLUE)


def test_things_stand_in_the_order_of_the_dialogue_without_overlap():
    page = trace_figure(trace(calls=3)).axes[0]
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
def test_it_judges_only_where_the_truth_is_known(letter, answer, words):
    page = trace_figure(trace(letter=letter, answer=answer)).axes[0]
    assert words in [t.get_text() for t in page.texts]


@pytest.mark.parametrize(("calls", "overview"), [(0, 0), (0, 20), (6, 8), (1, 40)])
def test_it_stays_inside_the_page(calls, overview):
    figure = trace_figure(trace(calls, overview), columns=10)
    figure.draw_without_rendering()
    page = figure.bbox
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= page.x1 and box.y0 >= 0 and box.y1 <= page.y1, text
    assert figure.get_figwidth() == 10


@pytest.mark.parametrize(
    "words", ["W" * 400, "WORD " * 90, "$x$ " * 99, "一二三、" * 99, "🤔" * 200]
)
@pytest.mark.parametrize("dpi", [60, 100, 160])
@pytest.mark.parametrize("installed", [True, False])
def test_text_of_any_kind_stays_inside_the_page_and_is_no_formula(
    words, dpi, installed, monkeypatch
):
    if not installed:  # of fonts that have these letters, so that boxes are drawn
        monkeypatch.setattr(fonts, "_found", lambda letters: ([], "".join(letters)))
    spoken = trace()
    spoken.question.text = words
    spoken.question.options = [words[:200], "red"]
    spoken.steps = [Step(kind=kind, text=words) for kind in ("think", "call", "evidence", "answer")]
    figure = trace_figure(spoken)
    figure.set_dpi(dpi)
    figure.draw_without_rendering()
    for text in figure.axes[0].texts:
        assert not text.get_parse_math() or "$" not in text.get_text()
        assert text.get_window_extent().x1 <= figure.bbox.x1, text


def test_times_of_a_large_overview_do_not_run_into_each_other():
    spoken = trace()
    spoken.overview = [
        f.model_copy(update={"time_s": f.time_s + 3500}) for f in trace(0, 32).overview
    ]
    spoken.question.duration_s = 3600
    figure = trace_figure(spoken)
    figure.draw_without_rendering()
    labels = [t for t in figure.axes[0].texts if t.get_text().startswith("35")]
    boxes = [t.get_window_extent() for t in labels]
    assert len(boxes) == 32
    assert not any(one.overlaps(other) for one, other in pairwise(boxes))


def test_frames_that_are_not_real_are_larger_and_a_very_high_one_is_cut_to_size():
    images = trace_figure(trace(overview=0)).axes[0].images
    real, drawn = [image.get_extent() for image in images[-2:]]
    assert drawn[1] - drawn[0] > 1.9 * (real[1] - real[0])
    spoken = trace()
    spoken.overview = [Frame(time_s=1.0, pixels=Image.new("RGB", (1, 4000)))]
    assert trace_figure(spoken).get_figheight() < 20


def test_calls_of_one_moment_share_the_place_of_their_numbers():
    spoken = trace(calls=0)
    spoken.steps = [Step(kind="evidence", frames=frames([at])) for at in (3.0, 3.1, 20.0)]
    clip = trace_figure(spoken).axes[0].child_axes[0]
    assert [t.get_text() for t in clip.texts] == ["1, 2", "3"]


def test_letters_that_no_font_has_are_counted(monkeypatch):
    monkeypatch.setattr(fonts, "findSystemFonts", lambda: [])
    fonts._found.cache_clear()
    spoken = trace()
    spoken.question.text = "画 what 🤔?"
    words = [t.get_text() for t in trace_figure(spoken).axes[0].texts]
    fonts._found.cache_clear()
    assert "2 letters are boxes: no font of this machine has them." in words
    assert not any("boxes" in t.get_text() for t in trace_figure(trace()).axes[0].texts)


def test_several_traces_make_one_picture():
    short = trace().model_copy(update={"steps": [], "overview": []})
    one = Image.open(io.BytesIO(trace_png([short])))
    two = Image.open(io.BytesIO(trace_png([short, short])))
    assert two.size == (one.width, 2 * one.height)


def test_the_axis_of_a_clip_of_unknown_length_ends_at_the_last_frame():
    unknown = trace()
    unknown.question.duration_s = 0.0
    assert clip_end_s(trace()) == 32
    assert clip_end_s(unknown) == 30
    assert trace_figure(unknown).axes[0].child_axes[0].get_xlim() == (0, 30)
    assert clip_end_s(Trace(question=unknown.question)) > 0


def test_figures_offers_it_as_well():
    assert figures.trace_figure is trace_figure
