"""Whether a thought is true: each sentence of a trace held against the simulation.

Works on traces about pocket questions. Knows nothing of policies. Our choice; outside a simulated
world nobody can check this without a judge.
"""

import re

from act2see.pocket import language
from act2see.pocket.edits import Edit, edited
from act2see.pocket.world import Facts, Scene, sample_scene
from act2see.trace import Frame, Trace

SENTENCE = re.compile(r"(?:at (\d+\.\d) )?([^.\n]+\.)(?!\d)")
# What says nothing about a frame: plans, and the walk through the options.
OTHER = re.compile(
    r"i look between [\d.]+ and [\d.]+\.|i imagine it at [\d.]+\.|i imagine it\.|i search for it\."
)


def false_claims(trace: Trace) -> list[str]:
    """The sentences about frames that the scene does not bear out, with the moment they name.

    A sentence about a moment that no frame shows counts, and so does one in a form that the
    world's language lacks.
    """
    scene = sample_scene(trace.question.truth["seed"])
    wrong = []
    frames = {f"{frame.time_s:.1f}": frame for frame in trace.overview}
    for step in trace.steps:
        if step.kind == "evidence":
            frames |= {f"{frame.time_s:.1f}": frame for frame in step.frames}
        if step.kind == "think":
            wrong += _wrong(step.text, frames, scene, trace)
    return wrong


def _wrong(text: str, frames: dict[str, Frame], scene: Scene, trace: Trace) -> list[str]:
    # Plans claim nothing, nor does the case that a question puts; options end a thought.
    case = trace.question.text.partition(",")[0].removeprefix("if ")
    text = OTHER.sub("", text).partition("\n")[0].replace(language.UNSEEN, "")
    text = text.replace(f"{case}.", "")
    wrong = []
    time = ""
    for moment, sentence in SENTENCE.findall(text):
        time = moment or time
        sentence = sentence.strip()
        if sentence.startswith("so it is "):
            right = trace.question.options[trace.question.answer]
            true = {f"so it is {right}."}
        else:
            # Without a time it is said of the frames in general.
            named = [frames[time]] if time in frames else [] if time else frames.values()
            true = set().union(*(true_sentences(scene, frame, trace) for frame in named))
        if sentence not in true:
            wrong.append(f"at {time} {sentence}" if time else sentence)
    return wrong


def true_sentences(scene: Scene, frame: Frame, trace: Trace) -> set[str]:
    """All that the world's language can truly say of a frame."""
    if frame.made == "generated":
        scene = edited(scene, frame.time_s, Edit(**trace.question.truth["edit"]))
    facts: Facts = scene.facts(frame.time_s)
    shapes = [form(facts, s) for s in facts.things for form in (language.thing, language.colour)]
    return {language.wall(facts), language.visitor(facts), language.white(facts), *shapes}
