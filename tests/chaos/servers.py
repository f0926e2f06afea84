"""Servers that fail in every way we know, each asked once by each kind of teacher."""

import os
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from act2see.interleave import Budget, interleave
from act2see.policies import client
from act2see.policies.gemini import gemini_teacher
from act2see.policies.openai import openai_teacher
from act2see.policies.teacher import Account, Limits
from act2see.trace import Question
from tests.chaos.attacks import Row

KEY = "sk-chaos-0123456789abcdef"
KINDS = ("passing", "lasting", "paid")


def _says(status: int, body: bytes, **headers: str):
    def handle(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return handle


def _trickles(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        threading.Event().wait(0.05)


def _floods(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(400):
        handler.wfile.write(b"x" * 1_000_000)


def _cuts(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')


ECHO = f'{{"error": {{"message": "no such key: {KEY}"}}}}'.encode()
USAGE = b'"usage": {"prompt_tokens": -1000000000000, "completion_tokens": 1}'
FAILURES = {
    "429": _says(429, b'{"error": {"message": "slow down"}}'),
    "500": _says(500, b"<html>oh</html>"),
    "503 without a body": _says(503, b""),
    "401 that repeats the key": _says(401, ECHO),
    "200 with an error": _says(200, b'{"error": {"message": "no", "code": 429}}'),
    "200 with an error that repeats the key": _says(200, ECHO),
    "200 that is a page": _says(200, b"<html>welcome</html>"),
    "200 without a reply": _says(200, b"{}"),
    "200 that is null": _says(200, b"null"),
    "empty choices": _says(200, b'{"choices": [], "candidates": []}'),
    "a stop without parts": _says(
        200,
        b'{"choices": [{"message": {"content": null}, "finish_reason": "stop"}],'
        b' "candidates": [{"finishReason": "STOP"}], ' + USAGE + b"}",
    ),
    "a refusal": _says(
        200,
        b'{"choices": [{"message": {"refusal": "I cannot"}, "finish_reason": "stop"}],'
        b' "candidates": [{"finishReason": "SAFETY"}]}',
    ),
    "a redirect": _says(307, b"", Location="http://127.0.0.1:9/elsewhere"),
    "a trickle": _trickles,
    "a flood": _floods,
    "a cut": _cuts,
    "bytes that are no text": _says(200, b"\xff\xfe\0" * 50),
    "brackets without end": _says(200, b"[" * 100_000),
}


@contextmanager
def server(handle):
    """The address of a server that fails in one way."""

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


def failing_servers(question: Question) -> list[Row]:
    """A row for each teacher: failures whose dialogue ended with words, a kind, and no key."""
    os.environ |= {"OPENAI_API_KEY": KEY, "GEMINI_API_KEY": KEY}
    limits = Limits(retries=0, timeout_s=1.5, retry_delay_s=0.001)
    rows = []
    for teacher_of in (openai_teacher, gemini_teacher):
        survived = named = 0
        for handle in FAILURES.values():
            with server(handle) as url:
                account = Account(budget_usd=1, input_usd=1, output_usd=1)
                teacher = teacher_of("m", base_url=url, limits=limits, account=account)
                (trace,) = interleave([question], teacher, (), Budget(overview_frames=1))
            kind = trace.failed.rpartition("[")[2].split(":")[0]
            named += kind in KINDS
            leaks = any(KEY[i : i + client.PART] in str(trace) for i in range(len(KEY) - 7))
            survived += bool(trace.failed) and not leaks and 0 <= account.usd() <= 1
        tried = len(FAILURES)
        name = teacher_of.__name__.replace("_", " ")
        rows.append(Row("failing server", name, tried, survived, f"{named} of {tried}"))
    return rows
