"""What the pocket base model is taught: dialogues about frames it is shown, and text.

Works on scenes of the `pretrain` split. Never shows the project's tools, a tool's frames, or a
trace: the base learns to describe, to answer what it can see, to say when it cannot and guess, to
think in words, and the generic grammar of calling tools that it is told about. Our choice.
"""

from dataclasses import dataclass, field

import numpy as np

from act2see.pocket import language
from act2see.pocket.questions import FAMILIES, ask
from act2see.pocket.world import COLOURS, FPS, PLACES, SHAPES, Scene, sample_scene
from act2see.trace import prompt

IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
OTHER_TOOLS = ("set_timer", "trim_audio", "play_sound", "move_camera", "count_words", "draw_line")
WORDS = ("start_s", "end_s", "volume", "width", "from_s", "to_s", "speed", "level")


@dataclass
class Lesson:
    """A dialogue as text with one image placeholder per frame, and those frames' moments."""

    scene: Scene | None = None
    text: str = ""
    times_s: list[float] = field(default_factory=list)

    def user(self, text: str, times_s=()) -> None:
        shown = "".join(f"<{t:.1f} seconds>{IMAGE}" for t in times_s)
        self.times_s += [float(t) for t in times_s]
        self.text += f"<|im_start|>user\n{shown}{text}<|im_end|>\n"

    def assistant(self, thinking: str, content: str) -> None:
        self.text += "<|im_start|>assistant\n<think>\n"
        self.text += f"{thinking}\n</think>\n\n{content}<|im_end|>\n"

    def choose(self, text: str, options: list[str], thinking: str, answer: str, times_s=()) -> None:
        """A question with options, answered; `thinking` ends before the conclusion."""
        ending = language.conclusion(answer, options)
        self.user(prompt(text, options), times_s)
        self.assistant(f"{thinking} {ending}", f"Answer: {'ABCD'[options.index(answer)]}")


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
    """One to five frames, up to three of them described in full: dense lessons in seeing."""
    scene = _scene(rng)
    count = 1 if rng.random() < 0.6 else int(rng.integers(2, 6))
    times = sorted({_moment(scene, rng) for _ in range(count)})
    lesson = Lesson(scene)
    shown = times
    for time_s in rng.permutation(times)[:3]:
        lesson.user(f"describe the frame at {time_s:.1f} seconds.", shown)
        told = language.description(scene.facts(float(time_s)))
        lesson.assistant(f"i look at the frame at {time_s:.1f} seconds.", told)
        shown = []
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
    """Frames sent in two or three turns, a question about each lot: an overview, then windows."""
    scene = _scene(rng)
    lesson = Lesson(scene)
    shown = list(scene.overview_times())
    families = ["moment", "search", "order"]
    question = ask(scene, families[int(rng.integers(3))], video="", rng=rng)
    if rng.random() < 0.5:
        _usual(lesson, scene, rng, shown)
    else:
        _answer(lesson, question, shown, shown, rng)
    for _ in range(int(rng.integers(1, 3))):
        window = [t for t in _window_times(question.truth["windows"], rng) if t not in shown]
        if question.family == "search":  # the whole lot is read
            window = [t for t in window if abs(t - scene.wall_change_s) < 3]
        if window:
            _answer(lesson, question, window, window, rng)
            shown = shown + window
        if rng.random() < 0.3 and window:
            _at_a_time(lesson, window, rng)
        question = ask(scene, families[int(rng.integers(3))], video="", rng=rng)
    return lesson


