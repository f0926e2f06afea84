"""What several tests share: a few questions with their clips, made once, and the shipped base."""

from dataclasses import replace

import pytest

from act2see.encoding import encode
from act2see.interleave import Budget, interleave
from act2see.pocket.oracle import OraclePolicy
from act2see.pocket.questions import pocket_questions
from act2see.profiles import PROFILES
from act2see.student import load_processor, load_student

BASE = PROFILES["pocket"].student
RETRIEVE, GENERATE = PROFILES["imagine"].tools
TOOLS = (RETRIEVE, replace(GENERATE, generator=lambda frame, prompt: frame))


@pytest.fixture(scope="session")
def questions(tmp_path_factory):
    """Ten questions, two of each family, with clips on disk."""
    clips = tmp_path_factory.mktemp("clips")
    return pocket_questions("validation", 123, 10, clips, PROFILES["imagine"].families)


@pytest.fixture(scope="session")
def traces(questions):
    """The faultless teacher's traces of `questions`, in their order."""
    teacher = OraclePolicy(wrong_window=0, misread=0, jump=0, wander=0)
    done = {t.question.id: t for t in interleave(questions, teacher, TOOLS, Budget())}
    return [done[q.id] for q in questions]


@pytest.fixture(scope="session")
def processor():
    return load_processor(BASE)


@pytest.fixture(scope="session")
def base():
    """The shipped base model, not quantised."""
    return load_student(BASE, four_bit=False)


def written(trace, processor):
    """The tokens of each turn of a trace that nobody drew, as they are written down."""
    encoding = encode(trace, processor)
    said, before = [], -100
    for label in encoding.labels:
        if label != -100:
            said += [[]] if before == -100 else []
            said[-1].append(label)
        before = label
    return said
