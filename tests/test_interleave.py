import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from act2see.dialects.calls import CALLS
from act2see.interleave import Budget, collect, first_readable, interleave, setting
from act2see.pocket.oracle import OraclePolicy
from act2see.store import read_traces
from act2see.tools.generate import GenerateFrame
from act2see.tools.retrieve import RetrieveFrames
from act2see.trace import Question, Reply, Step
from act2see.video import VideoError

TOOLS = (RetrieveFrames(),)
NO_CALLS_LEFT = CALLS.no_calls_left
LOOK = Step(kind="call", tool="retrieve_frames", arguments={"start_s": 1, "end_s": 3})


@dataclass
class Script:
    """A policy that says the same for every question; counts how many were open at once."""

    turns: list[Reply]
    name: str = "script"
    widths: list[int] = field(default_factory=list)

    def reply(self, traces):
        self.widths.append(len(traces))
        spoken = [sum(s.kind == "think" for s in t.steps) for t in traces]
        return [self.turns[min(n, len(self.turns) - 1)] for n in spoken]

    def force(self, traces):
        return ["Answer: C" for _ in traces]


def one(questions, turns, budget):
    return next(interleave(questions[:1], Script(turns), TOOLS, budget))


def test_an_answer_ends_the_dialogue(questions):
    turns = [Reply("hm", [LOOK]), Reply("so", answer="Answer: A")]
    trace = one(questions, turns, Budget())
    assert [s.kind for s in trace.steps] == ["think", "call", "evidence", "think", "answer"]
    assert len(trace.overview) == 8 and trace.letter() == "A" and not trace.forced


def test_a_spent_budget_is_told_once_and_then_an_answer_is_forced(questions):
    trace = one(questions, [Reply("more", [LOOK])], Budget(max_calls=1))
    assert [s.text for s in trace.steps if s.kind == "evidence"][1:] == [NO_CALLS_LEFT]
    assert trace.forced and trace.letter() == "C" and not trace.truncated


def test_a_call_that_was_refused_before_ends_the_budget(questions):
    trace = one(questions, [Reply("more", [LOOK])], Budget(max_calls=4))
    shown, again, ended = [s.text for s in trace.steps if s.kind == "evidence"]
    assert not shown and "shown already" in again and ended == NO_CALLS_LEFT
    assert trace.forced and trace.failed_calls() == 2


def test_nothing_is_shown_once_the_budget_has_ended(questions):
    bad = Step(kind="call", tool="zoom")
    trace = one(questions, [Reply("hm", [bad, bad, LOOK]), Reply("", answer="Answer: A")], Budget())
    assert [bool(s.frames) for s in trace.steps if s.kind == "evidence"] == [False] * 3
    assert [s.text for s in trace.steps if s.kind == "evidence"][1:] == [NO_CALLS_LEFT] * 2


def test_a_turn_that_runs_too_long_is_counted_and_answered(questions):
    trace = one(questions, [Reply("on and on", truncated=True)], Budget())
    assert trace.truncated and trace.forced and trace.letter() == "C"


def test_neither_call_nor_letter_is_made_to_choose(questions):
    trace = one(questions, [Reply("hm", answer="hard to say")], Budget())
    assert trace.forced and trace.letter() == "C"
    # What it said instead is kept, and read when a letter is asked for.
    assert trace.steps[0].text == "hm\n\nhard to say"


def test_an_answer_in_other_words_stays_as_it_was_said(questions):
    trace = one(questions, [Reply("hm", answer="The answer is (B).")], Budget())
    assert not trace.forced and trace.answer() == "The answer is (B)."


def test_two_calls_in_one_turn_get_an_answer_each(questions):
    other = Step(kind="call", tool="zoom")
    turns = [Reply("hm", [LOOK, other]), Reply("", answer="Answer: A")]
    trace = one(questions, turns, Budget())
    assert [s.kind for s in trace.steps[:5]] == ["think", "call", "call", "evidence", "evidence"]
    assert trace.failed_calls() == 1
    assert [m["role"] for m in CALLS.messages(trace)][1:4] == ["assistant", "tool", "tool"]


def test_places_are_filled_as_dialogues_finish(questions):
    script = Script([Reply("", answer="Answer: A")])
    assert len(list(interleave(questions, script, TOOLS, Budget(open_dialogues=3)))) == 10
    assert script.widths == [3, 3, 3, 1]


