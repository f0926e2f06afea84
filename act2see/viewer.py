"""The viewer of traces: one component, as a widget in a notebook and as a page without a kernel.

Works on `Trace`, which it writes down as JSON for `viewer.js` to draw. Knows nothing of models.
Text that a model wrote is only ever set as text there. `trace_figure` is the static twin. Our
choice.
"""

import hashlib
import io
import json
import mimetypes
import re
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from act2see.store import write_text
from act2see.style import BLUE, ORANGE, frame_colour
from act2see.trace import LETTERS, Frame, Question, Step, Trace
from act2see.trace_figure import clip_end_s, trace_png
from act2see.video import probe

if TYPE_CHECKING:
    from ipywidgets import Widget

SCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
STYLE = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
CRISP_PX = 256  # pictures up to this size are kept as they are
SIDE_PX = 640  # larger ones are shrunk to it
CLIP_BYTES = 6e6  # a larger clip is not embedded: its real frames stand for it
CLIPS_BYTES = 24e6  # of all clips of one viewer
LATEST_S = 1e7  # a time beyond it is a mistake
# The policy lets nothing in from outside and runs no script but ours, whatever a trace holds.
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
media-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'">
<title>Traces of act2see</title><style>body {{ margin: 8px; }}
{style}</style></head>
<body><main id="viewer"></main><script type="application/json" id="data">{data}</script>
<script type="module">{script}</script></body></html>
"""
MOUNT = """
mount(document.getElementById("viewer"), JSON.parse(document.getElementById("data").textContent));
"""
FRAME = "<iframe srcdoc='{}' title='traces' style='width:100%;height:640px;border:0'></iframe>"
SENTENCE = re.compile(r".+?(?:[.!?…]+[\"'”’)\]]*(?=\s)|[。！？]+|\n|\Z)\s*", re.DOTALL)
# A clock, a number with a point, or a whole number of seconds.
MOMENT = re.compile(
    r"(?<![\d.:])(?:(\d{1,3}(?::\d\d){1,2})(?!\d)|(\d{1,6}\.\d+|\d{1,6}(?=\s*(?:s\b|sec|秒|초))))"
)


def frame_viewer(traces: Sequence[Trace], base: Sequence[Trace] = ()) -> "Widget":
    """A widget that shows traces, each next to its twin in `base`, which moves in step.

    base: traces of another policy about the same questions, in the same order; none for single
    traces. It needs no kernel once it is drawn; a stored notebook shows the figure of
    the first trace where it cannot show the widget. Raises ValueError for no traces, or where the
    questions differ; FileNotFoundError where the picture of a frame is gone.
    """
    if not find_spec("anywidget"):
        from ipywidgets import HTML

        return HTML(FRAME.format(escape(page(traces, base))))
    from anywidget import AnyWidget
    from traitlets import Unicode

    class TraceViewer(AnyWidget):
        _esm = SCRIPT
        _css = STYLE
        data = Unicode().tag(sync=True)

        def _repr_mimebundle_(self, **more: object) -> tuple[dict, dict]:
            data, metadata = super()._repr_mimebundle_(**more)
            # What a stored notebook shows on GitHub, and in JupyterLab until it is trusted.
            still = b64encode(trace_png([*base[:1], *traces[:1]])).decode()
            alt = f"A trace about: {traces[0].question.text}"
            return data | {"image/png": still}, metadata | {"image/png": {"alt": alt}}

    return TraceViewer(data=viewer_json(traces, base))


def side_by_side(left: Trace, right: Trace) -> "Widget":
    """A widget of two traces of one question, which move in step; ValueError for two questions."""
    return frame_viewer([right], [left])


def page(traces: Sequence[Trace], base: Sequence[Trace] = ()) -> str:
    """The same viewer as one HTML page that needs no kernel, no network and no other file."""
    script = SCRIPT + MOUNT
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # A `<` in a text could end the script element that holds the data.
    data = viewer_json(traces, base).replace("<", "\\u003c")
    return PAGE.format(digest=digest, style=STYLE, data=data, script=script)


def save_page(path: Path | str, traces: Sequence[Trace], base: Sequence[Trace] = ()) -> None:
    """Write `page` to a file."""
    write_text(Path(path), page(traces, base))


def viewer_json(traces: Sequence[Trace], base: Sequence[Trace] = ()) -> str:
    """What the viewer draws, as JSON in ASCII: `views` of one or two traces, `pictures`, `clips`.

    Pictures and clips are data URIs, each once; the traces hold their places in these lists.
    Raises as `frame_viewer` does.
    """
    if not traces:
        raise ValueError("traces is empty; it must hold 1 or more to view")
    asked = [trace.question.id for trace in traces]
    others = [trace.question.id for trace in base] or asked
    if others != asked:
        raise ValueError(
            f"traces answer {asked} and base answers {others}; "
            "both must answer the same questions in the same order"
        )
    pairs = zip(base, traces, strict=True) if base else zip(traces)
    pictures: dict[str, int] = {}
    clips: dict[str, str] = {}
    views = [[_written(trace, pictures, clips) for trace in pair] for pair in pairs]
    whole = {"views": views, "pictures": list(pictures), "clips": list(clips.values())}
    return json.dumps(whole, allow_nan=False)


def _written(trace: Trace, pictures: dict[str, int], clips: dict[str, str]) -> dict:
    """One trace: what is said in `lines`, what can be stopped at in `stops`.

    `part` of both is 0 for the overview and n for the n-th call: two traces move in step by it.
    Pictures and clips that are new are added to the two tables.
    """
    question = trace.question
    video = question.video
    if video not in clips:
        clips[video] = _clip(question, CLIPS_BYTES - sum(map(len, clips.values())))
    lines = [{"kind": "overview", "part": 0, "text": []}]
    stops = [_stop(frame, 0, 0, pictures) for frame in trace.overview]
    calls: list[tuple[Step, int]] = []
    windows = {}
    part = 0
    for step in trace.steps:
        if step.kind == "call":
            calls.append((step, len(lines)))
        if step.kind == "evidence":
            part += 1
            windows[part] = _window(calls[part - 1][0] if part <= len(calls) else step, step.frames)
            stops += [_stop(frame, part, len(lines), pictures) for frame in step.frames]
            if not step.frames:
                stops.append({"part": part, "line": len(lines), "refused": step.text})
        text = step.text if step.frames else step.words()
        lines.append({"kind": step.kind, "part": part, "call": len(calls)} | _text(text))
    for number, (_, line) in enumerate(calls[part:], part + 1):
        stops.append({"part": number, "line": line, "refused": "The call was not answered."})
    if trace.failed:
        lines.append({"kind": "failed", "part": part} | _text(trace.failed))
    _mark_repeated(stops)
    chosen = trace.letter()
    return {
        "name": trace.policy,
        "verdict": trace.verdict(),
        "question": question.text,
        "options": question.options,
        "right": question.answer,
        "chosen": LETTERS.index(chosen) if chosen else -1,
        "end_s": _finite(clip_end_s(trace)) or 1.0,
        "clip": list(clips).index(video),
        "lines": lines,
        "stops": [*stops, {"part": part, "line": len(lines) - 1, "end": True}],
        "windows": windows,
    }


def _stop(frame: Frame, part: int, line: int, pictures: dict[str, int]) -> dict:
    """A frame that can be stopped at."""
    return {
        "part": part,
        "line": line,
        "time_s": _finite(frame.time_s),
        "made": frame.made,
        "prompt": frame.prompt,
        "colour": frame_colour(frame.made, ORANGE if part else BLUE),
        "picture": pictures.setdefault(_picture(frame), len(pictures)),
    }


def _mark_repeated(stops: list[dict]) -> None:
    """Say `again` of each frame that was there before: made alike, of the same moment."""
    seen = set()
    for stop in stops:
        key = tuple(stop.get(name) for name in ("made", "time_s", "prompt"))
        stop["again"] = "refused" not in stop and key in seen
        seen.add(key)


def _window(call: Step, frames: Sequence[Frame]) -> list[float]:
    """Start and end in seconds of what a call was about: as it says, else by its frames' times."""
    ends = [call.arguments.get(name) for name in ("start_s", "end_s")]
    if not all(isinstance(end, int | float) and abs(end) < LATEST_S for end in ends):
        ends = [_finite(frame.time_s) for frame in frames]
    return [min(ends), max(ends)] if ends else []


