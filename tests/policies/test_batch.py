"""A round of requests as one batch, with servers that do what the two makers document."""

import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from act2see.distillation import distil
from act2see.interleave import Budget, collect
from act2see.policies import batch
from act2see.policies.gemini import gemini_teacher
from act2see.policies.openai import openai_teacher
from act2see.policies.teacher import Account, Limits
from act2see.store import read_traces
from act2see.tools.retrieve import RetrieveFrames
from tests.policies import test_gemini as gemini
from tests.policies import test_openai as openai
from tests.policies.conftest import server

ONCE = Limits(retries=0, timeout_s=20, retry_delay_s=0.001)
BUDGET = Budget(overview_frames=1, max_calls=2)
TOOLS = (RetrieveFrames(frames_per_call=1),)
LOOK = {"start_s": 1, "end_s": 3}


class OpenAIBatches:
    """Files of lines in and out, in an order of their own; failed lines have a file of theirs."""

    teacher = staticmethod(openai_teacher)
    look = openai.completion("", [("retrieve_frames", json.dumps(LOOK))])
    answer = openai.ANSWER
    turns = staticmethod(lambda body: sum(m["role"] == "assistant" for m in body["messages"]))

    def __init__(self):
        self.files = {}
        self.lines = {}
        self.looks = {}

    def __call__(self, method, path, data, reply, polls):
        if path == "/files":
            text = re.search(rb"\r\n\r\n(\{.*\})\n\r\n--", data, re.S)[1].decode()
            self.files[f"f{len(self.files)}"] = text
            return 200, {"id": f"f{len(self.files) - 1}", "object": "file"}
        if path == "/batches":
            rows = self.files[json.loads(data)["input_file_id"]].split("\n")
            self.lines[f"b{len(self.lines)}"] = [json.loads(row) for row in rows]
            return 200, {"id": f"b{len(self.lines) - 1}", "status": "validating"}
        if path.startswith("/files/"):
            return 200, self.files[path.split("/")[2]]
        name = path.rpartition("/")[2]
        if name not in self.lines:
            return 404, {"error": {"message": "no such batch"}}
        self.looks[name] = self.looks.get(name, 0) + 1
        if self.looks[name] <= polls:
            return 200, {"id": name, "status": "in_progress"}
        out = {200: [], 500: []}
        for line in reversed(self.lines[name]):
            assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")
            status, _, body = reply(line["body"])
            row = {
                "custom_id": line["custom_id"],
                "response": {"status_code": status, "body": body},
            }
            out[status].append(json.dumps(row, ensure_ascii=False))
        self.files |= {f"{name}-{status}": "\n".join(rows) for status, rows in out.items()}
        fields = {"output_file_id": f"{name}-200", "error_file_id": f"{name}-500"}
        return 200, {"id": name, "status": "completed", **fields}


class GeminiBatches:
    """Requests in one body, replies in the batch itself, each with the metadata of its request."""

    teacher = staticmethod(gemini_teacher)
    look = gemini.response({"functionCall": {"name": "retrieve_frames", "args": LOOK, "id": "c"}})
    answer = gemini.ANSWER
    turns = staticmethod(lambda body: sum(c["role"] == "model" for c in body["contents"]))

    def __init__(self):
        self.lines = {}
        self.looks = {}

    def __call__(self, method, path, data, reply, polls):
        if path.endswith(":batchGenerateContent"):
            requests = json.loads(data)["batch"]["inputConfig"]["requests"]["requests"]
            name = f"batches/b{len(self.lines)}"
            self.lines[name] = requests
            return 200, {"name": name, "metadata": {"state": "BATCH_STATE_PENDING"}}
        name = path.partition("/v1")[2].partition("/")[2]
        if name not in self.lines:
            return 404, {"error": {"code": 404, "message": "no such batch"}}
        self.looks[name] = self.looks.get(name, 0) + 1
        if self.looks[name] <= polls:
            return 200, {"name": name, "metadata": {"state": "BATCH_STATE_RUNNING"}}
        out = []
        for line in reversed(self.lines[name]):
            status, _, body = reply(line["request"])
            told = (
                {"response": body} if status == 200 else {"error": {"code": 500, "message": "oh"}}
            )
            out.append(told | {"metadata": line["metadata"]})
        output = {"inlinedResponses": {"inlinedResponses": out}}
        metadata = {"state": "BATCH_STATE_SUCCEEDED", "output": output}
        return 200, {"name": name, "done": True, "metadata": metadata}


