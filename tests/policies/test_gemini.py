import base64
import json
import logging
import sys
from dataclasses import replace
from types import ModuleType

import pytest

from act2see.dialects.tags import TAGS
from act2see.interleave import Budget, collect, interleave
from act2see.policies.gemini import gemini_teacher
from act2see.policies.model_name import ServedModelError
from act2see.policies.teacher import Account, Limits
from act2see.policies.wire import jpeg
from act2see.store import read_traces
from act2see.tools.retrieve import RetrieveFrames
from tests.dialects.test_tags import Retrieve

ONCE = Limits(retries=0, timeout_s=20)
TWICE = Limits(retries=1, retry_delay_s=0.001, timeout_s=20)
LOOK = {"name": "retrieve_frames", "args": {"start_s": 1, "end_s": 3}, "id": "c1"}
SIGNATURE = base64.b64encode(b"signed").decode()
BUDGET = Budget(overview_frames=2, max_calls=2)
TOOLS = (RetrieveFrames(),)


def response(*parts, finish="STOP", **candidate):
    content = {"content": {"role": "model", "parts": list(parts)}} if parts else {}
    counted = {"promptTokenCount": 900, "candidatesTokenCount": 50, "thoughtsTokenCount": 70}
    one = {**content, "finishReason": finish, **candidate}
    return 200, {}, {"candidates": [one], "usageMetadata": counted}


THOUGHT = {"text": "it is red.", "thought": True}
ANSWER = response(THOUGHT, {"text": "Answer: A"})


def by_turn(*replies):
    def script(body, number):
        turns = sum(content["role"] == "model" for content in body["contents"])
        return replies[min(turns, len(replies) - 1)]

    return script


def run(serve, questions, script, limits=ONCE, **options):
    with serve(script) as (url, bodies):
        teacher = gemini_teacher("g", url, limits=limits, **options)
        return list(interleave(questions, teacher, TOOLS, BUDGET)), bodies


def test_a_dialogue_of_two_turns_with_a_call_and_frames(serve, questions, key):
    account = Account()
    look = response(THOUGHT, {"functionCall": LOOK, "thoughtSignature": SIGNATURE})
    (trace,), (first, second) = run(serve, questions[:1], by_turn(look, ANSWER), account=account)
    assert [s.kind for s in trace.steps] == ["think", "call", "evidence", "think", "answer"]
    assert trace.reasoning() == "it is red. it is red." and trace.letter() == "A"
    assert (account.tokens_in, account.tokens_out) == (1800, 240)
    asked, said, shown = second["contents"]
    assert [asked] == first["contents"] and said["parts"] == look[2]["candidates"][0]["content"][
        "parts"
    ]
    told = shown["parts"][0]["functionResponse"]
    assert told == {
        "id": "c1",
        "name": "retrieve_frames",
        "response": {"output": "5 frames follow."},
    }
    frames = [p["inlineData"] for p in shown["parts"] if "inlineData" in p]
    assert len(frames) == 5 and "image/jpeg" in frames[0].values()
    declared = first["tools"][0]["functionDeclarations"][0]
    assert declared["name"] == "retrieve_frames" and "start_s" in json.dumps(declared)
    assert list(first["generationConfig"]["thinkingConfig"].values()) == [True]


def test_two_calls_in_one_turn_are_answered_before_the_frames(serve, questions, key):
    other = {"name": "zoom", "args": {}, "id": "c2"}
    calls = response({"functionCall": LOOK, "thoughtSignature": SIGNATURE}, {"functionCall": other})
    (trace,), bodies = run(serve, questions[:1], by_turn(calls, ANSWER))
    assert [c.tool for c in trace.calls()] == ["retrieve_frames", "zoom"] and trace.letter() == "A"
    parts = bodies[1]["contents"][2]["parts"]
    assert [p["functionResponse"]["id"] for p in parts[:2]] == ["c1", "c2"]
    assert "unknown tool 'zoom'" in parts[1]["functionResponse"]["response"]["error"]
    assert not any("functionResponse" in p for p in parts[2:]) and len(parts) == 12


def test_a_malformed_call_is_data_and_told_so(serve, questions, key):
    bad = response(finish="MALFORMED_FUNCTION_CALL")
    (trace,), bodies = run(serve, questions[:1], by_turn(bad, ANSWER))
    assert trace.calls()[0].tool == "" and trace.calls()[0].text
    assert trace.letter() == "A" and not trace.failed
    said, told = bodies[1]["contents"][1:]
    assert said["parts"][0]["text"].startswith("<tool_call>")
    assert told["parts"][0]["text"].startswith("the call is not JSON")


