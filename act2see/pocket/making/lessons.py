"""How a lesson of the pocket base is written, and the lessons in seeing: single frames, one by one.

Works on scenes of the `pretrain` split. Does not know the project's tools, a tool's frames or a
trace, and no lesson shows any: the base learns to describe, to answer what it can see, to say when
it cannot and guess, to think in words, and the generic grammar of calling tools. `looking` has the
lessons on several frames, `words` those without any. Our choice.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from PIL import Image

from act2see.pocket import language
from act2see.pocket.questions import POOLS, VISITOR, ask, scene_seed
from act2see.pocket.world import (
    COLOURS,
    EVENT_S,
    FPS,
    PLACES,
    SHAPES,
    Facts,
    Rng,
    Scene,
    render,
    sample_scene,
)
from act2see.trace import LETTERS, Question

SHAPE_NAMES = ("", *SHAPES)
COLOUR_NAMES = ("", *COLOURS, "white")
CELL_CLASSES = [len(SHAPE_NAMES), len(COLOUR_NAMES), 2, 9]
IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
READINGS = {  # what to note of each of several frames -> the question about it
    "turn": "what colour does the {} turn?",
    "visit": "what colour is the visitor?",
    "search": "which shape is the visitor when the wall turns?",
    "wall": "when does the wall turn?",
    "white": "which turns white?",
}


@dataclass
class Lesson:
    """A dialogue as text with one image placeholder per frame, and what the frames are of.

    times_s: what the frames' labels say. frames: moments of the lesson's scene or of others.
    """

    scene: Scene | None = None
    text: str = ""
    times_s: list[float] = field(default_factory=list)
    frames: list[tuple[Scene, float]] = field(default_factory=list)

    def unseen(self, times_s: Iterable[float]) -> list[float]:
        """Those of these moments that no frame shows yet."""
        return [float(t) for t in times_s if t not in self.times_s]

    def user(self, text: str, times_s: Iterable[float] = (), frames: Sequence = ()) -> None:
        """The user's turn: frames of moments that are not shown yet, then the text.

        frames: what the frames are of, where not of the lesson's scene at `times_s`.
        """
        new_s = self.unseen(times_s)
        labels = "".join(f"<{t:.1f} seconds>{IMAGE}" for t in new_s)
        self.times_s += new_s
        self.frames += frames or [(self.scene, t) for t in new_s]
        self.text += f"<|im_start|>user\n{labels}{text}<|im_end|>\n"

    def assistant(self, thinking: str, content: str) -> None:
        """The assistant's turn."""
        self.text += "<|im_start|>assistant\n<think>\n"
        self.text += f"{thinking}\n</think>\n\n{content}<|im_end|>\n"

    def choose(
        self,
        text: str,
        options: list[str],
        thinking: str,
        answer: str,
        times_s: Iterable[float] = (),
        opening: str = "so it is",
    ) -> None:
        """A question with options, and its answer; `thinking` ends before the conclusion."""
        ending = language.conclusion(answer, options, opening)
        self.user(Question.model_construct(text=text, options=options).prompt(), times_s)
        self.assistant(f"{thinking} {ending}", f"Answer: {LETTERS[options.index(answer)]}")

    def describe(self, time_s: float, facts: Facts, times_s: Iterable[float] = ()) -> None:
        """One of several frames, in full."""
        name = f"the frame at {time_s:.1f} seconds"
        self.user(f"describe {name}.", times_s)
        self.assistant(f"i look at {name}.", language.description(facts))

    def images(self) -> list[Image.Image]:
        """The frames."""
        return [Image.fromarray(render(scene, np.array([t]))[0]) for scene, t in self.frames]


class Quiz(NamedTuple):
    """A question about one frame."""

    text: str
    answer: str
    pool: Sequence[str]  # what the options are drawn from


def fresh_scene(rng: Rng) -> Scene:
    """A scene of the `pretrain` split, which no question is about."""
    return sample_scene(scene_seed("pretrain", 0, 0) + int(rng.integers(10**12)))


def any_moment(scene: Scene, rng: Rng) -> float:
    """A moment on the clip's frame grid."""
    return float(rng.integers(int(scene.duration_s * FPS)) / FPS)


def brief_moment(scene: Scene, rng: Rng) -> float:
    """A moment on the clip's frame grid in which something brief happens."""
    event = scene.events[int(rng.integers(len(scene.events)))]
    return float(np.ceil(event.start_s * FPS + int(rng.integers(EVENT_S * FPS))) / FPS)


def moment(scene: Scene, rng: Rng) -> float:
    """Any moment, half of the time a brief event's: by itself chance would hardly meet one."""
    return brief_moment(scene, rng) if rng.random() < 0.5 else any_moment(scene, rng)


