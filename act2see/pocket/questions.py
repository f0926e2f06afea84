"""Five families of four-option questions about the pocket world, with truth and human reasoning.

Works on `Scene`. Knows nothing of policies or models. Every answer is read off the simulation,
every option is equally often right, and the human-style reasoning has a grammar of its own, unlike
the teacher's. Our choice; the families stand for the paper's needs (brief events, search in long
videos, reasoning in steps, hypotheticals), with `static` as the control.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm.contrib.concurrent import thread_map

from act2see.pocket import world
from act2see.pocket.edits import Edit, edited
from act2see.pocket.world import COLOURS, PLACES, SHAPES, Event, Rng, Scene
from act2see.trace import Question

FOUNDATION = ("static", "moment", "search", "order")  # what real frames answer
FAMILIES = (*FOUNDATION, "counterfactual")
SPLITS = {"pretrain": 1, "train": 2, "validation": 3, "test": 4}


def scene_seed(split: str, seed: int, index: int) -> int:
    """The scene number of a question: no two splits and no two seeds share one.

    Raises ValueError for an unknown split or a seed outside 0 … 999,999.
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; it must be one of {', '.join(SPLITS)}")
    if not 0 <= seed <= 999_999:
        raise ValueError(f"seed is {seed}; it must lie between 0 and 999999")
    return SPLITS[split] * 10**12 + seed * 10**6 + index