def test_429_is_asked_again_by_the_client(serve, questions, key):
    busy = 429, {"Retry-After": "1"}, {"error": {"code": 429, "message": "slow down"}}
    (trace,), bodies = run(
        serve, questions[:1], lambda body, number: ANSWER if number else busy, TWICE
    )
    assert trace.letter() == "A" and not trace.failed and len(bodies) == 2


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ((429, {}, {"error": {"code": 429, "message": "quota"}}), "ClientError: 429"),
        ((500, {}, "<html>oh</html>"), "ServerError: 500"),
        (None, "RemoteProtocolError"),
        ((400, {}, {"error": {"code": 400, "message": "no such key: KEY"}}), "no such key: [key]"),
        ((200, {}, "<html>welcome</html>"), "JSONDecodeError"),
        ((200, {}, "[" * 100_000), "RecursionError"),
        ((200, {}, {"candidates": []}), "the reply is empty"),
        ((200, {}, {"promptFeedback": {"blockReason": "SAFETY"}}), "the prompt is blocked, SAFETY"),
        (response(), "the reply is empty"),
        (response(finish="SAFETY"), "refused: SAFETY"),
        (response({"text": "as he"}, finish="RECITATION"), "refused: RECITATION"),
        (response({"functionCall": LOOK | {"args": "no object"}}), "ValidationError"),
        (response({"text": "x" * 100_000}), "; the limit is 65536"),
        (response({"text": "\ud800"}), "PydanticSerializationError"),
    ],
)
def test_a_failure_ends_its_own_dialogue_only(
    serve, questions, key, reply, reason, tmp_path, caplog
):
    caplog.set_level(logging.DEBUG)
    if reply and "KEY" in str(reply[2]):
        reply = (*reply[:2], json.loads(json.dumps(reply[2]).replace("KEY", key)))
    mine = questions[0].prompt()

    def script(body, number):
        return reply if body["contents"][0]["parts"][-1]["text"] == mine else ANSWER

    with serve(script) as (url, bodies):
        teacher = gemini_teacher("g", url, limits=ONCE)
        traces = collect(tmp_path / "t.jsonl", questions[:4], teacher, TOOLS, BUDGET)
        assert [t.letter() for t in traces] == ["", "A", "A", "A"]
        assert reason in traces[0].failed and not any(t.failed for t in traces[1:])
        assert len(bodies) == 4
    with serve(lambda body, number: ANSWER) as (url, bodies):
        teacher = gemini_teacher("g", url, limits=ONCE)
        again = collect(tmp_path / "t.jsonl", questions[:4], teacher, TOOLS, BUDGET)
        assert len(bodies) == 1 and [t.letter() for t in again] == ["A"] * 4
    assert [t.failed != "" for t in read_traces(tmp_path / "t.jsonl")].count(True) == 1
    for text in (
        (tmp_path / "t.jsonl").read_text(),
        caplog.text,
        repr(teacher),
        str(traces),
        *map(str, traces),
    ):
        assert key not in text


def test_a_turn_cut_in_a_call_is_made_to_answer(serve, questions, key):
    cut = response(THOUGHT, {"functionCall": LOOK}, finish="MAX_TOKENS")
    (trace,), bodies = run(serve, questions[:1], by_turn(cut, response({"text": "Answer: C"})))
    assert trace.truncated and trace.forced and trace.letter() == "C" and not trace.failed
    assert "functionCall" not in json.dumps(bodies[1]["contents"])
    assert bodies[1]["toolConfig"]["functionCallingConfig"]["mode"] == "NONE"


def test_a_turn_cut_before_its_first_word_is_made_to_answer(serve, questions, key):
    silent = response(finish="MAX_TOKENS", content={"role": "model"})

    def script(body, number):
        return response({"text": "Answer: C"}) if number else silent

    (trace,), bodies = run(serve, questions[:1], script)
    assert trace.truncated and trace.letter() == "C"
    assert all(content.get("parts") for content in bodies[1]["contents"])


def test_the_answer_is_told_only_on_demand_and_the_name_says_so(serve, questions, key):
    told = f"The right answer is {'ABCD'[questions[0].answer]})"
    for reveal in (False, True):
        (trace,), (body,) = run(
            serve, questions[:1], lambda body, number: ANSWER, reveal_answer=reveal
        )
        assert (told in json.dumps(body)) == reveal
        assert trace.policy == ("g (told the answer)" if reveal else "g")


def test_colabs_store_is_asked_where_the_environment_has_no_key(monkeypatch):
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    with pytest.raises(ValueError, match="GEMINI_API_KEY is neither"):
        gemini_teacher()
    colab, userdata = ModuleType("google.colab"), ModuleType("google.colab.userdata")
    userdata.SecretNotFoundError = userdata.NotebookAccessError = KeyError
    userdata.get = {"GEMINI_API_KEY": "from the store\n"}.__getitem__
    colab.userdata = userdata
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    assert gemini_teacher().key == "from the store"
    with pytest.raises(ValueError, match="OTHER is neither"):
        gemini_teacher(key_name="OTHER")


