"""A dialogue as turns to learn from: each token that the assistant said, once, behind what it saw.

Works on a `Trace` and a processor. Knows nothing of losses or rewards. Our choice.
"""

from dataclasses import replace

from transformers import ProcessorMixin

from act2see.encoding import Encoding, encode, encode_forced
from act2see.policies.last_evidence import last_evidence
from act2see.trace import Trace


def turns(
    trace: Trace, processor: ProcessorMixin, system: str = "", forgets: bool = False
) -> list[Encoding]:
    """What was said in the dialogue, labelled, each token once, behind what it followed.

    One encoding, unless the dialogue `forgets`: then a turn has its own. A letter that the loop
    asked for was not said.
    """
    whole = encode
    if trace.forced and trace.steps[-1].kind == "answer":
        trace = trace.model_copy(update={"steps": trace.steps[:-1]})
        whole = _encode_cut
    if not forgets:
        return [whole(trace, processor, system=system)]
    begins = [n for n, step in enumerate(trace.steps) if step.kind == "think"]
    encodings = []
    for begin, end in zip(begins, [*begins[1:], len(trace.steps)], strict=True):
        before = last_evidence(trace.model_copy(update={"steps": trace.steps[:begin]}))
        spoken = [step for step in trace.steps[begin:end] if step.kind != "evidence"]
        turn = before.model_copy(update={"steps": before.steps + spoken})
        way = whole if end == len(trace.steps) else encode
        encoding = way(turn, processor, system=system)
        known = len(encode(before, processor, True, system).ids)
        encoding.labels[:known] = [-100] * known
        encodings.append(encoding)
    return encodings


def _encode_cut(trace: Trace, processor: ProcessorMixin, system: str = "") -> Encoding:
    """The trace up to its last thought; what the loop wrote behind it was not said."""
    *before, thought = trace.steps
    known = encode(trace.model_copy(update={"steps": before}), processor, True, system)
    said = processor.tokenizer.encode(thought.text)
    encoding = encode_forced(trace, processor, system)
    end = len(known.ids) + len(said)
    return replace(encoding, labels=encoding.labels[:end] + [-100] * (len(encoding.ids) - end))
