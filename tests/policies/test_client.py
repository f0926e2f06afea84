"""Servers that say too much, too slowly, elsewhere, or the key; and an interrupt."""

import base64
import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import httpx
import pytest

from act2see.interleave import Budget, collect
from act2see.policies import client
from act2see.policies.client import Client, each, without_key
from act2see.policies.gemini import gemini_teacher
from act2see.policies.openai import ask_judge, openai_teacher
from act2see.policies.teacher import Account, Limits
from act2see.policies.wire import LASTING, PAID, PASSING
from act2see.store import read_traces, remembered
from tests.policies.conftest import KEY
from tests.policies.test_gemini import response as gemini_response
from tests.policies.test_openai import ANSWER, completion

ONCE = Limits(retries=0, timeout_s=20, retry_delay_s=0.001)
BUDGET = Budget(overview_frames=1, max_calls=2)


@contextmanager
def raw_server(handle):
    """A server whose `handle` writes what it likes: for replies that are no replies."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            try:
                handle(self)
            except OSError:
                self.close_connection = True

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        http.server_close()


def head(handler, status=200, **headers):
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()


TEACHERS = {"openai": lambda **o: openai_teacher("m", **o)}
TEACHERS["gemini"] = lambda **o: gemini_teacher("m", **o)


@pytest.mark.parametrize("kind", TEACHERS)
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed_and_no_key_goes_along(
    serve, questions, key, tmp_path, kind, status
):
    def refuse(handler):
        head(handler, status, Location=f"{other}/v1?key={KEY}", Content_Length=0)

    with serve(lambda body, number: ANSWER) as (other, bodies), raw_server(refuse) as url:
        teacher = TEACHERS[kind](base_url=url, limits=ONCE)
        (trace,) = collect(tmp_path / "t.jsonl", questions[:1], teacher, (), BUDGET)
    assert not bodies and f"sends requests on to {other}" in trace.failed
    assert trace.failed.endswith(f"[{LASTING}]") and KEY not in trace.failed


@pytest.mark.parametrize("kind", TEACHERS)
def test_a_reply_that_trickles_ends_with_the_request_s_time(questions, key, tmp_path, kind):
    def trickle(handler):
        head(handler, 200, Content_Type="application/json")
        for _ in range(100):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            threading.Event().wait(0.1)

    with raw_server(trickle) as url:
        start = time.monotonic()
        teacher = TEACHERS[kind](base_url=url, limits=Limits(retries=0, timeout_s=0.5))
        (trace,) = collect(tmp_path / "t.jsonl", questions[:1], teacher, (), BUDGET)
    assert time.monotonic() - start < 4
    assert "had not ended after timeout_s, 0.5 s" in trace.failed
    assert trace.failed.endswith(f"[{PASSING}]")


@pytest.mark.parametrize("kind", TEACHERS)
def test_a_reply_without_end_is_not_read_to_its_end(questions, key, tmp_path, kind, monkeypatch):
    monkeypatch.setattr(client, "MOST_BYTES", 1_000_000)
    written = []

    def flood(handler):
        head(handler, 200, Content_Type="application/json")
        for _ in range(4000):
            handler.wfile.write(b"x" * 100_000)
            written.append(1)

    with raw_server(flood) as url:
        limits = Limits(retries=3, retry_delay_s=0.001, timeout_s=20)
        teacher = TEACHERS[kind](base_url=url, limits=limits)
        (trace,) = collect(tmp_path / "t.jsonl", questions[:1], teacher, (), BUDGET)
    assert "the reply has more than 1 MB" in trace.failed and len(written) < 400
    assert (tmp_path / "t.jsonl").stat().st_size < 20_000


FORMS = {
    "plain": KEY,
    "quoted": quote(KEY + "/+", safe=""),
    "base64": base64.b64encode(KEY.encode()).decode(),
    "in base64": base64.b64encode(f"Bearer {KEY}".encode()).decode(),
    "partial": KEY[:14] + "********",
}


def leaks(text, key=KEY):
    """Whether eight characters of the key, or of its base64, stand in a text."""
    forms = [key, *(base64.b64encode(b"x" * n + key.encode()).decode()[4:-4] for n in range(3))]
    return any(form[i : i + 8] in text for form in forms for i in range(len(form) - 7))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("status", [200, 401])
def test_a_key_that_a_server_repeats_is_in_no_trace_and_no_log(
    serve, questions, key, tmp_path, caplog, form, status
):
    words = f"you sent {FORMS[form]} to me."
    reply = completion(f"{words}\n\nAnswer: A", reasoning=words)
    if status == 401:
        reply = 401, {}, {"error": {"message": words}}
    caplog.set_level("DEBUG")
    with serve(lambda body, number: reply) as (url, _):
        teacher = openai_teacher("m", url, limits=ONCE)
        (trace,) = collect(tmp_path / "t.jsonl", questions[:1], teacher, (), BUDGET)
        if status == 401:
            with pytest.raises(Exception, match="401") as caught:
                ask_judge("the same?", "m", url)
            assert not leaks(str(caught.value))
    text = (tmp_path / "t.jsonl").read_text()
    assert "[key]" in text and not leaks(text) and not leaks(str(trace))
    assert not leaks(caplog.text)


def test_words_that_share_little_with_a_key_stay():
    text = "the server never answers with its own key; sk- is not one, 4711 neither"
    assert without_key(text, KEY) == text
    assert without_key("none of it", "none") == "none of it" and without_key("abc", "") == "abc"


USAGES = [(-(10**12), 5), (5, -1), (10**15, 1), ("many", 1), (None, 1), (1.5, 2), (True, False)]


@pytest.mark.parametrize("usage", USAGES)
def test_an_absurd_count_of_tokens_costs_the_most_there_may_be(serve, questions, key, usage):
    account = Account(budget_usd=5, input_usd=1, output_usd=1)
    with serve(lambda body, number: completion("Answer: A", usage=usage)) as (url, _):
        teacher = openai_teacher("m", url, limits=ONCE, account=account)
        trace = collect_one(questions[0], teacher)
    assert not trace.failed and trace.letter() == "A"
    assert account.tokens_out == ONCE.reply_tokens and 0 < account.tokens_in < 10_000


def collect_one(question, teacher):
    from act2see.interleave import interleave

    return next(interleave([question], teacher, (), BUDGET))


def error(code, message="no"):
    return 200, {}, {"error": {"message": message, "code": code}}


KINDS = [
    ((429, {}, {"error": {"message": "slow"}}), PASSING),
    ((503, {}, "<html>later</html>"), PASSING),
    (None, PASSING),
    ((401, {}, {"error": {"message": "who?"}}), LASTING),
    ((404, {}, {"error": {"message": "no such model"}}), LASTING),
    ((429, {}, {"error": {"message": "pay", "code": "insufficient_quota"}}), LASTING),
    ((200, {}, "<html>welcome</html>"), LASTING),
    (error(429), PASSING),
    (error(502), PASSING),
    (error(None), PASSING),
    (error(401), LASTING),
    ((200, {}, {"choices": [{"error": {"message": "upstream", "code": 503}}]}), PASSING),
    (completion(""), PAID),
    (completion(None, refusal="I can't."), PAID),
    (completion("x" * 100_000), PAID),
]


@pytest.mark.parametrize(("reply", "kind"), KINDS)
def test_every_failure_says_whether_it_passes_lasts_or_is_paid(serve, questions, key, reply, kind):
    with serve(lambda body, number: reply) as (url, _):
        trace = collect_one(questions[0], openai_teacher("m", url, limits=ONCE))
    assert trace.failed.endswith(f"[{kind}]") and len(trace.failed) < 500


def test_a_gemini_that_stops_without_parts_has_been_paid(serve, questions, key):
    body = {"candidates": [{"finishReason": "STOP"}], "modelVersion": "m"}
    with serve(lambda sent, number: (200, {}, body)) as (url, _):
        trace = collect_one(questions[0], gemini_teacher("m", url, limits=ONCE))
    assert trace.failed == f"the reply is empty: the model stopped without a word [{PAID}]"
    with serve(lambda sent, number: error(503, "no room")) as (url, _):
        trace = collect_one(questions[0], gemini_teacher("m", url, limits=ONCE))
    assert "no room" in trace.failed and trace.failed.endswith(f"[{PASSING}]")


def test_a_judge_s_error_and_its_silence_are_not_remembered(serve, key, tmp_path):
    replies = [error(400, "no such prompt"), completion(None), completion("Yes.")]
    with serve(lambda body, number: replies[min(number, 2)]) as (url, bodies):
        judge = remembered(tmp_path / "judge.jsonl", ask_judge, model="m", base_url=url)
        with pytest.raises(Exception, match="no such prompt"):
            judge("the same?")
        assert judge("the same?") == ""
        assert [judge("the same?") for _ in range(3)] == ["Yes."] * 3
        again = remembered(tmp_path / "judge.jsonl", ask_judge, model="m", base_url=url)
        other = remembered(tmp_path / "judge.jsonl", ask_judge, model="n", base_url=url)
        assert again("the same?") == "Yes." and len(bodies) == 3
        assert other("the same?") == "Yes." and len(bodies) == 4


def test_items_keep_their_order_and_an_error_is_raised():
    assert each(lambda n: n * n, range(20), 4) == [n * n for n in range(20)]
    with pytest.raises(ZeroDivisionError):
        each(lambda n: 1 // n, [1, 0, 2], 2)


INTERRUPTED = """
import signal, sys
from pathlib import Path
from act2see.interleave import Budget, collect
from act2see.policies.openai import openai_teacher
from act2see.policies.teacher import Limits
from act2see.store import read_traces
# A shell's background job, as this test may be, ignores Ctrl-C, and hands that on.
signal.signal(signal.SIGINT, signal.default_int_handler)
file, url = sys.argv[1:]
questions = [trace.question for trace in read_traces(Path(file))]
print("ready", flush=True)
teacher = openai_teacher("m", url, limits=Limits(timeout_s=60))
collect(Path(file).with_name("u.jsonl"), questions, teacher, (), Budget(overview_frames=1))
"""


def test_an_interrupt_does_not_wait_for_the_server_and_says_where_it_stopped(
    serve, questions, key, tmp_path
):
    came = threading.Event()
    leave = threading.Event()

    def slow(handler):
        came.set()
        leave.wait(30)

    with serve(lambda body, number: ANSWER) as (url, _):
        collect(tmp_path / "t.jsonl", questions[:4], openai_teacher("m", url), (), BUDGET)
    with raw_server(slow) as url:
        command = [sys.executable, "-W", "ignore", "-c", INTERRUPTED, tmp_path / "t.jsonl", url]
        run = subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True)
        assert came.wait(60)
        start = time.monotonic()
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=30)
        assert time.monotonic() - start < 5
        leave.set()
    assert "stopped: 0 of 4 traces are in" in said and "run again and it goes on" in said


LOOK = [("retrieve_frames", '{"start_s": 1, "end_s": 3}')]


@pytest.mark.parametrize("power", range(1, 7))
def test_a_reply_that_was_paid_is_not_asked_for_again_after_a_kill(
    serve, questions, key, tmp_path, power
):
    """Three dialogues of two turns: however far the first run came, six requests are sent."""
    from act2see.tools.retrieve import RetrieveFrames

    def script(body, number):
        if number == power and not sent_again:
            raise KeyboardInterrupt
        turns = sum(message["role"] == "assistant" for message in body["messages"])
        return ANSWER if turns else completion("", LOOK)

    sent_again = []
    file = tmp_path / "t.jsonl"
    limits = Limits(concurrency=1, retries=0, timeout_s=20)
    budget = Budget(overview_frames=1, max_calls=2, open_dialogues=3)
    replies = iter(range(99))

    class Killed(Exception):
        pass

    def killing(body, number):
        return script(body, -1)

    with serve(killing) as (url, bodies):
        teacher = openai_teacher("m", url, limits=limits)
        ask = teacher.connection.ask

        def power_cut(line):
            if next(replies) == power:
                raise Killed
            return ask(line)

        object.__setattr__(teacher.connection, "ask", power_cut)
        if power < 6:
            with pytest.raises(Killed):
                collect(file, questions[:3], teacher, (RetrieveFrames(),), budget)
        sent_again.append(1)
        again = openai_teacher("m", url, limits=limits)
        traces = collect(file, questions[:3], again, (RetrieveFrames(),), budget)
        assert len(bodies) == 6 and all(t.letter() == "A" for t in traces)
    assert [p.name for p in tmp_path.iterdir() if "replies" in p.name] == []
    assert len(read_traces(file)) == 3


def test_a_dialogue_whose_second_turn_failed_goes_on_from_it(serve, questions, key, tmp_path):
    from act2see.tools.retrieve import RetrieveFrames

    state = {"good": False}

    def script(body, number):
        if not any(message["role"] == "assistant" for message in body["messages"]):
            return completion("", LOOK)
        return ANSWER if state["good"] else completion("")

    file = tmp_path / "t.jsonl"
    with serve(script) as (url, bodies):
        for good in (False, True):
            state["good"] = good
            teacher = openai_teacher("m", url, limits=ONCE)
            (trace,) = collect(file, questions[:1], teacher, (RetrieveFrames(),), BUDGET)
        assert len(bodies) == 3 and trace.letter() == "A"
    assert not list(tmp_path.glob("*.replies.jsonl"))


def test_a_gzipped_bomb_is_refused():
    import gzip

    bomb = gzip.compress(b"x" * 40_000_000)

    def flood(handler):
        head(handler, 200, Content_Encoding="gzip", Content_Length=len(bomb))
        handler.wfile.write(bomb)

    with raw_server(flood) as url:
        reply = Client("", 20).post(url, json={})
    assert reply.status_code == 413 and isinstance(reply, httpx.Response)


def test_gemini_replies_are_kept_with_their_signatures(serve, questions, key, tmp_path):
    from act2see.tools.retrieve import RetrieveFrames

    part = {"functionCall": {"name": "retrieve_frames", "args": {"start_s": 1, "end_s": 3}}}
    look = gemini_response(part | {"thoughtSignature": "c2lnbmF0dXJl"})
    state = {"good": False}

    def script(body, number):
        if not any(content["role"] == "model" for content in body["contents"]):
            return look
        return gemini_response({"text": "Answer: A"}) if state["good"] else (500, {}, {})

    with serve(script) as (url, bodies):
        for good in (False, True):
            state["good"] = good
            teacher = gemini_teacher("m", url, limits=ONCE)
            (trace,) = collect(tmp_path / "t.jsonl", questions[:1], teacher, (RetrieveFrames(),))
        assert len(bodies) == 3 and trace.letter() == "A"
    assert "c2lnbmF0dXJl" in json.dumps(bodies[2])
