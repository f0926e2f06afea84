"""The paper's dialogue with the real classes: BLIP-2 searches, Stable Diffusion 3 draws.

The students are a Qwen3-VL as published, its weights random, and the shipped base. What they say is
nonsense, so that their calls are put into their mouths.
"""

from dataclasses import dataclass

import pytest

from act2see.dialects.dialect import PICTURE, spaced
from act2see.encoding import encode
from act2see.interleave import Budget, interleave
from act2see.policies.qwen import QwenPolicy
from act2see.student import load_processor, load_student
from act2see.tools.search import ImagineFrame, SearchFrame
from act2see.trace import Step, Trace
from tests import tiny
from tests.policies.naive import Naive, Scripted

TOKENS = 24  # a turn
SEARCH = Step(kind="call", tool="retrieve", arguments={"query": "the red disc"})
DRAW = Step(kind="call", tool="generate", arguments={"query": "a blue disc"})
AGAIN = Step(kind="call", tool="retrieve", arguments={"query": "the disc at the wall"})
BAD = Step(kind="call", tool="retrieve", arguments={"query": ""})
SCRIPTS = ([SEARCH], [DRAW], [DRAW, SEARCH, AGAIN], [BAD, SEARCH], [])


@dataclass
class Student:
    """A model and its processor."""

    model: object
    processor: object


@pytest.fixture(scope="module", params=["published", "shipped"])
def student(request, base, processor, tmp_path_factory):
    """The student of this kind."""
    if request.param == "shipped":
        return Student(base, processor)
    folder = tiny.qwen3_vl(tmp_path_factory.mktemp("student"))
    return Student(load_student(folder, four_bit=False), load_processor(folder))


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    """Search and drawing, with their models in memory."""
    blip2 = tiny.blip2(tmp_path_factory.mktemp("blip2"))
    sd3 = tiny.sd3(tmp_path_factory.mktemp("sd3"))
    options = {"num_inference_steps": 2, "strength": 0.7}
    imagine = ImagineFrame(generator=sd3, options=options, retriever=blip2)
    return SearchFrame(retriever=blip2).loaded(), imagine.loaded()


def dialogues(policy, questions, tools, **budget) -> list[Trace]:
    """One finished dialogue a script, in their order."""
    asked = questions[: len(SCRIPTS)]
    script = {question.id: calls for question, calls in zip(asked, SCRIPTS, strict=True)}
    limits = Budget(dialect="tags", **budget)
    done = interleave(asked, Scripted(policy, script), tools, limits)
    by_id = {trace.question.id: trace for trace in done}
    return [by_id[question.id] for question in asked]


@pytest.fixture(scope="module", params=[1, 3])
def finished(request, student, tools, questions):
    """What the policy did, several dialogues at once, with so many calls allowed."""
    policy = QwenPolicy(student.model, student.processor, max_new_tokens=TOKENS)
    return dialogues(policy, questions, tools, max_calls=request.param), request.param


def test_every_call_brings_its_frame_and_what_is_over_the_budget_does_not(finished):
    traces, allowed = finished
    for trace, calls in zip(traces, SCRIPTS, strict=True):
        made = [step for step in trace.steps if step.kind == "call"][: len(calls)]
        assert made == calls[: len(made)]
        shown = [step for step in trace.steps if step.kind == "evidence"]
        for number, (call, step) in enumerate(zip(calls, shown, strict=False)):
            kinds = [frame.made for frame in step.frames]
            drawn = "generated" if call.tool == "generate" else "real"
            assert kinds == [drawn] * (number < allowed and call is not BAD)
        assert trace.steps[-1].kind == "answer"


def test_turns_are_prefixes_and_every_frame_keeps_its_place(finished, student):
    for trace in finished[0]:
        whole = encode(trace, student.processor)
        merged = student.processor.image_processor.merge_size**2
        places = sum(rows * columns // merged for _, rows, columns in whole.grids)
        assert whole.images == [frame.image() for frame in trace.frames()]
        assert whole.ids.count(student.processor.image_token_id) == places
        for count in (i for i, step in enumerate(trace.steps) if step.kind == "think"):
            opened = trace.model_copy(update={"steps": trace.steps[:count]})
            fed = encode(opened, student.processor, reply_next=True).ids
            assert whole.ids[: len(fed)] == fed


def spans(trace: Trace) -> list[tuple[str, bool]]:
    """The assistant's turn by hand, and what is to be learnt: what was said and not refused."""
    found = []
    for step in trace.steps:
        if step.kind == "think":
            # Random weights say control tokens, too.
            found.append((spaced(step.text), True))
        elif step.kind == "call" and step.tool:
            found.append((f"\n<{step.tool}> {step.arguments['query']} </{step.tool}>", True))
        elif step.kind == "call":
            found.append((f"\n{spaced(step.text)}", True))
        elif step.kind == "evidence":
            pictures = "".join(frame.label() + PICTURE for frame in step.frames)
            if not pictures:
                found[-1] = (found[-1][0], False)
            found.append((f"<frame>{pictures or step.text}</frame>\n", False))
        else:
            letter = step.text.removeprefix("Answer: ")
            found.append((f"\n</think>\n\n<answer> {letter} </answer>", True))
    return [*found, ("<|im_end|>", True), ("\n", False)]


def test_what_was_said_and_not_refused_is_trained_and_nothing_else(finished, student):
    encode_text = student.processor.tokenizer.encode
    picture = student.processor.image_token_id
    for trace in finished[0]:
        encoding = encode(trace, student.processor)
        opened = trace.model_copy(update={"steps": []})
        prompt = len(encode(opened, student.processor, reply_next=True).ids)
        assert encoding.labels[:prompt] == [-100] * prompt
        ids, labels = [], []
        for text, said in spans(trace):
            tokens = encode_text(text, add_special_tokens=False)
            ids += tokens
            labels += tokens if said else [-100] * len(tokens)
        # By hand a picture is one token.
        rest = [*zip(encoding.ids, encoding.labels, strict=True)][prompt:]
        kept = [p for i, p in enumerate(rest) if p[0] != picture or rest[i - 1][0] != picture]
        assert kept == [*zip(ids, labels, strict=True)]


def test_cached_and_batched_says_what_a_loop_that_sends_all_again_says(
    finished, student, tools, questions
):
    traces, allowed = finished
    naive = Naive(student.model, student.processor, TOKENS)
    others = dialogues(naive, questions, tools, max_calls=allowed, open_dialogues=1)
    for ours, theirs in zip(traces, others, strict=True):
        pairs = zip(ours.steps, theirs.steps, strict=True)
        # The letter of a forced answer is each policy's own.
        assert all(a.text == b.text or a.kind == "answer" for a, b in pairs)
        times = [[frame.time_s for frame in trace.frames()] for trace in (ours, theirs)]
        assert times[0] == times[1]
