"""The pocket world: coloured shapes on a wall, simulated, rendered and written as H.264 clips.

Works on a `Scene`, which is drawn from a seed and knows everything that happens in its clip. Does
not know questions, models or other files. Our choice: the paper has no such world.

A frame is a 3 x 3 grid of cells. Two to four shapes drift in the outer cells `PLACES`; the middle
is a visitor's. Briefly a shape turns another colour or white, or a visitor appears. The wall turns
once, with a visitor there. No overview frame shows a brief event: one has to look again.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

SIDE_PX = 96
FPS = 8
OVERVIEW_FRAMES = 8
SHAPES = ("disc", "square", "triangle", "cross")
PLACES = {"top": (0, 1), "left": (1, 0), "right": (1, 2), "bottom": (2, 1)}
RGB = {
    "red": (222, 42, 42), "yellow": (236, 208, 44), "green": (38, 178, 66),
    "cyan": (52, 206, 216), "blue": (48, 76, 226), "purple": (170, 58, 196),
}  # fmt: skip
COLOURS = tuple(RGB)
WHITE = (252, 252, 252)
CELL_PX = SIDE_PX // 3
EVENT_S = 0.75
Rng = np.random.Generator


@dataclass(frozen=True)
class Thing:
    """A shape that is there for the whole clip. Lengths in pixels, drift in cycles per second."""

    shape: str
    colour: str
    place: str
    rgb: tuple[int, int, int]
    radius_px: float
    drift_px: tuple[float, float]
    drift_hz: tuple[float, float]
    phase: tuple[float, float]


@dataclass(frozen=True)
class Event:
    """Something brief: "turn" (shape takes `colour`), "white" or "visit" (in the middle)."""

    kind: str
    start_s: float
    end_s: float
    shape: str
    colour: str = "white"
    rgb: tuple[int, int, int] = WHITE
    radius_px: float = 11.0
    window_s: float = 0.0  # start of 2 s in which nothing else of its kind happens

    def during(self, time_s: float | np.ndarray) -> bool | np.ndarray:
        """Whether it is on screen at this moment, or at each of an array of moments."""
        return (self.start_s <= time_s) & (time_s < self.end_s)


class Look(NamedTuple):
    """How a shape stands in one frame."""

    colour: str
    place: str


class Visitor(NamedTuple):
    """Who stands in the middle of one frame."""

    shape: str
    colour: str


@dataclass(frozen=True)
class Facts:
    """What one frame shows: the wall, how each shape stands there, and the visitor, if any."""

    wall: str
    things: dict[str, Look]
    visitor: Visitor | None


@dataclass(frozen=True)
class Scene:
    """One clip's whole truth. Times in seconds from its start."""

    seed: int
    duration_s: float
    things: tuple[Thing, ...]
    events: tuple[Event, ...]  # the first is the visit at the wall's change
    wall: str
    wall_change_s: float
    wall_rgb: dict[str, tuple[float, float, float]]
    wall_slope: tuple[float, float]
    order_slots_s: tuple[float, float]  # starts of two windows of 2 s: one of a pair may turn white
    order_shapes: tuple[str, str]

    def wall_at(self, time_s: float) -> str:
        """`dark` or `light`."""
        other = {"dark": "light", "light": "dark"}
        return self.wall if time_s < self.wall_change_s else other[self.wall]

    def facts(self, time_s: float) -> Facts:
        """Everything that a perfect eye reads off the frame at `time_s`."""
        events = [e for e in self.events if e.during(time_s)]
        things = {t.shape: Look(t.colour, t.place) for t in self.things}
        turned = [e for e in events if e.kind != "visit"]
        things |= {e.shape: Look(e.colour, things[e.shape].place) for e in turned}
        visitors = [Visitor(e.shape, e.colour) for e in events if e.kind == "visit"]
        return Facts(self.wall_at(time_s), things, visitors[0] if visitors else None)

    def overview_times(self, frames: int = OVERVIEW_FRAMES) -> np.ndarray:
        """(frames,) seconds: the middles of equal parts of the clip."""
        return overview_times(self.duration_s, frames)


class Schedule(NamedTuple):
    """When things may happen in a clip. A slot is the start of 2 s; no two overlap."""

    overview_s: np.ndarray
    change_s: float  # the wall's
    slots_s: list[float]  # two for turns, two for visits
    order_slots_s: tuple[float, float]


def overview_times(duration_s: float, frames: int) -> np.ndarray:
    """(frames,) seconds: the middles of equal parts of a clip."""
    return (np.arange(frames) + 0.5) * duration_s / frames


