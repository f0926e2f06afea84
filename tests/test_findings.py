"""Cells, places and words, against counting by hand."""

import json
from math import isnan, nan, sqrt
from pathlib import Path

import pandas as pd
import pytest

from act2see import findings, statistics
from act2see.store import read_traces
from act2see.trace import Frame, Question, Step, Trace

PAPER = Path(__file__).parents[1] / "data" / "paper"
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
     ([5.0, 2.0], [[1, 2]], "looked there"), ([1.5], [[1, 2], [4, 6]], "looked at a part"),
     ([1.5, 4.0], [[1, 2], [4, 6]], "looked there")],
)  # fmt: skip
def test_evidence_has_a_place(times_s, windows, place):
    assert findings.evidence_place(trace(times_s, windows)) == place


def test_a_wrong_answer_is_misread_misjudged_or_not_to_be_told():
    (seen,) = read_traces(PAPER.parents[1] / "figures" / "trace.jsonl")
    assert findings.answer_kind(seen) == "right"
    seen.steps[-1].text = "Answer: B"
    assert findings.answer_kind(seen) == "misjudged"
    seen.steps[3].text = "at 8.5 the visitor is a blue disc. so it is blue."
    assert findings.answer_kind(seen) == "misread"
    seen.question = seen.question.model_copy(update={"truth": {}})
    assert findings.answer_kind(seen) == "wrong"


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


@pytest.fixture(scope="module")
def published():
    return pd.read_csv(PAPER / "tables.csv", keep_default_na=False)


def test_every_published_number_has_a_source_and_an_n_that_is_accounted_for(published):
    sources = json.loads((PAPER / "sources.json").read_text())
    assert list(published) == [*sources["columns"]]
    assert {*published.source} == {*sources["sources"]} == {"A", "N"}
    assert {*published.table} == {*sources["tables"]}
    counts = {name: entry["n"] for name, entry in sources["n"].items()}
    assert dict(zip(published.benchmark, published.n, strict=True)) == counts
    assert all(entry["where"] and entry["sure"] for entry in sources["n"].values())
    assert not published.duplicated(["table", "benchmark", "system"]).any()
    assert published.score.between(1, 100).all() and (published.protocol != "").all()


# One, gain and half of the interval in points, p as it is rounded; 0: under 0.001.
GAINS = {
    ("main results", "Video-MME"): [("Qwen3-VL-8B-Thinking", 2.4, 2.4, 0.047)],
    ("main results", "VideoEspresso"): [("Qwen3-VL-8B-Thinking", 5.3, 3.7, 0.005)],
    ("main results", "EgoNormia"): [("Qwen3-VL-8B-Thinking", 2.4, 3.2, 0.14)],
    ("main results", "VCR-Bench"): [("Qwen3-VL-8B-Thinking", 8.9, 4.2, 0)],
    ("main results", "ViTIB"): [("Qwen3-VL-8B-Thinking", 3.1, 3.6, 0.09)],
    ("Table 4", "ViTIB"): [("ViTCoT", 3.4, 3.6, 0.07)],
    ("Table 4", "Video-MME"): [("ViTCoT", 4.0, 2.4, 0.001)],
    ("Table 5", "VCR-Bench"): [("ReWatch-R1", 2.6, 4.2, 0.23)],
    ("Table 6", "Video-MME"): [("human reasoning in the prompt", 1.5, 2.4, 0.21)],
    ("Table 7", "ViTIB"): [("model-written reference", 3.7, 3.6, 0.047)],
    ("Table 7", "Video-MME"): [("model-written reference", 5.1, 2.4, 0)],
    ("Table 8", "Video-MME"): [
        ("text only", 1.8, 2.4, 0.14),
        ("retrieval only", 0.9, 2.4, 0.46),
        ("generation only", 1.3, 2.4, 0.28),
    ],
}


def test_the_papers_gains_are_those_of_its_scores(published):
    table = findings.published_comparisons(published)
    found = {}
    for row in table.itertuples():
        half = 50 * (row.high - row.low)
        (_, _, _, digits) = next(g for g in GAINS[row.table, row.benchmark] if g[0] == row.one)
        places = len(str(digits)) - 2
        p = round(row.p, places) if digits else float(row.p >= 0.001)
        numbers = (row.one, round(100 * row.gain, 1), round(half, 1), p)
        found.setdefault((row.table, row.benchmark), []).append(numbers)
    assert found == GAINS
    # The interval and the pooled test are two formulas, and might differ close to the limit.
    assert list(table.shown) == list(table.low > 0)


def test_what_the_test_does_not_show_is_not_called_no_effect(published):
    table = findings.published_comparisons(published)
    words = findings.published_in_words(table)
    assert words.startswith("Of the paper's 14 differences, an unpaired test shows 6: ")
    assert "The other 8 are not shown, which does not mean that there is no effect." in words
    assert "VCR-Bench (main results)" in words and "EgoNormia" not in words
    none = findings.published_in_words(table[~table.shown])
    assert "shows 0: none. The other 8" in none


def test_three_questions_a_video_can_take_video_mmes_difference_away(published):
    """Its interval just leaves out zero; a design effect of 1.03 is enough, and 3 is possible."""
    for effect, shown in ((1.0, True), (1.02, True), (1.03, False), (3.0, False)):
        table = findings.published_comparisons(published, {"Video-MME": effect})
        assert table.shown[0] == (table.low[0] > 0) == shown
        assert table.shown[1], "VideoEspresso is not touched"


def test_names_show_as_text_in_words_for_a_page():
    comparison = {"n": 2, "base": 0.5, "tuned": 1.0, "gain": 0.5, "low": 0.1, "high": 0.9, "p": 0.3}
    names = ["<img src=x onerror=alert(1)>", "$5 and $6", "a_b", "[x](javascript:1)", "`*b*`"]
    words = findings.comparison_in_words("<b>one</b>", "base_dense", names, comparison)
    body = words.removesuffix("**").removeprefix("- ").replace("**base_dense", "base_dense")
    assert not {*"<>$`*[]"} & {*body} and "a_b" in body and "base_dense" in body
    assert "&#60;img src=x onerror=alert(1)&#62;" in body and "&#36;5 and &#36;6" in body