def _text(text: str) -> dict:
    """The sentences of a text, whole, each with the spans in seconds of the moments it names."""
    sentences = []
    for sentence in SENTENCE.findall(text):
        spans = []
        for clock, number in MOMENT.findall(sentence):
            start_s = 0.0
            for part in clock.split(":") if clock else ():
                start_s = 60 * start_s + int(part)
            # A clock names a whole second, a number what is written so when rounded to a tenth.
            spans.append([start_s, start_s + 1] if clock else [float(number), float(number)])
        sentences.append({"text": sentence, "spans": spans})
    return {"text": sentences}


def _picture(frame: Frame) -> str:
    """A data URI: a small picture exactly, a large one shrunk."""
    picture = frame.image().convert("RGB")
    kind = "PNG" if max(picture.size) <= CRISP_PX else "JPEG"
    picture.thumbnail((SIDE_PX, SIDE_PX))
    written = io.BytesIO()
    picture.save(written, kind, quality=85)
    return f"data:image/{kind.lower()};base64,{b64encode(written.getvalue()).decode()}"


def _clip(question: Question, room_bytes: float) -> str:
    """A data URI of the video, "" where it is gone, too large or of another length."""
    path = Path(question.video)
    try:
        small = path.is_file() and path.stat().st_size <= min(CLIP_BYTES, room_bytes)
        # Whoever wrote the trace named the file: only the video that it is about goes into a page.
        same = small and abs(probe(path).duration_s - question.duration_s) < 0.1
    except (OSError, ValueError):
        return ""
    kind = mimetypes.guess_type(path.name)[0] or "video/mp4"
    return f"data:{kind};base64,{b64encode(path.read_bytes()).decode()}" if same else ""


def _finite(number: float) -> float:
    """The number, 0.0 for one that JSON has no form for or that no clip is as long as."""
    return number if abs(number) < LATEST_S else 0.0
