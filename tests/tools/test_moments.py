import pytest

from act2see.tools.moments import FrameAt, VideoClip
from act2see.tools.tool import run_call
from act2see.trace import Step, Trace

TOOLS = (FrameAt(), VideoClip(frames_per_call=5, rate_hz=2.0))


def ask(question, tool, **arguments):
    trace = Trace(question=question)
    return run_call(TOOLS, trace, Step(kind="call", tool=tool, arguments=arguments))


def test_the_frame_at_a_moment(questions):
    (frame,) = ask(questions[0], "frame_at", time_s=7.2).frames
    assert frame.time_s == pytest.approx(7.2, abs=0.1) and frame.made == "real"


def test_a_clip_has_frames_at_an_even_rate(questions):
    frames = ask(questions[0], "video_clip", start_s=3.0, end_s=5.0).frames
    assert [frame.time_s for frame in frames] == pytest.approx([3, 3.5, 4, 4.5, 5], abs=0.1)


def test_a_moment_outside_the_clip_is_answered_with_the_limit(questions):
    evidence = ask(questions[0], "frame_at", time_s=9999.0)
    assert "time_s is 9999; it must lie between 0 and" in evidence.text
