import math

import pytest

from act2see.datasets import choices
from act2see.datasets.choices import lenient_letter, original, shuffled, strict_letter
from act2see.statistics import trivial_traces
from act2see.trace import Question, Step, Trace

OPTIONS = ["a man walks", "a dog", "the dog runs", "nothing"]


def question(name: str, family: str = "short", answer: int = 1) -> Question:
    return Question(id=name, family=family, video=name, text="?", options=OPTIONS, answer=answer)


def trace(question: Question, text: str) -> Trace:
    return Trace(question=question, steps=[Step(kind="answer", text=text)])


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Answer: B", "B"),
        ("it is red.\n\nAnswer: (B) a dog", "B"),
        ("**Answer:** B.", "B"),
        ("Answer: **C**", "C"),
        ("Answer: A\nbecause it runs", "A"),
        ("Answer: A, for it runs", "A"),
        ("Answer: A. Then Answer: D", "D"),
        ("Answer: B. But no, Answer: A dog", ""),
        ("(C)", "C"),
        ("D.", "D"),
        ("A man walks", ""),
        ("Answer: A man walks", ""),
        ("Answer: I think so", ""),
        ("Answer: E", ""),
        ("B. a dog", ""),
        ("the answer is B", ""),
        ("", ""),
    ],
)
def test_only_a_stated_letter_is_strict(text, letter):
    assert strict_letter(text, 4) == letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("the answer is B", "B"),
        ("B. a dog", "B"),
        ("not (A) but (C)", "C"),
        ("so \\boxed{D}", "D"),
        ("A man walks by.", "A"),
        ("Answer: A man is there", ""),
        ("A woman sings", ""),
        ("it is a dog, or nothing", ""),
        ("Answer: (B)", "B"),
    ],
)
def test_the_lenient_parser_makes_the_best_of_it(text, letter):
    assert lenient_letter(text, OPTIONS) == letter


@pytest.mark.parametrize("piece", ["\n", "*", "(", "answer ", "A man ", " "])
def test_a_reply_without_end_is_read_in_time(piece):
    assert strict_letter(piece * 100_000, 4) == lenient_letter(piece * 100_000, OPTIONS) == ""


def test_options_lose_their_own_letter_only():
    forms = ["(A): x", "A. x", "A: x", "A) x", "  (A) x ", "x", "B. x", "A x"]
    texts = ["x", "x", "x", "x", "x", "x", "B. x", "A x"]
    assert [choices.option_text(form, 0) for form in forms] == texts


def test_a_shuffle_moves_the_answer_along_and_is_undone():
    for seed in range(20):
        moved = shuffled(question("q1"), seed)
        assert moved.options[moved.answer] == OPTIONS[1]
        assert [OPTIONS[original(moved, i)] for i in range(4)] == moved.options
        again = shuffled(moved, seed + 1)
        assert [OPTIONS[original(again, i)] for i in range(4)] == again.options
    assert shuffled(question("q1"), 3) == shuffled(question("q1"), 3)
    orders = {tuple(shuffled(question(f"q{i}"), 3).options) for i in range(20)}
    assert len(orders) > 5
    assert shuffled(question("q1", answer=-1), 3).answer == -1


def test_scores_stand_side_by_side_with_what_could_not_be_read():
    texts = ["Answer: B", "the answer is B", "Answer: A man", "hm"]
    traces = [trace(question(f"q{i}", "long" if i else "short"), s) for i, s in enumerate(texts)]
    traces[3].truncated = True
    table = choices.scores("mine", traces, "8 frames").set_index("family")
    assert list(table.index) == ["short", "long", "all"]
    assert table.loc["all", ["n", "unparsed", "lenient_unparsed", "truncated"]].tolist() == [
        4, 3, 2, 1,
    ]  # fmt: skip
    assert (table.accuracy["all"], table.lenient["all"]) == (0.25, 0.5)
    assert table.low["all"] < 0.25 < table.high["all"]
    assert set(table.protocol) == {"8 frames"} and table.accuracy["long"] == 0


def test_unknown_answers_are_not_scored_as_wrong():
    with pytest.raises(ValueError, match=r"1 answers are not known, among them of \['q1'\]"):
        choices.scores("mine", [trace(question("q1", answer=-1), "Answer: A")], "p")


def test_the_mean_of_families_is_unweighted_and_has_no_interval():
    traces = [trace(question(f"q{i}", "b" if i else "a"), "Answer: B") for i in range(4)]
    traces[1] = trace(question("q1", "b"), "Answer: A")
    table = choices.mean_of_families(choices.scores("mine", traces, "p"))
    last = table.iloc[-1]
    assert last.family == "mean of 2" and last.n == 4 and math.isnan(last.low)
    assert last.accuracy == pytest.approx((1 + 2 / 3) / 2)
    assert table.iloc[-2].accuracy == 0.75


def test_blind_ways_are_scored_as_models_are():
    blind = trivial_traces([question("q1"), question("q2", answer=0)])
    accuracy = {name: choices.scores(name, traces, "p").accuracy.iloc[-1]
                for name, traces in blind.items()}  # fmt: skip
    assert accuracy == {
        "always_a": 0.5, "always_b": 0.5, "always_c": 0, "always_d": 0, "shortest": 0.5,
        "longest": 0,
    }  # fmt: skip
