"""A viewer of traces: frame after frame in the order of the dialogue, with the words up to each.

Works on `Trace`, with the core widgets that ipywidgets 7.7 (Colab) and 8 share. Knows nothing of
models. What text a model wrote is escaped. The static twin is `figures.trace_figure`. Our choice.
"""

from collections.abc import Sequence
from html import escape

import ipywidgets as widgets
from PIL import Image, ImageOps

from act2see.figures import BLUE, GREEN, GREY, ORANGE
from act2see.trace import Frame, Trace

SIDE_PX = 300
BAR = f"<div style='position:relative;height:28px;border-bottom:1px solid {GREY}'>{{}}</div>{{}}"
TICK = "position:absolute;bottom:0;left:{:.2f}%;height:{}px;border-left:{}px {}"
LINE = "<p style='white-space:pre-wrap;border-left:4px solid {};padding-left:8px'><i>{}</i> {}</p>"
COLOURS = {"think": GREY, "call": ORANGE, "evidence": ORANGE, "answer": BLUE}


def frame_viewer(traces: Sequence[Trace]) -> widgets.Widget:
    """A choice of traces, a player of frames, the words up to each; ValueError for no traces."""
    if not traces:
        raise ValueError("there are 0 traces to view; at least 1 is needed")
    titles = [(f"{_verdict(t)} {t.question.text}", i) for i, t in enumerate(traces)]
    choice = widgets.Dropdown(options=titles, description="trace", layout={"width": "auto"})
    play, slider = widgets.Play(interval=700), widgets.IntSlider(description="frame")
    widgets.jslink((play, "value"), (slider, "value"))
    picture = widgets.Image(format="png", layout={"width": f"{SIDE_PX}px"})
    axis, words = widgets.HTML(), widgets.HTML()

    def show(_=None) -> None:
        trace = traces[choice.value]
        frame, steps = _moments(trace)[slider.value]
        axis.value, words.value = _axis(trace, frame), _words(trace, steps)
        picture.layout.display = "" if frame else "none"
        if frame:
            enlarged = ImageOps.contain(frame.image(), (SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
            picture.value, picture.layout.border = enlarged._repr_png_(), f"3px {_line(frame)}"

    def begin(_=None) -> None:
        play.max = slider.max = len(_moments(traces[choice.value])) - 1
        play.value = slider.value = 0
        show()

    choice.observe(begin, "value")
    slider.observe(show, "value")
    begin()
    chosen = [choice] if len(traces) > 1 else []
    return widgets.VBox([*chosen, widgets.HBox([play, slider]), axis, picture, words])


def side_by_side(left: Trace, right: Trace) -> widgets.Widget:
    """Two traces, each in a viewer under its policy's name; ValueError for two questions."""
    if left.question.id != right.question.id:
        raise ValueError(f"two questions: {left.question.id!r} and {right.question.id!r}")
    half = {"width": "50%", "padding": "0 8px"}
    named = [(widgets.HTML(f"<b>{escape(t.policy)}</b>"), frame_viewer([t])) for t in (left, right)]
    return widgets.HBox([widgets.VBox(pair, layout=half) for pair in named])


def _verdict(trace: Trace) -> str:
    """✓ or ✗, nothing where the truth is not known."""
    return "" if trace.question.answer < 0 else "✓" if trace.correct() else "✗"


def _moments(trace: Trace) -> list[tuple[Frame | None, int]]:
    """Frames in the order of the dialogue, and the steps taken by then, at the last frame all."""
    later = [(f, i) for i, step in enumerate(trace.steps, 1) for f in step.frames]
    shown = [*((f, 0) for f in trace.overview), *later] or [(None, 0)]
    return [*shown[:-1], (shown[-1][0], len(trace.steps))]


def _line(frame: Frame, colour: str = GREY) -> str:
    """A CSS line: dashed where a model drew the frame."""
    return f"dashed {GREEN}" if frame.generated else f"solid {colour}"


def _axis(trace: Trace, current: Frame | None) -> str:
    """The clip's time axis: a tick a frame shown, the current one's large and named below."""
    duration_s, ticks = trace.question.duration_s, ""
    for i, frame in enumerate(trace.frames()):
        line = _line(frame, BLUE if i < len(trace.overview) else ORANGE)
        size = (26, 5) if frame is current else (14, 2)
        style = TICK.format(min(100 * frame.time_s / duration_s, 99), *size, line)
        ticks += f"<span title='{escape(frame.label())}' style='{style}'></span>"
    name = f"{current.label()} of {duration_s:.1f}" if current else "no frame was shown"
    return BAR.format(ticks, escape(name))


def _words(trace: Trace, steps: int) -> str:
    """The question, and what was thought, asked for, got and answered in so many steps."""
    lines = [(GREY, "question", trace.question.prompt())]
    for step in trace.steps[:steps]:
        given = ", ".join(f"{name}={value!r}" for name, value in step.arguments.items())
        seen = " ".join(f.label() for f in step.frames)
        text = f"{step.tool}({given})" if step.tool else step.text or seen
        verdict = _verdict(trace) * (step.kind == "answer")
        lines.append((COLOURS[step.kind], step.kind, f"{text} {verdict}"))
    return "".join(LINE.format(colour, kind, escape(text)) for colour, kind, text in lines)
