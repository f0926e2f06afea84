import json
import logging
import threading
from dataclasses import replace

import pytest

from act2see.dialects.calls import CALLS
from act2see.dialects.tags import TAGS
from act2see.interleave import Budget, collect, interleave
from act2see.policies.model_name import ServedModelError
from act2see.policies.openai import ask_judge, openai_teacher, read_completion, wire
from act2see.policies.teacher import Account, Limits
from act2see.policies.wire import hear
from act2see.store import read_traces
from act2see.tools.retrieve import RetrieveFrames
from act2see.trace import Question, Step, Trace
from tests.dialects.test_tags import Retrieve
from tests.templates import thinking

ONCE = Limits(retries=0, timeout_s=20)
LOOK = '{"start_s": 1, "end_s": 3}'
BUDGET = Budget(overview_frames=2, max_calls=2)
TOOLS = (RetrieveFrames(),)


def completion(content="", calls=(), finish="stop", usage=(1000, 100), told=None, **message):
    """A response; told: more fields of its choice, such as vLLM's `stop_reason`."""
    made = [
        {"id": f"x{i}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for i, (name, arguments) in enumerate(calls)
    ]
    message |= {"role": "assistant", "content": content, "tool_calls": made or None}
    counted = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    choice = {"index": 0, "message": message, "finish_reason": finish, **(told or {})}
    return 200, {}, {"choices": [choice], "usage": counted}


ANSWER = completion("Answer: A", reasoning_content="it is red.")


def by_turn(*replies):
    """A script that says the n-th reply in the n-th turn of any dialogue."""

    def script(body, number):
        turns = sum(message["role"] == "assistant" for message in body["messages"])
        return replies[min(turns, len(replies) - 1)]

    return script


def run(serve, questions, script, limits=ONCE, **options):
    with serve(script) as (url, bodies):
        teacher = openai_teacher("m", url, limits=limits, **options)
        traces = list(interleave(questions, teacher, TOOLS, BUDGET))
    order = {q.id: i for i, q in enumerate(questions)}
    return sorted(traces, key=lambda t: order[t.question.id]), bodies


def first_fails(questions, reply):
    """A script that says `reply` about the first question and answers the others."""
    mine = questions[0].prompt()

    def script(body, number):
        return reply if body["messages"][1]["content"][-1]["text"] == mine else ANSWER

    return script


def test_a_dialogue_of_two_turns_with_a_call_and_frames(serve, questions, key):
    look = completion("let me look.", [("retrieve_frames", LOOK)], reasoning="at 2 s?")
    (trace,), (first, second) = run(serve, questions[:1], by_turn(look, ANSWER))
    assert [s.kind for s in trace.steps] == ["think", "call", "evidence", "think", "answer"]
    assert trace.steps[0].text == "at 2 s?\n\nlet me look." and trace.letter() == "A"
    assert trace.calls()[0].arguments == {"start_s": 1, "end_s": 3} and not trace.failed
    assert first["messages"] == second["messages"][:2]
    assert [m["role"] for m in second["messages"][2:]] == ["assistant", "tool", "user"]
    asked, told, shown = second["messages"][2:]
    assert asked["tool_calls"][0]["id"] == told["tool_call_id"]
    assert json.loads(asked["tool_calls"][0]["function"]["arguments"]) == json.loads(LOOK)
    assert told["content"] == "5 frames follow."
    urls = [p["image_url"]["url"] for p in shown["content"] if p["type"] == "image_url"]
    assert len(urls) == 5 and all(u.startswith("data:image/jpeg;base64,/9j/") for u in urls)
    assert first["tools"][0]["function"]["name"] == "retrieve_frames"


def test_two_calls_in_one_turn_are_answered_each(serve, questions, key):
    calls = [("retrieve_frames", LOOK), ("zoom", "{}")]
    (trace,), bodies = run(serve, questions[:1], by_turn(completion("", calls), ANSWER))
    assert len(trace.calls()) == 2 and trace.letter() == "A"
    sent = bodies[1]["messages"][2:]
    assert [m["role"] for m in sent] == ["assistant", "tool", "tool", "user"]
    assert [m["tool_call_id"] for m in sent[1:3]] == [c["id"] for c in sent[0]["tool_calls"]]
    assert "unknown tool 'zoom'" in sent[2]["content"]


def test_a_call_that_is_not_json_is_data_and_told_so(serve, questions, key):
    calls = [("retrieve_frames", '{"start_s": 1,'), ("retrieve_frames", LOOK)]
    (trace,), bodies = run(serve, questions[:1], by_turn(completion("", calls), ANSWER))
    assert [c.tool for c in trace.calls()] == ["", "retrieve_frames"]
    assert '{"start_s": 1,' in trace.calls()[0].text and trace.letter() == "A"
    asked, told, shown = bodies[1]["messages"][2:]
    assert len(asked["tool_calls"]) == 1 and told["content"] == "5 frames follow."
    assert shown["content"][1]["text"].startswith("the call is not JSON")


def test_frames_as_a_users_message_do_not_cost_a_qwen_its_thoughts(traces):
    trace = next(t for t in traces if len(t.calls()) == 1).model_copy(deep=True)
    trace.steps = trace.steps[:3] + trace.steps  # two turns that look, and one that answers
    trace.steps[0] = Step(kind="think", text="first of all.")
    messages = [dict(m) for m in wire(trace, "be brief")]
    for message in messages:
        if message["role"] == "assistant":
            thought, _, words = message["content"].partition("</think>")
            message["reasoning_content"] = thought.removeprefix("<think>")
            message["content"] = words
            message["tool_calls"] = []
    text = thinking(messages)
    thoughts = [s.text for s in trace.steps if s.kind == "think"]
    assert len(thoughts) > 2 and all(thought in text for thought in thoughts)


def heard(content, **message):
    """The turn in a completion, about a question with four options."""
    question = Question(video="v.mp4", text="which?", options=["red", "blue", "green", "white"])
    body = json.dumps(completion(content, **message)[2])
    return hear(read_completion(body), Trace(question=question)).reply


def test_thinking_may_come_in_tags_or_before_the_answer():
    tagged = heard("<think>a</think>\n\nAnswer: B")
    plain = heard("it is red.\n\n**Answer: B**")
    call = '<tool_call>{"name": "retrieve_frames", "arguments": {}}</tool_call>'
    written = heard(f"<think>a</think>{call}")
    assert (tagged.thinking, tagged.answer) == ("a", "Answer: B")
    assert (plain.thinking, plain.answer) == ("it is red.", "**Answer: B**")
    assert (written.thinking, written.calls[0].tool) == ("a", "retrieve_frames")


def test_429_is_asked_again_by_the_client(serve, questions, key):
    busy = 429, {"Retry-After": "0.01"}, {"error": {"message": "slow down"}}
    limits = Limits(retries=1, timeout_s=20)
    (trace,), bodies = run(
        serve, questions[:1], lambda body, number: ANSWER if number else busy, limits
    )
    assert trace.letter() == "A" and not trace.failed and len(bodies) == 2


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ((429, {}, {"error": {"message": "quota"}}), "RateLimitError: Error code: 429"),
        ((500, {}, "<html>oh</html>"), "InternalServerError: "),
        (None, "APIConnectionError"),
        ((401, {}, {"error": {"message": "no such key: KEY"}}), "no such key: [key]"),
        ((200, {}, "<html>welcome</html>"), "ValidationError"),
        ((200, {}, {"choices": []}), "the reply is empty"),
        (completion(None), "the reply is empty"),
        (completion(None, refusal="I can't."), "refused: I can't."),
        (completion("", finish="content_filter"), "refused: content_filter"),
        (completion("x" * 100_000), "; the limit is 65536"),
    ],
)
def test_a_failure_ends_its_own_dialogue_only(
    serve, questions, key, reply, reason, tmp_path, caplog
):
    caplog.set_level(logging.DEBUG)
    if reply and "KEY" in str(reply[2]):
        reply = (*reply[:2], json.loads(json.dumps(reply[2]).replace("KEY", key)))
    with serve(first_fails(questions, reply)) as (url, bodies):
        teacher = openai_teacher("m", url, limits=ONCE)
        traces = collect(tmp_path / "t.jsonl", questions[:4], teacher, TOOLS, BUDGET)
        assert [t.letter() for t in traces] == ["", "A", "A", "A"]
        assert reason in traces[0].failed and not any(t.failed for t in traces[1:])
        assert len(bodies) == 4
    with serve(lambda body, number: ANSWER) as (url, bodies):
        teacher = openai_teacher("m", url, limits=ONCE)
        again = collect(tmp_path / "t.jsonl", questions[:4], teacher, TOOLS, BUDGET)
        assert len(bodies) == 1 and [t.letter() for t in again] == ["A"] * 4
    kept = read_traces(tmp_path / "t.jsonl")
    assert len(kept) == 5 and sum(t.failed != "" for t in kept) == 1
    for text in (
        (tmp_path / "t.jsonl").read_text(),
        caplog.text,
        repr(teacher),
        str(traces),
        *map(str, traces),
    ):
        assert key not in text


