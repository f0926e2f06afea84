"""The HTTP client of teachers and judges: replies that end, and keys that stay where they belong.

Works on requests and bytes. Knows nothing of protocols. What it refuses comes back as an error of
the server's own form, so that the makers' clients name it, and ask again only where that may help.
All of this is our choice.
"""

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import ContextVar
from queue import Empty, SimpleQueue
from threading import Event, Thread
from time import monotonic
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic_core import from_json

MOST_BYTES = 32_000_000  # of a reply
MOST_FILE_BYTES = 2_000_000_000  # of what a batch brings
PART = 8  # characters of a key that tell it: fewer stand in words, too
KEPT_HEADERS = ("content-type", "retry-after", "retry-after-ms")
REPLIES = {"choices", "candidates"}  # what a reply holds, of either protocol
STOPPED: ContextVar[Event] = ContextVar("STOPPED")
Item = TypeVar("Item")
Result = TypeVar("Result")


class Client(httpx.Client):
    """An httpx client for one key. It sends nothing to where it is redirected, reads no more than
    `MOST_BYTES` and no longer than `timeout_s`, and a reply that repeats the key comes without it.
    """

    def __init__(self, key: str, timeout_s: float):
        super().__init__(timeout=timeout_s)
        self.key = key
        self.timeout_s = timeout_s

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """The whole reply, or an error in the form of one; as `httpx.Client.send`."""
        stopped = STOPPED.get(None)
        if stopped and stopped.is_set():
            raise SystemExit  # ends this thread alone, and no client tries again after it
        end_s = monotonic() + self.timeout_s
        most = MOST_BYTES if request.method == "POST" else MOST_FILE_BYTES
        options |= {"stream": True, "follow_redirects": False}
        response = super().send(request, **options)
        body = bytearray()
        try:
            if response.has_redirect_location:
                place = httpx.URL(response.headers["location"]).copy_with(query=None)
                where = f"the server at {request.url.host} sends requests on to {place}"
                return self._refusal(request, 421, f"{where}; set base_url to where it is")
            limits = request.extensions.get("timeout", {})
            limits["read"] = max(end_s - monotonic(), 0.001)
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > most:
                    limit = f"the reply has more than {most / 1e6:.0f} MB"
                    return self._refusal(request, 413, f"{limit}; it was not read to its end")
                if monotonic() > end_s:
                    late = f"the reply had not ended after timeout_s, {self.timeout_s:g} s"
                    return self._refusal(request, 504, late)
        finally:
            response.close()
        content = without_key(body.decode("utf-8", "replace"), self.key).encode()
        status = response.status_code
        if status == 200 and request.method == "POST":
            status = _status(content)
        kept = {k: response.headers[k] for k in KEPT_HEADERS if k in response.headers}
        return httpx.Response(status, headers=kept, content=content, request=request)

    def _refusal(self, request: httpx.Request, status: int, message: str) -> httpx.Response:
        fields = {"message": without_key(message, self.key), "code": status}
        again = {"x-should-retry": "true" if status == 504 else "false"}
        return httpx.Response(status, headers=again, json={"error": fields}, request=request)


def _status(content: bytes) -> int:
    """200, or the code of the error that a body holds instead of a reply, 502 where it has none."""
    try:
        fields = from_json(content) if b'"error"' in content[:10_000] else {}
    except ValueError:
        return 200
    if not isinstance(fields, dict) or not fields.get("error") or fields.keys() & REPLIES:
        return 200
    code = fields["error"].get("code") if isinstance(fields["error"], dict) else 0
    return int(code) if str(code).isdigit() and 400 <= int(code) < 600 else 502


def without_key(text: str, key: str) -> str:
    """The text with `[key]` for a key, as it is, quoted, in base64 or hex, and for parts of it.

    >>> without_key("no such key: sk-12345****, sk-1234567890", "sk-1234567890")
    'no such key: [key]****, [key]'
    """
    parts = {form[i : i + PART] for form in _forms(key) for i in range(len(form) - PART + 1)}
    found = [i for i in range(len(text)) if text[i : i + PART] in parts] if parts else []
    pieces = []
    end = 0
    for i in found:
        if i >= end:
            pieces += [text[end:i], "" if pieces and i == end else "[key]"]
        end = i + PART
    return "".join([*pieces, text[end:]])


def _forms(key: str) -> set[str]:
    """A key as servers repeat it; nothing of one too short to be told from words."""
    raw = key.encode()
    forms = {key, quote(key, safe=""), json.dumps(key)[1:-1], raw.hex()}
    for skipped in range(3):
        # Inside a longer text, as `Bearer` and the key, base64 begins at any of three places.
        for encode in (b64encode, urlsafe_b64encode):
            whole = encode(b"\0" * skipped + raw).decode().rstrip("=")
            forms.add(whole[(skipped * 8 + 5) // 6 : len(whole) - 1])
    return forms if len(key) >= PART else set()


def each(ask: Callable[[Item], Result], items: Iterable[Item], threads: int) -> list[Result]:
    """What `ask` gives for every item, in their order, so many at a time.

    An interrupt ends it at once: what is open is left alone, and nothing is sent any more.
    """
    waiting: SimpleQueue = SimpleQueue()
    jobs = [(item, Future()) for item in items]
    for job in jobs:
        waiting.put(job)
    stopped = Event()

    def work() -> None:
        STOPPED.set(stopped)
        with suppress(Empty):
            while not stopped.is_set():
                item, future = waiting.get_nowait()
                try:
                    future.set_result(ask(item))
                except BaseException as error:
                    stopped.set()  # those before it are under way, those after it are not wanted
                    future.set_exception(error)

    for _ in range(min(threads, len(jobs))):
        # A pool's threads would be waited for, as long as a server takes.
        Thread(target=work, daemon=True).start()
    try:
        return [future.result() for _, future in jobs]
    finally:
        stopped.set()
