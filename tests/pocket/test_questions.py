from collections import Counter

import pytest

from act2see.pocket.edits import Edit, edited
from act2see.pocket.questions import FAMILIES, SPLITS, ask, pocket_questions, scene_seed
from act2see.pocket.world import sample_scene
from act2see.statistics import trivial_traces


def many(count: int, seed: int = 5):
    return [
        ask(sample_scene(scene_seed("test", seed, i)), FAMILIES[i % 6], "", letter=i // 6 % 4)
        for i in range(count)
    ]


def test_no_letter_and_no_length_gives_an_answer_away():
    questions = many(6000)
    for family in FAMILIES:
        own = [q for q in questions if q.family == family]
        assert set(Counter(q.answer for q in own).values()) == {250}
    for name, blind in trivial_traces(questions).items():
        share = sum(t.correct() for t in blind) / 6000
        assert abs(share - 0.25) < 0.03, name


def test_four_different_options_with_one_that_is_true():
    for question in many(1000):
        assert len(set(question.options)) == 4


def test_what_answers_are_does_not_depend_on_the_others_shown():
    """Every option of a family is right about as often as it is offered, by a quarter."""
    offered, right = Counter(), Counter()
    for question in many(10_000):
        if question.family in ("static", "order"):
            continue
        offered.update(question.options)
        right[question.options[question.answer]] += 1
    for option, count in offered.items():
        assert abs(right[option] / count - 0.25) < 0.06, option


def test_answers_are_what_the_frames_of_the_named_windows_show():
    for question in many(1000):
        scene = sample_scene(question.truth["seed"])
        answer = question.options[question.answer]
        frames = [
            scene.facts(low + k / 8)
            for low, high in question.truth["windows"]
            for k in range(int((high - low) * 8))
        ]
        if question.truth["kind"] == "turn":
            colours = {f.things[question.truth["shape"]][0] for f in frames}
            assert answer in colours and len(colours - {"white"}) == 2
        elif question.family in ("moment", "search"):
            visitors = {f.visitor for f in frames if f.visitor}
            assert len(visitors) == 1 and answer in visitors.pop()
        elif question.family == "order":
            pair = scene.order_shapes
            white = [[s for s in pair if f.things[s][0] == "white"] for f in frames]
            first = next((w for w in white if w), [])
            wanted = {0: "neither", 1: first[0] if first else "", 2: "both"}[len(first)]
            assert answer == wanted
        elif question.family == "counterfactual":
            edit, time_s = Edit(**question.truth["edit"]), question.truth["time_s"]
            things = edited(scene, time_s, edit).facts(time_s).things
            assert answer in things[question.truth["shape"]]


def test_who_is_described_has_one_answer_in_the_whole_clip():
    for question in (q for q in many(1200) if q.family == "described"):
        scene = sample_scene(question.truth["seed"])
        named = set(question.truth["query"].rstrip(".").split()[3:]) - {"a"}
        visitors = {(e.shape, e.colour) for e in scene.events if e.kind == "visit"}
        fitting = [set(visitor) - named for visitor in visitors if named & set(visitor)]
        assert fitting and all(f == {question.options[question.answer]} for f in fitting)
        ((start_s, end_s),) = question.truth["windows"]
        assert not [t for t in scene.overview_times() if start_s <= t < end_s]
        assert (
            f"that is {' '.join(question.truth['query'].rstrip('.').split()[3:])}?" in question.text
        )


def test_reasoning_ends_in_the_answer():
    for question in many(200):
        assert question.options[question.answer] in question.reasoning


def test_no_split_or_seed_shares_a_scene():
    seeds = {
        scene_seed(split, seed, index)
        for split in SPLITS
        for seed in (0, 1, 999_999)
        for index in (0, 1, 999_999)
    }
    assert len(seeds) == 4 * 3 * 3
    with pytest.raises(ValueError, match="split is 'dev'"):
        scene_seed("dev", 0, 0)
    with pytest.raises(ValueError, match="seed is -1"):
        scene_seed("test", -1, 0)


def test_more_questions_begin_with_the_same_ones(tmp_path):
    few = pocket_questions("test", 3, 2, tmp_path)
    assert pocket_questions("test", 3, 4, tmp_path)[:2] == few
    assert len(list(tmp_path.glob("*.mp4"))) == 4


def test_two_questions_about_each_clip(tmp_path):
    """Of two families; and whichever are asked for, each is the same."""
    families = ("static", "moment", "search", "order", "search")
    questions = pocket_questions("train", 4, 20, tmp_path, families, per_clip=2)
    assert len({q.id for q in questions}) == 20
    assert [q.video for q in questions[::2]] == [q.video for q in questions[1::2]]
    assert len({q.video for q in questions}) == len([*tmp_path.glob("*.mp4")]) == 10
    assert [q.family for q in questions] == [*families] * 4
    assert set(Counter(q.answer for q in questions).values()) == {5}
    assert pocket_questions("train", 4, 7, tmp_path, families, 5, per_clip=2) == questions[5:12]


@pytest.mark.parametrize(("families", "per_clip"), [(("static",), 2), (FAMILIES, 7), (FAMILIES, 0)])
def test_no_clip_has_two_questions_of_a_family(families, per_clip, tmp_path):
    with pytest.raises(ValueError, match=f"per_clip is {per_clip}; "):
        pocket_questions("train", 4, 8, tmp_path, families, per_clip=per_clip)
