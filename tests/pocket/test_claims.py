"""Every sentence of the picture that opens the README holds, and false ones are found."""

from pathlib import Path

from act2see.figures import save
from act2see.pocket.claims import false_claims
from act2see.pocket.example import example_question, example_video
from act2see.store import read_traces
from act2see.trace_figure import trace_figure
from act2see.video import probe, read_frames

FIGURES = Path(__file__).parents[2] / "figures"


def test_the_readmes_picture_is_of_the_example_and_every_sentence_is_true_of_its_frame():
    (trace,) = read_traces(FIGURES / "trace.jsonl")
    question = example_question()
    assert trace.question == question.model_copy(update={"video": example_video().name})
    assert false_claims(trace) == [] and trace.correct() and trace.calls()
    for frame in trace.frames():
        (picture,), _ = read_frames(example_video(), [frame.time_s])
        assert picture.tobytes() == frame.image().tobytes()


def test_the_readmes_picture_is_drawn_from_its_trace(tmp_path):
    (trace,) = read_traces(FIGURES / "trace.jsonl")
    save(trace_figure(trace), tmp_path / "trace")
    for kind in ("png", "pdf"):
        drawn = (tmp_path / f"trace.{kind}").read_bytes()
        assert drawn == (FIGURES / f"trace.{kind}").read_bytes()


def test_the_shipped_clip_is_the_scenes_and_lasts_as_long():
    assert probe(example_video()).duration_s == example_question().duration_s


def test_the_faultless_teacher_says_nothing_false(traces):
    assert [false_claims(trace) for trace in traces] == [[]] * len(traces)


def test_a_false_sentence_is_found_and_so_is_one_about_a_frame_that_was_not_shown():
    (trace,) = read_traces(FIGURES / "trace.jsonl")
    trace.steps[0].text = "at 1.5 the wall is dark. at 4.5 the wall is light. at 5.0 no visitor."
    assert false_claims(trace) == ["at 1.5 the wall is dark.", "at 5.0 no visitor."]
    trace.steps[-2].text = "so it is blue.\nB) blue yes"
    assert false_claims(trace)[-1].endswith("so it is blue.")