def test_collect_asks_nothing_twice_and_survives_an_interruption(questions, tmp_path):
    path, teacher = tmp_path / "t.jsonl", OraclePolicy()
    whole = collect(path, questions[:4], teacher, TOOLS)
    path.write_bytes(path.read_bytes()[:-30])
    counted = Script([Reply("", answer="Answer: A")], name=teacher.name)
    with pytest.warns(UserWarning, match="cut off"):
        again = collect(path, questions[:4], counted, TOOLS)
    assert counted.widths == [1]
    same = [a.model_dump_json() == b.model_dump_json() for a, b in zip(whole, again, strict=True)]
    assert sum(same) in (0, 3)
    assert len(read_traces(path)) == 4


def test_another_policy_or_other_tools_are_asked_anew(questions, tmp_path):
    path = tmp_path / "t.jsonl"
    for name, tools in (("a", ()), ("b", ()), ("b", TOOLS)):
        script = Script([Reply("", answer="Answer: A")], name=name)
        collect(path, questions[:2], script, tools)
        assert script.widths == [2]


def test_other_limits_are_asked_anew(questions, tmp_path):
    path, script = (
        tmp_path / "t.jsonl",
        Script([Reply("hm", [LOOK]), Reply("so", answer="Answer: A")]),
    )
    first = collect(path, questions[:2], script, TOOLS, Budget())
    again = collect(path, questions[:2], script, TOOLS, Budget(max_calls=0))
    fewer = collect(path, questions[:2], script, (RetrieveFrames(frames_per_call=2),), Budget())
    assert [len(t.frames()) for t in (first[0], again[0], fewer[0])] == [12, 8, 10]
    asked = len(script.widths)
    collect(path, questions[:2], script, (RetrieveFrames(frames_per_call=2),), Budget())
    assert len(script.widths) == asked


def named(name):
    """A ranker or a generator of this name."""

    def model(*given):
        return given[0]

    model.__name__ = name
    return model


def test_another_model_behind_a_tool_on_offer_is_asked_anew(questions, tmp_path):
    script = Script([Reply("", answer="Answer: A")])
    retrieve = RetrieveFrames()
    generate = GenerateFrame(generator=named("g"))
    for tools in (
        (retrieve, generate),
        (replace(retrieve, ranker=named("r")), generate),
        (retrieve, replace(generate, generator=named("g, 9 steps"))),
    ):
        for _ in range(2):
            collect(tmp_path / "t.jsonl", questions[:2], script, tools)
    assert script.widths == [2, 2, 2]


def test_a_setting_names_the_limits_and_the_models_of_the_tools_on_offer():
    retrieve = RetrieveFrames()
    limits = "5 frames a call, 4 Hz, 0 px"
    assert setting((), Budget()) == "4 calls"
    assert setting((retrieve,), Budget()) == f"4 calls, {limits}"
    assert setting((replace(retrieve, ranker=named("r")),), Budget()) == f"4 calls, {limits}, r"
    both = (retrieve, GenerateFrame(generator=named("g")))
    wide = Budget(max_side_px=448, overview_as_video=True)
    assert setting(both, wide) == f"4 calls, overview 448 px, overview as video, {limits}, g"


def test_the_length_of_a_video_is_probed_where_a_question_lacks_it(questions, tmp_path):
    bare = Question(video=questions[0].video, text="what is there?")
    script = Script([Reply("", answer="a wall")])
    (trace,) = collect(tmp_path / "t.jsonl", [bare], script, ())
    assert trace.question.duration_s == questions[0].duration_s and bare.duration_s == 0
    assert trace.question.id.startswith("own-") and trace.answer() == "a wall"
    collect(tmp_path / "t.jsonl", [bare], script, ())
    assert script.widths == [1]


def test_another_spelling_of_a_videos_path_asks_nothing(questions, tmp_path, monkeypatch):
    script = Script([Reply("", answer="Answer: A")])
    collect(tmp_path / "t.jsonl", questions[:1], script, ())
    monkeypatch.chdir(Path(questions[0].video).parent)
    near = questions[0].model_copy(update={"video": Path(questions[0].video).name})
    (trace,) = collect(tmp_path / "t.jsonl", [near], script, ())
    assert script.widths == [1] and trace.question.video == near.video


def test_another_dialect_is_asked_anew_and_an_unknown_one_is_named(questions, tmp_path):
    script = Script([Reply("", answer="Answer: A")])
    with pytest.raises(ValueError, match="dialect is 'morse'; it must be one of: calls"):
        collect(tmp_path / "t.jsonl", questions[:1], script, (), Budget(dialect="morse"))


