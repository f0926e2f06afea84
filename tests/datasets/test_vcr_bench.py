import json

import pytest

from act2see.datasets import vcr_bench
from act2see.datasets.vcr_bench import overlap, read_answer, span_s, step_share
from act2see.pocket.world import sample_scene, write_clip
from act2see.trace import Step, Trace

EMPTY = dict.fromkeys("ABCD", "")
SEEN, DEDUCED, BACKGROUND = (
    "Video Description Steps", "Logical Inference Steps", "Background Review Steps",
)  # fmt: skip


def record(number: int, answer: str, choices: dict = EMPTY, **changed) -> dict:
    return {
        "id": number,
        "video_path": f"video/some/{number % 2}.mp4",
        "duration": 8,
        "dimension": "Time" if number < 2 else "Space",
        "question": "What falls?",
        "multiple-choice": choices is not EMPTY,
        "choices": choices,
        "answer": answer,
        "reasoning": ["1. 0:01-0:02, a cup tilts.", "2. So the cup falls."],
    } | changed


RECORDS = [
    record(0, "B", {"A": "a cat", "B": "a cup", "C": "a man", "D": "it"},
           question="What falls?A. a cat\nB. a cup\nC. a man\nD. it\n"),
    record(1, "The cup"),
    record(2, "[0,11]", question="When does it fall?"),
    record(3, "[10, 10, 50, 50]", question="Where is it?"),
]  # fmt: skip
ANSWERS = ["Answer: B", "Answer: a cup", "Answer: [0, 7]", "Answer: [10, 10, 50, 45]"]
# Per record what a judge says of the reference steps and of the solution's steps.
RECALL = [
    [(SEEN, "Matched"), (DEDUCED, "Unmatched"), (BACKGROUND, "Unmatched")],
    [(SEEN, "Matched"), (DEDUCED, "Unmatched")],
    [(SEEN, "Matched"), (SEEN, "Matched"), (DEDUCED, "Unmatched")],
    [(SEEN, "Matched"), (SEEN, "Unmatched"), (DEDUCED, "Unmatched")],
]
PRECISION = [
    [(SEEN, "Matched"), (BACKGROUND, "Wrong")],
    [(SEEN, "Matched"), (DEDUCED, "Redundant")],
    [(DEDUCED, "Wrong")],
    [(SEEN, "Matched"), (DEDUCED, "Matched")],
]


def judge(prompt: str) -> str:
    """Knows the four records by their solution, as a model behind a server would not."""
    if prompt.startswith("Do two answers"):
        return "Yes." if "Other: a cup" in prompt else "no"
    number = next(i for i, text in enumerate(ANSWERS) if text in prompt)
    steps = (RECALL if "Unmatched" in prompt else PRECISION)[number]
    fields = [{"step": "…", "step_type": kind, "judgment": word} for kind, word in steps]
    return f"```json\n{json.dumps(fields)}\n```"


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vcr")
    for name in "01":
        write_clip(sample_scene(5), folder / f"{name}.mp4")
    (folder / "meta.json").write_text(json.dumps(RECORDS))
    loaded = vcr_bench.load(folder / "meta.json", folder)
    assert not loaded.missing
    return loaded.questions


def answered(question, text: str) -> Trace:
    return Trace(question=question, steps=[Step(kind="answer", text=text)])


def test_every_kind_of_answer_is_asked_for_in_its_form(questions):
    assert [q.truth["kind"] for q in questions] == ["choice", "text", "span", "box"]
    assert questions[0].prompt() == "What falls?\nA) a cat\nB) a cup\nC) a man\nD) it"
    assert all(q.options == [] and "`Answer: " in q.text for q in questions[1:])
    rows = [{k: v for k, v in q.truth.items() if k != "kind"} for q in questions]
    assert rows == RECORDS


def test_the_published_scores_of_four_records(questions):
    traces = [answered(*pair) for pair in zip(questions, ANSWERS, strict=True)]
    table = vcr_bench.scores("mine", traces, "p", judge).set_index("family")
    assert table.accuracy["all"] == 0.75  # the span's IoU is 7/11, below 0.7
    assert table.accuracy.to_dict() == {"Time": 1, "Space": 0.5, "all": 0.75}
    steps = vcr_bench.step_scores(traces, judge)
    assert (steps["precision"], steps["recall"], steps["f1"]) == (0.75, 0.5, pytest.approx(0.6))
    assert (steps["n"], steps["unjudged"]) == (4, 0)


def test_parsers_side_by_side(questions):
    choice, text, span, box = questions
    assert read_answer(choice, "A man falls") == "" == read_answer(span, "from [0, 9]")
    assert read_answer(choice, "a man", lenient=True) == "C"
    assert read_answer(span, "[1, 2] or rather [0, 9.5]", lenient=True) == "[0, 9.5]"
    assert read_answer(span, "Answer: [0, 9, 3]") == read_answer(span, "Answer: [1.2.3, 4]") == ""
    assert read_answer(box, "**Answer:** [1, 2, 3, 4].") == "[1, 2, 3, 4]"
    assert read_answer(text, "the cup") == "" != read_answer(text, "the cup", lenient=True)
    table = vcr_bench.scores("mine", [answered(text, "a cup")], "p", judge)
    assert table.unparsed.tolist() == [1, 1] and table.lenient.tolist() == [1, 1]


