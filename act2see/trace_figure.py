"""The picture of one trace: the clip's time axis, then what was seen, thought, called, answered.

Works on `Trace`, in inches on a page that is filled downwards. Knows nothing of models, tables or
files. `viewer` is its interactive twin. Our choice.
"""

import io
from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from act2see.fonts import Readable, font_families, wrap
from act2see.plain import printable
from act2see.style import BLUE, DASHED, GREEN, GREY, ORANGE, RED, frame_colour
from act2see.trace import Frame, Trace

PAGE_IN = 10.0  # width of the page
LEFT_IN = 0.95  # names stand left of it
BODY_IN = 8.85  # width of what stands right of it
GAP_IN = 0.13
OVERVIEW_COLUMNS = 16  # with more of them the times would run into each other
MADE_COLUMNS = 4  # for frames that are not real, which are larger
HIGHEST = 1.5  # of a frame, in widths of its place
BOXES = "letters are boxes: no font of this machine has them."
# Of a step without frames: the name at the left, with the number of the call, and the colour.
STEPS = {
    "think": ("thinks", GREY),
    "call": ("call {}", ORANGE),
    "evidence": ("is told", RED),
    "answer": ("answer", GREY),
}


def trace_figure(trace: Trace, columns: int = 8) -> Figure:
    """One trace as a picture: the clip's time axis, then what was seen, thought, called, answered.

    Real frames have a solid border, all others a dashed one and the word for what made them.
    Evidence stands `columns` frames a row, at most four where one is not real; the middle of a text
    of more than 12 lines is left out. A last line says which letters no font of this machine has.
    """
    figure = Readable(figsize=(PAGE_IN, PAGE_IN))
    figure.alt = f"A trace about: {trace.question.text}"
    page = figure.add_axes((0, 0, 1, 1), frame_on=False, xticks=[], yticks=[])
    fonts, missing = _fonts(trace)
    y = _write(page, -0.15, "question", GREY, trace.question.text, fonts["answer"], 12)
    options = (
        trace.question.prompt().removeprefix(trace.question.text).strip().replace("\n", " " * 6)
    )
    y = _write(page, y, "options", GREY, options, fonts["think"]) - 0.34
    clip = page.inset_axes((LEFT_IN, y, BODY_IN, 0.34), transform=page.transData)
    clip.spines[["left", "top", "right"]].set_visible(False)
    clip.set(xlim=(0, clip_end_s(trace)), ylim=(0, 1), yticks=[], xlabel="time in the clip (s)")
    y = _show(page, clip, y - 0.49, "overview", trace.overview, OVERVIEW_COLUMNS)
    counts = Counter()
    middles_s = {}
    for step in trace.steps:
        counts[step.kind] += 1
        name, colour = STEPS[step.kind]
        words = step.text if step.frames else step.words()
        if step.kind == "answer" and trace.verdict():
            colour = GREEN if trace.correct() else RED
            words += f"   {trace.verdict()}"
        y = _write(page, y, name.format(counts["call"]), colour, words, fonts[step.kind])
        if step.frames:
            y = _show(page, clip, y, f"sees {counts['evidence']}", step.frames, columns)
            middles_s[counts["evidence"]] = np.mean([frame.time_s for frame in step.frames])
    _number(clip, middles_s)
    if missing:
        y = _write(page, y, "fonts", RED, f"{len(missing)} {BOXES}", fonts["think"])
    page.set(xlim=(0, PAGE_IN), ylim=(y, 0), aspect="auto")
    figure.set_size_inches(PAGE_IN, -y)
    return figure


def trace_png(traces: Sequence[Trace]) -> bytes:
    """The figures of several traces, one under the other, as one PNG."""
    pictures = []
    for trace in traces:
        file = io.BytesIO()
        trace_figure(trace).savefig(file, format="png", dpi=80)
        pictures.append(Image.open(file))
    size = (max(p.width for p in pictures), sum(p.height for p in pictures))
    whole = Image.new("RGB", size, "white")
    for i, picture in enumerate(pictures):
        whole.paste(picture, (0, sum(p.height for p in pictures[:i])))
    return whole._repr_png_()


def clip_end_s(trace: Trace) -> float:
    """Where the time axis ends: the clip's length, or the last frame's time where it is unknown."""
    # A question written by hand has length 0 until it is asked.
    return trace.question.duration_s or max([f.time_s for f in trace.frames()], default=0) or 1.0