def test_what_a_failed_reply_said_is_kept(serve, questions, key):
    long = "on and on. " * 10_000
    (trace,), _ = run(serve, questions[:1], lambda body, number: completion(long))
    assert trace.failed and trace.reasoning() == long.strip()


def test_a_truncated_turn_is_made_to_answer(serve, questions, key):
    cut = completion(None, finish="length", reasoning_content="on and")
    (trace,), bodies = run(serve, questions[:1], by_turn(cut, completion("Answer: C")))
    assert trace.truncated and trace.forced and trace.letter() == "C" and not trace.failed
    assert (
        bodies[1]["tool_choice"] == "none" and "Answer now" in bodies[1]["messages"][-1]["content"]
    )


def test_a_forced_answer_may_fail_too(serve, questions, key):
    cut = completion("hm", finish="length")
    (trace,), _ = run(serve, questions[:1], by_turn(cut, (500, {}, {})))
    assert trace.forced and trace.failed.startswith("InternalServerError")
    assert trace.steps[-1].kind == "think" and trace.letter() == ""


def test_a_spent_budget_of_calls_is_told_in_the_dialogue(serve, questions, key):
    look = completion("", [("retrieve_frames", LOOK)])
    (trace,), bodies = run(serve, questions[:1], lambda body, number: look)
    assert CALLS.no_calls_left in [s.text for s in trace.steps] and trace.forced
    assert bodies[-1]["messages"][-2]["content"] == CALLS.no_calls_left


