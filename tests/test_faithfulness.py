import numpy as np
import pytest

from act2see.faithfulness import SWAPS, swapped
from act2see.interleave import Budget, setting
from act2see.tools.retrieve import RetrieveFrames
from act2see.tools.tool import run_call
from act2see.trace import Step, Trace

TOOLS = (RetrieveFrames(),)
CALL = Step(kind="call", tool="retrieve_frames", arguments={"start_s": 4, "end_s": 6})


@pytest.mark.parametrize("swap", SWAPS)
def test_the_labels_stay_and_the_pictures_do_not(questions, swap):
    trace = Trace(question=questions[0])
    before, after = (
        run_call(tools, trace, CALL).frames for tools in (TOOLS, swapped(TOOLS, swap, questions))
    )
    assert [f.label() for f in after] == [f.label() for f in before]
    for one, other in zip(before, after, strict=True):
        assert one.image().size == other.image().size
        assert np.abs(np.subtract(one.image(), other.image(), dtype=float)).mean() > 1


def test_an_error_text_stays_what_it_is(questions):
    call = Step(kind="call", tool="retrieve_frames", arguments={"start_s": 6, "end_s": 4})
    trace = Trace(question=questions[0])
    assert run_call(swapped(TOOLS, "grey"), trace, call) == run_call(TOOLS, trace, call)


def test_a_swap_is_named_in_the_setting_and_an_unknown_one_refused():
    (tool,) = swapped(TOOLS, "grey")
    assert tool.schema() == TOOLS[0].schema()
    assert setting((tool,), Budget()).endswith("grey swapped")
    with pytest.raises(ValueError, match="swap is 'noise'; it must be one of: time, clip, grey"):
        swapped(TOOLS, "noise")
