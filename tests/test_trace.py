import pytest
from PIL import Image

from act2see.style import BLUE, ORANGE
from act2see.tools.retrieve import RetrieveFrames
from act2see.trace import Frame, Question, Step, Trace, read_letter


def question() -> Question:
    return Question(
        id="q", source="s", family="f", video="v.mp4", duration_s=9, text="which?",
        options=["red", "blue"], answer=1,
    )  # fmt: skip


def trace() -> Trace:
    picture = Image.new("RGB", (4, 4), "red")
    seen = Step(kind="evidence", frames=[Frame(time_s=3, pixels=Image.new("RGB", (4, 4), "blue"))])
    return Trace(
        question=question(),
        overview=[Frame(time_s=1, pixels=picture), Frame(time_s=2, pixels=picture)],
        tools=[RetrieveFrames().schema()],
        steps=[
            Step(kind="think", text="look"),
            Step(kind="call", tool="retrieve_frames", arguments={"start_s": 3.0, "end_s": 4.0}),
            seen,
            Step(kind="think", text="blue"),
            Step(kind="answer", text="Answer: B"),
        ],
    )


def test_a_label_says_what_made_a_frame():
    assert Frame(time_s=3, made="generated").label() == "<3.0 seconds, generated>"
    assert Frame(time_s=3, made="cropped").label() == "<3.0 seconds, cropped>"
    assert Frame(time_s=3).label() == "<3.0 seconds>"


@pytest.mark.parametrize(
    ("said", "letter"),
    [
        ("Answer: B", "B"), ("Answer: (B)", "B"), ("Answer: A\nno. Answer: B", "B"),
        ("A man walks", ""), ("Answer: D", ""), ("Answer: Bob", ""), ("", ""),
    ],
)  # fmt: skip
def test_letters_are_read_strictly(said, letter):
    assert read_letter(said, 2) == letter


def test_right_and_wrong():
    assert trace().correct()
    assert not Trace(question=question()).correct()


def test_more_options_than_letters_are_refused():
    with pytest.raises(ValueError, match="at most 10"):
        Question(video="v.mp4", text="which?", options=list("abcdefghijk"))


def test_text_and_video_make_a_question_with_an_id_that_follows_from_them():
    one = Question(video="v.mp4", text="which?")
    same = Question(video="v.mp4", text="which?")
    other = Question(video="v.mp4", text="which?", options=["a", "b"])
    assert one.id == same.id != other.id and one.answer == -1 and one.duration_s == 0


def test_a_trace_prints_as_a_transcript():
    text = str(trace())
    names = [line.split()[0] for line in text.splitlines() if not line.startswith(" ")]
    assert names == "question overview think call evidence think answer verdict".split()
    assert "retrieve_frames(start_s=3.0, end_s=4.0)" in text and "<1.0 seconds> <2.0" in text
    assert "\n" not in repr(trace())


def test_a_trace_in_a_notebook_shows_its_frames_and_escapes_its_words():
    whole = trace()
    whole.steps[0].text = "<script>alert(1)</script>"
    page = whole._repr_html_()
    assert page.count("data:image/jpeg;base64,") == 3
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert "alt='3.0 seconds'" in page and "✓ right" in page
    assert page.count(f"2px solid {BLUE}") == 2 and page.count(f"4px solid {ORANGE}") == 1


THINK = Step(kind="think", text="look")
CALL = Step(kind="call", tool="retrieve_frames", arguments={"start_s": 3.0, "end_s": 4.0})
SHOWN = Step(kind="evidence", frames=[Frame(time_s=3)])
TOLD = Step(kind="evidence", text="start_s is 9; it must lie between 0 and 4.")
ANSWER = Step(kind="answer", text="Answer: B")


@pytest.mark.parametrize(
    "steps",
    [
        [THINK, ANSWER],
        [THINK, CALL, SHOWN, THINK, ANSWER],
        [THINK, CALL, CALL, SHOWN, TOLD, THINK, CALL, SHOWN, THINK, ANSWER],
        [THINK, Step(kind="call", text="{"), TOLD, THINK, ANSWER],
    ],
)
def test_a_trace_of_thoughts_calls_and_one_answer_is_well_formed(steps):
    assert Trace(question=question(), steps=steps).well_formed()


@pytest.mark.parametrize(
    ("steps", "changed"),
    [
        ([], {}),
        ([THINK], {}),
        ([ANSWER], {}),
        ([THINK, ANSWER, ANSWER], {}),
        ([THINK, Step(kind="answer", text="it is blue")], {}),
        ([THINK, Step(kind="answer", text="Answer: C")], {}),  # of two options
        ([THINK, CALL, THINK, ANSWER], {}),
        ([THINK, CALL, CALL, SHOWN, THINK, ANSWER], {}),
        ([THINK, CALL, SHOWN, ANSWER], {}),
        ([THINK, ANSWER], {"forced": True}),
        ([THINK, ANSWER], {"truncated": True}),
        ([THINK, ANSWER], {"failed": "refused"}),
    ],
)
def test_a_trace_that_lacks_a_part_or_was_cut_or_forced_is_not_well_formed(steps, changed):
    assert not Trace(question=question(), steps=steps, **changed).well_formed()
