"""A viewer of traces: frame after frame in the order of the dialogue, with the words up to each.

Works on `Trace`, with the core widgets that ipywidgets 7.7 (Colab) and 8 share. Knows nothing of
models. Text that a model wrote is escaped. `trace_figure` is the static twin. Our choice.
"""

from collections.abc import Sequence
from html import escape

import ipywidgets as widgets
from PIL import Image, ImageOps

from act2see.style import BLUE, GREY, ORANGE, frame_colour
from act2see.trace import Frame, Trace
from act2see.trace_figure import clip_end_s

SIDE_PX = 300
BAR = f"<div style='position:relative;height:28px;border-bottom:1px solid {GREY}'>{{}}</div>{{}}"
TICK = "position:absolute;bottom:0;left:{:.2f}%;height:{}px;border-left:{}px {}"
LINE = "<p style='white-space:pre-wrap;border-left:4px solid {};padding-left:8px'><i>{}</i> {}</p>"
COLOURS = {"think": GREY, "call": ORANGE, "evidence": ORANGE, "answer": BLUE}


def frame_viewer(traces: Sequence[Trace]) -> widgets.Widget:
    """A choice of traces, a player of frames, the words up to each; ValueError for no traces."""
    if not traces:
        raise ValueError("traces is empty; it must hold 1 or more to view")
    titles = [(f"{trace.verdict()[:1]} {trace.question.text}", i) for i, trace in enumerate(traces)]
    choice = widgets.Dropdown(options=titles, description="trace", layout={"width": "auto"})
    play = widgets.Play(interval=700)
    slider = widgets.IntSlider(description="frame")
    # Linked in the browser, so that the player runs without a word from Python for every frame.
    widgets.jslink((play, "value"), (slider, "value"))
    picture = widgets.Image(format="png", layout={"width": f"{SIDE_PX}px"})
    page = widgets.HTML()

    def show(_=None) -> None:
        trace = traces[choice.value]
        frame, steps = _moments(trace)[slider.value]
        page.value = _axis(trace, frame) + _words(trace, steps)
        picture.layout.display = "" if frame else "none"
        if frame:
            enlarged = ImageOps.contain(frame.image(), (SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
            picture.value = enlarged._repr_png_()
            picture.layout.border = f"3px {_line(trace, frame)}"

    def begin(_=None) -> None:
        play.max = slider.max = len(_moments(traces[choice.value])) - 1
        play.value = slider.value = 0
        # The slider is silent where it was at 0 already.
        show()

    choice.observe(begin, "value")
    slider.observe(show, "value")
    begin()
    parts = [choice, widgets.HBox([play, slider]), picture, page]
    return widgets.VBox(parts if len(traces) > 1 else parts[1:])


def side_by_side(left: Trace, right: Trace) -> widgets.Widget:
    """Two traces, each in a viewer under its policy's name; ValueError for two questions."""
    if left.question.id != right.question.id:
        raise ValueError(
            f"left answers {left.question.id!r} and right {right.question.id!r}; "
            "both must answer the same question"
        )
    half = {"width": "50%", "padding": "0 8px"}
    named = [(widgets.HTML(f"<b>{escape(t.policy)}</b>"), frame_viewer([t])) for t in (left, right)]
    return widgets.HBox([widgets.VBox(pair, layout=half) for pair in named])


def _moments(trace: Trace) -> list[tuple[Frame | None, int]]:
    """Frames in the order of the dialogue, and the steps taken by then, at the last frame all."""
    later = [(f, i) for i, step in enumerate(trace.steps, 1) for f in step.frames]
    moments = [*((f, 0) for f in trace.overview), *later] or [(None, 0)]
    # What follows the last frame, the answer with it, would never be on the screen otherwise.
    return [*moments[:-1], (moments[-1][0], len(trace.steps))]


def _line(trace: Trace, frame: Frame) -> str:
    """A CSS line: solid for a real frame, blue in the overview; dashed for any other."""
    # By identity: pydantic would compare two frames field by field, and may find them equal.
    real = BLUE if any(f is frame for f in trace.overview) else ORANGE
    return f"{'solid' if frame.made == 'real' else 'dashed'} {frame_colour(frame.made, real)}"


def _axis(trace: Trace, current: Frame | None) -> str:
    """The clip's time axis: a tick a frame shown, the current one's large and named below."""
    end_s = clip_end_s(trace)
    ticks = ""
    for frame in trace.frames():
        size = (26, 5) if frame is current else (14, 2)
        style = TICK.format(min(100 * frame.time_s / end_s, 99), *size, _line(trace, frame))
        ticks += f"<span title='{escape(frame.label())}' style='{style}'></span>"
    name = f"{current.label()} of {end_s:.1f}" if current else "no frame was shown"
    return BAR.format(ticks, escape(name))


def _words(trace: Trace, steps: int) -> str:
    """The question, and what was thought, called, shown and answered in so many steps."""
    lines = [LINE.format(GREY, "question", escape(trace.question.prompt()))]
    for step in trace.steps[:steps]:
        mark = trace.verdict()[:1] if step.kind == "answer" else ""
        lines.append(LINE.format(COLOURS[step.kind], step.kind, escape(f"{step.words()} {mark}")))
    return "".join(lines)
