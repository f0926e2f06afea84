"""The numbers against slow, obvious references, and what happens where there is nothing to say."""

from math import comb, isnan, sqrt

import numpy as np
import pytest
from scipy.stats import bootstrap, chi2_contingency

from act2see import statistics
from act2see.trace import Frame, Question, Step, Trace

FAMILIES = ("static", "moment")


def question(name="q", family="static", answer=1, options=("red", "green", "blue", "cyan")):
    return Question(
        id=name, source="pocket", family=family, video=f"{name}.mp4", duration_s=24.0,
        text="what colour?", options=list(options), answer=answer,
    )  # fmt: skip


def trace(name="q", family="static", letter="B", kinds=(), errors=0, **more):
    """One call with a frame per kind of frame, and one per error."""
    steps = []
    for kind in kinds:
        frame = Frame(time_s=1.0, made=kind)
        steps += [Step(kind="call", tool="t"), Step(kind="evidence", frames=[frame])]
    for _ in range(errors):
        steps += [Step(kind="call", text="{"), Step(kind="evidence", text="not JSON")]
    steps.append(Step(kind="answer", text=f"Answer: {letter}"))
    return Trace(question=question(name, family), steps=steps, **more)


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (3, 7), (125, 125)])
def test_accuracy_interval_is_wilsons_formula(hits, n):
    z = 1.959963984540054
    p = hits / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    right = [True] * hits + [False] * (n - hits)
    assert statistics.accuracy_interval(right) == pytest.approx((p, middle - half, middle + half))


@pytest.mark.parametrize("n", [*range(1, 200), 1000, 12345])
def test_the_end_at_none_and_at_all_right_is_exact(n):
    share, low, high = statistics.accuracy_interval([False] * n)
    assert (share, low) == (0, 0) and 0 < high < 1
    share, low, high = statistics.accuracy_interval([True] * n)
    assert (share, high) == (1, 1) and 0 < low < 1


def test_accuracy_of_nothing_is_nan():
    assert all(isnan(value) for value in statistics.accuracy_interval([]))


@pytest.mark.parametrize(("lost", "won"), [(0, 6), (2, 9), (4, 4)])
def test_mcnemar_is_the_binomial_tail_twice(lost, won):
    n = lost + won
    reference = min(1.0, 2 * sum(comb(n, k) for k in range(min(lost, won) + 1)) / 2**n)
    a = [True] * lost + [False] * won + [True, False]
    b = [False] * lost + [True] * won + [True, False]
    assert statistics.mcnemar(a, b) == pytest.approx(reference)
    assert statistics.mcnemar(b, a) == pytest.approx(reference)


def test_mcnemar_without_discordant_pairs_is_one():
    assert statistics.mcnemar([True, False], [True, False]) == 1.0
    assert statistics.mcnemar([], []) == 1.0


def test_paired_gain_agrees_with_a_loop_over_resampled_pairs():
    rng = np.random.default_rng(3)
    a = rng.random(60) < 0.4
    b = rng.random(60) < 0.8
    gains = []
    for _ in range(4000):
        pick = rng.integers(60, size=60)
        gains.append(b[pick].mean() - a[pick].mean())
    gain, low, high = statistics.paired_gain(a, b)
    assert gain == pytest.approx(b.mean() - a.mean())
    assert (low, high) == pytest.approx(tuple(np.percentile(gains, [2.5, 97.5])), abs=0.02)


def test_paired_gain_is_scipys_paired_bootstrap():
    rng = np.random.default_rng(4)
    a, b = (rng.random((2, 40)) < 0.5).astype(float)
    reference = bootstrap(
        (a, b), lambda x, y, axis: y.mean(axis) - x.mean(axis), paired=True, n_resamples=500,
        method="percentile", rng=7,
    ).confidence_interval  # fmt: skip
    assert statistics.paired_gain(a, b, 7, 500)[1:] == pytest.approx(tuple(reference))


def test_paired_gain_has_no_interval_where_all_change_alike():
    for a, b, gain in [([False] * 4, [True] * 4, 1.0), ([True, False], [True, False], 0.0)]:
        result = statistics.paired_gain(a, b)
        assert result[0] == gain and isnan(result[1]) and isnan(result[2])
    assert all(isnan(value) for value in statistics.paired_gain([], []))


def test_paired_gain_is_the_same_again_and_wants_equal_lengths():
    a = [True, False, False, True]
    b = [True, True, False, True]
    assert statistics.paired_gain(a, b, seed=5) == statistics.paired_gain(a, b, seed=5)
    with pytest.raises(ValueError, match="a has 4 results and b has 3"):
        statistics.paired_gain(a, b[:3])


