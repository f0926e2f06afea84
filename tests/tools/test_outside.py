"""A tool from outside the package: offered, written down, called, shown, counted, drawn, learnt."""

from dataclasses import dataclass

import pytest
from pydantic import Field

from act2see import statistics
from act2see.encoding import encode
from act2see.interleave import Budget, collect
from act2see.store import read_traces
from act2see.tools.retrieve import RetrieveFrames
from act2see.tools.tool import Arguments, CallError, Seconds, Tool, run_call
from act2see.trace import Frame, Reply, Step, Trace
from act2see.trace_figure import trace_figure
from act2see.video import read_frames
from act2see.viewer import frame_viewer


class Corner(Arguments):
    time_s: Seconds
    size: float = Field(gt=0, le=1)


@dataclass(frozen=True)
class CropFrame(Tool):
    name = "crop_frame"
    description = "The upper left corner of the frame at a time; size is its share of the sides."
    arguments = Corner
    setting = "crops"

    def run(self, trace, corner):
        (image,), (time_s,) = read_frames(trace.question.video, [corner.time_s])
        sides = [int(corner.size * side) for side in image.size]
        if min(sides) < 8:
            raise CallError(f"size is {corner.size:g}; at least 8 pixels must be left.")
        return [Frame(time_s=time_s, made="cropped", pixels=image.crop((0, 0, *sides)))]


TOOLS = (RetrieveFrames(), CropFrame())
CROP = Step(kind="call", tool="crop_frame", arguments={"time_s": 5.0, "size": 0.5})
LOOK = Step(kind="call", tool="retrieve_frames", arguments={"start_s": 5.0, "end_s": 5.1})


class Teacher:
    """Crops, looks at the whole frame of the same moment, and answers."""

    name = "crops"

    def reply(self, traces):
        crop, look = Reply("a corner.", [CROP]), Reply("the whole.", [LOOK])
        turns = [crop, look, Reply("", answer="Answer: A")]
        return [turns[sum(step.kind == "think" for step in trace.steps)] for trace in traces]

    def force(self, traces):
        return ["Answer: A" for _ in traces]


@pytest.fixture
def cropped(questions, tmp_path):
    collect(tmp_path / "t.jsonl", questions[:2], Teacher(), TOOLS, Budget(overview_frames=2))
    return read_traces(tmp_path / "t.jsonl")


def test_it_is_called_and_the_whole_frame_may_still_be_retrieved(cropped):
    frames = [frame for step in cropped[0].steps for frame in step.frames]
    assert [(frame.made, frame.time_s) for frame in frames] == [("cropped", 5.0), ("real", 5.0)]
    assert frames[0].image().size == (48, 48) and "crops" in cropped[0].setting


def test_its_limits_are_told_in_words(questions):
    trace = Trace(question=questions[0])
    for arguments, reason in (
        ({"time_s": -1, "size": 0.5}, "time_s is -1; it must lie between 0 and"),
        ({"time_s": 1, "size": 2}, "size is 2"),
        ({"time_s": 1, "size": 0.01}, "at least 8 pixels"),
        ({"time_s": 1}, "crop_frame needs size"),
    ):
        evidence = run_call(TOOLS, trace, Step(kind="call", tool="crop_frame", arguments=arguments))
        assert reason in evidence.text and not evidence.frames


def test_it_is_written_down_and_learnt_like_any_other(cropped, processor):
    trace = cropped[0]
    encoding = encode(trace, processor)
    text = processor.tokenizer.decode(encoding.ids)
    assert "crop_frame" in text.split("<|im_end|>")[0]
    assert "5.0 seconds, cropped" in text
    learnt = processor.tokenizer.decode([t for t in encoding.labels if t >= 0])
    assert "crop_frame" in learnt and "cropped" not in learnt


def test_it_is_counted_drawn_and_shown(cropped):
    scored = [trace.model_copy(update={"similarity": 0.9}) for trace in cropped]
    table = statistics.kept_statistics(scored, 0.8)
    assert table.with_cropped.iloc[-1] == 1 and table.with_frames.iloc[-1] == 1
    notes = [text.get_text() for axes in trace_figure(cropped[0]).axes for text in axes.texts]
    assert any("cropped" in note for note in notes)
    assert "cropped" in cropped[0]._repr_html_() and "cropped" in str(cropped[0])
    frame_viewer(cropped)