def cells(rng: Rng, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """(frames, side, side, 3) pictures, and (frames, 9, 4) what stands in each of their cells.

    Row by row: which shape, which colour, both 0 for none, whether the wall is light, which cell.
    """
    scenes = [fresh_scene(rng) for _ in range(frames)]
    moments = [(scene, moment(scene, rng)) for scene in scenes]
    classes = np.zeros((frames, 3, 3, 4), int)
    classes[..., 3] = np.arange(9).reshape(3, 3)
    for grid, (scene, time_s) in zip(classes, moments, strict=True):
        facts = scene.facts(time_s)
        grid[..., 2] = facts.wall == "light"
        for shape, look in facts.things.items():
            grid[PLACES[look.place]][:2] = SHAPE_NAMES.index(shape), COLOUR_NAMES.index(look.colour)
        if facts.visitor:
            shape, colour = facts.visitor
            grid[1, 1, :2] = SHAPE_NAMES.index(shape), COLOUR_NAMES.index(colour)
    pictures = [render(scene, np.array([time_s]))[0] for scene, time_s in moments]
    return np.stack(pictures), classes.reshape(frames, 9, 4)


def single_frame(rng: Rng) -> Lesson:
    """One frame: its description and five questions about it."""
    scene = fresh_scene(rng)
    time_s = moment(scene, rng)
    facts = scene.facts(time_s)
    lesson = Lesson(scene)
    # At times without a description first: the answer is then read off the frame, not off a text.
    if rng.random() < 0.6:
        lesson.user("describe the frame.", [time_s])
        lesson.assistant("i look at the frame.", language.description(facts))
    for _ in range(5):
        ask_facts(lesson, facts, rng, [time_s])
    return lesson


def descriptions(rng: Rng) -> Lesson:
    """One to six frames, up to four of them described in full: dense lessons in seeing."""
    scene = fresh_scene(rng)
    count = 1 if rng.random() < 0.35 else int(rng.integers(2, 7))
    times_s = sorted({moment(scene, rng) for _ in range(count)})
    lesson = Lesson(scene)
    for time_s in rng.permutation(times_s)[:4].tolist():
        lesson.describe(time_s, scene.facts(time_s), times_s)
    return lesson


def montage(rng: Rng) -> Lesson:
    """Frames of many scenes, in one or two lots, each read one by one."""
    # Only its time tells a frame from the others, and none says anything of the next: whoever
    # carries a reading over from one frame to another is wrong here.
    lesson = Lesson(fresh_scene(rng))
    if rng.random() < 0.5:
        ask_usual(lesson, rng, lesson.scene.overview_times())
    for _ in range(int(rng.integers(1, 3))):
        shape = str(rng.choice(SHAPES))
        count = int(rng.integers(3, 7))
        apart_s = float(rng.choice([0.5, 0.5, 0.625, 0.75, 1.0]))
        times_s = lesson.unseen(int(rng.integers(36)) + apart_s * np.arange(count))
        scenes = []
        while len(scenes) < len(times_s):
            scene = fresh_scene(rng)
            scenes += [scene] * any(thing.shape == shape for thing in scene.things)
        frames = [(scene, moment(scene, rng)) for scene in scenes]
        facts = [scene.facts(time_s) for scene, time_s in frames]
        kind = str(rng.choice(list(READINGS), p=[0.5, 0.1, 0.1, 0.1, 0.2]))
        lesson.user(READINGS[kind].format(shape), times_s, frames)
        moments = zip(times_s, facts, strict=True)
        lesson.assistant(language.timeline(kind, shape, moments), "done")
        for i in rng.permutation(len(times_s))[: int(rng.integers(3))]:
            lesson.describe(times_s[i], facts[i])
    return lesson


def ask_usual(lesson: Lesson, rng: Rng, times_s: Iterable[float] = ()) -> None:
    """A question about what stays the same all along."""
    question = ask(lesson.scene, "static", video="", rng=rng)
    # Nothing brief happens in a clip's first frame: there each shape looks as it mostly does.
    thinking = language.thing(lesson.scene.facts(0.0), question.truth["shape"])
    answer = question.options[question.answer]
    lesson.choose(question.text, question.options, thinking, answer, times_s)


def ask_facts(lesson: Lesson, facts: Facts, rng: Rng, times_s: Iterable[float] = ()) -> None:
    """One question with options about one frame's facts."""
    shape = str(rng.choice(list(facts.things)))
    look = facts.things[shape]
    draw = rng.random()
    thinking = language.thing(facts, shape)
    # A white shape's own colour is hidden, and a colour that two share names no shape.
    if draw < 0.3 and look.colour != "white":
        quiz = Quiz(f"what colour is the {shape}?", look.colour, COLOURS)
    elif draw < 0.55 and [x.colour for x in facts.things.values()].count(look.colour) == 1:
        quiz = Quiz(f"which shape is {look.colour}?", shape, SHAPES)
    elif draw < 0.75:
        quiz = Quiz(f"where is the {shape}?", look.place, POOLS["place"])
    elif facts.visitor and draw < 0.9:
        thinking = language.visitor(facts)
        trait = ("shape", "colour")[int(rng.integers(2))]
        quiz = Quiz(f"{VISITOR[trait]}?", getattr(facts.visitor, trait), POOLS[trait])
    else:
        thinking = language.wall(facts)
        quiz = Quiz("is the wall dark or light?", facts.wall, ("dark", "light", "red", "top"))
    options = rng.permutation([o for o in quiz.pool if o != quiz.answer])[:3].tolist()
    options.insert(int(rng.integers(4)), quiz.answer)
    lesson.choose(quiz.text, options, thinking, quiz.answer, times_s)