def test_trivial_traces_take_the_first_of_ties():
    items = [question(options=("red", "green", "blue", "white")), question(options=("a", "bb"))]
    traces = statistics.trivial_traces(items)
    letters = {name: [t.letter() for t in answers] for name, answers in traces.items()}
    assert letters == {
        "always_a": ["A", "A"], "always_b": ["B", "B"], "always_c": ["C", ""],
        "always_d": ["D", ""], "shortest": ["A", "A"], "longest": ["B", "B"],
    }  # fmt: skip


def test_summary_counts_by_hand():
    traces = [
        trace("1", "static"),
        trace("2", "static", letter="Z", truncated=True),
        trace("3", "moment", kinds=["real", "real"], errors=1),
        trace("4", "moment", letter="A", errors=1),
        trace("5", "order"),
    ]
    table = statistics.summary("base", traces, FAMILIES).set_index("family")
    assert tuple(table.reset_index().columns[[1, 0]]) == statistics.COLUMNS[:2]
    assert list(table.n) == [2, 2, 4] and list(table.accuracy) == [0.5, 0.5, 0.5]
    assert list(table.calls_per_question) == [0, 2, 1]
    assert list(table.tool_call_rate) == [0, 1, 0.5]
    assert isnan(table.valid_call_rate["static"]) and table.valid_call_rate["all"] == 0.5
    assert list(table.unparsed) == [1, 0, 1] and list(table.truncated) == [1, 0, 1]
    assert (
        tuple(table.loc["all", ["low", "high"]]) == statistics.accuracy_interval([0, 0, 1, 1])[1:]
    )


def test_what_failed_is_counted_apart_from_what_could_not_be_read():
    refused = trace("6", "moment", letter="").model_copy(update={"failed": "refused: SAFETY"})
    table = statistics.summary("x", [trace("5", "moment"), refused], ["moment"])
    assert list(table.failed) == [1, 1] and list(table.unparsed) == [0, 0]
    assert list(table.accuracy) == [0.5, 0.5]


def test_summary_of_no_traces_has_its_rows():
    table = statistics.summary("base", [], FAMILIES)
    assert tuple(table.columns) == statistics.COLUMNS
    assert list(table.family) == [*FAMILIES, "all"] and list(table.n) == [0, 0, 0]
    assert table.accuracy.isna().all() and list(table.unparsed) == [0, 0, 0]


def test_an_unknown_answer_is_never_hit():
    bare = statistics.trivial_traces([question(answer=-1)])["always_a"]
    assert statistics.summary("x", bare, FAMILIES).accuracy.iloc[-1] == 0


def test_compare_pairs_by_id_whatever_the_order():
    base = [trace(str(i), "moment", letter="BA"[i > 2]) for i in range(12)]
    tuned = [trace(str(i), "moment", letter="AB"[i > 0]) for i in reversed(range(12))]
    result = statistics.compare(base, [*tuned, trace("s")], ["moment"])
    a = [i <= 2 for i in range(12)]
    b = [i > 0 for i in range(12)]
    assert (result["n"], result["base"], result["tuned"]) == (12, 0.25, 11 / 12)
    assert (result["gain"], result["low"], result["high"]) == statistics.paired_gain(a, b)
    assert result["p"] == statistics.mcnemar(a, b)


def test_compare_names_what_does_not_pair():
    one = trace("one")
    two = trace("two")
    for base, tuned in [([one, two], [one]), ([one], [one, two]), ([two, two], [two, two])]:
        with pytest.raises(ValueError, match="two"):
            statistics.compare(base, tuned, FAMILIES)


def test_kept_statistics_count_by_hand():
    traces = [
        trace("1", "static", similarity=0.80),
        trace("2", "static", similarity=0.79),
        trace("3", "moment", similarity=0.9, kinds=["real", "generated"]),
        trace("4", "moment", similarity=0.9, letter="C", errors=1),
    ]
    table = statistics.kept_statistics(traces, 0.8).set_index("family")
    assert list(table.index) == ["static", "moment", "all"]
    assert list(table.traces) == [2, 2, 4] and list(table.kept) == [1, 2, 3]
    assert list(table.kept_share) == [0.5, 1, 0.75]
    assert list(table.with_frames) == [0, 0.5, pytest.approx(1 / 3)]
    assert list(table.with_generated) == [0, 0.5, pytest.approx(1 / 3)]
    assert list(table.correct) == [1, 0.5, pytest.approx(2 / 3)]
    assert list(table.calls_per_trace) == [0, 1.5, 1]
    by_source = statistics.kept_statistics(traces, 0.8, by="source")
    assert list(by_source.source) == ["pocket", "all"]


