"""A dialogue as turns to learn from: each token that the assistant said, once, behind what it saw.

Works on traces, the tokens of their turns and a processor. Knows nothing of losses or rewards. A
turn is learned by the tokens that were drawn: its text, written down again, may have others, which
nobody drew. Our choice.
"""

from dataclasses import replace

from transformers import ProcessorMixin

from act2see.encoding import Encoding, encode
from act2see.interleave import Policy
from act2see.policies.last_evidence import last_evidence
from act2see.trace import Reply, Trace


class Recorder:
    """A policy that notes the tokens of each turn in `said`, by the trace's `id`."""

    def __init__(self, inner: Policy):
        self.inner = inner
        self.name = inner.name
        self.said: dict[int, list[list[int]]] = {}

    def reply(self, traces: list[Trace]) -> list[Reply | None]:
        """The inner policy's next turns."""
        replies = self.inner.reply(traces)
        for trace, reply in zip(traces, replies, strict=True):
            if reply:
                self.said.setdefault(id(trace), []).append(reply.tokens)
        return replies

    def force(self, traces: list[Trace]) -> list[str | None]:
        """The inner policy's answers."""
        return self.inner.force(traces)


def turns(
    trace: Trace,
    said: list[list[int]],
    processor: ProcessorMixin,
    system: str = "",
    forgets: bool = False,
) -> list[Encoding]:
    """The tokens of all turns, labelled, each behind what the assistant was shown.

    said: the tokens of each turn. One encoding where a turn follows on the tokens of those before;
    a new one where what was shown reads otherwise: other tokens for the same text, or frames that
    the dialogue `forgets`. A letter that the loop asked for was not said.
    """
    begins = [n for n, step in enumerate(trace.steps) if step.kind == "think"]
    encodings: list[Encoding] = []
    for begin, tokens in zip(begins, said, strict=True):
        before = trace.model_copy(update={"steps": trace.steps[:begin]})
        before = last_evidence(before) if forgets else before
        shown = encode(before, processor, True, system)
        labels = [-100] * len(shown.ids)
        if encodings and shown.ids[: len(encodings[-1].ids)] == encodings[-1].ids:
            earlier = encodings.pop().labels
            labels[: len(earlier)] = earlier
        encodings.append(replace(shown, ids=shown.ids + tokens, labels=labels + tokens))
    return encodings
