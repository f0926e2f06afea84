"""What the pocket base model is taught: dialogues about frames it is shown, and text.

Works on scenes of the `pretrain` split. Never shows the project's tools, a tool's frames, or a
trace: the base learns to describe, to answer what it can see, to say when it cannot and guess, to
think in words, and the generic grammar of calling tools that it is told about. Our choice.
"""

import json
from dataclasses import dataclass, field

import numpy as np

from act2see.pocket import language
from act2see.pocket.questions import FOUNDATION, ask
from act2see.pocket.world import COLOURS, EVENT_S, FPS, PLACES, SHAPES, Scene, render, sample_scene
from act2see.trace import Question

SHAPE_NAMES, COLOUR_NAMES = ("", *SHAPES), ("", *COLOURS, "white")
CELL_CLASSES = [len(SHAPE_NAMES), len(COLOUR_NAMES), 2, 9]
IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
OTHER_TOOLS = (
    "set_timer", "trim_audio", "play_sound", "move_camera", "count_words", "draw_line",
    "drop_frames", "sort_frames", "mark_frame",
)  # fmt: skip
READ = {  # what is asked about each of several frames -> in which words
    "turn": "what colour does the {} turn?",
    "visit": "what colour is the visitor?",
    "search": "which shape is the visitor when the wall turns?",
    "wall": "when does the wall turn?",
    "white": "which turns white?",
}
WORDS = ("start_s", "end_s", "volume", "width", "from_s", "to_s", "speed", "level")
TEXTS = ("note", "title", "words")
PHRASES = (
    "remove the {shape}", "paint the {shape} {colour}", "add a {colour} {shape}",
    "a {colour} {shape}", "move the {shape} to the {place}", "the {shape} on the {place}",
)  # fmt: skip


@dataclass
class Lesson:
    """A dialogue as text with one image placeholder per frame; the frames' times, and what is on
    them: moments of the scene or of others.
    """

    scene: Scene | None = None
    text: str = ""
    times_s: list[float] = field(default_factory=list)
    frames: list[tuple[Scene, float]] = field(default_factory=list)

    def user(self, text: str, times_s=(), frames=()) -> None:
        shown = "".join(f"<{t:.1f} seconds>{IMAGE}" for t in times_s)
        self.times_s += [float(t) for t in times_s]
        self.frames += frames or [(self.scene, float(t)) for t in times_s]
        self.text += f"<|im_start|>user\n{shown}{text}<|im_end|>\n"

    def unseen(self, times_s) -> list[float]:
        """Those of these moments that no frame was shown of yet."""
        return [t for t in times_s if t not in self.times_s]

    def around_change(self, window: list[float]) -> list[float]:
        """The last moment shown before the wall changes and the first after, inside `window`."""
        known = sorted({*window, *(t for t in self.times_s if window[0] < t < window[1])})
        after = sum(t < self.scene.wall_change_s for t in known)
        return known[after - 1 : after + 1]

    def assistant(self, thinking: str, content: str) -> None:
        self.text += "<|im_start|>assistant\n<think>\n"
        self.text += f"{thinking}\n</think>\n\n{content}<|im_end|>\n"

    def choose(self, text: str, options: list[str], thinking: str, answer: str, times_s=()) -> None:
        """A question with options, answered; `thinking` ends before the conclusion."""
        ending = language.conclusion(answer, options)
        self.user(Question.model_construct(text=text, options=options).prompt(), times_s)
        self.assistant(f"{thinking} {ending}", f"Answer: {'ABCD'[options.index(answer)]}")


