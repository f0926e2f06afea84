"""Only the newest evidence stays in sight: FrameMind's way of holding a dialogue.

Works on traces and on whatever policy answers. Knows nothing of models or tools. All that was
thought and called stays; of the frames, those of the previous turn alone, next to the overview: as
reported of FrameMind, which has published no code. The words in place of the others are our choice.
"""

from dataclasses import dataclass

from act2see.interleave import Policy
from act2see.trace import Reply, Trace

GONE = "its frames are out of sight."


def last_evidence(trace: Trace) -> Trace:
    """The trace as it is shown: frames of all evidence but the last calls' replaced by words."""
    kinds = [step.kind for step in trace.steps]
    thoughts = [number for number, kind in enumerate(kinds) if kind == "think"]
    shown = [n for n in thoughts if "evidence" in kinds[n:]]
    newest = shown[-1] if shown else 0
    steps = [
        step.model_copy(update={"frames": [], "text": GONE}) if n < newest and step.frames else step
        for n, step in enumerate(trace.steps)
    ]
    return trace.model_copy(update={"steps": steps})


@dataclass
class LastEvidence:
    """A policy that is shown `last_evidence` of every trace."""

    inner: Policy

    @property
    def name(self) -> str:
        """The inner policy's."""
        return self.inner.name

    def reply(self, traces: list[Trace]) -> list[Reply | None]:
        """The inner policy's next turns."""
        return self.inner.reply([last_evidence(trace) for trace in traces])

    def force(self, traces: list[Trace]) -> list[str | None]:
        """The inner policy's answers."""
        return self.inner.force([last_evidence(trace) for trace in traces])