ANSWER = [Reply("", answer="Answer: A")]


@dataclass
class Told(Script):
    """A scripted policy that says what shapes its answers."""

    setting: str = "12 tokens a turn"
    system: str = "Be brief."

    def instruction(self, trace):
        return self.system


def moved(question, folder):
    """The question about a copy of its video in another folder."""
    folder.mkdir(exist_ok=True)
    video = shutil.copy(question.video, folder / "renamed.mp4")
    return question.model_copy(update={"video": str(video)})


def test_anything_that_shapes_an_answer_is_asked_anew_and_only_once(questions, tmp_path):
    file = tmp_path / "t.jsonl"
    model = tmp_path / "model"
    (model / "inner").mkdir(parents=True)
    (model / "inner" / "config.json").write_text("1")
    one = questions[0]
    base = {"policy": Told(ANSWER), "tools": TOOLS, "budget": Budget(), "models": [model]}
    changes = [
        {},
        {"policy": Told(ANSWER, setting="4096 tokens a turn")},
        {"policy": Told(ANSWER, system="Be long.")},
        {"policy": Told(ANSWER, name="other")},
        {"budget": Budget(max_calls=1)},
        {"budget": Budget(overview_frames=3)},
        {"budget": Budget(dialect="tags")},
        {"tools": (RetrieveFrames(frames_per_call=2),)},
        {"question": one.model_copy(update={"text": "which?"})},
        {"question": one.model_copy(update={"video": questions[1].video, "duration_s": 1.0})},
        {"written": "2"},
    ]
    for change in changes:
        if "written" in change:
            (model / "inner" / "config.json").write_text(change["written"])
        options = base | {k: v for k, v in change.items() if k in base}
        asked = options["policy"].widths
        before = len(asked)
        for _ in range(2):
            collect(file, [change.get("question", one)], **options)
        assert len(asked) == before + 1, change
    assert len(read_traces(file)) == len(changes)


def test_nothing_of_where_files_lie_is_asked_anew(questions, tmp_path, monkeypatch):
    script = Script(ANSWER)
    own = Question(video=questions[0].video, text="?", options=["a", "b"])
    place = Path(own.video)
    monkeypatch.chdir(place.parent)
    spellings = [place.name, f"./{place.name}", f"../{place.parent.name}/{place.name}"]
    asked = [own, *(Question(video=v, text="?", options=["a", "b"]) for v in spellings)]
    asked.append(moved(own, tmp_path / "elsewhere"))
    for question in [*asked, moved(questions[0], tmp_path / "elsewhere"), questions[0]]:
        (trace,) = collect(tmp_path / "t.jsonl", [question], script, ())
        assert trace.question.video == question.video
    assert script.widths == [1, 1]  # own, and the record of the same video


def test_a_record_with_half_a_character_or_no_number_is_asked_once(questions, tmp_path):
    script = Script(ANSWER)
    fields = questions[0].model_dump() | {"text": "\ud83d half", "truth": {"a": float("nan")}}
    for _ in range(2):
        collect(tmp_path / "t.jsonl", [Question(**fields)], script, ())
    assert script.widths == [1]


def test_a_trace_whose_picture_is_gone_is_asked_again(questions, tmp_path):
    script = Script(ANSWER)
    (trace,) = collect(tmp_path / "t.jsonl", questions[:1], script, ())
    (tmp_path / "frames" / trace.overview[0].file).unlink()
    (trace,) = collect(tmp_path / "t.jsonl", questions[:1], script, ())
    assert script.widths == [1, 1] and trace.overview[0].image()


def test_a_video_that_cannot_be_read_is_asked_about_once(questions, tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"no video")
    bad = Question(video=str(tmp_path / "v.mp4"), text="?", options=["a", "b"])
    script = Script(ANSWER)
    for _ in range(2):
        traces = collect(tmp_path / "t.jsonl", [questions[0], bad], script, ())
        assert [bool(t.failed) for t in traces] == [False, True]
    assert script.widths == [1] and len(read_traces(tmp_path / "t.jsonl")) == 2
    shutil.copy(questions[1].video, bad.video)
    (trace,) = collect(tmp_path / "t.jsonl", [bad], script, ())
    assert not trace.failed and script.widths == [1, 1]