@contextmanager
def serve(batches, reply, polls=1):
    """A server of batches; reply: a request's body -> what came of it."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            data = self.rfile.read(int(self.headers["Content-Length"] or 0))
            path = self.path.partition("?")[0]
            status, body = batches(self.command, path, data, reply, polls)
            raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_POST = do_GET = answer

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        http.server_close()
        thread.join(5)


@pytest.fixture(params=[OpenAIBatches, GeminiBatches])
def batches(request):
    return request.param()


@pytest.fixture
def waits(monkeypatch):
    """The waits between two looks, none of which is waited."""
    waits = []
    monkeypatch.setattr(batch.time, "sleep", waits.append)
    return waits


def by_turn(batches):
    return lambda body: batches.answer if batches.turns(body) else batches.look


def run(batches, url, questions, folder, **options):
    options = {"limits": ONCE, "batch": str(folder / "batches.json")} | options
    teacher = batches.teacher("m", url, **options)
    return collect(folder / "t.jsonl", questions, teacher, TOOLS, BUDGET)


def test_a_round_is_one_batch_at_half_the_price(batches, questions, key, tmp_path, waits):
    account = Account(input_usd=2, output_usd=4)
    with serve(batches, by_turn(batches), polls=3) as url:
        traces = run(batches, url, questions[:4], tmp_path, account=account)
    assert [t.letter() for t in traces] == ["A"] * 4 and not any(t.failed for t in traces)
    assert [len(t.calls()) for t in traces] == [1] * 4
    assert [len(lines) for lines in batches.lines.values()] == [4, 4]
    assert waits == [0.001, 0.002, 0.004] * 2
    assert account.open == 0 and account.tokens_in > 0
    whole = (account.tokens_in * 2 + account.tokens_out * 4) / 1e6
    assert account.usd() == pytest.approx(whole / 2)


def test_replies_are_matched_by_their_ids_and_a_failed_one_ends_its_own_trace(
    batches, questions, key, tmp_path, waits
):
    def reply(body):
        if questions[1].prompt() in json.dumps(body, ensure_ascii=False).replace("\\n", "\n"):
            return 500, {}, {"error": {"message": "oh"}}
        return batches.answer

    with serve(batches, reply) as url:
        traces = run(batches, url, questions[:3], tmp_path)
        assert [t.letter() for t in traces] == ["A", "", "A"]
        assert traces[1].failed.startswith("BatchError") and "oh" in traces[1].failed
        batches_before = len(batches.lines)
        run(batches, url, questions[:3], tmp_path)
    # What failed is asked again, and nothing else.
    assert [len(lines) for lines in batches.lines.values()][batches_before:] == [1]


@pytest.mark.parametrize("looks", [0, 1])
def test_a_kill_while_a_batch_is_open_pays_nothing_twice(
    batches, questions, key, tmp_path, monkeypatch, looks
):
    waits = []

    def kill(wait_s):
        waits.append(wait_s)
        if len(waits) > looks:
            raise KeyboardInterrupt

    account = Account(input_usd=1)
    with serve(batches, by_turn(batches)) as url:
        with monkeypatch.context() as patch:
            patch.setattr(batch.time, "sleep", kill)
            with pytest.raises(KeyboardInterrupt):
                run(batches, url, questions[:3], tmp_path)
        assert len(batches.lines) == 1 + looks and not (tmp_path / "t.jsonl").exists()
        monkeypatch.setattr(batch.time, "sleep", waits.append)
        traces = run(batches, url, questions[:3], tmp_path, account=account)
    assert [t.letter() for t in traces] == ["A"] * 3
    assert [len(lines) for lines in batches.lines.values()] == [3, 3]
    # The killed run asked for one round, or for both.
    assert (account.tokens_in > 0) == (looks == 0)


def test_a_batch_that_is_gone_is_asked_for_again(batches, questions, key, tmp_path, waits):
    with serve(batches, by_turn(batches)) as url:
        run(batches, url, questions[:2], tmp_path)
        (tmp_path / "t.jsonl").unlink()
        batches.lines = {f"{name}-old": [] for name in batches.lines}
        traces = run(batches, url, questions[:2], tmp_path)
    assert [t.letter() for t in traces] == ["A"] * 2


def test_a_second_attempt_is_not_given_the_first_ones_reply(
    batches, questions, key, tmp_path, waits
):
    wrong = questions[0].model_copy(update={"answer": 1})  # the server answers A
    with serve(batches, lambda body: batches.answer) as url:
        teacher = batches.teacher("m", url, limits=ONCE, batch=str(tmp_path / "batches.json"))
        (trace,) = distil(tmp_path / "t.jsonl", [wrong], teacher, TOOLS, BUDGET)
    assert trace.attempt == 3 and len(batches.lines) == 3
    assert len(read_traces(tmp_path / "t.jsonl")) == 3


def test_a_server_without_batches_says_so(questions, key, tmp_path):
    missing = 404, {}, {"error": {"message": "not found"}}
    with server(lambda body, number: missing) as (url, bodies):
        (trace,) = run(GeminiBatches(), url, questions[:1], tmp_path)
    assert "404" in trace.failed and len(bodies) == 1


def test_what_cannot_be_paid_for_yet_waits_for_the_rest_of_its_round(
    batches, questions, key, tmp_path, waits
):
    # Room for one request at a time: an estimate of 3,000 tokens and more at $1 a million.
    account = Account(budget_usd=0.006, input_usd=2)
    limits = Limits(retries=0, timeout_s=20, retry_delay_s=0.001, reply_tokens=100)
    with serve(batches, lambda body: batches.answer) as url:
        traces = run(batches, url, questions[:3], tmp_path, account=account, limits=limits)
    assert [len(lines) for lines in batches.lines.values()] == [1] * len(batches.lines)
    assert account.usd() <= account.budget_usd and account.open == 0
    assert [t.letter() for t in traces].count("A") == len(batches.lines) >= 2


def test_lines_go_in_parts_that_a_batch_may_hold():
    lines = {name: "x" * size for name, size in (("a", 4), ("b", 4), ("c", 9), ("d", 1))}
    parts = [list(part) for part in batch._parts(lines, 8)]
    assert parts == [["a", "b"], ["c"], ["d"]] and list(batch._parts({}, 8)) == []
