"""Lessons on several frames of one scene: what they show of a question, and what they do not.

Works on `Lesson` and questions. Does not know the project's tools: more frames come with the user's
next turn, as if someone had leafed on. Our choice.
"""

import numpy as np

from act2see.pocket import language
from act2see.pocket.making.lessons import Lesson, ask_usual, fresh_scene
from act2see.pocket.making.words import name_window
from act2see.pocket.questions import FOUNDATION, ask
from act2see.pocket.world import EVENT_S, FPS, Rng, Scene
from act2see.trace import Question


def overview_frames(rng: Rng) -> Lesson:
    """An overview and three questions about what stays the same all along."""
    lesson = Lesson(fresh_scene(rng))
    count = 8 if rng.random() < 0.8 else int(rng.integers(4, 17))
    for _ in range(3):
        ask_usual(lesson, rng, lesson.scene.overview_times(count))
    return lesson


def frames_in_turns(rng: Rng) -> Lesson:
    """An overview, then more frames turn by turn, the new ones read for one question or another."""
    lesson = Lesson(fresh_scene(rng))
    overview_s = lesson.scene.overview_times().tolist()
    draw = rng.random()
    if draw < 0.4:
        ask_usual(lesson, rng, overview_s)
    elif draw < 0.6:
        _wall_change(lesson, overview_s)
    else:
        _answer(lesson, _question(lesson.scene, rng), overview_s, rng)
    for _ in range(int(rng.integers(2, 4))):
        _look_closer(lesson, _question(lesson.scene, rng), rng)
    return lesson


def several_frames(rng: Rng) -> Lesson:
    """Frames of an overview, of a window around an event, or both, and questions about them."""
    lesson = Lesson(fresh_scene(rng))
    layout = str(rng.choice(["window", "overview", "both"], p=[0.4, 0.3, 0.3]))
    count = 8 if rng.random() < 0.7 else int(rng.integers(4, 15))
    question = _question(lesson.scene, rng)
    moments = {
        "overview": {*lesson.scene.overview_times(count).tolist()},
        "window": {t for w in question.truth["windows"] for t in _window_times(w, rng)},
    }
    moments["both"] = moments["overview"] | moments["window"]
    times_s = sorted(moments[layout])
    _answer(lesson, question, times_s, rng)
    for _ in range(1 if len(times_s) > 10 else 2):
        draw = rng.random()
        if draw < 0.4:
            _describe_one(lesson, times_s, rng)
        elif draw < 0.6 and len(times_s) >= 3:
            _wall_change(lesson, times_s)
        elif draw < 0.8:
            _answer(lesson, _question(lesson.scene, rng), times_s, rng)
        else:
            ask_usual(lesson, rng)
    return lesson


def _question(scene: Scene, rng: Rng) -> Question:
    """A question that the overview does not answer."""
    return ask(scene, str(rng.choice(FOUNDATION[1:])), video="", rng=rng)


def _window_times(window: list[float], rng: Rng) -> list[float]:
    """From 4 to 9, mostly 5 moments of the frame grid, evenly from one end to the other."""
    count = 5 if rng.random() < 0.6 else int(rng.integers(4, 10))
    return sorted({float(t) for t in np.round(np.linspace(*window, count) * FPS) / FPS})


def _look_closer(lesson: Lesson, question: Question, rng: Rng) -> None:
    """Frames inside the question's windows, the second only where the first does not show it."""
    windows = question.truth["windows"]
    # A search goes from coarse to fine: all that is new, then the wall's change in narrower bounds.
    if question.family == "search":
        new_s = lesson.unseen(_window_times(windows[0], rng))
        if new_s and _answer(lesson, question, new_s, rng):
            return
        if rng.random() < 0.7 and new_s:
            _wall_change(lesson, new_s, windows[0])
        windows = [_bounds(lesson.scene.wall_change_s, windows[0], lesson.times_s)]
    for number, window in enumerate(windows):
        if number:
            name_window(lesson, "second", window)
        new_s = lesson.unseen(_window_times(window, rng))
        if new_s and _answer(lesson, question, new_s, rng):
            break
    if rng.random() < 0.25:
        _describe_one(lesson, sorted(lesson.times_s)[-12:], rng)


def _bounds(change_s: float, window: list[float], times_s: list[float]) -> list[float]:
    """The last moment before the wall changes and the first after, of these and a window's ends.

    One alone where the change does not lie between two.
    """
    known_s = sorted({*window, *(t for t in times_s if window[0] < t < window[1])})
    after = sum(t < change_s for t in known_s)
    return known_s[max(after - 1, 0) : after + 1]