def test_kept_statistics_have_a_column_for_every_kind_that_is_not_real():
    traces = [
        trace("1", similarity=0.9, kinds=["real", "zoomed"]),
        trace("2", similarity=0.9, kinds=["cropped", "zoomed"]),
        trace("3", similarity=0.1, kinds=["generated"]),
        trace("4", similarity=0.9),
    ]
    table = statistics.kept_statistics(traces, 0.8).set_index("family")
    kinds = ["with_cropped", "with_generated", "with_zoomed"]
    assert list(table.columns[3:-2]) == ["with_frames", *kinds]
    assert list(table.loc["all", kinds]) == pytest.approx([1 / 3, 0, 2 / 3])
    real = statistics.kept_statistics([trace("1", similarity=0.9, kinds=["real"])], 0.8)
    assert [name for name in real if name.startswith("with_")] == ["with_frames"]


def test_accuracy_is_of_the_questions_of_the_families():
    traces = [trace("1"), trace("2", letter="A"), trace("3", "moment"), trace("4", "other")]
    assert statistics.accuracy(traces, FAMILIES) == pytest.approx(2 / 3)
    assert statistics.accuracy(traces, ["moment"]) == 1
    assert isnan(statistics.accuracy(traces, ["none"]))


def test_choice_traces_have_options_and_are_of_the_families():
    bare = trace("5").model_copy(update={"question": question(options=())})
    chosen = statistics.choice_traces([trace("1"), trace("2", "other"), bare], FAMILIES)
    assert [t.question.id for t in chosen] == ["1"]


def test_kept_statistics_of_nothing_kept_and_of_no_score():
    nothing = statistics.kept_statistics([trace(similarity=0.1)], 0.8)
    assert list(nothing.kept) == [0, 0] and nothing.correct.isna().all()
    assert list(statistics.kept_statistics([], 0.8).traces) == [0]
    with pytest.raises(ValueError, match="lonely"):
        statistics.kept_statistics([trace("lonely")], 0.8)


def scored(n=80):
    rng = np.random.default_rng(1)
    labels = rng.random(n) < 0.6
    return np.round(rng.normal(0.7 + 0.1 * labels, 0.1), 2), labels  # rounded, so that some tie


def test_roc_agrees_with_counting_at_every_threshold():
    scores, labels = scored()
    table = statistics.roc(scores, labels)
    assert list(table.threshold[1:]) == sorted(set(scores), reverse=True)
    for row in table[1:].itertuples():
        kept = [bool(label) for s, label in zip(scores, labels, strict=True) if s >= row.threshold]
        assert row.kept == len(kept) and row.precision == pytest.approx(sum(kept) / len(kept))
        assert row.recall == row.true_positive_rate == pytest.approx(sum(kept) / sum(labels))
        wrong = kept.count(False) / (len(labels) - sum(labels))
        assert row.false_positive_rate == pytest.approx(wrong)
    first = table.iloc[0]
    assert (first.kept, first.recall, first.false_positive_rate) == (0, 0, 0)
    assert isnan(first.precision)


def test_auc_is_the_share_of_pairs_in_the_right_order():
    scores, labels = scored()
    pairs = [(right, wrong) for right in scores[labels] for wrong in scores[~labels]]
    wins = [(right > wrong) + (right == wrong) / 2 for right, wrong in pairs]
    assert statistics.auc(scores, labels) == pytest.approx(np.mean(wins))


def test_roc_and_auc_of_one_class_say_nan():
    all_right = statistics.roc([0.5, 0.9], [True, True])
    assert all_right.false_positive_rate.isna().all() and list(all_right.precision[1:]) == [1, 1]
    all_wrong = statistics.roc([0.5, 0.9], [False, False])
    assert all_wrong.recall.isna().all() and list(all_wrong.precision[1:]) == [0, 0]
    assert isnan(statistics.auc([0.5, 0.9], [True, True])) and isnan(statistics.auc([], []))


def test_an_interval_is_wider_where_questions_share_videos():
    right = [True] * 30 + [False] * 30
    videos = [f"{i // 10}.mp4" for i in range(60)]
    alone = statistics.accuracy_interval(right)
    assert statistics.accuracy_interval(right, range(60)) == alone
    _, low, high = statistics.accuracy_interval(right, videos)
    # Ten questions a video, alike in each: as much is known as from six questions.
    assert (low, high) == pytest.approx(statistics.accuracy_interval(right[::10])[1:])
    assert statistics.design_effect([True] * 60, videos) == 10
    mixed = [i % 2 == 0 for i in range(60)]  # every video half right: no reason to be wider
    assert statistics.accuracy_interval(mixed, videos) == statistics.accuracy_interval(mixed)


