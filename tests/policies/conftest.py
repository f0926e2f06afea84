"""A local server that says what a test tells it to, and a key that must show up nowhere."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

KEY = "sk-never-to-be-seen-4711"


@pytest.fixture
def key(monkeypatch):
    """A key in the environment, for both clients."""
    for name in ("OPENAI_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    return KEY


@contextmanager
def server(script):
    """A context: `with server(script) as (url, bodies)`.

    script: (request's body, how many came before it) -> (status, headers, reply's body), or None to
    cut the connection. Stops when the context ends; the 100th request is refused.
    """
    bodies, lock = [], threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(bodies)
                bodies.append(body)
            said = script(body, number) if number < 99 else (410, {}, {})
            if said is None:
                self.close_connection = True
                return
            status, headers, reply = said
            data = reply.encode() if isinstance(reply, str) else json.dumps(reply).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}", bodies
    finally:
        http.shutdown()
        http.server_close()
        thread.join(5)


@pytest.fixture
def serve():
    """`server`, for tests that do not import it."""
    return server