def pocket_questions(
    split: str, seed: int, count: int, folder: Path, families: Sequence[str] = FOUNDATION
) -> list[Question]:
    """`count` questions, the families in turn, each about a clip of its own in `folder`.

    Clips that are there already are not written again. The same split, seed and index give the
    same question whatever `count` is. Raises ValueError for no questions, and for a file of records
    in the place of a folder.
    """
    if count < 1:
        raise ValueError(f"{count} questions are asked for; it must be 1 or more")
    if folder.suffix or folder.is_file():
        raise ValueError(f"the pocket world reads no records, {folder}: name their source")
    scenes = [world.sample_scene(scene_seed(split, seed, i)) for i in range(count)]
    clips = {folder / f"{scene.seed}.mp4": scene for scene in scenes}
    missing = [clip for clip in clips if not clip.exists()]
    drawn = [clips[clip] for clip in missing]
    thread_map(world.write_clip, drawn, missing, max_workers=2, desc="clips", disable=not missing)
    asked = enumerate(clips.items())
    n = len(families)
    return [ask(s, families[i % n], clip, i // n % 4) for i, (clip, s) in asked]


def ask(
    scene: Scene, family: str, video: Path | str, letter: int | None = None, rng: Rng | None = None
) -> Question:
    """The question of this family about this scene; its right option stands at `letter` (0-3).

    The scene's seed decides which of the possible questions it is, unless `rng` does.
    """
    rng = rng or np.random.default_rng([scene.seed, 7, FAMILIES.index(family)])
    text, answer, pool, truth, told, short = _ASK[family](scene, rng)
    reasoning = f"{short}, I think."
    if rng.random() >= 0.12:  # at times a person writes hardly more than the answer
        endings = ("So it is {}.", "So the answer must be {}.", "That makes it {}.")
        reasoning = f"{told}. {endings[int(rng.integers(3))].format(answer)}"
    letter = int(rng.integers(4)) if letter is None else letter
    options = rng.permutation([o for o in pool if o != answer])[:3].tolist()
    options.insert(letter, answer)
    return Question(
        id=f"pocket-{scene.seed}-{family}", source="pocket", family=family, video=str(video),
        duration_s=scene.duration_s, text=text, options=options, answer=letter,
        reasoning=reasoning, truth={"seed": scene.seed, **truth},
    )  # fmt: skip


# A family gives text, answer, pool of options, truth, and reasoning, whole and cut short.
def _static(scene: Scene, rng: Rng):
    thing = scene.things[int(rng.integers(len(scene.things)))]
    shape, colour, place = thing.shape, thing.colour, thing.place
    kind = str(rng.choice(["colour", "shape", "place"]))
    text, answer, pool, short = {
        "colour": (f"what colour is the {shape}?", colour, COLOURS, f"It looks {colour}"),
        "shape": (f"which shape is {colour}?", shape, SHAPES, f"A {shape} it is"),
        "place": (f"where is the {shape}?", place, PLACES, f"Look {place}"),
    }[kind]
    truth = {"kind": kind, "shape": shape, "windows": []}
    return text, answer, pool, truth, f"The {shape} is {colour}, and the {shape} is {place}", short


def _moment(scene: Scene, rng: Rng):
    kind = str(rng.choice(["turn", "visit", "visit_shape"]))
    events = [e for e in scene.events[1:] if e.kind == kind.split("_")[0]]
    event = events[int(rng.integers(2))]
    shape, colour, start_s, end_s = event.shape, event.colour, event.window_s, event.window_s + 2
    span = f"between {start_s:.1f} and {end_s:.1f} seconds"
    truth = {"kind": event.kind, "windows": [[start_s, end_s]]}
    before, seen, after = (f"at {time_s:.1f}" for time_s in _around(event))
    told = f"Not seen at first, so I look at the frames {span}: "
    if kind == "turn":
        own = next(t.colour for t in scene.things if t.shape == shape)
        truth["shape"] = shape
        text, answer = f"what colour does the {shape} turn", colour
        pool = [c for c in COLOURS if c != own]
        told += f"the {shape} is {own} {before}, {seen} the {shape} is {colour}, "
        told += f"and the {shape} is {own} again {after}"
    else:
        text, answer, pool = _visitor(event, kind == "visit")
        told += f"there is no visitor {before}, {seen} the visitor is a {colour} {shape}, "
        told += f"and no visitor is there {after}"
    return f"{text} {span}?", answer, pool, truth, told, f"Briefly a {answer} one"


def _search(scene: Scene, rng: Rng):
    event, turn_s = scene.events[0], scene.wall_change_s
    text, answer, pool = _visitor(event, rng.random() < 0.5)
    gap = int(np.searchsorted(scene.overview_times(), turn_s))
    before_s, after_s = scene.overview_times()[gap - 1 : gap + 1].tolist()
    before, after = scene.wall, scene.wall_at(turn_s)
    truth = {"kind": "search", "windows": [[before_s, after_s]], "change_s": turn_s}
    told = f"The wall is {before} until {before_s:.1f} and at {after_s:.1f} the wall is {after}, "
    told += f"so I look at the frames between {before_s:.1f} and {after_s:.1f}: the wall turns "
    told += f"{after} at {turn_s:.1f} and there the visitor is a {event.colour} {event.shape}"
    text, short = f"{text} when the wall turns {after}?", f"A {answer} one comes by"
    return text, answer, pool, truth, told, short


def _order(scene: Scene, rng: Rng):
    one, two = scene.order_shapes
    windows = [[start_s, start_s + 2] for start_s in scene.order_slots_s]
    spans = [f"between {low_s:.1f} and {high_s:.1f} seconds" for low_s, high_s in windows]
    whites = [e for e in scene.events if e.kind == "white"]
    told, answer = f"I look at the frames {spans[0]}: ", "neither"
    if not whites or whites[0].start_s >= windows[1][0]:
        told += f"none is white, so I look on {spans[1]}, "
    if whites:
        first = [e.shape for e in whites if e.start_s == whites[0].start_s]
        answer = "both" if len(first) == 2 else first[0]
        before_s, seen_s, _ = _around(whites[0])
        told += f"at {before_s:.1f} none is white, at {seen_s:.1f} the {' and the '.join(first)} "
        told += "are white" if len(first) == 2 else "is white"
    else:
        told += f"and none of them is white, neither the {one} nor the {two}"
    text = f"{' or '.join(spans)}, which turns white first, the {one} or the {two}?"
    truth = {"kind": "white", "windows": windows}
    return text, answer, (one, two, "both", "neither"), truth, told, f"First is {answer}"


def _counterfactual(scene: Scene, rng: Rng):
    """A shape is moved or painted; what becomes of another shape by the law of `edits`."""
    one, two, *_ = (scene.things[i] for i in rng.permutation(len(scene.things)))
    time_s, kind = float(scene.overview_times()[0]), str(rng.choice(["place", "colour"]))
    every, own, taken = COLOURS, one.colour, two.colour
    if kind == "place":
        every, own, taken = PLACES, one.place, two.place
    new = taken  # three times of four the other has to give way
    if rng.random() < 0.25:
        new = str(rng.choice([x for x in every if x not in (own, taken)]))
    edit = Edit("move", one.shape, place=new)
    case, asked = f"moved to the {new}", f"where would the {two.shape} be"
    if kind == "colour":
        edit = Edit("paint", one.shape, colour=new)
        case, asked = f"were painted {new}", f"what colour would the {two.shape} be"
    colour, place = edited(scene, time_s, edit).facts(time_s).things[two.shape]
    answer, pool = (
        (place, PLACES) if kind == "place" else (colour, [c for c in COLOURS if c != new])
    )
    truth = {"kind": kind, "shape": two.shape, "edit": asdict(edit), "windows": []}
    truth |= {"prompt": edit.prompt(), "time_s": time_s}
    told = f"The frames do not show it. The {one.shape} {case}: I imagine it at {time_s:.1f}, "
    told += f"and there the {two.shape} is {colour}, {place}"
    return (
        f"if the {one.shape} {case}, {asked}?",
        answer,
        pool,
        truth,
        told,
        f"It would be {answer}",
    )


def _visitor(event: Event, by_colour: bool) -> tuple[str, str, tuple[str, ...]]:
    """The question's beginning, its answer and what the options are drawn from."""
    if by_colour:
        return "what colour is the visitor", event.colour, COLOURS
    return "which shape is the visitor", event.shape, SHAPES


def _around(event: Event) -> tuple[float, float, float]:
    """Half seconds just before, inside and after an event, as a person would note them."""
    seen_s = np.ceil(event.start_s * 2) / 2
    return float(seen_s - 0.5), float(seen_s), float(np.ceil(event.end_s * 2) / 2)


_ASK = dict(zip(FAMILIES, (_static, _moment, _search, _order, _counterfactual), strict=True))