def sample_scene(seed: int) -> Scene:
    """The scene of this seed; the same seed gives the same scene on every machine."""
    # The order of draws, here and below, is part of the world: a change of it changes all scenes.
    rng = np.random.default_rng([seed, 0xAC7])
    duration_s = float(rng.choice([24, 32, 40]))
    things = _things(rng)
    schedule = _schedule(rng, duration_s)
    events = [_visit(rng, schedule)]
    events += _turns(rng, schedule, things[int(rng.integers(len(things)))])
    events += [_visit(rng, schedule, slot_s) for slot_s in schedule.slots_s[2:]]
    pair = tuple(things[i].shape for i in rng.permutation(len(things))[:2])
    events += _whites(rng, schedule, pair)
    tints = rng.uniform(-12, 12, (2, 3))
    wall_rgb = {
        "dark": tuple(rng.uniform(16, 50) + tints[0]),
        "light": tuple(rng.uniform(126, 165) + tints[1]),
    }
    return Scene(
        seed=seed,
        duration_s=duration_s,
        things=things,
        events=tuple(events),
        wall=str(rng.choice(["dark", "light"])),
        wall_change_s=schedule.change_s,
        wall_rgb=wall_rgb,
        wall_slope=tuple(rng.uniform(-14, 14, 2)),
        order_slots_s=schedule.order_slots_s,
        order_shapes=pair,
    )


def _things(rng: Rng) -> tuple[Thing, ...]:
    count = int(rng.integers(2, 5))
    # Out of permutations: no two things share a shape, a colour or a place.
    traits = [rng.permutation(list(names))[:count].tolist() for names in (SHAPES, COLOURS, PLACES)]
    return tuple(
        Thing(
            shape, colour, place, _shade(rng, colour), _radius_px(rng),
            drift_px=tuple(rng.uniform(0, 2.5, 2).tolist()),
            drift_hz=tuple(rng.uniform(0.05, 0.6, 2).tolist()),
            phase=tuple(rng.uniform(0, 6.28, 2).tolist()),
        )
        for shape, colour, place in zip(*traits, strict=True)
    )  # fmt: skip


def _shade(rng: Rng, colour: str) -> tuple[int, int, int]:
    return tuple(np.clip(np.add(RGB[colour], rng.integers(-14, 15, 3)), 0, 255).tolist())


def _radius_px(rng: Rng) -> float:
    return float(rng.uniform(9, 12.5))


def _schedule(rng: Rng, duration_s: float) -> Schedule:
    overview_s = overview_times(duration_s, OVERVIEW_FRAMES)
    gap = int(rng.integers(OVERVIEW_FRAMES - 1))
    low_s, high_s = overview_s[gap : gap + 2].tolist()
    change_s = round(rng.uniform(low_s + 0.6, high_s - 0.6) * FPS) / FPS
    starts_s = [float(s) for s in range(int(rng.integers(2)), int(duration_s) - 1, 2)]
    # Nothing else reaches into the gap between the overview frames around the change.
    one, *rest = rng.permutation([s for s in starts_s if s + 2 <= low_s or s >= high_s]).tolist()
    # Two windows that touch would read as one, so the pair for an order stands apart.
    other = next(s for s in rest if abs(s - one) > 2)
    rest.remove(other)
    return Schedule(overview_s, change_s, rest[:4], (min(one, other), max(one, other)))


def _inside(rng: Rng, slot_s: float, overview_s: np.ndarray) -> float:
    """Start of an event inside [slot, slot + 2] that no overview frame sees."""
    starts_s = slot_s + np.arange(1, int((2 - EVENT_S) * FPS) + 1) / FPS
    # A tenth of a second to spare on both sides, in case a decoder rounds a frame's time.
    before = overview_s < starts_s[:, None] - 0.1
    after = overview_s >= starts_s[:, None] + EVENT_S + 0.1
    return float(rng.choice(starts_s[(before | after).all(1)]))


def _visit(rng: Rng, schedule: Schedule, slot_s: float | None = None) -> Event:
    """A visit somewhere in a slot, or without one when the wall turns."""
    shape = str(rng.choice(SHAPES))
    colour = str(rng.choice(COLOURS))
    start_s = schedule.change_s - EVENT_S / 2
    if slot_s is not None:
        start_s = _inside(rng, slot_s, schedule.overview_s)
    return _brief(
        "visit", start_s, shape, colour, _shade(rng, colour), _radius_px(rng),
        window_s=slot_s or 0.0,
    )  # fmt: skip


def _turns(rng: Rng, schedule: Schedule, thing: Thing) -> list[Event]:
    """Two turns of one shape, to two other colours."""
    colours = rng.permutation([c for c in COLOURS if c != thing.colour]).tolist()
    events = []
    for slot_s, colour in zip(schedule.slots_s[:2], colours, strict=False):
        start_s = _inside(rng, slot_s, schedule.overview_s)
        shade = _shade(rng, colour)
        events.append(_brief("turn", start_s, thing.shape, colour, shade, window_s=slot_s))
    return events