def test_greedy_answers_do_not_hang_on_how_many_are_open_or_their_order(
    questions, base, processor, tmp_path
):
    from act2see.policies.qwen import QwenPolicy

    answers = []
    for number, (width, order) in enumerate(((10, 1), (3, 1), (1, 1), (10, -1))):
        policy = QwenPolicy(base, processor, max_new_tokens=40)
        budget = Budget(open_dialogues=width, max_calls=1)
        asked = questions[:6][::order]
        traces = collect(tmp_path / f"{number}.jsonl", asked, policy, TOOLS, budget)
        answers.append({t.question.id: t.steps for t in traces})
    assert all(answer == answers[0] for answer in answers)


def test_two_collects_on_one_file_are_refused_by_name(questions, tmp_path, monkeypatch):
    file = tmp_path / "t.jsonl"
    monkeypatch.setattr("act2see.files.WAIT_S", 0.0)

    class Nested(Script):
        def reply(self, traces):
            with pytest.raises(BlockingIOError, match=r"t.jsonl is being written by another"):
                collect(file, questions[:1], Script(ANSWER), ())
            return super().reply(traces)

    collect(file, questions[:2], Nested(ANSWER), ())
    assert len(read_traces(file)) == 2


def damaged(path, whole):
    """The clip with the middle of its pictures zeroed, its index whole."""
    data = bytearray(whole.read_bytes())
    start = data.index(b"mdat")
    length = len(data) - start
    first, last = start + 9 * length // 20, start + 12 * length // 20
    data[first:last] = bytes(last - first)
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize("frames", [8, 0])
def test_a_damaged_video_ends_its_own_trace_and_is_not_asked_again(questions, tmp_path, frames):
    video = damaged(tmp_path / "damaged.mp4", Path(questions[0].video))
    run = [*questions[:4], questions[4].model_copy(update={"video": video}), *questions[5:]]
    half_s = questions[4].duration_s / 2
    look = LOOK.model_copy(update={"arguments": {"start_s": half_s - 2, "end_s": half_s + 2}})
    policy = Script([Reply("hm", [look]), Reply("so", answer="Answer: A")])
    budget = Budget(overview_frames=frames)
    traces = collect(tmp_path / "t.jsonl", run, policy, TOOLS, budget)
    assert [i for i, trace in enumerate(traces) if trace.failed] == [4]
    assert traces[4].failed.startswith(f"{video}: ")
    asked = sum(policy.widths)
    # Known before anything is asked where the overview shows it, else after a turn.
    assert asked == (18 if frames else 19)
    assert collect(tmp_path / "t.jsonl", run, policy, TOOLS, budget) == traces
    assert sum(policy.widths) == asked


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "", ".", "none.mp4"])
def test_a_name_that_is_no_file_ends_its_own_trace(questions, tmp_path, name):
    strange = Question(video=name, text="what?", options=["yes", "no"])
    policy = Script([Reply("so", answer="Answer: A")])
    traces = collect(tmp_path / "t.jsonl", [strange, questions[0]], policy, TOOLS)
    assert [bool(trace.failed) for trace in traces] == [True, False]


def test_an_index_that_knows_more_than_the_file_ends_its_own_trace(questions, tmp_path):
    longer = questions[0].model_copy(update={"duration_s": 999.0})
    policy = Script([Reply("so", answer="Answer: A")])
    traces = collect(tmp_path / "t.jsonl", [longer, questions[1]], policy, TOOLS)
    assert "is not within 0 to" in traces[0].failed and not traces[1].failed


def test_a_damaged_video_is_named_and_the_next_one_is_looked_at(questions, tmp_path):
    """The index is whole, so that it opens and lasts as it did; frames in its middle are gone."""
    content = bytearray(Path(questions[0].video).read_bytes())
    start, end = int(0.45 * len(content)), int(0.6 * len(content))
    content[start:end] = bytes(end - start)
    (tmp_path / "damaged.mp4").write_bytes(content)
    damaged = questions[0].model_copy(update={"video": str(tmp_path / "damaged.mp4")})
    with pytest.warns(UserWarning, match=r"damaged.mp4: .*; another question is looked at"):
        assert first_readable([damaged, *questions[1:3]]) == questions[1]
    assert first_readable(questions[:2]) == questions[0]
    late = {questions[0].id: [1e6]}
    with pytest.warns(UserWarning):
        assert first_readable(questions[:2], late) == questions[1]
    with pytest.raises(VideoError, match=r"0 of 1 videos can be read: .*damaged.mp4"):
        first_readable([damaged])
