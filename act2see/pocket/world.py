"""The pocket world: coloured shapes on a wall, simulated, rendered and written as H.264 clips.

Works on a `Scene`, which is drawn from a seed and knows everything that happens in its clip. Knows
nothing of questions, models or other files. Our choice: the paper has no such world.

A frame is a 3 x 3 grid of cells. Two to four shapes drift in the outer cells `PLACES`; the middle
is a visitor's. Briefly a shape turns another colour or white, or a visitor appears. The wall turns
once, with a visitor there. No overview frame shows a brief event: one has to look again.
"""

from dataclasses import dataclass
from pathlib import Path

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

    def during(self, time_s):
        """Whether it is on screen at this moment, or at each of an array of moments."""
        return (self.start_s <= time_s) & (time_s < self.end_s)


@dataclass(frozen=True)
class Facts:
    """What one frame shows: the wall, shape -> (colour, place), and the visitor, if any."""

    wall: str
    things: dict[str, tuple[str, str]]
    visitor: tuple[str, str] | None


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
        on = [e for e in self.events if e.during(time_s)]
        things = {t.shape: (t.colour, t.place) for t in self.things}
        things |= {e.shape: (e.colour, things[e.shape][1]) for e in on if e.kind != "visit"}
        visitor = next(((e.shape, e.colour) for e in on if e.kind == "visit"), None)
        return Facts(self.wall_at(time_s), things, visitor)

    def overview_times(self, frames: int = OVERVIEW_FRAMES) -> np.ndarray:
        """(frames,) seconds: the middles of equal parts of the clip."""
        return (np.arange(frames) + 0.5) * self.duration_s / frames


def sample_scene(seed: int) -> Scene:
    """The scene of this seed; the same seed gives the same scene on every machine."""
    rng = np.random.default_rng([seed, 0xAC7])
    duration_s = float(rng.choice([24, 32, 40]))
    count = int(rng.integers(2, 5))
    shapes, *rest = (rng.permutation(list(x))[:count].tolist() for x in (SHAPES, COLOURS, PLACES))
    things = []
    for shape, colour, place in zip(shapes, *rest, strict=True):
        looks = _looks(rng, colour)
        drift = [tuple(rng.uniform(*s, 2).tolist()) for s in ((0, 2.5), (0.05, 0.6), (0, 6.28))]
        things.append(Thing(shape, colour, place, *looks, *drift))
    overview_s = (np.arange(OVERVIEW_FRAMES) + 0.5) * duration_s / OVERVIEW_FRAMES
    change_s, slots, order_slots_s = _schedule(rng, duration_s, overview_s)
    shape, colour = str(rng.choice(SHAPES)), str(rng.choice(COLOURS))
    looks = shape, colour, *_looks(rng, colour)
    events = [Event("visit", change_s - EVENT_S / 2, change_s + EVENT_S / 2, *looks)]
    turning = things[int(rng.integers(count))]
    turned = rng.permutation([c for c in COLOURS if c != turning.colour])[:2].tolist()
    for slot, colour in zip(slots[:2], turned, strict=True):
        at_s = _inside(rng, slot, overview_s)
        looks = turning.shape, colour, _shade(rng, colour)
        events.append(Event("turn", at_s, at_s + EVENT_S, *looks, window_s=slot))
    for slot in slots[2:4]:
        shape, colour = str(rng.choice(SHAPES)), str(rng.choice(COLOURS))
        at_s = _inside(rng, slot, overview_s)
        looks = shape, colour, *_looks(rng, colour)
        events.append(Event("visit", at_s, at_s + EVENT_S, *looks, window_s=slot))
    pair = tuple(shapes[i] for i in rng.permutation(count)[:2])
    whites = _whites(rng, order_slots_s, overview_s, pair)
    events += [Event("white", at_s, at_s + EVENT_S, shape) for at_s, shape in whites]
    tint, dark, light = rng.uniform(-12, 12, (2, 3)), rng.uniform(16, 50), rng.uniform(126, 165)
    wall_rgb = {"dark": tuple(dark + tint[0]), "light": tuple(light + tint[1])}
    wall = str(rng.choice(["dark", "light"]))
    told = seed, duration_s, tuple(things), tuple(events), wall, change_s, wall_rgb
    return Scene(*told, tuple(rng.uniform(-14, 14, 2)), order_slots_s, pair)


def _shade(rng: Rng, colour: str) -> tuple[int, int, int]:
    return tuple(np.clip(np.add(RGB[colour], rng.integers(-14, 15, 3)), 0, 255).tolist())


def _looks(rng: Rng, colour: str) -> tuple[tuple[int, int, int], float]:
    """A shade of the colour, and a radius in pixels."""
    return _shade(rng, colour), float(rng.uniform(9, 12.5))