def test_paired_gain_draws_whole_videos():
    rng = np.random.default_rng(3)
    videos = np.sort(rng.integers(0, 12, 80))
    a = np.zeros(80, bool)
    b = rng.random(12)[videos] < 0.6
    gain, low, high = statistics.paired_gain(a, b, videos=videos.tolist())
    shares = []
    for _ in range(4000):
        chosen = rng.choice(np.unique(videos), np.unique(videos).size)
        shares.append(np.concatenate([b[videos == v] for v in chosen]).mean())
    assert gain == b.mean()
    assert (low, high) == pytest.approx(tuple(np.quantile(shares, [0.025, 0.975])), abs=0.03)
    plain = statistics.paired_gain(a, b)
    assert high - low > 1.5 * (plain[2] - plain[1])


def test_questions_about_one_video_are_as_one():
    right = [True, False, True, False]
    assert statistics.design_effect(right, ["v.mp4"] * 4) == 4
    assert all(isnan(x) for x in statistics.paired_gain([False] * 4, right, videos=["v"] * 4)[1:])


@pytest.mark.parametrize(("hits", "n"), [((30, 50), 100), ((718, 742), 1000), ((5, 1), 20)])
def test_an_unpaired_gain_has_the_p_of_the_chi_squared_test_and_walds_interval(hits, n):
    first, second = (h / n for h in hits)
    table = [[h, n - h] for h in hits]
    gain, low, high, p = statistics.unpaired_gain(first, second, n)
    half = 1.959963984540054 * sqrt((first * (1 - first) + second * (1 - second)) / n)
    assert (gain, low, high) == pytest.approx((second - first, gain - half, gain + half))
    assert p == pytest.approx(chi2_contingency(table, correction=False).pvalue)


def test_a_design_effect_is_as_if_there_were_fewer_questions():
    assert statistics.unpaired_gain(0.5, 0.6, 900, effect=3) == pytest.approx(
        statistics.unpaired_gain(0.5, 0.6, 300)
    )


def test_an_unpaired_gain_says_where_there_is_nothing_to_say():
    assert all(isnan(value) for value in statistics.unpaired_gain(0.5, 0.6, 0))
    assert isnan(statistics.unpaired_gain(1.0, 1.0, 10)[3])
    for test in (lambda: statistics.unpaired_gain(0.7, 71.8, 10),
                 lambda: statistics.questions_needed(-0.1, 0.5)):  # fmt: skip
        with pytest.raises(ValueError, match=r"accuracy is (71.8|-0.1); it must be a share"):
            test()


@pytest.mark.parametrize(
    ("first", "second", "power", "n"),
    [(0.5, 0.75, 0.9, 77), (0.75, 0.5, 0.9, 77),  # R: power.prop.test gives 76.7
     (0.718, 0.742, 0.8, 5371), (0.382, 0.471, 0.8, 484)],
)  # fmt: skip
def test_questions_needed_are_those_of_the_published_formula(first, second, power, n):
    assert statistics.questions_needed(first, second, power) == n
    assert statistics.questions_needed(first, first) == float("inf")


@pytest.mark.parametrize(("first", "second", "share"), [(0.4, 0.5, 0.8), (0.45, 0.45, 0.05)])
def test_simulated_benchmarks_show_a_difference_as_often_as_promised(first, second, share):
    """With the questions needed in four of five, and without any difference in one of twenty."""
    n = statistics.questions_needed(0.4, 0.5)
    hits = np.random.default_rng(0).binomial(n, [first, second], size=(4000, 2)) / n
    outcomes = np.array([statistics.unpaired_gain(*pair, n) for pair in hits])
    assert np.mean(outcomes[:, 3] < 0.05) == pytest.approx(share, abs=0.02)
    inside = (outcomes[:, 1] <= second - first) & (second - first <= outcomes[:, 2])
    assert inside.mean() == pytest.approx(0.95, abs=0.015)


def test_on_the_same_questions_the_unpaired_test_is_conservative():
    """Two systems that agree on most questions: the paired interval is the narrower one."""
    rng = np.random.default_rng(0)
    first = rng.random(1000) < 0.5
    second = np.where(rng.random(1000) < 0.1, True, first)
    _, low, high = statistics.paired_gain(first, second)
    unpaired = statistics.unpaired_gain(first.mean(), second.mean(), 1000)
    assert high - low < (unpaired[2] - unpaired[1]) / 2
