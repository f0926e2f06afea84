"""ReWatch-R1's chains in the pocket world: actions and observations that the model writes itself.

Works on traces about pocket questions. Knows nothing of models. Nothing is executed: a chain is one
thought, with `<action>…</action><observation>…</observation>` in it, in front of the answer (as
reported of ReWatch-R1). The scene stands in for its detailed captions, so that its two rewards are
rules here and need no judge. The rules and the chains' words are our choice.
"""

import re

from act2see.pocket import language
from act2see.pocket.claims import SENTENCE, true_sentences
from act2see.pocket.oracle import OraclePolicy
from act2see.pocket.turn import Turn
from act2see.pocket.world import sample_scene
from act2see.trace import Frame, Step, Trace

STEP = re.compile(r"<action>(.*?)</action>\s*<observation>(.*?)</observation>", re.S)
RIGHT = OraclePolicy(wrong_window=0, misread=0, jump=0, wander=0)


def with_chain(trace: Trace) -> Trace:
    """The trace with the chain of someone who reads the overview and errs nowhere."""
    turn = Turn(trace, RIGHT)
    if trace.question.family == "static":
        reply = turn.reply()
        return _answered(trace, reply.thinking, reply.answer)
    texts = []
    if turn.kind == "search":
        wall = turn.scene.wall_at(turn.scene.wall_change_s)
        action = f"segment_retrieval(the wall turns {wall})"
        texts.append(_step(action, language.span(*turn.windows[0])))
    seen: list[Frame] = []
    for start_s, end_s in turn.windows:
        frames = [f for f in trace.overview if start_s - 0.06 < f.time_s < end_s + 0.06]
        seen += frames
        action = f"segment_query({start_s:.1f}, {end_s:.1f})"
        texts.append(_step(action, turn.timeline(turn.kind, frames)))
    known = trace.model_copy(update={"steps": [Step(kind="evidence", frames=seen)]})
    reply = Turn(known, RIGHT).conclude("", Turn(known, RIGHT).revealed())
    return _answered(trace, " ".join([*texts, reply.thinking]), reply.answer)


def _step(action: str, observation: str) -> str:
    return f"<action>{action}</action><observation>{observation}</observation>"


def _answered(trace: Trace, thinking: str, answer: str) -> Trace:
    steps = [Step(kind="think", text=thinking), Step(kind="answer", text=answer)]
    return trace.model_copy(update={"steps": steps})


def observations(trace: Trace) -> list[tuple[str, str]]:
    """The chain's steps: action and observation."""
    return STEP.findall(trace.reasoning())


def observed(trace: Trace) -> float:
    """The share of observations that the scene bears out, 0 where there are none."""
    scene = sample_scene(trace.question.truth["seed"])
    verdicts = [_true(text, scene, trace) for _, text in observations(trace)]
    return sum(verdicts) / len(verdicts) if verdicts else 0.0


def _true(text: str, scene: object, trace: Trace) -> bool:
    """Whether each of its sentences is true at the time that it names; a span is of the change."""
    if span := re.fullmatch(r"between (\d+\.\d) and (\d+\.\d)", text.strip()):
        return float(span[1]) <= scene.wall_change_s <= float(span[2])
    time = ""
    sentences = SENTENCE.findall(text)
    for moment, sentence in sentences:
        time = moment or time
        if not time or float(time) > trace.question.duration_s:
            return False
        # A label has one decimal, and what is brief may begin or end within its rounding.
        moments_s = [max(float(time) + shift_s, 0) for shift_s in (-0.05, 0, 0.05)]
        true = [true_sentences(scene, Frame(time_s=moment_s), trace) for moment_s in moments_s]
        if sentence.strip() not in set().union(*true):
            return False
    return bool(sentences)


def reasoned(trace: Trace) -> float:
    """1 where the chain alone leads to the right answer, whatever was answered, else 0.

    What it leads to: of the options, the first that an observation says, and, of what turns white,
    `neither` where all observations say that none does.
    """
    question = trace.question
    text = " ".join(text for _, text in observations(trace))
    if question.family != "order":
        named = [option for option in question.options if f" {option}" in text]
        return float(named == [question.options[question.answer]])
    first = re.search(r"the ([\w ]+?) (?:is|are) white", text)
    shapes = [option for option in question.options if first and f" {option}" in f" {first[1]}"]
    told = "both" if len(shapes) == 2 else shapes[0] if shapes else "neither"
    return float("white" in text and told == question.options[question.answer])