def _describe_one(lesson: Lesson, times_s: list[float], rng: Rng) -> None:
    time_s = times_s[int(rng.integers(len(times_s)))]
    lesson.describe(time_s, lesson.scene.facts(time_s))


def _wall_change(lesson: Lesson, times_s: list[float], window: list[float] | None = None) -> None:
    """Read walls up to the change, which lies between two of these frames or the window's ends."""
    scene = lesson.scene
    walls = [(t, scene.facts(t)) for t in _until_change(scene, times_s)]
    bounds = _bounds(scene.wall_change_s, window or [times_s[0], times_s[-1]], times_s)
    answer = f"{language.span(*bounds)} seconds." if len(bounds) == 2 else "never."
    where = f" {language.span(*window)} seconds" if window else ""
    lesson.user(f"when does the wall turn{where}?", times_s)
    lesson.assistant(language.timeline("wall", "", walls), answer)


def _until_change(scene: Scene, times_s: list[float]) -> list[float]:
    """These moments up to the first after the wall has turned."""
    return times_s[: sum(t < scene.wall_change_s for t in times_s) + 1]


def _answer(lesson: Lesson, question: Question, times_s: list[float], rng: Rng) -> bool:
    """Read the frames that matter, conclude if they show it, else say so and guess.

    Returns whether they show it; frames of earlier turns count too.
    """
    thinking = readings(lesson.scene, question, times_s)
    answer = visible_answer(lesson.scene, question, sorted({*lesson.times_s, *times_s}))
    opening = "so it is"
    if not answer:
        thinking = f"{thinking} {language.UNSEEN}".strip()
        opening = "i guess"
    choice = answer or str(rng.choice(question.options))
    lesson.choose(question.text, question.options, thinking, choice, times_s, opening)
    return bool(answer)


def readings(scene: Scene, question: Question, times_s: list[float]) -> str:
    """What to note of these frames: of those inside the question's windows, or for a search that
    has no frame inside them, of the walls up to the change.
    """
    kind = question.truth["kind"]
    windows = question.truth["windows"]
    inside_s = _within(times_s, windows)
    # The ends of a search's window are overview frames: they say when, and nothing of the visitor.
    if kind == "search" and not set(inside_s) - {*windows[0]}:
        kind = "wall"
        inside_s = _until_change(scene, times_s)
    moments = [(t, scene.facts(t)) for t in inside_s]
    return language.timeline(kind, question.truth.get("shape", ""), moments)


def visible_answer(scene: Scene, question: Question, times_s: list[float]) -> str:
    """The answer that these frames show, "" if they show none."""
    truth = question.truth
    inside = [(t, scene.facts(t)) for t in _within(times_s, truth["windows"])]
    if truth["kind"] == "white":
        visible = _first_white_visible(scene, truth["windows"], times_s)
    elif truth["kind"] == "turn":
        usual = scene.facts(0.0).things[truth["shape"]].colour
        colours = {facts.things[truth["shape"]].colour for _, facts in inside}
        visible = colours - {usual, "white"}
    else:
        # A search's window may hold another visitor, long before or after the wall's change.
        reach_s = 0.5 if truth["kind"] == "search" else np.inf
        visits_s = [t for t, facts in inside if facts.visitor]
        visible = any(abs(t - scene.wall_change_s) < reach_s for t in visits_s)
    return question.options[question.answer] if visible else ""


def _first_white_visible(scene: Scene, windows: list[list[float]], times_s: list[float]) -> bool:
    """Whether these frames show which turns white first, or that none does."""
    for start_s, end_s in windows:
        inside_s = _within(times_s, [[start_s, end_s]])
        whites_s = [t for t in inside_s if language.white(scene.facts(t)) != "none is white."]
        last_s = whites_s[0] if whites_s else end_s
        # The first that is seen is the first only if none can have been missed before it.
        covered_s = [start_s - 0.25, *(t for t in inside_s if t <= last_s), last_s]
        if max(np.diff(covered_s)) > EVENT_S:
            return False
        if whites_s:
            return True
    return True


def _within(times_s: list[float], windows: list[list[float]]) -> list[float]:
    return [t for t in times_s if any(low_s <= t <= high_s for low_s, high_s in windows)]