def test_the_account_is_never_overdrawn(serve, questions, key):
    account = Account(budget_usd=0.30, input_usd=1, output_usd=20)
    reply = completion("Answer: A", usage=(5_000, 4_000))
    traces, bodies = run(serve, questions, lambda body, number: reply, account=account)
    assert 0.15 < account.usd() <= 0.30 and account.open == 0
    assert len(bodies) * 0.085 == pytest.approx(account.usd())
    refused = [t.failed for t in traces if t.failed]
    assert len(refused) == len(questions) - len(bodies) and "budget_usd is 0.3" in refused[0]


def test_a_budget_needs_prices():
    with pytest.raises(ValueError, match=r"budget_usd is 5; .* needs input_usd"):
        Account(budget_usd=5)
    with pytest.raises(ValueError, match="budget_usd is nan; it must be 0 or more"):
        Account(budget_usd=float("nan"), input_usd=1)


def test_a_reply_that_counts_no_tokens_is_charged_the_most_it_may_have_taken(serve, questions, key):
    uncounted = 200, {}, {"choices": [{"message": {"content": "Answer: A"}}]}
    account = Account(input_usd=1)
    run(serve, questions[:1], lambda body, number: uncounted, account=account)
    assert account.tokens_out == ONCE.reply_tokens and account.tokens_in > 2_000


def test_requests_are_open_together_up_to_the_limit(serve, questions, key):
    barrier = threading.Barrier(4, timeout=10)

    def script(body, number):
        barrier.wait()
        return ANSWER

    traces, _ = run(serve, questions[:8], script, Limits(concurrency=4, retries=0, timeout_s=20))
    assert all(t.letter() == "A" for t in traces)


def test_the_answer_is_told_only_on_demand_and_the_name_says_so(serve, questions, key):
    told = f"The right answer is {'ABCD'[questions[0].answer]})"
    for reveal in (False, True):
        (trace,), (body,) = run(
            serve, questions[:1], lambda body, number: ANSWER, reveal_answer=reveal
        )
        assert (told in json.dumps(body)) == reveal
        assert trace.policy == ("m (told the answer)" if reveal else "m")
        assert questions[0].reasoning not in json.dumps(body)


def test_a_missing_key_is_named(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ValueError, match="OPENAI_API_KEY is neither"):
        openai_teacher("m")
    assert openai_teacher("m", "http://127.0.0.1:9").key == ""


def test_a_server_is_shown_every_frame_of_an_overview_that_is_a_video(serve, questions, key):
    with serve(by_turn(ANSWER)) as (url, bodies):
        budget = replace(BUDGET, overview_frames=3, overview_as_video=True)
        (trace,) = interleave(questions[:1], openai_teacher("m", url), TOOLS, budget)
    parts = bodies[0]["messages"][1]["content"]
    assert [p["type"] for p in parts] == ["text", "image_url"] * 3 + ["text"]
    assert trace.overview_as_video and "overview as video" in trace.setting
    assert len(CALLS.messages(trace)[0]["content"]) == 5