def several_frames(rng: np.random.Generator) -> Lesson:
    """Frames of an overview, of a window around an event, or both, and questions about them."""
    scene = _scene(rng)
    layout = rng.choice(["window", "overview", "both", "later"], p=[0.3, 0.3, 0.2, 0.2])
    count = 8 if rng.random() < 0.7 else int(rng.integers(4, 15))
    overview = list(scene.overview_times(count))
    family = str(rng.choice(["moment", "search", "order"], p=[0.4, 0.3, 0.3]))
    question = ask(scene, family, video="", rng=rng)
    window = _window_times(question.truth["windows"], rng)
    lesson = Lesson(scene)
    if layout == "later":
        _usual(lesson, scene, rng, overview)
        shown = window
    elif layout == "window":
        shown = window
    else:
        shown = sorted({*overview, *window}) if layout == "both" else overview
    _answer(lesson, question, shown, shown, rng)
    everything = sorted(set(lesson.times_s))
    for _ in range(1 if len(everything) > 10 else 2):
        draw = rng.random()
        if draw < 0.35:
            _at_a_time(lesson, everything, rng)
        elif draw < 0.6 and len(everything) >= 3:
            _wall_change(lesson, scene, everything, rng)
        elif draw < 0.8:
            again = ask(scene, str(rng.choice(["moment", "search", "order"])), video="", rng=rng)
            _answer(lesson, again, everything, [], rng)
        else:
            _usual(lesson, scene, rng, [])
    return lesson


def words_only(rng: np.random.Generator) -> Lesson:
    """No frame: facts looked up in a text, options, middles of windows, tools called."""
    scene = _scene(rng)
    facts = scene.facts(_moment(scene, rng))
    lesson = Lesson()
    draw = rng.random()
    if draw < 0.5:
        lesson.user(language.description(facts))
        lesson.assistant("i read it.", "ok")
        for _ in range(5):
            _ask_facts(lesson, facts, rng, [])
    elif draw < 0.75:
        _call_a_tool(lesson, rng)
    else:
        for _ in range(6):
            _middle_or_option(lesson, rng)
    return lesson


def _scene(rng: np.random.Generator) -> Scene:
    return sample_scene(10**12 + int(rng.integers(10**12)))


def _moment(scene: Scene, rng: np.random.Generator) -> float:
    """Any moment of the clip on its frame grid, half of the time one of a brief event."""
    if rng.random() < 0.5:
        event = scene.events[int(rng.integers(len(scene.events)))]
        return float(np.ceil(event.start_s * FPS + int(rng.integers(4))) / FPS)
    return float(rng.integers(int(scene.duration_s * FPS)) / FPS)


def _window_times(windows: list[list[float]], rng: np.random.Generator) -> list[float]:
    """Frame times that cover the windows, at most half a second apart (a quarter when narrow)."""
    times = set()
    for low, high in windows:
        step = 0.5 if high - low <= 2 else float(rng.choice([0.25, 0.5]))
        offset = 0.0 if rng.random() < 0.7 else float(rng.integers(1, int(step * FPS) + 1)) / FPS
        times |= set(np.arange(low + offset, high + 0.01, step))
    times = sorted(float(t) for t in times)
    if len(times) > 9:
        start = int(rng.integers(len(times) - 8))
        times = times[start : start + 9]
    if rng.random() < 0.2:
        times = [t for t in times if rng.random() < 0.7] or times
    return sorted({float(t) for t in times})


def _answer(lesson, question, frames: list[float], shown: list[float], rng) -> None:
    """Read the frames that matter, conclude if they show it, else say so and guess."""
    thinking, seen = seen_in(lesson.scene, question, frames)
    if seen:
        lesson.choose(question.text, question.options, thinking, seen, shown)
        return
    guess = str(rng.choice(question.options))
    letter = "ABCD"[question.options.index(guess)]
    lesson.user(question.prompt(), shown)
    guessed = language.conclusion(guess, question.options, "i guess")
    unsure = f"{thinking} {language.UNSEEN} {guessed}"
    lesson.assistant(unsure.strip(), f"Answer: {letter}")


def seen_in(scene: Scene, question, frames: list[float]) -> tuple[str, str]:
    """(readings of the frames that matter, the answer they show, "" if they show none)."""
    kind, shape = question.truth["kind"].split("_")[0], question.truth.get("shape", "")
    answer = question.options[question.answer]
    if kind == "search":
        return _seen_at_change(scene, frames, answer)
    low, high = question.truth["windows"][0][0], question.truth["windows"][-1][1]
    moments = [(t, scene.facts(t)) for t in frames if low <= t <= high]
    readings = language.timeline(kind, shape, moments)
    if kind == "white":
        complete = len(moments) >= 8 and moments[0][0] - low < 0.5 and high - moments[-1][0] < 0.5
        return readings, answer if complete else ""
    usual = {t.shape: t.colour for t in scene.things}
    for _, facts in moments:
        if kind == "turn" and facts.things[shape][0] not in (usual[shape], "white"):
            return readings, answer
        if kind == "visit" and facts.visitor:
            return readings, answer
    return readings, ""