def _schedule(rng: Rng, duration_s: float, overview_s: np.ndarray):
    """Times of the wall's change, of four 2 s slots and of two for an order, none overlapping."""
    gap = int(rng.integers(OVERVIEW_FRAMES - 1))
    low_s, high_s = overview_s[gap : gap + 2].tolist()
    change_s = round(rng.uniform(low_s + 0.6, high_s - 0.6) * FPS) / FPS
    starts = [float(s) for s in range(int(rng.integers(2)), int(duration_s) - 1, 2)]
    # Nothing else reaches into the gap between the overview frames around the change.
    free = [s for s in starts if s + 2 <= low_s or s >= high_s]
    one, *rest = rng.permutation(free).tolist()
    other = next(s for s in rest if abs(s - one) > 2)
    slots = [s for s in rest if s != other][:4]
    return change_s, slots, (min(one, other), max(one, other))


def _inside(rng: Rng, slot_s: float, overview_s: np.ndarray) -> float:
    """Start of an event inside [slot, slot + 2] that no overview frame sees."""
    starts = slot_s + np.arange(1, int((2 - EVENT_S) * FPS) + 1) / FPS
    before = overview_s < starts[:, None] - 0.1
    after = overview_s >= starts[:, None] + EVENT_S + 0.1
    return float(rng.choice(starts[(before | after).all(1)]))


def _whites(rng: Rng, slots_s: tuple, overview_s: np.ndarray, pair: tuple) -> list[tuple]:
    """(start, shape) of what turns white: first, second, both or neither of a pair comes first."""
    outcome = int(rng.integers(4))
    if outcome == 2:
        at_s = _inside(rng, slots_s[int(rng.integers(2))], overview_s)
        return [(at_s, shape) for shape in pair]
    if outcome == 3:
        return []
    early_s, late_s = (_inside(rng, slot_s, overview_s) for slot_s in slots_s)
    first, second = (pair, pair[::-1])[outcome]
    alone = rng.random()
    if alone < 0.5:
        return [(early_s if alone < 0.25 else late_s, first)]
    return [(early_s, first), (late_s, second)]


def render(scene: Scene, times_s: np.ndarray) -> np.ndarray:
    """(n, 96, 96, 3) uint8: the frames at these moments, before any compression."""
    shade = np.add.outer(*np.outer(scene.wall_slope, np.linspace(-1, 1, SIDE_PX)))
    walls = {wall: shade[..., None] + rgb for wall, rgb in scene.wall_rgb.items()}
    frames = np.stack([walls[scene.wall_at(t)] for t in times_s], dtype=np.float32)
    for thing in scene.things:
        rgb = np.tile(thing.rgb, (len(times_s), 1))
        for event in scene.events:
            if event.kind != "visit" and event.shape == thing.shape:
                rgb[event.during(times_s)] = event.rgb
        angle = 2 * np.pi * np.outer(times_s, thing.drift_hz) + thing.phase
        offset = thing.drift_px * np.sin(angle)
        _paint(frames, slice(None), PLACES[thing.place], thing, offset, rgb)
    for event in scene.events:
        if event.kind == "visit":
            still, rgb = np.zeros((1, 2)), np.array([event.rgb])
            _paint(frames, event.during(times_s), (1, 1), event, still, rgb)
    return np.clip(frames, 0, 255).astype(np.uint8)


def _paint(frames, when, cell, looks: Thing | Event, offset, rgb) -> None:
    """Draw one outlined shape into its cell of the frames `when`, in place, with soft edges."""
    row, column = cell[0] * CELL_PX, cell[1] * CELL_PX
    patch = np.s_[when, row : row + CELL_PX, column : column + CELL_PX]
    y, x = np.mgrid[:CELL_PX, :CELL_PX].astype(np.float32) - (CELL_PX - 1) / 2
    offset, rgb = np.float32(offset), np.float32(rgb)
    x, y = x - offset[:, 0, None, None], y - offset[:, 1, None, None]
    distance = _distance(looks.shape, x, y, looks.radius_px)
    for edge_px, ink in ((1.5, np.zeros_like(rgb)), (0.0, rgb)):
        alpha = np.clip(0.5 + edge_px - distance, 0, 1)[..., None]
        frames[patch] = alpha * ink[:, None, None] + (1 - alpha) * frames[patch]


def _distance(shape: str, x: np.ndarray, y: np.ndarray, r: float) -> np.ndarray:
    """Signed distance in pixels to the outline, negative inside."""
    if shape == "disc":
        return np.hypot(x, y) - r
    if shape == "square":
        return np.maximum(abs(x), abs(y)) - 0.85 * r
    if shape == "triangle":
        return np.maximum(0.89 * abs(x) - 0.45 * (y + r), y - 0.8 * r)
    x, y, bar = abs(x), abs(y), 0.36 * r
    return np.minimum(np.maximum(x - r, y - bar), np.maximum(y - r, x - bar))


def write_clip(scene: Scene, path: Path) -> Path:
    """Write the scene as an H.264 file at 8 frames a second; returns `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.mp4")  # so that no half-written clip bears the name
    with av.open(str(partial), "w") as container:
        options = {"crf": "14", "preset": "veryfast", "threads": "1", "g": str(FPS)}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = SIDE_PX, SIDE_PX, "yuv420p"
        for image in render(scene, np.arange(int(scene.duration_s * FPS)) / FPS):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return partial.replace(path)