def test_a_judge_replies_without_its_thoughts_and_without_a_key_is_not_asked(serve, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serve(lambda body, number: completion("<think>hm</think>\nYes.")) as (url, bodies):
        assert ask_judge("the same?", "j", url) == "Yes."
    sent = {"model": "j", "temperature": 0, "messages": [{"role": "user", "content": "the same?"}]}
    assert bodies == [sent]
    with pytest.raises(ValueError, match="OPENAI_API_KEY is neither in the environment"):
        ask_judge("the same?", "j")


def served_by(reply, model):
    """The reply, with the name of the model that gave it."""
    return (*reply[:2], reply[2] | {"model": model})


def test_the_model_that_answered_is_in_the_trace(serve, questions, key):
    for model in ("m", "models/M-001", "m-2026-08-06", None):
        reply = served_by(ANSWER, model)
        (trace,), _ = run(serve, questions[:1], lambda body, number, reply=reply: reply)
        assert trace.served == (model or "") and not trace.failed


def switching(good):
    """A script: `m` answers so many requests, `n` all others."""

    def script(body, number):
        return served_by(ANSWER, "m" if number < good else "n")

    return script


@pytest.mark.parametrize("good", [0, 1, 3])
def test_another_model_stops_the_run_naming_both_and_what_is_done_stays(
    serve, questions, key, tmp_path, good
):
    account = Account(input_usd=1)
    file = tmp_path / "t.jsonl"
    with serve(switching(good)) as (url, bodies):
        teacher = openai_teacher("m", url, limits=ONCE, account=account)
        with pytest.raises(
            ServedModelError, match=r"model is 'm', but 'n' answered; .*allow_model"
        ):
            collect(file, questions[:4], teacher, TOOLS, BUDGET)
        assert len(bodies) == 4 and account.tokens_in == 4_000 and account.open == 0
    kept = read_traces(file) if file.exists() else []
    assert [t.served for t in kept] == ["m"] * good and all(t.letter() == "A" for t in kept)
    with serve(switching(99)) as (url, bodies):
        teacher = openai_teacher("m", url, limits=ONCE)
        assert len(collect(file, questions[:4], teacher, TOOLS, BUDGET)) == 4
        assert len(bodies) == 4 - good


def test_another_model_may_give_a_forced_answer_no_more_than_any_other(
    serve, questions, key, tmp_path
):
    cut = served_by(completion("hm", finish="length"), "m")
    script = by_turn(cut, served_by(ANSWER, "n"))
    with serve(script) as (url, bodies), pytest.raises(ServedModelError, match="'n' answered"):
        teacher = openai_teacher("m", url, limits=ONCE)
        collect(tmp_path / "t.jsonl", questions[:1], teacher, TOOLS, BUDGET)
    assert len(bodies) == 2 and not (tmp_path / "t.jsonl").exists()


def test_a_model_that_is_allowed_may_answer_and_counts_where_it_is(serve, questions, key, tmp_path):
    file = tmp_path / "t.jsonl"
    for allowed, asked in (("n", 2), ("n", 0)):
        with serve(switching(1)) as (url, bodies):
            teacher = openai_teacher("m", url, limits=ONCE, allow_model=allowed)
            traces = collect(file, questions[:2], teacher, TOOLS, BUDGET)
        assert {t.served for t in traces} == {"m", "n"} and len(bodies) == asked
    with serve(switching(99)) as (url, bodies):
        # Not allowed any more, the other model's trace is not the one asked for.
        traces = collect(file, questions[:2], openai_teacher("m", url), TOOLS, BUDGET)
    assert [t.served for t in traces] == ["m", "m"] and len(bodies) == 1


TAGS_BUDGET = replace(BUDGET, dialect="tags")


@pytest.mark.parametrize(
    "call",
    [
        completion("<think>not shown. <retrieve> a red disc "),
        completion("<think>not shown. <retrieve> a red disc ", told={"stop_reason": "</retrieve>"}),
        completion(None, reasoning_content="not shown. <retrieve> a red disc </retrieve>"),
        completion(
            None, reasoning="not shown. <retrieve> a red disc", told={"stop_reason": "</retrieve>"}
        ),
        completion("<retrieve> a red disc </retrieve>", reasoning_content="not shown."),
    ],
)
def test_a_whole_dialogue_in_tags(serve, questions, key, call):
    answer = completion("it is red.</think><answer> A ")
    with serve(by_turn(call, answer)) as (url, bodies):
        teacher = openai_teacher("m", url, limits=ONCE)
        (trace,) = interleave(questions[:1], teacher, (Retrieve(),), TAGS_BUDGET)
    assert [s.kind for s in trace.steps] == ["think", "call", "evidence", "think", "answer"]
    assert trace.calls()[0].arguments == {"query": "a red disc"} and trace.letter() == "A"
    assert trace.reasoning() == "not shown. it is red." and trace.well_formed()
    first, second = bodies
    assert "tools" not in first and first["stop"] == list(TAGS.stops)
    assert first["messages"] == second["messages"][:2]
    said, shown = second["messages"][2:]
    words = "<think>\nnot shown.\n<retrieve> a red disc </retrieve>"
    assert said == {"role": "assistant", "content": words}
    assert shown["role"] == "user"
    kinds = [part["type"] for part in shown["content"]]
    assert kinds == ["text", "text", "image_url", "text"]
    assert shown["content"][0]["text"] == "<frame>" and shown["content"][3]["text"] == "</frame>"


def test_a_call_left_open_where_the_server_says_that_nothing_stopped_it_is_told_so(
    serve, questions, key
):
    open_call = completion("<think>hm. <retrieve> a red disc", told={"stop_reason": None})
    answer = completion("<answer> A </answer>")
    with serve(by_turn(open_call, answer)) as (url, bodies):
        teacher = openai_teacher("m", url, limits=ONCE)
        (trace,) = interleave(questions[:1], teacher, (Retrieve(),), TAGS_BUDGET)
    assert trace.failed_calls() == 1 and not trace.calls()[0].tool
    assert "must be <retrieve> query </retrieve>" in bodies[1]["messages"][-1]["content"][1]["text"]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens'."),
        (422, "extra_forbidden: max_completion_tokens"),
        (400, "Unsupported parameter: 'stop' is not supported with this model."),
    ],
)
def test_a_field_that_a_server_refuses_is_left_out(serve, questions, key, status, message):
    field = next(
        name for name in ("max_tokens", "max_completion_tokens", "stop") if name in message
    )

    def script(body, number):
        no = status, {}, {"error": {"message": message}}
        return no if field in body else completion("<answer> A </answer>")

    with serve(script) as (url, bodies):
        teacher = openai_teacher("m", url, limits=replace(ONCE, concurrency=1))
        traces = list(interleave(questions[:2], teacher, (), TAGS_BUDGET))
    assert [t.letter() for t in traces] == ["A", "A"]
    # Both names of the limit are sent, since several servers know the older one alone.
    wanted = {"max_tokens", "max_completion_tokens", "stop"}
    assert [wanted - set(body) for body in bodies] == [set(), {field}, {field}]
    assert all(1 <= len({"max_tokens", "max_completion_tokens"} & set(b)) for b in bodies)


