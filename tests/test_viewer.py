"""The viewer: what the slider moves, what is escaped, what stands where nothing was shown."""

import io

import ipywidgets as widgets
import pytest
from PIL import Image, ImageColor

from act2see.style import BLUE, GREEN, ORANGE, frame_colour
from act2see.trace import Frame, Question, Step, Trace
from act2see.viewer import SIDE_PX, frame_viewer, side_by_side

COLOURS = ("red", "green", "blue", "yellow")


def frame(time_s, **more):
    return Frame(time_s=time_s, pixels=Image.new("RGB", (8, 6), COLOURS[int(time_s) % 4]), **more)


def trace(id="q", text="what colour?", policy="tuned", overview=2, evidence=True, made="generated"):
    looks = [
        Step(kind="call", tool="retrieve_frames", arguments={"start_s": 2.0, "end_s": 3.0}),
        Step(kind="evidence", frames=[frame(2.0), frame(3.0, made=made)]),
        Step(kind="think", text="now <b>bold</b> it is green & so on."),
    ]
    steps = [Step(kind="think", text="i look <script>again</script>."), *looks * evidence]
    question = Question(
        id=id, source="pocket", family="moment", video="v.mp4", duration_s=8.0, text=text,
        options=["red", "<i>green</i>"], answer=1,
    )  # fmt: skip
    return Trace(
        question=question,
        overview=[frame(float(i)) for i in range(overview)],
        steps=[*steps, Step(kind="answer", text="Answer: B")],
        policy=policy,
    )


def inside(widget, kind):
    """Every widget of this kind, in the order shown."""
    own = [widget] if isinstance(widget, kind) else []
    return own + [w for child in getattr(widget, "children", ()) for w in inside(child, kind)]


def parts(viewer):
    return inside(viewer, widgets.IntSlider)[0], inside(viewer, widgets.Image)[0]


def words(viewer):
    return inside(viewer, widgets.HTML)[-1].value


def test_the_slider_goes_through_the_frames_in_the_order_of_the_dialogue():
    slider, picture = parts(frame_viewer([trace()]))
    assert (slider.min, slider.max) == (0, 3)
    for slider.value in range(4):
        image = Image.open(io.BytesIO(picture.value)).convert("RGB")
        assert image.size == (SIDE_PX, SIDE_PX * 6 // 8)
        assert image.getpixel((9, 9)) == ImageColor.getrgb(COLOURS[slider.value])


def test_the_words_grow_with_the_frames_up_to_the_answer():
    viewer = frame_viewer([trace()])
    slider, _ = parts(viewer)
    assert "what colour?" in words(viewer) and "i look" not in words(viewer)
    slider.value = 2
    assert "retrieve_frames(start_s=2.0, end_s=3.0)" in words(viewer)
    assert "Answer" not in words(viewer) and "so on" not in words(viewer)
    slider.value = 3
    assert "so on" in words(viewer) and "Answer: B ✓" in words(viewer)


def test_what_a_model_wrote_is_escaped():
    marked = trace(text="<u>what</u>?", policy="<em>tuned</em>", made="<s>cut</s>")
    viewer = side_by_side(marked, marked)
    for slider in inside(viewer, widgets.IntSlider):
        slider.value = slider.max
    html = "".join(w.value for w in inside(viewer, widgets.HTML))
    for markup in ("<script>", "<b>bold", "<i>green", "<u>", "<em>", "<s>"):
        assert markup not in html and markup.replace("<", "&lt;").replace(">", "&gt;") in html


def test_the_axis_marks_the_current_frame_and_names_generated_ones():
    viewer = frame_viewer([trace()])
    slider, picture = parts(viewer)
    page = inside(viewer, widgets.HTML)[0]
    assert page.value.count("<span") == 4 and page.value.count("dashed") == 1
    assert "&lt;0.0 seconds&gt; of 8.0" in page.value
    assert picture.layout.border == f"3px solid {BLUE}"
    slider.value = 2
    assert picture.layout.border == f"3px solid {ORANGE}"
    slider.value = 3
    assert "&lt;3.0 seconds, generated&gt; of 8.0" in page.value
    tick = f"left:37.50%;height:26px;border-left:5px dashed {GREEN}"
    assert page.value.count(tick) == 1
    assert picture.layout.border == f"3px dashed {GREEN}"


def test_a_frame_of_another_kind_is_dashed_in_its_own_colour_and_named():
    viewer = frame_viewer([trace(made="cropped")])
    slider, picture = parts(viewer)
    slider.value = 3
    colour = frame_colour("cropped", ORANGE)
    assert picture.layout.border == f"3px dashed {colour}"
    assert f"5px dashed {colour}" in words(viewer)
    assert "&lt;3.0 seconds, cropped&gt; of 8.0" in words(viewer)


def test_the_axis_of_a_clip_of_unknown_length_ends_at_the_last_frame():
    unknown = trace()
    unknown.question.duration_s = 0.0
    assert "of 3.0" in words(frame_viewer([unknown]))


def test_another_trace_begins_at_its_first_frame():
    viewer = frame_viewer([trace(), trace(text="and now?", overview=1, evidence=False)])
    slider, _ = parts(viewer)
    slider.value = 3
    inside(viewer, widgets.Dropdown)[0].value = 1
    assert (slider.value, slider.max) == (0, 0)
    assert "and now?" in words(viewer) and "Answer: B" in words(viewer)


def test_a_trace_without_frames_shows_its_words():
    viewer = frame_viewer([trace(overview=0, evidence=False)])
    slider, picture = parts(viewer)
    assert slider.max == 0 and picture.layout.display == "none"
    assert "no frame was shown" in inside(viewer, widgets.HTML)[0].value
    assert "Answer: B" in words(viewer)


def test_side_by_side_names_both_policies():
    html = [w.value for w in inside(side_by_side(trace(policy="base"), trace()), widgets.HTML)]
    assert html[0] == "<b>base</b>" and html[2] == "<b>tuned</b>"


def test_nothing_to_view_and_two_questions_are_errors():
    with pytest.raises(ValueError, match="1 or more"):
        frame_viewer([])
    with pytest.raises(ValueError, match="'q' and right 'other'"):
        side_by_side(trace(), trace(id="other"))
