import json
from pathlib import Path

import pytest
from PIL import Image

from act2see.datasets import egonormia
from act2see.datasets.choices import shuffled
from act2see.datasets.egonormia import Record, Replies, points, read_set
from act2see.datasets.records import read_records
from act2see.pocket.world import sample_scene, write_clip
from act2see.statistics import trivial_traces
from act2see.trace import LETTERS, Question, Step, Trace

OFFICIAL = Path(__file__).parents[3] / "shared" / "data" / "egonormia"
official = pytest.mark.skipif(not OFFICIAL.is_dir(), reason=f"no official split at {OFFICIAL}")
RECORD = {
    "id": "clip-1",
    "behaviors": ["Wait.", "Push.", "Step aside.", "Shout.", ""],
    "justifications": ["Queues are kept.", "Haste wins.", "Others have way.", "It is loud.", ""],
    "correct": 2,
    "sensibles": [0, 2],
    "taxonomy": {"0": ["Politeness"], "4": []},
    "desc": "A person in a queue.",
}


@pytest.fixture
def loaded(tmp_path):
    (tmp_path / "clip-1").mkdir()
    Image.new("RGB", (64, 16), "green").save(tmp_path / "clip-1" / egonormia.STRIP)
    hub = {k: v for k, v in RECORD.items() if k not in ("correct", "sensibles")}
    hub |= {"id": "clip-2", "correct_idx": 4, "sensible_idx": []}
    (tmp_path / "data.json").write_text(json.dumps({"clip-1": RECORD, "clip-2": hub}))
    return egonormia.load(tmp_path / "data.json", tmp_path, egonormia.STRIP)


def answered(question: Question, text: str) -> Trace:
    return Trace(question=question, steps=[Step(kind="answer", text=text)])


def dialogue(question: Question, best: str, reason: str, all_of: list[str]) -> list[Trace]:
    """The three traces of somebody who knows what to say, wherever it stands."""
    action = answered(question, f"Answer: {LETTERS[question.options.index(best)]}")
    why = shuffled(egonormia.justification(action), 7)
    places = [LETTERS[question.options.index(one)] for one in all_of]
    return [
        action,
        answered(why, f"Answer: {LETTERS[why.options.index(reason)]}"),
        answered(egonormia.sensible(question), f"Answer: {', '.join(places) or 'none'}"),
    ]


@official
@pytest.mark.parametrize(
    ("system", "percent"),
    [
        ("gpt-4o-240513", [45.45, 18.18, 25.0, 9.09]),
        ("rag", [63.64, 45.45, 25.0, 45.45]),
        ("desc_gpt-o3-mini", [18.18, 18.18, 25.0, 9.09]),
        ("desc_deepseek-r1-new", [18.18, 18.18, 25.0, 9.09]),
    ],
)
def test_official_predictions_get_the_official_scores(system, percent):
    pairs = read_records(OFFICIAL / "ood_robot.json", Record, "id")
    results = json.loads((OFFICIAL / "ood_robot_eval.json").read_text())
    answers = {
        item: Replies(*found[system]["best"]["results"], set(found[system]["sensible"]["results"]))
        for item, found in results.items()
    }
    won = points({record.id: record for _, record in pairs}, answers)
    assert won.shape == (11, 4)
    assert (won.mean(0) * 100).round(2).tolist() == percent


def test_three_questions_show_every_option_and_keep_the_record(loaded):
    (action,), missing = loaded
    assert list(missing) == ["video/clip-2/frame_all_prev.jpg"] and action.truth == RECORD
    assert action.options[-1] == egonormia.NONE and action.answer == 2 and action.duration_s > 0
    why = egonormia.justification(answered(action, "Answer: B"))
    assert '"Push."' in why.text and why.options[2] == "Others have way." and why.answer == 2
    every = egonormia.sensible(action)
    assert "C) Step aside." in every.prompt() and every.options == []
    assert "queue" not in action.prompt() + why.prompt() + every.prompt().lower()


