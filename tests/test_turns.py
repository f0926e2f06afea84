from itertools import chain

import pytest

from act2see.encoding import encode
from act2see.interleave import Budget, interleave
from act2see.policies.last_evidence import GONE, LastEvidence
from act2see.policies.qwen import QwenPolicy
from act2see.profiles import PROFILES
from act2see.student import load_processor, load_student
from act2see.turns import Recorder, turns
from tests.conftest import written

POCKET = PROFILES["pocket"]


def learned(encodings):
    return [label for encoding in encodings for label in encoding.labels if label != -100]


def test_turns_as_they_are_written_are_one_encoding(processor, traces):
    for trace in traces:
        whole = encode(trace, processor)
        (encoding,) = turns(trace, written(trace, processor), processor)
        # What stands behind the last turn is neither said nor shown.
        assert whole.ids[: len(encoding.ids)] == encoding.ids
        assert learned([encoding]) == learned([whole])
        assert encoding.grids == whole.grids


def test_what_was_drawn_is_learned_and_not_how_it_is_written_down(processor, traces):
    trace = next(t for t in traces if t.calls())
    said = written(trace, processor)
    letters = [token for letter in "red" for token in processor.tokenizer.encode(letter)]
    said[0] = [*letters, *said[0]]
    parts = turns(trace, said, processor)
    assert len(parts) == 2  # the second turn was shown other tokens
    assert learned(parts) == [*chain(*said)]
    shown = encode(trace.model_copy(update={"steps": []}), processor, reply_next=True)
    assert parts[0].ids == shown.ids + said[0]


def test_what_is_out_of_sight_is_not_encoded_and_each_token_is_learned_once(processor, traces):
    once = next(t for t in traces if t.calls())
    trace = once.model_copy(update={"steps": [*once.steps[:3], *once.steps]})
    assert len(trace.calls()) == 2
    said = written(trace, processor)
    parts = turns(trace, said, processor, forgets=True)
    assert len(parts) == 2  # nothing is out of sight before the third turn
    assert learned(parts) == [*chain(*said)]
    assert [len(part.images) for part in parts] == [len(once.frames()), len(once.frames())]
    assert GONE in processor.tokenizer.decode(parts[-1].ids)


@pytest.mark.parametrize("forgets", [False, True])
def test_every_token_drawn_is_learned_behind_what_the_student_was_shown(questions, forgets):
    """Drawn hot, so that names are misspelt and turns run on."""
    processor = load_processor(POCKET.student)
    model = load_student(POCKET.student, POCKET.adapter, four_bit=False)
    student = QwenPolicy(model, processor, max_new_tokens=150, temperature=1.5, seed=3)
    fed = []
    feed = student._feed
    student._feed = lambda traces, encodings, more=0: (
        fed.extend(tuple(e.ids) for e in encodings if more) or feed(traces, encodings, more)
    )
    recorder = Recorder(LastEvidence(student) if forgets else student)
    # Counted from traces that live: another could have the id of one that does not.
    done = list(interleave(questions, recorder, POCKET.tools, Budget(max_calls=2)))
    assert any(trace.forced for trace in done)
    for trace in done:
        said = recorder.said[id(trace)]
        parts = turns(trace, said, processor, forgets=forgets)
        assert learned(parts) == [*chain(*said)]
        for part in parts:
            ends = [n for n, (a, b) in enumerate(zip(part.labels, part.labels[1:], strict=False))
                    if a == -100 and b != -100]  # fmt: skip
            assert all(tuple(part.ids[: end + 1]) in fed for end in ends)
        assert not {*learned(parts)} & {*student.undrawn}
