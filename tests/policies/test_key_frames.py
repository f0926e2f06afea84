from dataclasses import dataclass, field, replace
from itertools import pairwise

import av
import numpy as np
import pytest

from act2see.interleave import Budget, interleave
from act2see.pocket.key_frames import by_truth
from act2see.policies.key_frames import KeyFrames, by_change, retrieval
from act2see.trace import Question, Reply, Trace
from act2see.video import read_frames
from tests.conftest import TOOLS


@dataclass
class Thinker:
    """Thinks once a turn and answers B; `first` is its first turn."""

    first: Reply = field(default_factory=lambda: Reply("hm", answer="Answer: A"))
    name: str = "thinker"

    def reply(self, traces):
        return [Reply("so", answer="Answer: B") if t.steps else replace(self.first) for t in traces]

    def force(self, traces):
        return ["Answer: C" for _ in traces]


def dialogues(questions, policy):
    traces = interleave(questions, policy, TOOLS, Budget())
    return {trace.question.id: trace for trace in traces}


def kinds(trace):
    return [step.kind for step in trace.steps]


def clip(path, brightness):
    """A video of ten frames a second, each a grey of this brightness."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for level in brightness:
            pixels = np.full((32, 32, 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return str(path)


@pytest.mark.parametrize(
    "first", [Reply("hm", answer="Answer: A"), Reply("on and", truncated=True)]
)
def test_frames_arrive_once_after_the_first_thought(questions, first):
    for trace in dialogues(questions, KeyFrames(Thinker(first), by_change, "seen")).values():
        assert kinds(trace) == ["think", "call", "evidence", "think", "answer"]
        assert trace.steps[0].text == first.thinking and trace.steps[2].frames
        assert (trace.letter(), trace.policy) == ("B", "seen")
        assert not trace.truncated and not trace.forced


def test_the_truth_asks_for_what_settles_the_question(questions):
    traces = dialogues(questions, KeyFrames(Thinker(), by_truth))
    for question in questions:
        trace = traces[question.id]
        if question.family == "static":
            assert kinds(trace) == ["think", "answer"] and trace.letter() == "A"
        elif question.family == "counterfactual":
            (frame,) = trace.steps[2].frames
            assert (frame.made, frame.prompt) == ("generated", question.truth["prompt"])
        else:
            assert trace.calls() == [retrieval(*span) for span in question.truth["windows"]]
            assert trace.failed_calls() == 0


def test_a_dialogue_that_waits_is_left_waiting(questions):
    class Waiting(Thinker):
        def reply(self, traces):
            return [None for _ in traces]

    policy = KeyFrames(Waiting(), by_change)
    assert policy.reply([Trace(question=questions[0])]) == [None]


def test_force_is_the_inner_policys(questions):
    policy = KeyFrames(Thinker(Reply("on and on", truncated=True)), lambda question: [])
    (trace,) = dialogues(questions[:1], policy).values()
    assert trace.letter() == "C" and trace.truncated and kinds(trace) == ["think", "answer"]


def test_the_window_holds_the_greatest_change(questions):
    for question in questions:
        moments_s = np.arange(0, question.duration_s - 0.5, 0.5)
        arrays = [np.asarray(p, float) for p in read_frames(question.video, moments_s)[0]]
        changes = [abs(one - other).mean() for one, other in pairwise(arrays)]
        (call,) = by_change(question)
        start_s = moments_s[int(np.argmax(changes))]
        assert call.arguments["start_s"] == min(start_s, question.duration_s - 2)
        assert call.arguments["end_s"] == call.arguments["start_s"] + 2


@pytest.mark.parametrize("frames", [3, 15, 20])
def test_a_clip_of_at_most_two_seconds_is_looked_at_whole(tmp_path, frames):
    path = clip(tmp_path / "short.mp4", [50] * frames)
    question = Question(text="what is it?", video=path, options=["a", "b", "c"])
    (trace,) = dialogues([question], KeyFrames(Thinker(), by_change)).values()
    assert trace.calls() == [retrieval(0, trace.question.duration_s)]
    assert trace.question.duration_s == pytest.approx(frames / 10)
    assert kinds(trace) == ["think", "call", "evidence", "think", "answer"]


def test_the_window_of_a_late_change_ends_with_the_clip(tmp_path):
    path = clip(tmp_path / "late.mp4", [50] * 28 + [200] * 12)
    question = Question(text="what is it?", video=path, duration_s=4)
    (call,) = by_change(question)
    assert call == retrieval(2, 4)
