from act2see.policies.last_evidence import GONE
from act2see.turns import turns


def test_what_the_loop_wrote_to_ask_for_a_letter_is_not_learned(processor, traces):
    trace = traces[0].model_copy(update={"forced": True})
    (encoding,) = turns(trace, processor)
    spoken = processor.tokenizer.decode([x for x in encoding.labels if x != -100])
    assert spoken == trace.steps[-2].text
    assert processor.tokenizer.decode(encoding.ids).endswith("Answer:")


def test_what_is_out_of_sight_is_not_encoded_and_each_token_is_learned_once(processor, traces):
    once = next(t for t in traces if t.calls())
    trace = once.model_copy(update={"steps": [*once.steps[:3], *once.steps]})
    assert len(trace.calls()) == 2
    parts = turns(trace, processor, forgets=True)
    (whole,) = turns(trace, processor)
    assert len(parts) == 1 + len(trace.calls())
    spoken = [x for part in parts for x in part.labels if x != -100]
    assert spoken == [x for x in whole.labels if x != -100]
    frames = [len(step.frames) for step in trace.steps if step.kind == "evidence"]
    assert [len(part.images) - len(trace.overview) for part in parts] == [0, *frames]
    assert GONE in processor.tokenizer.decode(parts[-1].ids)
