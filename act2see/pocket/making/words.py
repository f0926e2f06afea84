"""Lessons without a frame: facts looked up in a text, options, windows, tools and their calls.

Works on `Lesson`. Does not know the project's tools: those here are invented, so that the base
learns the grammar of a call and nothing of what it will call. Our choice.
"""

import json

from act2see.pocket import language
from act2see.pocket.making.lessons import Lesson, ask_facts, fresh_scene, moment
from act2see.pocket.questions import POOLS
from act2see.pocket.world import SHAPES, Rng

TOOLS = (
    "set_timer", "trim_audio", "play_sound", "move_camera", "count_words", "draw_line",
    "drop_frames", "sort_frames", "mark_frame",
)  # fmt: skip
NUMBERS = ("start_s", "end_s", "volume", "width", "from_s", "to_s", "speed", "level")
TEXTS = ("note", "title", "words")
PHRASES = (
    "remove the {shape}", "paint the {shape} {colour}", "add a {colour} {shape}",
    "a {colour} {shape}", "move the {shape} to the {place}", "the {shape} on the {place}",
)  # fmt: skip


def words_only(rng: Rng) -> Lesson:
    """One of the lessons below."""
    scene = fresh_scene(rng)
    facts = scene.facts(moment(scene, rng))
    lesson = Lesson()
    draw = rng.random()
    if draw < 0.35:
        lesson.user(language.description(facts))
        lesson.assistant("i read it.", "ok")
        # The same questions as about a frame: words and pictures share their facts.
        for _ in range(5):
            ask_facts(lesson, facts, rng)
    elif draw < 0.65:
        _call_tools(lesson, rng)
    elif draw < 0.8:
        for _ in range(2):
            _windows(lesson, rng)
    else:
        for _ in range(6):
            _option(lesson, rng)
    return lesson


def _option(lesson: Lesson, rng: Rng) -> None:
    """Find an option by its name."""
    pools = [POOLS["colour"], SHAPES, POOLS["place"], (*SHAPES[:2], "both", "neither")]
    options = rng.permutation(pools[int(rng.integers(4))])[:4].tolist()
    answer = str(rng.choice(options))
    lesson.choose(f"which option is {answer}?", options, "i read the options.", answer)


def _windows(lesson: Lesson, rng: Rng) -> None:
    """Find each of two windows in a text that names both."""
    starts_s = rng.integers(0, 72, 2) / 2
    lengths_s = rng.choice([1, 2, 2, 2, 3, 4], 2)
    windows = list(zip(starts_s, starts_s + lengths_s, strict=True))
    lesson.user(" or ".join(f"{language.span(*window)} seconds" for window in windows))
    lesson.assistant("i read it.", "ok")
    for i in rng.permutation(2):
        name_window(lesson, ("first", "second")[i], windows[i])


def name_window(lesson: Lesson, which: str, window: tuple[float, float]) -> None:
    """Say when the window is that an earlier text calls the first or the second."""
    span = language.span(*window)
    lesson.user(f"which is the {which}?")
    lesson.assistant(f"the {which} is {span}.", f"{span} seconds.")


def _call_tools(lesson: Lesson, rng: Rng) -> None:
    """One or two invented tools, described, and two calls of them, of numbers or with a text."""
    tools = {}
    for name in rng.permutation(TOOLS)[: int(rng.integers(1, 3))].tolist():
        tools[name] = rng.permutation(NUMBERS)[: int(rng.integers(1, 3))].tolist()
    # A text takes the first place, as a prompt does.
    for keys in tools.values():
        if rng.random() < 0.4:
            keys[0] = str(rng.choice(TEXTS))
    schemas = "\n".join(_schema(name, keys) for name, keys in tools.items())
    lesson.text += f"<|im_start|>system\nYou may call these tools:\n<tools>\n{schemas}\n"
    lesson.text += "</tools><|im_end|>\n"
    for _ in range(2):
        _call(lesson, rng, tools)


def _call(lesson: Lesson, rng: Rng, tools: dict[str, list[str]]) -> None:
    name = str(rng.choice(list(tools)))
    keys = tools[name]
    values = sorted((rng.integers(0, 80, len(keys)) / 2).tolist())
    if keys[0] in TEXTS:
        traits = {trait: str(rng.choice(POOLS[trait])) for trait in ("shape", "colour", "place")}
        values[0] = str(rng.choice(PHRASES)).format(**traits)
    wish = "with " + " and ".join(map(str, values))
    # Two numbers may be a window in the user's words, as two moments of a video will be.
    if len(values) == 2 and keys[0] not in TEXTS and rng.random() < 0.5:
        wish = f"between {values[0]} and {values[1]} seconds"
    arguments = json.dumps(dict(zip(keys, values, strict=True)))
    lesson.user(f"please use {name} {wish}.")
    call = f'{{"name": "{name}", "arguments": {arguments}}}'
    lesson.assistant(f"i use {name} {wish}.", f"<tool_call>\n{call}\n</tool_call>")
    lesson.user("<tool_response>\ndone\n</tool_response>")
    lesson.assistant("it is done.", "done")


def _schema(name: str, keys: list[str]) -> str:
    kinds = {key: {"type": "string" if key in TEXTS else "number"} for key in keys}
    parameters = {"type": "object", "properties": kinds, "required": keys}
    function = {"name": name, "description": "a tool.", "parameters": parameters}
    return json.dumps({"type": "function", "function": function})