def test_without_stops_an_open_tag_was_left_open(serve, questions, key):
    def script(body, number):
        no = 400, {}, {"error": {"message": "'stop' is not supported"}}
        return no if "stop" in body else completion("<retrieve> a red disc")

    with serve(script) as (url, _):
        teacher = openai_teacher("m", url, limits=ONCE)
        (trace,) = interleave(questions[:1], teacher, (Retrieve(),), TAGS_BUDGET)
    assert not trace.calls()[0].tool


def test_a_judge_that_takes_no_temperature_is_asked_without(serve, key):
    def script(body, number):
        no = 400, {}, {"error": {"message": "'temperature' does not support 0 with this model."}}
        return no if "temperature" in body else completion("Yes.")

    with serve(script) as (url, bodies):
        assert ask_judge("the same?", "j", url) == "Yes." and len(bodies) == 2


def test_arguments_that_are_json_within_json_are_read(serve, questions, key):
    for arguments in (json.dumps(LOOK), json.loads(LOOK), f"```json\n{LOOK}\n```"):
        look = completion("", [("retrieve_frames", arguments)])
        (trace,), _ = run(serve, questions[:1], by_turn(look, ANSWER))
        assert trace.calls()[0].arguments == {"start_s": 1, "end_s": 3}


def test_human_reasoning_is_told_only_on_demand_and_the_name_says_so(serve, questions, key):
    for dialect in ("calls", "tags"):
        with serve(lambda body, number: ANSWER) as (url, (bodies)):
            teacher = openai_teacher("m", url, human_reasoning=True, reveal_answer=True)
            (trace,) = interleave(questions[:1], teacher, (), replace(BUDGET, dialect=dialect))
        assert questions[0].reasoning in bodies[0]["messages"][0]["content"]
        assert trace.policy == "m (told the answer) (told human reasoning)"
