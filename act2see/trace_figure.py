"""The picture of one trace: the clip's time axis, then what was seen, thought, called, answered.

Works on `Trace`, in inches on a page that is filled downwards. Knows nothing of models, tables or
files. `viewer` is its interactive twin. Our choice.
"""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from act2see.style import BLUE, DASHED, GREEN, GREY, ORANGE, RED, frame_colour
from act2see.trace import Frame, Trace

PAGE_IN = 10.0  # width of the page
LEFT_IN = 0.95  # names stand left of it
BODY_IN = 8.85  # width of what stands right of it
GAP_IN = 0.13
# Of a step without frames: the name at the left, with the number of the call, colour and font.
STEPS = {
    "think": ("thinks", GREY, {}),
    "call": ("call {}", ORANGE, {"family": "monospace"}),
    "evidence": ("is told", RED, {}),
    "answer": ("answer", GREY, {"weight": "bold"}),
}


def trace_figure(trace: Trace, columns: int = 8) -> Figure:
    """One trace as a picture: the clip's time axis, then what was seen, thought, called, answered.

    Real frames have a solid border, all others a dashed one and the word for what made them.
    Evidence stands `columns` frames a row; the middle of a text of more than 12 lines is left out.
    """
    figure = Figure(figsize=(PAGE_IN, PAGE_IN))
    page = figure.add_axes((0, 0, 1, 1))
    page.axis("off")
    y = _write(page, -0.15, "question", GREY, trace.question.text, 12, weight="bold")
    options = trace.question.prompt().removeprefix(trace.question.text).strip()
    y = _write(page, y, "options", GREY, options.replace("\n", " " * 6)) - 0.34
    clip = page.inset_axes((LEFT_IN, y, BODY_IN, 0.34), transform=page.transData)
    clip.spines[["left", "top", "right"]].set_visible(False)
    clip.set(xlim=(0, clip_end_s(trace)), ylim=(0, 1), yticks=[], xlabel="time in the clip (s)")
    y = _show(page, clip, y - 0.49, "overview", trace.overview, min(len(trace.overview), 24))
    calls = 0
    for step in trace.steps:
        calls += step.kind == "call"
        name, colour, font = STEPS[step.kind]
        words = step.text if step.frames else step.words()
        if step.kind == "answer" and (verdict := trace.verdict()):
            colour = GREEN if trace.correct() else RED
            words = f"{words}   {verdict}"
        y = _write(page, y, name.format(calls), colour, words, **font)
        if step.frames:
            y = _show(page, clip, y, f"sees {calls}", step.frames, columns)
            middle_s = np.mean([frame.time_s for frame in step.frames])
            clip.text(middle_s, 0.66, calls, ha="center", fontsize=9)
    page.set(xlim=(0, PAGE_IN), ylim=(y, 0), aspect="auto")
    figure.set_size_inches(PAGE_IN, -y)
    return figure


def clip_end_s(trace: Trace) -> float:
    """Where the time axis ends: the clip's length, or the last frame's time where it is unknown."""
    # A question written by hand has length 0 until it is asked.
    return trace.question.duration_s or max([f.time_s for f in trace.frames()], default=0) or 1.0


def _write(page: Axes, y: float, name: str, colour: str, text: str, size=10, **font) -> float:
    """Write wrapped text from `y` down; returns where the next thing may start."""
    # Bold and monospaced letters are wider: shares of their height, measured.
    width = int(BODY_IN * 72 / size / (0.61 if font else 0.51))
    lines = [line for part in text.splitlines() for line in textwrap.wrap(part, width)]
    lines = lines if len(lines) <= 12 else [*lines[:6], "[…]", *lines[-5:]]
    line_in = 1.35 * size / 72
    for i, line in enumerate(lines):
        # Not parsed: a model's "$" is a dollar, not the start of a formula.
        style = {"fontsize": size, "va": "top", "parse_math": False, **font}
        page.text(LEFT_IN, y - i * line_in, line, **style)
    return _mark(page, y, y - len(lines) * line_in, name, colour) if lines else y


def _show(
    page: Axes, clip: Axes, y: float, name: str, frames: Sequence[Frame], per_row: int
) -> float:
    """Draw frames from `y` down and their ticks on `clip`; returns where the next may start."""
    top = y
    # Frames of the overview are smaller: a call's are what the trace is about.
    colour, share, tick = (BLUE, 0.8, 0.35) if name == "overview" else (ORANGE, 0.94, 0.6)
    width = share * BODY_IN / max(per_row, 8)
    for first in range(0, len(frames), max(per_row, 1)):
        row = frames[first : first + per_row]
        height = max(width * f.image().height / f.image().width for f in row)
        for i, frame in enumerate(row):
            x = LEFT_IN + (i + 0.5) * BODY_IN / per_row - width / 2
            page.imshow(
                frame.image(), extent=(x, x + width, y - height, y), interpolation="lanczos"
            )
            edge = frame_colour(frame.made, colour)
            word = "" if frame.made == "real" else f"\n{frame.made}"
            line = {"edgecolor": edge, "linestyle": DASHED if word else "-", "linewidth": 1.6}
            page.add_patch(Rectangle((x, y - height), width, height, fill=False, **line))
            style = {"ha": "center", "va": "top", "fontsize": 8, "parse_math": False}
            page.text(x + width / 2, y - height - 0.04, f"{frame.time_s:.1f} s{word}", **style)
            clip.vlines(frame.time_s, 0, tick, color=edge, linewidth=2)
        # A second line, the word, stands under what is not real.
        y -= height + 0.2 + 0.14 * any(f.made != "real" for f in row)
    return _mark(page, top, y, name, colour) if frames else y


def _mark(page: Axes, top: float, end: float, name: str, colour: str) -> float:
    """Name the band between `top` and `end` at the left; returns where the next may start."""
    page.add_patch(Rectangle((LEFT_IN - 0.12, end), 0.035, top - end, color=colour, linewidth=0))
    page.text(LEFT_IN - 0.2, top, name, ha="right", va="top", fontsize=10, color="#555555")
    return end - GAP_IN