@pytest.mark.parametrize("seed", range(8))
def test_a_shuffle_changes_no_score(loaded, seed):
    question = shuffled(loaded.questions[0], seed)
    traces = dialogue(question, "Step aside.", "Haste wins.", ["Wait.", "Shout."])
    assert egonormia.replies(traces) == {"clip-1": Replies(2, 1, {0, 3})}
    table = egonormia.scores("mine", traces, "strip").set_index("family")
    assert table.accuracy.to_dict() == {
        "action": 1, "justification": 0, "both": 0, "sensible": pytest.approx(1 / 3),
    }  # fmt: skip
    assert table.unparsed.sum() == 0 and set(table.n) == {1} and table.index[-1] == "both"
    assert set(table.protocol) == {"strip, 3 replies an item, of frame_all_prev.jpg"}


@pytest.mark.parametrize("seed", range(4))
def test_reasons_stand_where_their_actions_do(loaded, seed):
    question = shuffled(loaded.questions[0], seed)
    why = egonormia.justification(answered(question, "Answer: A"))
    pairs = dict(zip(question.options, why.options, strict=True))
    assert pairs["Step aside."] == "Others have way." and pairs["Push."] == "Haste wins."
    assert why.options[why.answer] == "Others have way." and question.options[0] in why.text
    assert egonormia.replies([answered(why, f"Answer: {LETTERS[why.answer]}")]) == {
        "clip-1": Replies(None, 2, None)
    }


def test_what_nobody_was_asked_has_no_row(loaded):
    action = answered(loaded.questions[0], "Answer: C")
    assert list(egonormia.scores("x", [action], "strip").family) == ["action"]
    two = [action, answered(egonormia.justification(action), "Answer: C")]
    assert list(egonormia.scores("x", two, "strip").family) == ["action", "justification", "both"]


def test_an_items_video_is_found_in_the_published_folder(tmp_path):
    folder = tmp_path / "video" / "clip-1"
    folder.mkdir(parents=True)
    write_clip(sample_scene(5), folder / "video_prev.mp4")
    (tmp_path / "data.json").write_text(json.dumps([RECORD]))
    for place in (tmp_path, tmp_path / "video"):
        (question,), missing = egonormia.load(tmp_path / "data.json", place)
        assert question.video == str(folder / "video_prev.mp4") and not missing


def test_what_cannot_be_read_is_wrong_and_counted(loaded):
    action = answered(loaded.questions[0], "A person should wait")
    traces = [action, answered(egonormia.justification(action), "hm")]
    traces += [answered(egonormia.sensible(action.question), "I would say A and C")]
    table = egonormia.scores("mine", traces, "strip").set_index("family")
    assert table.unparsed.to_dict() == {"action": 1, "justification": 1, "both": 1, "sensible": 1}
    assert table.accuracy.sum() == 0 and table.lenient["sensible"] == 1
    assert table.lenient_unparsed["sensible"] == 0


def test_sets():
    assert read_set("Answer: (A), (C)") == read_set("Answer: [A, C]") == {0, 2}
    assert read_set("so\n**Answer:** A and E.") == {0, 4}
    assert read_set("Answer: none.") == set() == read_set("Answer: None of these")
    assert read_set("Answer: A man") is read_set("A, C") is read_set("none") is None
    assert read_set("B, D", lenient=True) == {1, 3} and read_set("", lenient=True) is None
    empty = Record.model_validate(RECORD | {"sensibles": []})
    won = points({"x": empty, "y": empty}, {"x": Replies(2, 2, set()), "y": Replies(2, 2, None)})
    assert won.tolist() == [[1, 1, 1, 1], [1, 1, 0, 1]]


def test_wrong_records_and_unknown_items_are_named(tmp_path):
    path = tmp_path / "data.json"
    path.write_text(json.dumps([RECORD, RECORD | {"id": "c2", "correct": 5}]))
    with pytest.raises(ValueError, match=r"data.json: record 1 \(c2\): correct: .*equal to 4.* 5"):
        egonormia.load(path, tmp_path)
    with pytest.raises(ValueError, match=r"1 items have no record, among them \['z'\]"):
        points({}, {"z": Replies(0, 0, set())})


def test_blind_actions_can_be_scored(loaded):
    blind = trivial_traces(loaded.questions)
    assert egonormia.scores("c", blind["always_c"], "strip").accuracy.tolist() == [1]
    assert egonormia.scores("a", blind["always_a"], "strip").accuracy.tolist() == [0]