def _fonts(trace: Trace) -> tuple[dict[str, dict], str]:
    """The font of each kind of step, and the letters of the trace that no font has."""
    families, missing = font_families(str(trace))
    fonts = {kind: {"family": families} for kind in STEPS}
    fonts["call"] = {"family": ["DejaVu Sans Mono", *families[1:]]}
    # Few fonts of other scripts have a bold face, and matplotlib complains of each.
    fonts["answer"] = {"family": families, "weight": "normal" if families[1:] else "bold"}
    return fonts, missing


def _write(
    page: Axes, y: float, name: str, colour: str, text: str, font: dict, size: float = 10
) -> float:
    """Write wrapped text from `y` down; returns where the next thing may start."""
    # A few percent of room: at some resolutions letters are drawn on whole pixels.
    width = 0.96 * BODY_IN * 72 / size
    lines = [line for part in text.splitlines() for line in wrap(printable(part), width, **font)]
    lines = lines if len(lines) <= 12 else [*lines[:6], "[…]", *lines[-5:]]
    # Letters of other scripts are higher.
    line_in = (1.35 if len(font["family"]) == 1 else 1.6) * size / 72
    for i, line in enumerate(lines):
        # Not parsed: a model's "$" is a dollar, not the start of a formula.
        style = {"fontsize": size, "va": "top", "parse_math": False, **font}
        page.text(LEFT_IN, y - i * line_in, line, **style)
    return _mark(page, y, y - len(lines) * line_in, name, colour) if lines else y


def _show(
    page: Axes, clip: Axes, y: float, name: str, frames: Sequence[Frame], columns: int
) -> float:
    """Draw frames from `y` down and their ticks on `clip`; returns where the next may start."""
    top = y
    # Frames of the overview are smaller: a call's are what the trace is about.
    colour, share, tick = (BLUE, 0.8, 0.35) if name == "overview" else (ORANGE, 0.94, 0.6)
    large = name != "overview" and any(f.made != "real" for f in frames)
    columns = min(columns, MADE_COLUMNS) if large else columns
    columns = max(1, min(columns, len(frames)) if name == "overview" else columns)
    place_in = share * BODY_IN / max(columns, MADE_COLUMNS if large else 8)
    for first in range(0, len(frames), columns):
        row = frames[first : first + columns]
        pictures = [frame.image() for frame in row]
        # A very high picture would make a page without end.
        heights = [min(place_in * p.height / p.width, HIGHEST * place_in) for p in pictures]
        for i, (frame, picture, height) in enumerate(zip(row, pictures, heights, strict=True)):
            width = height * picture.width / picture.height
            x = LEFT_IN + (i + 0.5) * BODY_IN / columns
            edges = (x - width / 2, x + width / 2, y - height, y)
            page.imshow(picture, extent=edges, interpolation="lanczos")
            edge = frame_colour(frame.made, colour)
            word = "" if frame.made == "real" else f"\n{printable(frame.made)[:20]}"
            line = {"edgecolor": edge, "linestyle": DASHED if word else "-", "linewidth": 1.6}
            page.add_patch(Rectangle((edges[0], y - height), width, height, fill=False, **line))
            style = {"ha": "center", "va": "top", "fontsize": 8, "parse_math": False}
            page.text(x, y - height - 0.04, f"{frame.time_s:.1f} s{word}", **style)
            clip.vlines(frame.time_s, 0, tick, color=edge, linewidth=2)
        # A second line, the word, stands under what is not real.
        y -= max(heights) + 0.2 + 0.14 * any(f.made != "real" for f in row)
    return _mark(page, top, y, name, colour) if frames else y


def _number(clip: Axes, middles_s: dict[int, float]) -> None:
    """Number the calls over the middles of what they have shown; close ones share a place."""
    groups: list[list[int]] = []
    for call in sorted(middles_s, key=middles_s.get):
        near_s = middles_s[groups[-1][0]] + 0.02 * clip.get_xlim()[1] if groups else -np.inf
        if middles_s[call] <= near_s:
            groups[-1].append(call)
        else:
            groups.append([call])
    for group in groups:
        words = ", ".join(map(str, sorted(group)))
        clip.text(middles_s[group[0]], 0.66, words, ha="center", fontsize=9)


def _mark(page: Axes, top: float, end: float, name: str, colour: str) -> float:
    """Name the band between `top` and `end` at the left; returns where the next may start."""
    page.add_patch(Rectangle((LEFT_IN - 0.12, end), 0.035, top - end, color=colour, linewidth=0))
    page.text(LEFT_IN - 0.2, top, name, ha="right", va="top", fontsize=10, color="#555555")
    return end - GAP_IN