@pytest.mark.parametrize(
    "text",
    [
        "[0:00, 0:10]", "[0, 10]", "0 to 10 seconds", "0-10", "00:00 - 00:10", "(0, 10)",
        "0:00–0:10",
        "from 0 to 10", "between 0 s and 10 s", "0.0s-10.0s", "[0:00:00, 0:00:10]", "**[0, 10]**",
        "start: 0, end: 10", "0～10", "0 → 10", "`[0, 10]`", "[0; 10]",
        '["0:00", "0:10"]', "{0, 10}",
        "\\boxed{[0, 10]}", "0 sec until 10 secs.", "[0.00, 10.00].",
    ],
)  # fmt: skip
def test_a_span_is_read_however_it_is_written(questions, text):
    span = questions[2]
    answer = read_answer(span, f"it falls.\n\nAnswer: {text}")
    assert span_s(answer) == [0, 10]
    assert vcr_bench.is_right(span, answer, judge) is True
    assert span_s(read_answer(span, f"I think {text}", lenient=True)) == [0, 10]


@pytest.mark.parametrize("text", ["ten", "10", "[0, 9, 3]", "[1, 2, 3, 4]", "1.2.3, 4", "in 1990"])
def test_what_is_not_a_span_is_not_read(questions, text):
    assert read_answer(questions[2], f"Answer: {text}") == ""


def test_a_published_span_may_be_of_the_clock(tmp_path):
    (tmp_path / "meta.json").write_text(json.dumps([RECORDS[2] | {"answer": "[1:00, 1:10]"}]))
    write_clip(sample_scene(5), tmp_path / "0.mp4")
    (question,), _ = vcr_bench.load(tmp_path / "meta.json", tmp_path)
    assert question.truth["kind"] == "span"
    assert vcr_bench.is_right(question, "60 to 71", judge) is True
    assert vcr_bench.is_right(question, "[1, 10]", judge) is False


@pytest.mark.parametrize(
    ("choices", "text", "answer", "right", "shown"),
    [
        ({"A": "", "B": "Ann", "C": "Bob", "D": ""}, "Who?A. \nB. Ann\nC. Bob\nD. ", "B", "Ann", 2),
        ({"A": "", "B": "Ann", "C": "Bob", "D": ""}, "Who?\nB. Ann\nC. Bob", "C", "Bob", 2),
        ({"A": None, "B": "Ann", "C": "", "D": "Cy"}, "Who?", "D", "Cy", 2),
        ({"A": "A. red", "B": "B. blue"}, "Who?A. red\nB. blue", "B", "blue", 2),
        ({"A": "(A) red", "B": "(B) blue"}, "Who?\n(A) red\n(B) blue", "A", "red", 2),
    ],
)
def test_letters_are_those_of_the_choices_that_are_there(
    tmp_path, choices, text, answer, right, shown
):
    row = record(0, answer, choices, question=text)
    (tmp_path / "meta.json").write_text(json.dumps([row]))
    write_clip(sample_scene(5), tmp_path / "0.mp4")
    (question,), _ = vcr_bench.load(tmp_path / "meta.json", tmp_path)
    assert question.options[question.answer] == right and len(question.options) == shown
    lines = [f"{letter}) {option}" for letter, option in zip("AB", question.options, strict=True)]
    assert question.prompt().splitlines() == ["Who?", *lines]


def test_an_empty_trace_is_not_sent_to_a_judge(questions):
    def never(prompt):
        raise AssertionError(prompt)

    for trace in (Trace(question=questions[0]), answered(questions[0], " ")):
        assert vcr_bench.step_scores([trace], never) == {
            "n": 1, "precision": 0, "recall": 0, "f1": 0, "unjudged": 0,
        }  # fmt: skip


def test_a_judge_that_cannot_be_read_is_counted(questions):
    trace = answered(questions[1], "Answer: a cup")
    assert vcr_bench.scores("m", [trace], "p", lambda prompt: "perhaps").unparsed[0] == 1
    assert step_share(trace, "recall", lambda prompt: "no JSON") is None
    wrong = json.dumps([{"step_type": SEEN, "judgment": "Wrong"}])
    assert step_share(trace, "recall", lambda prompt: wrong) is None
    steps = vcr_bench.step_scores([trace], lambda prompt: wrong)
    assert steps["unjudged"] == 1 and steps["precision"] == 0


def test_overlap_against_counted_cells():
    a, b = (2, 1, 9, 7), (4, 3, 12, 8)
    cells = [{(x, y) for x in range(c[0], c[2]) for y in range(c[1], c[3])} for c in (a, b)]
    assert overlap(a, b) == len(cells[0] & cells[1]) / len(cells[0] | cells[1])
    assert overlap((0, 5), (5, 9)) == overlap((9, 0), (0, 9)) == overlap((3, 3), (3, 3)) == 0


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"answer": "E"}, r"answer: .*letter of one of the choices"),
        ({"multiple-choice": "perhaps"}, "multiple-choice: "),
        ({"reasoning": [1]}, r"reasoning\.0: "),
        ({"choices": None}, "choices: "),
    ],
)
def test_a_wrong_field_is_named(tmp_path, fields, error):
    path = tmp_path / "meta.json"
    path.write_text(json.dumps([RECORDS[1], RECORDS[0] | {"id": 9} | fields]))
    with pytest.raises(ValueError, match=rf"meta.json: record 1 \(9\): {error}"):
        vcr_bench.load(path, tmp_path)
