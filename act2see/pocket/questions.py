"""Six families of four-option questions about the pocket world, with truth and human reasoning.

Works on `Scene`. Does not know policies or models. Every answer is read off the simulation, every
option is equally often right, and the human-style reasoning has another grammar than the teacher's.
Our choice; the families stand for the paper's needs (brief events, search in long videos, reasoning
in steps, hypotheticals, one frame that a text describes), with `static` as the control.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm
from tqdm.contrib.concurrent import thread_map

from act2see.files import sweep
from act2see.pocket import world
from act2see.pocket.edits import Edit, edited
from act2see.pocket.language import span
from act2see.pocket.world import COLOURS, PLACES, SHAPES, Event, Rng, Scene
from act2see.trace import Question

FOUNDATION = ("static", "moment", "search", "order")  # what real frames answer
# A family's number is part of its questions' draws: a new one stands last.
FAMILIES = (*FOUNDATION, "counterfactual", "described")
SPLITS = {"pretrain": 1, "train": 2, "validation": 3, "test": 4}
POOLS = {"colour": COLOURS, "shape": SHAPES, "place": tuple(PLACES)}  # of options, by trait
VISITOR = {"colour": "what colour is the visitor", "shape": "which shape is the visitor"}


@dataclass
class Draft:
    """What a family makes of a scene, before there are options."""

    text: str
    answer: str
    pool: Sequence[str]  # what the options are drawn from
    truth: dict
    reasoning: str  # a person's, up to the conclusion
    short: str  # the same by someone in a hurry


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
    split: str,
    seed: int,
    count: int,
    folder: Path,
    families: Sequence[str] = FOUNDATION,
    first: int = 0,
    per_clip: int = 1,
) -> list[Question]:
    """`count` questions, the families in turn, `per_clip` of them about each clip in `folder`.

    Clips that are there already are not written again. The same split, seed and index give the
    same question whatever `first`, the first index, and `count` are. Raises ValueError for a count
    below 1, for two questions of a family about one clip, and for a file of records in the place of
    a folder.
    """
    n = len(families)
    if count < 1:
        raise ValueError(f"count is {count}; it must be 1 or more")
    if per_clip < 1 or any(
        len({families[(i + k) % n] for k in range(per_clip)}) < per_clip for i in range(n)
    ):
        raise ValueError(f"per_clip is {per_clip}; so many families in a row must differ")
    if folder.suffix or folder.is_file():
        raise ValueError(
            f"folder is {folder}; it must be a folder for clips: name the source of those records"
        )
    numbers = range(first, first + count)
    clips = range(first // per_clip, numbers[-1] // per_clip + 1)
    scenes = {i: world.sample_scene(scene_seed(split, seed, i)) for i in clips}
    paths = {i: folder / f"{scene.seed}.mp4" for i, scene in scenes.items()}
    missing = [i for i in clips if not paths[i].exists()]
    sweep(folder)
    options = {"max_workers": 2, "desc": "clips", "disable": not missing, "tqdm_class": tqdm}
    thread_map(lambda i: world.write_clip(scenes[i], paths[i]), missing, **options)
    # The right letter moves on after each round of the families: none is right more often.
    return [
        ask(scenes[i // per_clip], families[i % n], paths[i // per_clip], i // n % 4)
        for i in numbers
    ]


def ask(
    scene: Scene, family: str, video: Path | str, letter: int | None = None, rng: Rng | None = None
) -> Question:
    """The question of this family about this scene; its right option stands at `letter` (0-3).

    The scene's seed decides which of the possible questions it is, unless `rng` does.
    """
    rng = rng or np.random.default_rng([scene.seed, 7, FAMILIES.index(family)])
    draft = DRAFTS[family](scene, rng)
    reasoning = f"{draft.short}, I think."
    # Like real annotators: about one text in eight is hardly more than the answer.
    if rng.random() >= 0.12:
        endings = ("So it is {}.", "So the answer must be {}.", "That makes it {}.")
        ending = endings[int(rng.integers(3))].format(draft.answer)
        reasoning = f"{draft.reasoning}. {ending}"
    letter = int(rng.integers(4)) if letter is None else letter
    options = rng.permutation([o for o in draft.pool if o != draft.answer])[:3].tolist()
    options.insert(letter, draft.answer)
    return Question(
        id=f"pocket-{scene.seed}-{family}", source="pocket", family=family, video=str(video),
        duration_s=scene.duration_s, text=draft.text, options=options, answer=letter,
        reasoning=reasoning, truth={"seed": scene.seed, **draft.truth},
    )  # fmt: skip


def _static(scene: Scene, rng: Rng) -> Draft:
    thing = scene.things[int(rng.integers(len(scene.things)))]
    shape = thing.shape
    kind = str(rng.choice(["colour", "shape", "place"]))
    answer = getattr(thing, kind)
    texts = {
        "colour": f"what colour is the {shape}?",
        "shape": f"which shape is {thing.colour}?",
        "place": f"where is the {shape}?",
    }
    shorts = {"colour": "It looks {}", "shape": "A {} it is", "place": "Look {}"}
    truth = {"kind": kind, "shape": shape, "windows": []}
    reasoning = f"The {shape} is {thing.colour}, and the {shape} is {thing.place}"
    return Draft(texts[kind], answer, POOLS[kind], truth, reasoning, shorts[kind].format(answer))


def _moment(scene: Scene, rng: Rng) -> Draft:
    kind = str(rng.choice(["turn", "visit", "visit_shape"]))
    # Without the first event: the visit at the wall's change is what `search` is about.
    events = [e for e in scene.events[1:] if e.kind == kind.split("_")[0]]
    event = events[int(rng.integers(2))]
    shape = event.shape
    window = [event.window_s, event.window_s + 2]
    moments = f"{span(*window)} seconds"
    before, inside, after = (f"at {time_s:.1f}" for time_s in _around(event))
    truth = {"kind": event.kind, "windows": [window]}
    if kind == "turn":
        usual = next(t.colour for t in scene.things if t.shape == shape)
        truth["shape"] = shape
        text = f"what colour does the {shape} turn"
        answer = event.colour
        pool = [c for c in COLOURS if c != usual]
        details = (
            f"the {shape} is {usual} {before}, {inside} the {shape} is {answer}, "
            f"and the {shape} is {usual} again {after}"
        )
    else:
        trait = "colour" if kind == "visit" else "shape"
        text = VISITOR[trait]
        answer = getattr(event, trait)
        pool = POOLS[trait]
        details = (
            f"there is no visitor {before}, {inside} the visitor is a {event.colour} {shape}, "
            f"and no visitor is there {after}"
        )
    reasoning = f"Not seen at first, so I look at the frames {moments}: {details}"
    return Draft(f"{text} {moments}?", answer, pool, truth, reasoning, f"Briefly a {answer} one")


def _search(scene: Scene, rng: Rng) -> Draft:
    visit = scene.events[0]
    turn_s = scene.wall_change_s
    trait = "colour" if rng.random() < 0.5 else "shape"
    answer = getattr(visit, trait)
    # An overview brackets the change between two of its frames; what happens there it misses.
    times_s = scene.overview_times()
    gap = int(np.searchsorted(times_s, turn_s))
    before_s, after_s = times_s[gap - 1 : gap + 1].tolist()
    later = scene.wall_at(turn_s)
    truth = {"kind": "search", "windows": [[before_s, after_s]], "change_s": turn_s}
    reasoning = (
        f"The wall is {scene.wall} until {before_s:.1f} and at {after_s:.1f} the wall is {later}, "
        f"so I look at the frames {span(before_s, after_s)}: the wall turns {later} at "
        f"{turn_s:.1f} and there the visitor is a {visit.colour} {visit.shape}"
    )
    text = f"{VISITOR[trait]} when the wall turns {later}?"
    return Draft(text, answer, POOLS[trait], truth, reasoning, f"A {answer} one comes by")


def _order(scene: Scene, rng: Rng) -> Draft:
    one, two = scene.order_shapes
    windows = [[start_s, start_s + 2] for start_s in scene.order_slots_s]
    first, second = (f"{span(*window)} seconds" for window in windows)
    whites = [e for e in scene.events if e.kind == "white"]
    reasoning = f"I look at the frames {first}: "
    if not whites or whites[0].start_s >= windows[1][0]:
        reasoning += f"none is white, so I look on {second}, "
    answer = "neither"
    if whites:
        shapes = [e.shape for e in whites if e.start_s == whites[0].start_s]
        answer = "both" if len(shapes) == 2 else shapes[0]
        before_s, inside_s, _ = _around(whites[0])
        verb = "are" if len(shapes) == 2 else "is"
        reasoning += f"at {before_s:.1f} none is white, "
        reasoning += f"at {inside_s:.1f} the {' and the '.join(shapes)} {verb} white"
    else:
        reasoning += f"and none of them is white, neither the {one} nor the {two}"
    text = f"{first} or {second}, which turns white first, the {one} or the {two}?"
    truth = {"kind": "white", "windows": windows}
    return Draft(
        text, answer, (one, two, "both", "neither"), truth, reasoning, f"First is {answer}"
    )


def _counterfactual(scene: Scene, rng: Rng) -> Draft:
    """A shape is moved or painted; what becomes of another shape by the law of `edits`."""
    one, two, *_ = (scene.things[i] for i in rng.permutation(len(scene.things)))
    time_s = float(scene.overview_times()[0])
    kind = str(rng.choice(["place", "colour"]))
    former = getattr(one, kind)
    value = getattr(two, kind)
    # Three times of four the first takes what the second has, and that one has to give way.
    if rng.random() < 0.25:
        value = str(rng.choice([x for x in POOLS[kind] if x not in (former, value)]))
    if kind == "place":
        edit = Edit("move", one.shape, place=value)
        case = f"moved to the {value}"
        question = f"where would the {two.shape} be"
        pool = POOLS["place"]
    else:
        edit = Edit("paint", one.shape, colour=value)
        case = f"were painted {value}"
        question = f"what colour would the {two.shape} be"
        # No two shapes share a colour, so the new one of the first cannot be right.
        pool = [c for c in COLOURS if c != value]
    look = edited(scene, time_s, edit).facts(time_s).things[two.shape]
    answer = getattr(look, kind)
    truth = {"kind": kind, "shape": two.shape, "edit": asdict(edit), "windows": []}
    truth |= {"prompt": edit.prompt(), "time_s": time_s}
    reasoning = (
        f"The frames do not show it. The {one.shape} {case}: I imagine it at {time_s:.1f}, "
        f"and there the {two.shape} is {look.colour}, {look.place}"
    )
    text = f"if the {one.shape} {case}, {question}?"
    return Draft(text, answer, pool, truth, reasoning, f"It would be {answer}")


def _described(scene: Scene, rng: Rng) -> Draft:
    """A visitor is named by one trait, and the other is asked for: no time, no wall."""
    visits = [event for event in scene.events if event.kind == "visit"]
    # A name fits where all visits that have it agree on the answer; among three, one always does.
    fitting = [
        (visit, named, asked)
        for visit in visits
        for named, asked in (("shape", "colour"), ("colour", "shape"))
        if len({getattr(v, asked) for v in visits if getattr(v, named) == getattr(visit, named)})
        == 1
    ]
    visit, named, asked = fitting[int(rng.integers(len(fitting)))]
    name = f"a {visit.shape}" if named == "shape" else visit.colour
    answer = getattr(visit, asked)
    before, inside, after = (f"at {time_s:.1f}" for time_s in _around(visit))
    truth = {"kind": "visit", "windows": [[visit.start_s, visit.end_s]]}
    truth["query"] = f"the visitor is {name}."
    reasoning = (
        f"Not seen at first, so I search for the visitor that is {name}: no visitor is there "
        f"{before}, {inside} the visitor is a {visit.colour} {visit.shape}, and none {after}"
    )
    text = f"{VISITOR[asked]} that is {name}?"
    return Draft(text, answer, POOLS[asked], truth, reasoning, f"Briefly a {answer} one")


def _around(event: Event) -> tuple[float, float, float]:
    """Half seconds just before, inside and after an event, as a person would note them."""
    inside_s = np.ceil(event.start_s * 2) / 2
    return float(inside_s - 0.5), float(inside_s), float(np.ceil(event.end_s * 2) / 2)


DRAFTS = {
    "static": _static,
    "moment": _moment,
    "search": _search,
    "order": _order,
    "counterfactual": _counterfactual,
    "described": _described,
}
