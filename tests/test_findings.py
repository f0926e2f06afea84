"""Cells, places and words, against counting by hand."""

from math import isnan, nan, sqrt

import pandas as pd
import pytest

from act2see import findings, statistics
from act2see.trace import Frame, Question, Step, Trace

COLUMNS = ["grid", "cell", "seed", "family", "n", "accuracy", "low", "high"]


def results():
    rows = []
    for seed in "01":
        for family in ("all", "need a look"):
            rows.append(("tools", "base", seed, family, 10, 0.3, 0.2, 0.4))
            rows.append(("tools", "both", seed, family, 10, 0.9, 0.7, 1.0))
    for cell, share in (("0", 0.2), ("1", 0.8)):
        for family in ("all", "need a look"):
            rows.append(("calls", cell, "0", family, 10, share, share - 0.1, share + 0.2))
    rows.append(("gain of both", "none", "all", "all", 10, 0.1, 0.02, 0.18))
    return pd.DataFrame(rows, columns=COLUMNS)


def test_grid_cells_stand_behind_what_they_compare_with():
    table = findings.grid_cells(results(), ["calls"], ["base"])
    assert list(table.columns) == ["cell", "n", "accuracy", "low", "high"]
    assert list(table.cell) == ["base", "0", "1"]
    assert list(table.index) == [0, 1, 2]
    assert list(table.accuracy) == [0.3, 0.2, 0.8]
    assert list(findings.grid_cells(results(), ["calls"]).cell) == ["0", "1"]
    both = findings.grid_cells(results(), ["tools", "calls"])
    assert list(both.cell) == ["base", "both", "0", "1"]


def test_grid_cells_take_seeds_as_numbers_or_words():
    numbered = results()[lambda table: table.seed != "all"].astype({"seed": int})
    whole = findings.grid_cells(results(), ["calls"], ["base"])
    pd.testing.assert_frame_equal(findings.grid_cells(numbered, ["calls"], ["base"]), whole)
    assert findings.grid_cells(results(), ["calls"], ["base"], seed=1).empty


def test_grid_cells_of_a_grid_that_the_table_lacks_are_none_without_references_either():
    assert findings.grid_cells(results(), ["reference"], ["base", "both"]).empty


def test_cell_difference_adds_half_widths_as_squares():
    table = findings.grid_cells(results(), ["calls"], ["base"])
    half = sqrt(0.15**2 + 0.1**2)
    ends = findings.cell_difference(table, "1", "base")
    assert ends == pytest.approx((0.5 - half, 0.5 + half))
    low, high = findings.cell_difference(table, "1", "both")
    assert isnan(low) and isnan(high)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.02, 0.1, "+2.0 to +10.0 points; **agrees**"),
     (-0.1, -0.02, "-10.0 to -2.0 points; **disagrees**"),
     (-0.1, 0.1, "-10.0 to +10.0 points; **cannot tell**"),
     (0.0, 0.1, "+0.0 to +10.0 points; **cannot tell**"),
     (nan, nan, "without an interval; **cannot tell**")],
)  # fmt: skip
def test_a_claim_is_held_against_the_whole_interval(low, high, words):
    sentence = findings.claim_in_words("More is better", "8 over 4", low, high)
    assert sentence == f"- More is better: 8 over 4 {words}."


def comparison(low, high):
    return {"n": 90, "base": 0.3, "tuned": 0.8, "gain": 0.5, "low": low, "high": high, "p": 0.03}


@pytest.mark.parametrize(
    ("low", "high", "span", "verdict"),
    [(0.1, 0.9, "95 % interval +10.0 to +90.0", "is better than"),
     (-0.9, -0.1, "95 % interval -90.0 to -10.0", "is worse than"),
     (-0.1, 0.9, "95 % interval -10.0 to +90.0", "cannot be distinguished from"),
     (nan, nan, "no interval", "cannot be distinguished from")],
)  # fmt: skip
def test_a_comparison_is_one_sentence_and_a_verdict(low, high, span, verdict):
    words = findings.comparison_in_words("base", "act2see", ["a", "b"], comparison(low, high))
    assert words == (
        "- On 90 questions of a, b, base is right on 30.0%, act2see on 80.0%: +50.0 points, "
        f"{span}, p = 0.03. **act2see {verdict} base.**"
    )


def test_a_comparison_that_statistics_made_can_be_put_in_words():
    traces = [trace([1.0], letter=letter, id=str(i)) for i, letter in enumerate("AABB")]
    numbers = statistics.compare(traces, traces, ["order"])
    words = findings.comparison_in_words("one", "two", ["order"], numbers)
    assert "On 4 questions of order" in words and "no interval" in words


def test_own_scores_are_the_last_row_of_each_system_without_the_benchmarks_name():
    rows = [
        ("base", "part", 0.1),
        ("base", "all", 0.2),
        ("tuned", "part", 0.3),
        ("tuned", "all", 0.4),
    ]
    official = pd.DataFrame(rows, columns=["system", "family", "accuracy"])
    official["protocol"] = "Video-MME, 8 frames"
    table = findings.own_scores(official, ["tuned", "base"], "Video-MME").set_index("system")
    assert list(table.index) == ["tuned", "base"]
    assert list(table.accuracy) == [0.4, 0.2]
    assert set(table.protocol) == {"8 frames"}
    assert set(table.benchmark) == {"Video-MME"}
    with pytest.raises(KeyError, match="other"):
        findings.own_scores(official, ["base", "other"], "Video-MME")


def trace(times_s=(), windows=((1.0, 2.0),), letter="B", family="order", id=""):
    steps = [Step(kind="evidence", frames=[Frame(time_s=t) for t in times_s])] * bool(times_s)
    steps += [Step(kind="answer", text=f"Answer: {letter}")]
    truth = {} if windows is None else {"windows": windows}
    question = Question(
        id=id, family=family, text="?", video="v", options=["a", "b"], answer=1, truth=truth
    )
    return Trace(question=question, overview=[Frame(time_s=1.5)], steps=steps)


@pytest.mark.parametrize(
    ("times_s", "windows", "place"),
    [([], [[1, 2]], "looked nowhere"), ([], None, "looked nowhere"),
     ([5.0], None, "looked somewhere"), ([5.0], [[1, 2]], "looked elsewhere"),
     ([5.0, 2.0], [[1, 2]], "looked there"), ([1.5], [[1, 2], [4, 6]], "looked elsewhere"),
     ([1.5, 4.0], [[1, 2], [4, 6]], "looked there")],
)  # fmt: skip
def test_evidence_has_a_place(times_s, windows, place):
    assert findings.evidence_place(trace(times_s, windows)) == place


def test_answers_are_counted_by_place():
    traces = [trace([1.5]), trace([1.5], letter="A"), trace([9.0], family="moment"), trace()]
    table = findings.answers_by_place(traces, ["moment", "order"])
    assert list(table.index) == ["moment", "order"]
    assert table.loc["order", ("looked there", "right")] == 1
    assert table.loc["order", ("looked there", "wrong")] == 1
    assert table.loc["order", ("looked nowhere", "right")] == 1
    assert table.loc["moment", ("looked elsewhere", "right")] == 1
    assert table.to_numpy().sum() == 4
    assert len(findings.answers_by_place([], ["moment"])) == 1
