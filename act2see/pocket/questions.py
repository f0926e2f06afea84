"""Four families of four-option questions about the pocket world, with truth and human reasoning.

Works on `Scene`; returns `Question`. Knows nothing of policies or models. Every answer is read off
the simulation, every option is equally often right, and the human-style reasoning follows a grammar
of its own, unlike the teacher's. Our choice; the families stand for the needs that the paper names
(brief events, long-video search, multi-step reasoning), with `static` as the control.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from act2see.pocket.world import (
    COLOURS,
    OVERVIEW_FRAMES,
    PLACES,
    SHAPES,
    Event,
    Scene,
    sample_scene,
    write_clip,
)
from act2see.trace import Question

FAMILIES = ("static", "moment", "search", "order")
SPLITS = {"pretrain": 1, "train": 2, "validation": 3, "test": 4}
MAX_SEED = 999_999


def scene_seed(split: str, seed: int, index: int) -> int:
    """The scene number of a question: no two splits and no two seeds share one.

    Raises ValueError for an unknown split or a seed outside 0 … 999,999.
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; it must be one of {', '.join(SPLITS)}")
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed is {seed}; it must lie between 0 and {MAX_SEED}")
    return SPLITS[split] * 10**12 + seed * 10**6 + index


def pocket_questions(
    split: str, seed: int, count: int, folder: Path, families: Sequence[str] = FAMILIES
) -> list[Question]:
    """`count` questions, the families in turn, each about a clip of its own in `folder`.

    Clips that are there already are not written again. The same split, seed and index give the
    same question whatever `count` is.
    """
    scenes = [sample_scene(scene_seed(split, seed, i)) for i in range(count)]
    questions = [
        ask(scene, families[i % len(families)], folder / f"{scene.seed}.mp4", letter=i // 4 % 4)
        for i, scene in enumerate(scenes)
    ]
    missing = [(s, Path(q.video)) for s, q in zip(scenes, questions, strict=True)]
    missing = [(s, path) for s, path in missing if not path.exists()]
    with ThreadPoolExecutor(2) as pool:
        done = pool.map(lambda job: write_clip(*job), missing)
        list(tqdm(done, total=len(missing), desc="clips", disable=not missing))
    return questions


def ask(
    scene: Scene,
    family: str,
    video: Path | str,
    letter: int | None = None,
    rng: np.random.Generator | None = None,
) -> Question:
    """The question of this family about this scene; its right option stands at `letter` (0-3).

    The scene's seed decides which of the possible questions it is, unless `rng` does.
    """
    rng = rng or np.random.default_rng([scene.seed, 7, FAMILIES.index(family)])
    text, answer, others, truth, reasoning = _ASK[family](scene, rng)
    letter = int(rng.integers(4)) if letter is None else letter
    options = [str(o) for o in rng.permutation(others)[:3]]
    options.insert(letter, answer)
    return Question(
        id=f"pocket-{scene.seed}-{family}",
        source="pocket",
        family=family,
        video=str(video),
        duration_s=scene.duration_s,
        text=text,
        options=options,
        answer=letter,
        reasoning=reasoning,
        truth={"seed": scene.seed, **truth},
    )


def _static(scene: Scene, rng: np.random.Generator):
    thing = scene.things[int(rng.integers(len(scene.things)))]
    kind = str(rng.choice(["colour", "shape", "place"]))
    truth = {"kind": kind, "shape": thing.shape, "windows": []}
    if kind == "colour":
        text, answer, others = f"what colour is the {thing.shape}?", thing.colour, COLOURS
    elif kind == "shape":
        text, answer, others = f"which shape is {thing.colour}?", thing.shape, SHAPES
    else:
        text, answer, others = f"where is the {thing.shape}?", thing.place, tuple(PLACES)
    told = f"The {thing.shape} is {thing.colour}, and the {thing.shape} is {thing.place}"
    short = {
        "colour": f"It looks {answer}",
        "shape": f"A {answer} it is",
        "place": f"Look {answer}",
    }
    return text, answer, _but(others, answer), truth, _told(rng, told, short[kind], answer)


def _moment(scene: Scene, rng: np.random.Generator):
    kind = str(rng.choice(["turn", "visit", "visit_shape"]))
    event = _events(scene, "turn" if kind == "turn" else "visit")[int(rng.integers(2))]
    start_s, end_s = event.window_s, event.window_s + 2
    span = f"between {start_s:.1f} and {end_s:.1f} seconds"
    truth = {"kind": kind.split("_")[0], "windows": [[start_s, end_s]]}
    before_s, seen_s, after_s = _around(event)
    if kind == "turn":
        own = next(t.colour for t in scene.things if t.shape == event.shape)
        text = f"what colour does the {event.shape} turn {span}?"
        answer, others = event.colour, [c for c in COLOURS if c not in (event.colour, own)]
        told = (
            f"the {event.shape} is {own} at {before_s:.1f}, at {seen_s:.1f} the {event.shape} is "
            f"{answer}, and the {event.shape} is {own} again at {after_s:.1f}"
        )
        truth["shape"] = event.shape
    else:
        asked = "what colour" if kind == "visit" else "which shape"
        text = f"{asked} is the visitor {span}?"
        answer = event.colour if kind == "visit" else event.shape
        others = _but(COLOURS if kind == "visit" else SHAPES, answer)
        told = (
            f"there is no visitor at {before_s:.1f}, at {seen_s:.1f} the visitor is a "
            f"{event.colour} {event.shape}, and no visitor is there at {after_s:.1f}"
        )
    told = f"Not seen at first, so I look at the frames {span}: {told}"
    return text, answer, others, truth, _told(rng, told, f"Briefly a {answer} one", answer)


def _search(scene: Scene, rng: np.random.Generator):
    event = _visits_at_change(scene)
    after = {"dark": "light", "light": "dark"}[scene.wall]
    colour = rng.random() < 0.5
    asked = "what colour" if colour else "which shape"
    text = f"{asked} is the visitor when the wall turns {after}?"
    answer = event.colour if colour else event.shape
    others = _but(COLOURS if colour else SHAPES, answer)
    times = scene.overview_times()
    gap = int(np.searchsorted(times, scene.wall_change_s))
    before_s, after_s = float(times[gap - 1]), float(times[gap])
    truth = {"kind": "search", "windows": [[before_s, after_s]], "change_s": scene.wall_change_s}
    told = (
        f"The wall is {scene.wall} until {before_s:.1f} and at {after_s:.1f} the wall is {after}, "
        f"so I look at the frames between {before_s:.1f} and {after_s:.1f}: the wall turns {after} "
        f"at {scene.wall_change_s:.1f} and there the visitor is a {event.colour} {event.shape}"
    )
    return text, answer, others, truth, _told(rng, told, f"A {answer} one comes by", answer)


def _order(scene: Scene, rng: np.random.Generator):
    low_s, high_s = scene.order_window_s
    one, two = scene.order_shapes
    whites = sorted(_events(scene, "white"), key=lambda e: e.start_s)
    answer = "neither"
    told = f"none of them is white, neither the {one} nor the {two}"
    if whites:
        first = [e.shape for e in whites if e.start_s == whites[0].start_s]
        answer = "both" if len(first) == 2 else first[0]
        before_s, seen_s, _ = _around(whites[0])
        told = f"at {before_s:.1f} none is white, at {seen_s:.1f} the {' and the '.join(first)} "
        told += "are white" if len(first) == 2 else "is white"
        told += f", later the {whites[1].shape} is white" if len(whites) > len(first) else ""
    text = (
        f"which turns white first between {low_s:.1f} and {high_s:.1f} seconds, "
        f"the {one} or the {two}?"
    )
    truth = {"kind": "white", "windows": [[low_s, low_s + 2], [low_s + 2, high_s]]}
    begin = f"I look at the frames between {low_s:.1f} and {low_s + 2:.1f} and then on to "
    others = [o for o in (one, two, "both", "neither") if o != answer]
    told = f"{begin}{high_s:.1f}: {told}"
    return text, answer, others, truth, _told(rng, told, f"First is {answer}", answer)


def _told(rng: np.random.Generator, told: str, short: str, answer: str) -> str:
    """Human-style reasoning: mostly the whole story, at times hardly more than the answer."""
    if rng.random() < 0.12:
        return f"{short}, I think."
    endings = ("So it is {}.", "So the answer must be {}.", "That makes it {}.")
    return f"{told}. {endings[int(rng.integers(3))].format(answer)}"


def _around(event: Event) -> tuple[float, float, float]:
    """Half seconds just before, inside and after an event, as a person would note them."""
    seen_s = np.ceil(event.start_s * 2) / 2
    return float(seen_s - 0.5), float(seen_s), float(np.ceil(event.end_s * 2) / 2)


def _events(scene: Scene, kind: str) -> list[Event]:
    """The events of a kind, the visit at the wall's change left out."""
    return [
        e
        for e in scene.events
        if e.kind == kind and not (kind == "visit" and e.start_s <= scene.wall_change_s < e.end_s)
    ]


def _visits_at_change(scene: Scene) -> Event:
    return next(
        e for e in scene.events if e.kind == "visit" and e.start_s <= scene.wall_change_s < e.end_s
    )


def _but(all_of: Sequence[str], one: str) -> list[str]:
    return [o for o in all_of if o != one]


_ASK = {"static": _static, "moment": _moment, "search": _search, "order": _order}
assert tuple(_ASK) == FAMILIES and OVERVIEW_FRAMES == 8
