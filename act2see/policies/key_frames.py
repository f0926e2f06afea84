"""Key frames put in: a policy that is shown frames after its first thought, and never asks itself.

Works on another policy, and on a function that picks the frames of a question. Knows nothing of
models or of how frames are read: what it picks goes through the loop as calls. Inference-only
interleaving is ViTCoT's (BRZ911/ViTCoT), which chooses key frames beforehand and puts them in at a
second prompt; it is a baseline of the paper. Choosing them by change is our choice.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from act2see.interleave import Policy
from act2see.trace import Question, Reply, Step, Trace
from act2see.video import VideoError, read_frames

WINDOW_S = 2.0
MOMENTS_S = 0.5  # between the pictures that are compared
MAX_SIDE_PX = 224  # of these: enough to see a change, and an hour of video fits in memory


@dataclass(frozen=True)
class KeyFrames:
    """The policy `inner`, handed the frames that `choose` picks once it has thought.

    choose: a question -> the calls that bring its key frames; of none, `inner` goes on alone.
    """

    inner: Policy
    choose: Callable[[Question], list[Step]]
    name: str = "key frames"

    @property
    def setting(self) -> str:
        """What shapes the inner policy's turns."""
        return getattr(self.inner, "setting", "")

    def reply(self, traces: list[Trace]) -> list[Reply | None]:
        """The inner policy's turns; the first of a trace ends in the calls for its key frames."""
        replies = self.inner.reply(traces)
        for trace, reply in zip(traces, replies, strict=True):
            if not reply or trace.calls():
                continue
            try:
                calls = self.choose(trace.question)
            except VideoError as error:
                trace.failed = str(error)
                continue
            if calls:
                reply.calls = calls
                reply.answer = ""
                # A thought that was cut off would end the dialogue before the frames come.
                reply.truncated = False
        return replies

    def force(self, traces: list[Trace]) -> list[str]:
        """The inner policy's answers."""
        return self.inner.force(traces)


def by_change(question: Question) -> list[Step]:
    """A call for the 2 s in which the picture changes most; of a shorter clip, for all of it."""
    start_s = 0.0
    if question.duration_s > WINDOW_S:
        moments_s = np.arange(0, question.duration_s - MOMENTS_S, MOMENTS_S)
        pictures, _ = read_frames(question.video, moments_s, MAX_SIDE_PX)
        pairs = pairwise(pictures)
        changes = [np.abs(np.subtract(one, other, dtype=float)).mean() for one, other in pairs]
        # A change close to the end would otherwise ask for moments after it.
        start_s = min(float(moments_s[np.argmax(changes)]), question.duration_s - WINDOW_S)
    return [retrieval(start_s, min(start_s + WINDOW_S, question.duration_s))]


def retrieval(start_s: float, end_s: float) -> Step:
    """The call for the frames of a window."""
    return Step(kind="call", tool="retrieve_frames", arguments={"start_s": start_s, "end_s": end_s})
