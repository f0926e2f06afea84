import json

import numpy as np
import pytest

from act2see.faithfulness import SWAPS, SwappedToolbox
from act2see.toolbox import Toolbox, read_call
from act2see.trace import Trace

CALL = read_call(
    json.dumps({"name": "retrieve_frames", "arguments": {"start_s": 4, "end_s": 6}})
)  # fmt: skip


@pytest.mark.parametrize("swap", SWAPS)
def test_the_labels_stay_and_the_pictures_do_not(questions, swap):
    trace, plain = Trace(question=questions[0]), Toolbox()
    swapped = SwappedToolbox(**vars(plain), swap=swap, others=tuple(questions))
    before, after = (box.run(trace, CALL).frames for box in (plain, swapped))
    assert [f.label() for f in after] == [f.label() for f in before]
    for one, other in zip(before, after, strict=True):
        assert one.image().size == other.image().size
        assert np.abs(np.subtract(one.image(), other.image(), dtype=float)).mean() > 1


def test_an_error_text_stays_what_it_is(questions):
    call = read_call('{"name": "retrieve_frames", "arguments": {"start_s": 6, "end_s": 4}}')
    trace = Trace(question=questions[0])
    assert SwappedToolbox().run(trace, call) == Toolbox().run(trace, call)