def _whites(rng: Rng, schedule: Schedule, pair: tuple[str, str]) -> list[Event]:
    """What of a pair turns white: one of the two first or alone, both at once, or neither."""
    outcome = int(rng.integers(4))
    if outcome == 2:
        slot_s = schedule.order_slots_s[int(rng.integers(2))]
        start_s = _inside(rng, slot_s, schedule.overview_s)
        return [_brief("white", start_s, shape) for shape in pair]
    if outcome == 3:
        return []
    early_s, late_s = (_inside(rng, s, schedule.overview_s) for s in schedule.order_slots_s)
    alone = rng.random()
    # Half of the time alone, in either window: seeing one turn does not tell that it is the first.
    if alone < 0.5:
        return [_brief("white", early_s if alone < 0.25 else late_s, pair[outcome])]
    return [_brief("white", early_s, pair[outcome]), _brief("white", late_s, pair[1 - outcome])]


def _brief(kind: str, start_s: float, *looks: Any, **window: float) -> Event:
    return Event(kind, start_s, start_s + EVENT_S, *looks, **window)


def render(scene: Scene, times_s: np.ndarray) -> np.ndarray:
    """(n, 96, 96, 3) uint8: the frames at these moments, before any compression."""
    shade = np.add.outer(*np.outer(scene.wall_slope, np.linspace(-1, 1, SIDE_PX)))
    walls = {wall: np.add.outer(rgb, shade) for wall, rgb in scene.wall_rgb.items()}
    # Colours before rows while it is painted: numpy is three times as fast on long rows.
    frames = np.stack([walls[scene.wall_at(t)] for t in times_s], dtype=np.float32)
    for thing in scene.things:
        rgb = np.tile(thing.rgb, (len(times_s), 1))
        for event in scene.events:
            if event.kind != "visit" and event.shape == thing.shape:
                rgb[event.during(times_s)] = event.rgb
        angle = 2 * np.pi * np.outer(times_s, thing.drift_hz) + thing.phase
        offset_px = thing.drift_px * np.sin(angle)
        _paint(frames, slice(None), PLACES[thing.place], thing, offset_px, rgb)
    for event in scene.events:
        if event.kind == "visit":
            rgb = np.array([event.rgb])
            _paint(frames, event.during(times_s), (1, 1), event, np.zeros((1, 2)), rgb)
    whole = np.empty((len(times_s), SIDE_PX, SIDE_PX, 3), np.uint8)
    for channel in range(3):
        whole[..., channel] = np.clip(frames[:, channel], 0, 255)
    return whole


def _paint(frames, when, cell, looks: Thing | Event, offset_px, rgb) -> None:
    """Draw one outlined shape into its cell of the frames `when`, in place, with soft edges."""
    row, column = np.multiply(cell, CELL_PX)
    patch = np.s_[when, :, row : row + CELL_PX, column : column + CELL_PX]
    y, x = np.mgrid[:CELL_PX, :CELL_PX].astype(np.float32) - (CELL_PX - 1) / 2
    shift = np.float32(offset_px)[..., None, None]
    distance = _distance(looks.shape, x - shift[:, 0], y - shift[:, 1], looks.radius_px)
    ink = np.float32(rgb)[..., None, None]
    # First the shape in black, 1.5 px larger: what shows of it in the end is an outline.
    black = np.clip(2.0 - distance, 0, 1)[:, None]
    inside = np.clip(0.5 - distance, 0, 1)[:, None]
    frames[patch] = inside * ink + (1 - inside) * ((1 - black) * frames[patch])


def _distance(shape: str, x: np.ndarray, y: np.ndarray, r: float) -> np.ndarray:
    """Signed distance in pixels to the outline, negative inside."""
    match shape:
        case "disc":
            return np.hypot(x, y) - r
        case "square":
            return np.maximum(abs(x), abs(y)) - 0.85 * r
        case "triangle":
            return np.maximum(0.89 * abs(x) - 0.45 * (y + r), y - 0.8 * r)
    across = np.maximum(abs(x) - r, abs(y) - 0.36 * r)
    upright = np.maximum(abs(y) - r, abs(x) - 0.36 * r)
    return np.minimum(across, upright)


def write_clip(scene: Scene, path: Path) -> Path:
    """Write the scene as an H.264 file at 8 frames a second; returns `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written under another name first, so that no half-written clip bears the name, and one of
    # this process alone: two may write the same clip, and either's is whole.
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    # A key frame a second makes seeking cheap; with more threads bytes would depend on the cores.
    options = {"crf": "14", "preset": "veryfast", "threads": "1", "g": str(FPS)}
    size = {"width": SIDE_PX, "height": SIDE_PX, "pix_fmt": "yuv420p"}
    with av.open(str(partial), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options=options, **size)
        for image in render(scene, np.arange(int(scene.duration_s * FPS)) / FPS):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return partial.replace(path)
