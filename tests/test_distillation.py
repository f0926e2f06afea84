"""Wrong answers are asked again, twice at most; every attempt is kept, and none is made twice."""

import json

import pytest

from act2see.distillation import attempt_counts, distil
from act2see.interleave import Budget, collect
from act2see.store import read_traces
from act2see.trace import LETTERS, Reply

BUDGET = Budget(overview_frames=1, open_dialogues=2)


class Scripted:
    """Says, about the n-th question, what its script has for the attempt; counts what it says."""

    name = "scripted"

    def __init__(self, questions, *scripts):
        self.scripts = {q.id: s for q, s in zip(questions, scripts, strict=True)}
        self.asked = []
        self.power = 99  # replies until it is killed

    def reply(self, traces):
        replies = []
        for trace in traces:
            if len(self.asked) == self.power:
                raise KeyboardInterrupt
            self.asked.append((trace.question.id, trace.attempt))
            word = self.scripts[trace.question.id][trace.attempt - 1]
            right = trace.question.answer
            letter = LETTERS[right if word == "right" else (right + 1) % 4]
            trace.failed = "no power" if word == "fails" else ""
            replies.append(Reply(f"attempt {trace.attempt}", answer=f"Answer: {letter}"))
        return replies

    def force(self, traces):
        raise AssertionError


SCRIPTS = [
    ["right"],
    ["wrong", "right"],
    ["wrong", "wrong", "right"],
    ["wrong", "wrong", "wrong"],
    ["fails", "right"],
    ["wrong", "fails"],
]


@pytest.fixture
def teacher(questions):
    return Scripted(questions[:6], *SCRIPTS)


def outcome(traces):
    return [(t.attempt, t.correct(), bool(t.failed)) for t in traces]


RESULT = [
    (1, True, False),
    (2, True, False),
    (3, True, False),
    (3, False, False),
    (1, False, True),
    (1, False, False),
]


def test_the_first_right_trace_counts_or_the_last_wrong_one(questions, teacher, tmp_path):
    traces = distil(tmp_path / "t.jsonl", questions[:6], teacher, (), BUDGET, retries=2)
    assert [t.question.id for t in traces] == [q.id for q in questions[:6]]
    # Of the fourth the three attempts were wrong; the sixth failed when it was asked again.
    assert outcome(traces[:4]) == RESULT[:4]
    assert outcome(traces[5:]) == RESULT[5:] and traces[4].failed == "no power"
    assert attempt_counts(traces) == {
        "right at attempt 1": 1,
        "right at attempt 2": 1,
        "right at attempt 3": 1,
        "never right": 2,
        "failed": 1,
    }


def test_all_attempts_are_in_the_file_and_what_is_done_is_not_asked_again(
    questions, teacher, tmp_path
):
    file = tmp_path / "t.jsonl"
    distil(file, questions[:6], teacher, (), BUDGET, retries=2)
    kept = [(t.question.id, t.attempt) for t in read_traces(file)]
    assert sorted(kept) == sorted(teacher.asked) and len(set(kept)) == len(kept) == 12
    teacher.asked.clear()
    distil(file, questions[:6], teacher, (), BUDGET, retries=2)
    # What failed is collect's own matter: it is asked again, and nothing else is.
    assert teacher.asked == [(questions[4].id, 1), (questions[5].id, 2)]


@pytest.mark.parametrize("power", range(1, 12))
def test_a_kill_in_the_middle_loses_nothing_and_nothing_is_asked_twice(
    questions, teacher, tmp_path, power
):
    file = tmp_path / "t.jsonl"
    teacher.power = power
    with pytest.raises(KeyboardInterrupt):
        distil(file, questions[:4], teacher, (), BUDGET, retries=2)
        raise KeyboardInterrupt  # nine replies are all there are
    written = {(t.question.id, t.attempt) for t in read_traces(file)} if file.exists() else set()
    teacher.power = 99
    teacher.asked.clear()
    traces = distil(file, questions[:4], teacher, (), BUDGET, retries=2)
    assert outcome(traces) == RESULT[:4]
    assert not written & set(teacher.asked)


def test_attempts_are_told_apart_and_a_first_one_is_what_collect_finds(
    questions, teacher, tmp_path
):
    file = tmp_path / "t.jsonl"
    first = distil(file, questions[1:2], teacher, (), BUDGET, retries=0)
    assert outcome(first) == [(1, False, False)]
    distil(file, questions[1:2], teacher, (), BUDGET, retries=1)
    assert outcome(collect(file, questions[1:2], teacher, (), BUDGET)) == [(1, False, False)]
    assert teacher.asked == [(questions[1].id, 1), (questions[1].id, 2)]


def test_an_answer_that_is_not_known_cannot_be_wrong(questions, tmp_path):
    unknown = questions[0].model_copy(update={"answer": -1})
    teacher = Scripted([unknown], ["wrong"])
    (trace,) = distil(tmp_path / "t.jsonl", [unknown], teacher, (), BUDGET)
    assert trace.attempt == 1 and attempt_counts([trace]) == {"never right": 0, "failed": 0}


def test_an_old_file_holds_first_attempts(questions, teacher, tmp_path):
    file = tmp_path / "t.jsonl"
    collect(file, questions[:1], teacher, (), BUDGET)
    line = json.loads(file.read_text())
    assert line.pop("attempt") == 1 and line.pop("served") == ""
    file.write_text(json.dumps(line) + "\n")
    assert outcome(distil(file, questions[:1], teacher, (), BUDGET)) == RESULT[:1]
    assert len(teacher.asked) == 1


def test_retries_below_zero_are_refused(questions, teacher, tmp_path):
    with pytest.raises(ValueError, match="retries is -1; it must be 0 or more"):
        distil(tmp_path / "t.jsonl", questions[:1], teacher, (), BUDGET, retries=-1)