def test_another_model_stops_the_run_naming_both(serve, questions, key, tmp_path):
    file = tmp_path / "t.jsonl"

    def script(body, number):
        model = "g-001" if number < 2 else "gemini-3.8-flash"
        return 200, {}, ANSWER[2] | {"modelVersion": model}

    with serve(script) as (url, bodies):
        teacher = gemini_teacher("g", url, limits=ONCE)
        with pytest.raises(ServedModelError, match=r"'g', but 'gemini-3.8-flash' answered"):
            collect(file, questions[:4], teacher, TOOLS, BUDGET)
    assert [t.served for t in read_traces(file)] == ["g-001"] * 2 and len(bodies) == 4
    with serve(lambda body, number: script(body, 9)) as (url, bodies):
        teacher = gemini_teacher("g", url, limits=ONCE, allow_model="gemini-3.8-flash")
        traces = collect(file, questions[:4], teacher, TOOLS, BUDGET)
    assert {t.served for t in traces} == {"g-001", "gemini-3.8-flash"} and len(bodies) == 2


def test_frames_stand_in_their_functions_response_from_gemini_3_on(serve, questions, key):
    look = response({"functionCall": LOOK, "thoughtSignature": SIGNATURE})
    with serve(by_turn(look, ANSWER)) as (url, bodies):
        teacher = gemini_teacher("gemini-3.8-flash", url, limits=ONCE)
        (trace,) = interleave(questions[:1], teacher, TOOLS, BUDGET)
    (part,) = bodies[1]["contents"][2]["parts"]
    told = part["functionResponse"]
    names = [f"frame{i}.jpg" for i in range(5)]
    assert told["response"]["output"] == "5 frames follow."
    assert [f["picture"]["$ref"] for f in told["response"]["frames"]] == names
    labels = [f["label"] for f in told["response"]["frames"]]
    assert labels == [frame.label() for frame in trace.steps[2].frames]
    blobs = [p["inline_data"] for p in told["parts"]]  # the client's form; both are JSON of it
    assert [blob["display_name"] for blob in blobs] == names
    pictures = [base64.b64decode(blob["data"], altchars=b"-_") for blob in blobs]
    assert pictures == [jpeg(frame.image()) for frame in trace.steps[2].frames]
    assert trace.letter() == "A"


TAGS_BUDGET = replace(BUDGET, dialect="tags")
SPOKEN = {"text": "<think>not shown. <retrieve> a red disc "}
THOUGHT_OF = {"text": "not shown. <retrieve> a red disc </retrieve>", "thought": True}


@pytest.mark.parametrize(
    "call", [response(THOUGHT, SPOKEN), response(SPOKEN), response(THOUGHT_OF)]
)
def test_a_whole_dialogue_in_tags(serve, questions, key, call):
    """Of a model that hides its thoughts, the visible text is the trace; else what it thought."""
    answer = response({"text": "it is red.</think><answer> A "})
    with serve(by_turn(call, answer)) as (url, bodies):
        teacher = gemini_teacher("g", url, limits=ONCE)
        (trace,) = interleave(questions[:1], teacher, (Retrieve(),), TAGS_BUDGET)
    assert [s.kind for s in trace.steps] == ["think", "call", "evidence", "think", "answer"]
    assert trace.calls()[0].arguments == {"query": "a red disc"} and trace.letter() == "A"
    assert trace.reasoning() == "not shown. it is red." and trace.well_formed()
    first, second = bodies
    assert "tools" not in first and first["generationConfig"]["stopSequences"] == list(TAGS.stops)
    asked, said, shown = second["contents"]
    assert [asked] == first["contents"]
    words = "<think>\nnot shown.\n<retrieve> a red disc </retrieve>"
    assert said == {"role": "model", "parts": [{"text": words}]}
    assert [next(iter(part)) for part in shown["parts"]] == ["text", "text", "inlineData", "text"]
    assert shown["parts"][0]["text"] == "<frame>"


def test_a_call_left_open_in_a_thought_was_stopped_by_nothing(serve, questions, key):
    thought = response({"text": "hm. <retrieve> a red disc", "thought": True})
    answer = response({"text": "<answer> A </answer>"})
    with serve(by_turn(thought, answer)) as (url, _):
        teacher = gemini_teacher("g", url, limits=ONCE)
        (trace,) = interleave(questions[:1], teacher, (Retrieve(),), TAGS_BUDGET)
    assert trace.failed_calls() == 1 and not trace.calls()[0].tool and trace.letter() == "A"