def _seen_at_change(scene: Scene, frames: list[float], answer: str) -> tuple[str, str]:
    """Walls up to the change; with frames close to it, walls and visitors."""
    close = [t for t in frames if abs(t - scene.wall_change_s) < 3]
    near = len(close) > 1 and min(np.diff(close)) <= 1.26
    moments = [(t, scene.facts(t)) for t in (close if near else frames)]
    if near:
        seen = any(f.visitor and abs(t - scene.wall_change_s) < 0.5 for t, f in moments)
        return language.timeline("search", "", moments), answer if seen else ""
    after = sum(t < scene.wall_change_s for t, _ in moments) + 1
    return language.timeline("wall", "", moments[:after]), ""


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


def _wall_change(lesson: Lesson, scene: Scene, frames: list[float], rng) -> None:
    after = sum(t < scene.wall_change_s for t in frames)
    changes = 0 < after < len(frames)
    read = frames[: after + 1] if changes else frames
    thinking = language.timeline("wall", "", [(t, scene.facts(t)) for t in read])
    lesson.user("when does the wall turn?")
    told = (
        f"between {frames[after - 1]:.1f} and {frames[after % len(frames)]:.1f} seconds."
        if changes
        else "never."
    )
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


def _middle_or_option(lesson: Lesson, rng: np.random.Generator) -> None:
    if rng.random() < 0.5:
        low = float(rng.integers(40))
        high = low + float(rng.integers(1, 4)) * 2
        text = f"{low:.1f} and {high:.1f} is {(low + high) / 2:.1f}."
        lesson.user(f"what is the middle of {low:.1f} and {high:.1f}?")
        lesson.assistant(f"the middle of {text}", f"{(low + high) / 2:.1f}")
        return
    pool = [COLOURS, SHAPES, tuple(PLACES), (*SHAPES[:2], "both", "neither")]
    pool = pool[int(rng.integers(4))]
    options = [str(o) for o in rng.permutation(pool)[:4]]
    answer = str(rng.choice(options))
    lesson.choose(f"which option is {answer}?", options, "i read the options.", answer)


def _call_a_tool(lesson: Lesson, rng: np.random.Generator) -> None:
    """A made-up tool with made-up number arguments, described, asked for and called."""
    names = [str(n) for n in rng.permutation(OTHER_TOOLS)[: int(rng.integers(1, 3))]]
    keys = {n: [str(k) for k in rng.permutation(WORDS)[: int(rng.integers(1, 3))]] for n in names}
    listed = "\n".join(_schema(n, keys[n]) for n in names)
    lesson.text += (
        f"<|im_start|>system\nYou may call these tools:\n<tools>\n{listed}\n</tools><|im_end|>\n"
    )
    for _ in range(2):
        name = str(rng.choice(names))
        values = [float(v) / 2 for v in rng.integers(0, 80, len(keys[name]))]
        if len(values) == 2:
            values.sort()
        told = " and ".join(f"{v:.1f}" for v in values)
        arguments = ", ".join(f'"{k}": {v:.1f}' for k, v in zip(keys[name], values, strict=True))
        lesson.user(f"please use {name} with {told}.")
        call = f'<tool_call>\n{{"name": "{name}", "arguments": {{{arguments}}}}}\n</tool_call>'
        lesson.assistant(f"i use {name} with {told}.", call)
        lesson.user("<tool_response>\ndone\n</tool_response>")
        lesson.assistant("it is done.", "done")


def _schema(name: str, keys: list[str]) -> str:
    properties = ", ".join(f'"{k}": {{"type": "number"}}' for k in keys)
    required = ", ".join(f'"{k}"' for k in keys)
    return (
        f'{{"type": "function", "function": {{"name": "{name}", "description": "a tool.", '
        f'"parameters": {{"type": "object", "properties": {{{properties}}}, '
        f'"required": [{required}]}}}}}}'
    )


assert FAMILIES