def cells(rng: np.random.Generator, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """(frames, side, side, 3) pictures, and (frames, 9, 4) what stands in each of their cells, row
    by row: which shape, which colour, both 0 for none, whether the wall is light, which cell it is.
    """
    scenes = [_scene(rng) for _ in range(frames)]
    times = [_moment(scene, rng) for scene in scenes]
    named = np.zeros((frames, 3, 3, 4), int)
    named[..., 3] = np.arange(9).reshape(3, 3)
    for name, scene, time_s in zip(named, scenes, times, strict=True):
        facts = scene.facts(time_s)
        name[..., 2] = facts.wall == "light"
        for shape, (shade, place) in facts.things.items():
            name[PLACES[place]][:2] = SHAPE_NAMES.index(shape), COLOUR_NAMES.index(shade)
        if facts.visitor:
            shape, shade = facts.visitor
            name[1, 1, :2] = SHAPE_NAMES.index(shape), COLOUR_NAMES.index(shade)
    shown = [render(s, np.array([t]))[0] for s, t in zip(scenes, times, strict=True)]
    return np.stack(shown), named.reshape(frames, 9, 4)


def single_frame(rng: np.random.Generator) -> Lesson:
    """One frame: its description and five questions about it."""
    scene = _scene(rng)
    time_s = _moment(scene, rng)
    facts = scene.facts(time_s)
    lesson = Lesson(scene)
    shown = [time_s]
    if rng.random() < 0.6:
        lesson.user("describe the frame.", shown)
        lesson.assistant("i look at the frame.", language.description(facts))
        shown = []
    for _ in range(5):
        _ask_facts(lesson, facts, rng, shown)
        shown = []
    return lesson


def descriptions(rng: np.random.Generator) -> Lesson:
    """One to six frames, up to four of them described in full: dense lessons in seeing."""
    scene = _scene(rng)
    count = 1 if rng.random() < 0.35 else int(rng.integers(2, 7))
    times = sorted({_moment(scene, rng) for _ in range(count)})
    lesson = Lesson(scene)
    shown = times
    for time_s in rng.permutation(times)[:4]:
        lesson.user(f"describe the frame at {time_s:.1f} seconds.", shown)
        told = language.description(scene.facts(float(time_s)))
        lesson.assistant(f"i look at the frame at {time_s:.1f} seconds.", told)
        shown = []
    return lesson


def montage(rng: np.random.Generator) -> Lesson:
    """Frames of many scenes, in one or two lots, each read one by one: a frame's own time is all
    that tells it from the others, and what one shows says nothing of the next.
    """
    lesson = Lesson(_scene(rng))
    if rng.random() < 0.5:
        _usual(lesson, lesson.scene, rng, list(lesson.scene.overview_times()))
    for _ in range(int(rng.integers(1, 3))):
        shape, count = str(rng.choice(SHAPES)), int(rng.integers(3, 7))
        apart_s = float(rng.choice([0.5, 0.5, 0.625, 0.75, 1.0]))
        times = lesson.unseen(int(rng.integers(36)) + apart_s * np.arange(count))
        scenes = []
        while len(scenes) < len(times):
            scene = _scene(rng)
            scenes += [scene] * any(thing.shape == shape for thing in scene.things)
        frames = [(scene, _moment(scene, rng)) for scene in scenes]
        told = [(t, scene.facts(m)) for t, (scene, m) in zip(times, frames, strict=True)]
        kind = str(rng.choice(list(READ), p=[0.5, 0.1, 0.1, 0.1, 0.2]))
        lesson.user(READ[kind].format(shape), times, frames)
        lesson.assistant(language.timeline(kind, shape, told), "done")
        for i in rng.permutation(len(times))[: int(rng.integers(3))]:
            lesson.user(f"describe the frame at {times[i]:.1f} seconds.")
            seen = language.description(told[i][1])
            lesson.assistant(f"i look at the frame at {times[i]:.1f} seconds.", seen)
    return lesson


def overview_frames(rng: np.random.Generator) -> Lesson:
    """An overview and three questions about what stays the same all along."""
    scene = _scene(rng)
    lesson = Lesson(scene)
    count = 8 if rng.random() < 0.8 else int(rng.integers(4, 17))
    _usual(lesson, scene, rng, list(scene.overview_times(count)))
    _usual(lesson, scene, rng, [])
    _usual(lesson, scene, rng, [])
    return lesson


def frames_in_turns(rng: np.random.Generator) -> Lesson:
    """An overview, then more frames turn by turn, the new ones read for one question or another."""
    scene = _scene(rng)
    lesson = Lesson(scene)
    overview = list(scene.overview_times())
    draw = rng.random()
    if draw < 0.4:
        _usual(lesson, scene, rng, overview)
    elif draw < 0.6:
        _wall_change(lesson, overview, overview)
    else:
        _answer(lesson, _question(scene, rng), overview, overview, rng)
    for _ in range(int(rng.integers(2, 4))):
        _look_closer(lesson, _question(scene, rng), rng)
    return lesson


def _look_closer(lesson: Lesson, question, rng: np.random.Generator) -> None:
    """Frames inside the question's windows, the second only where the first does not show it."""
    windows = question.truth["windows"]
    if question.family == "search":  # all that is new, then the wall's change in narrower bounds
        new = lesson.unseen(_window_times(windows[0], rng))
        if new and _answer(lesson, question, new, new, rng):
            return
        if rng.random() < 0.7 and new:
            _wall_change(lesson, new, [], windows[0])
        windows = [lesson.around_change(windows[0])]
    for number, window in enumerate(windows):
        if number:
            _name_window(lesson, "second", window)
        new = lesson.unseen(_window_times(window, rng))
        if new and _answer(lesson, question, new, new, rng):
            break
    if rng.random() < 0.25:
        _at_a_time(lesson, sorted(lesson.times_s)[-12:], rng)


def several_frames(rng: np.random.Generator) -> Lesson:
    """Frames of an overview, of a window around an event, or both, and questions about them."""
    scene = _scene(rng)
    layout = rng.choice(["window", "overview", "both"], p=[0.4, 0.3, 0.3])
    overview = list(scene.overview_times(8 if rng.random() < 0.7 else int(rng.integers(4, 15))))
    question = _question(scene, rng)
    window = sorted({t for w in question.truth["windows"] for t in _window_times(w, rng)})
    both = sorted({*overview, *window})
    shown = {"window": window, "overview": overview, "both": both}[str(layout)]
    lesson = Lesson(scene)
    _answer(lesson, question, shown, shown, rng)
    for _ in range(1 if len(shown) > 10 else 2):
        draw = rng.random()
        if draw < 0.4:
            _at_a_time(lesson, shown, rng)
        elif draw < 0.6 and len(shown) >= 3:
            _wall_change(lesson, shown, [])
        elif draw < 0.8:
            _answer(lesson, _question(scene, rng), shown, [], rng)
        else:
            _usual(lesson, scene, rng, [])
    return lesson


def words_only(rng: np.random.Generator) -> Lesson:
    """No frame: facts looked up in a text, options, windows, tools called."""
    scene = _scene(rng)
    facts = scene.facts(_moment(scene, rng))
    lesson = Lesson()
    draw = rng.random()
    if draw < 0.35:
        lesson.user(language.description(facts))
        lesson.assistant("i read it.", "ok")
        for _ in range(5):
            _ask_facts(lesson, facts, rng, [])
    elif draw < 0.65:
        _call_a_tool(lesson, rng)
    elif draw < 0.8:
        _windows(lesson, rng)
    else:
        for _ in range(6):
            _option(lesson, rng)
    return lesson


def _scene(rng: np.random.Generator) -> Scene:
    return sample_scene(10**12 + int(rng.integers(10**12)))


def _moment(scene: Scene, rng: np.random.Generator) -> float:
    """Any moment of the clip on its frame grid, half of the time one of a brief event."""
    if rng.random() < 0.5:
        event = scene.events[int(rng.integers(len(scene.events)))]
        return float(np.ceil(event.start_s * FPS + int(rng.integers(EVENT_S * FPS))) / FPS)
    return float(rng.integers(int(scene.duration_s * FPS)) / FPS)


def _question(scene: Scene, rng: np.random.Generator):
    """A question that the overview does not answer."""
    return ask(scene, str(rng.choice(FOUNDATION[1:])), video="", rng=rng)


def _window_times(window: list[float], rng: np.random.Generator) -> list[float]:
    """From 4 to 9, mostly 5 moments of the frame grid, evenly from one end to the other."""
    count = 5 if rng.random() < 0.6 else int(rng.integers(4, 10))
    return sorted({float(t) for t in np.round(np.linspace(*window, count) * FPS) / FPS})


def _answer(lesson, question, frames: list[float], shown: list[float], rng) -> bool:
    """Read the frames that matter, conclude if they show it, else say so and guess.

    Whether they showed it; what was shown in turns before counts too.
    """
    thinking = readings(lesson.scene, question, frames)
    if seen := seen_in(lesson.scene, question, sorted({*lesson.times_s, *frames})):
        lesson.choose(question.text, question.options, thinking, seen, shown)
        return True
    guess = str(rng.choice(question.options))
    letter = "ABCD"[question.options.index(guess)]
    lesson.user(question.prompt(), shown)
    guessed = language.conclusion(guess, question.options, "i guess")
    unsure = f"{thinking} {language.UNSEEN} {guessed}"
    lesson.assistant(unsure.strip(), f"Answer: {letter}")
    return False


def readings(scene: Scene, question, frames: list[float]) -> str:
    """What to note of these frames: of those inside the question's windows, or for a search that
    has no frame inside them, of the walls up to the change.
    """
    kind, windows = question.truth["kind"], question.truth["windows"]
    inside = [t for t in frames if _within(t, windows)]
    if kind == "search":
        (low, high) = windows[0]
        if sum(low < t < high for t in frames) == 0:
            kind, inside = "wall", frames[: sum(t < scene.wall_change_s for t in frames) + 1]
    moments = [(t, scene.facts(t)) for t in inside]
    return language.timeline(kind, question.truth.get("shape", ""), moments)


def seen_in(scene: Scene, question, frames: list[float]) -> str:
    """The answer that these frames show, "" if they show none."""
    kind, shape = question.truth["kind"], question.truth.get("shape", "")
    answer, windows = question.options[question.answer], question.truth["windows"]
    inside = [(t, scene.facts(t)) for t in frames if _within(t, windows)]
    if kind == "white":  # the first that is seen is the first only if none was missed before it
        for low, high in windows:
            seen = [
                (t, language.white(f) != "none is white.") for t, f in inside if low <= t <= high
            ]
            end = next((t for t, white in seen if white), None)
            covered = [low - 0.25, *(t for t, _ in seen if end is None or t <= end), end or high]
            if max(np.diff(covered)) > EVENT_S:
                return ""
            if end is not None:
                break
        return answer
    if kind == "turn":
        usual = {t.shape: t.colour for t in scene.things}
        shown = any(f.things[shape][0] not in (usual[shape], "white") for _, f in inside)
    elif kind == "search":
        shown = any(f.visitor and abs(t - scene.wall_change_s) < 0.5 for t, f in inside)
    else:
        shown = any(f.visitor for _, f in inside)
    return answer if shown else ""


def _within(time_s: float, windows: list[list[float]]) -> bool:
    return any(low <= time_s <= high for low, high in windows)


def _usual(lesson: Lesson, scene: Scene, rng: np.random.Generator, shown: list[float]) -> None:
    question = ask(scene, "static", video="", rng=rng)
    shape = question.truth["shape"]
    thing = next(t for t in scene.things if t.shape == shape)
    thinking = f"the {shape} is {thing.colour}, {thing.place}."
    answer = question.options[question.answer]
    lesson.choose(question.text, question.options, thinking, answer, shown)


def _at_a_time(lesson: Lesson, frames: list[float], rng: np.random.Generator) -> None:
    time_s = frames[int(rng.integers(len(frames)))]
    facts = lesson.scene.facts(time_s)
    lesson.user(f"describe the frame at {time_s:.1f} seconds.")
    lesson.assistant(f"i look at the frame at {time_s:.1f} seconds.", language.description(facts))


def _wall_change(lesson: Lesson, frames: list[float], shown: list[float], window=None) -> None:
    """Read walls up to the change, which lies between two of these frames or the window's ends."""
    change_s = lesson.scene.wall_change_s
    low, high = window or (frames[0], frames[-1])
    read = frames[: sum(t < change_s for t in frames) + 1]
    thinking = language.timeline("wall", "", [(t, lesson.scene.facts(t)) for t in read])
    known = sorted({low, high, *(t for t in frames if low < t < high)})
    after = sum(t < change_s for t in known)
    told = "never."
    if 0 < after < len(known):
        told = f"between {known[after - 1]:.1f} and {known[after]:.1f} seconds."
    asked = f" between {low:.1f} and {high:.1f} seconds" if window else ""
    lesson.user(f"when does the wall turn{asked}?", shown)
    lesson.assistant(thinking, told)


def _ask_facts(lesson: Lesson, facts, rng: np.random.Generator, shown: list[float]) -> None:
    """One question with options about one frame's facts."""
    shape = str(rng.choice(list(facts.things)))
    shade, place = facts.things[shape]
    draw = rng.random()
    thinking = f"the {shape} is {shade}, {place}."
    if draw < 0.3 and shade != "white":
        text, answer, pool = f"what colour is the {shape}?", shade, COLOURS
    elif draw < 0.55 and [c for c, _ in facts.things.values()].count(shade) == 1:
        text, answer, pool = f"which shape is {shade}?", shape, SHAPES
    elif draw < 0.75:
        text, answer, pool = f"where is the {shape}?", place, tuple(PLACES)
    elif facts.visitor and draw < 0.9:
        thinking = language.visitor(facts)
        answer = facts.visitor[int(rng.integers(2))]
        pool = COLOURS if answer in COLOURS else SHAPES
        text = "what colour is the visitor?" if pool is COLOURS else "which shape is the visitor?"
    else:
        thinking, answer, pool = language.wall(facts), facts.wall, ("dark", "light", "red", "top")
        text = "is the wall dark or light?"
    options = [str(o) for o in rng.permutation([o for o in pool if o != answer])[:3]]
    options.insert(int(rng.integers(4)), answer)
    lesson.choose(text, options, thinking, answer, shown)


def _option(lesson: Lesson, rng: np.random.Generator) -> None:
    """Find an option that is named."""
    pool = [COLOURS, SHAPES, tuple(PLACES), (*SHAPES[:2], "both", "neither")]
    pool = pool[int(rng.integers(4))]
    options = [str(o) for o in rng.permutation(pool)[:4]]
    answer = str(rng.choice(options))
    lesson.choose(f"which option is {answer}?", options, "i read the options.", answer)


def _windows(lesson: Lesson, rng: np.random.Generator) -> None:
    """Find one of two windows that are named, twice over."""
    for _ in range(2):
        starts, lengths = rng.integers(0, 72, 2) / 2, rng.choice([1, 2, 2, 2, 3, 4], 2)
        windows = [(float(s), float(s + n)) for s, n in zip(starts, lengths, strict=True)]
        spans = [f"between {low:.1f} and {high:.1f} seconds" for low, high in windows]
        lesson.user(" or ".join(spans))
        lesson.assistant("i read it.", "ok")
        for i in rng.permutation(2).tolist():
            _name_window(lesson, ("first", "second")[i], windows[i])


def _name_window(lesson: Lesson, which: str, window) -> None:
    span = "between {:.1f} and {:.1f}".format(*window)
    lesson.user(f"which is the {which}?")
    lesson.assistant(f"the {which} is {span}.", f"{span} seconds.")


def _call_a_tool(lesson: Lesson, rng: np.random.Generator) -> None:
    """A made-up tool with made-up arguments, numbers or a text, described, asked for and called."""
    names = [str(n) for n in rng.permutation(OTHER_TOOLS)[: int(rng.integers(1, 3))]]
    keys = {n: [str(k) for k in rng.permutation(WORDS)[: int(rng.integers(1, 3))]] for n in names}
    for name in names:
        if rng.random() < 0.4:
            keys[name][0] = str(rng.choice(TEXTS))
    listed = "\n".join(_schema(n, keys[n]) for n in names)
    lesson.text += (
        f"<|im_start|>system\nYou may call these tools:\n<tools>\n{listed}\n</tools><|im_end|>\n"
    )
    for _ in range(2):
        name = str(rng.choice(names))
        values = sorted(float(v) / 2 for v in rng.integers(0, 80, len(keys[name])))
        if keys[name][0] in TEXTS:
            values[0] = _phrase(rng)
        told = "with " + " and ".join(f"{v}" for v in values)
        if len(values) == 2 and keys[name][0] not in TEXTS and rng.random() < 0.5:
            told = f"between {values[0]} and {values[1]} seconds"
        arguments = json.dumps(dict(zip(keys[name], values, strict=True)))
        lesson.user(f"please use {name} {told}.")
        call = f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'
        lesson.assistant(f"i use {name} {told}.", call)
        lesson.user("<tool_response>\ndone\n</tool_response>")
        lesson.assistant("it is done.", "done")


def _phrase(rng: np.random.Generator) -> str:
    pools = {"shape": SHAPES, "colour": COLOURS, "place": tuple(PLACES)}
    drawn = {name: str(rng.choice(pool)) for name, pool in pools.items()}
    return str(rng.choice(PHRASES)).format(**drawn)


def _schema(name: str, keys: list[str]) -> str:
    kinds = {key: {"type": "string" if key in TEXTS else "number"} for key in keys}
    parameters = {"type": "object", "properties": kinds, "required": keys}
    function = {"name": name, "description": "a tool.", "parameters": parameters}
    return json.dumps({"type": "function", "function": function})
