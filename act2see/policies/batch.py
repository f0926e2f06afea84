"""Batches: the requests of a round at half the price, and none paid twice after a kill.

Works on traces, a teacher and its connection. Knows nothing of protocols. A small file next to the
traces remembers which batch holds which request. A request is known by its content: a run that was
killed asks the same again, and finds what it paid for. Our choice.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from act2see.policies.wire import BatchError, Connection, Heard, Said
from act2see.store import write_text
from act2see.trace import Reply, Trace

LONGEST_WAIT_S = 300.0  # between two looks at a batch; the first wait is `Limits.retry_delay_s`
Outcome = str | Exception  # a reply's body, or why there is none
GONE = 404


class Asker(Protocol):
    """A teacher, as far as batches know one. Its module imports this one, and not the other way."""

    batch: str
    connection: Connection
    account: Any
    limits: Any

    def most(self, trace: Trace) -> tuple[int, int]:
        """The most tokens, in and out, that a request about the trace may take."""

    def settle(self, trace: Trace, get: Callable[[], Said], most: tuple[int, int] | None) -> Heard:
        """What was heard, its price settled with the account."""

    def accepts(self, served: str) -> bool:
        """Whether a model of this name may answer."""


@dataclass
class Book:
    """The file that remembers batches: the ids of the requests in each, in order."""

    path: Path

    def batches(self) -> dict[str, list[str]]:
        """Batch -> ids; none where the file is not there yet."""
        return json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}

    def add(self, batch: str, ids: list[str]) -> None:
        """Remember a batch at once: whoever is killed from now on finds it."""
        write_text(self.path, json.dumps(self.batches() | {batch: ids}, indent=1))


def ask_in_batches(teacher: Asker, traces: list[Trace], last: bool) -> list[Heard | None]:
    """What came of the next turn of every trace.

    None for a trace that cannot be paid for until others of this round are settled. One that failed
    says why, and costs nothing; what an earlier run has paid for costs nothing again.
    """
    book = Book(Path(teacher.batch))
    lines = [teacher.connection.line(trace, last) for trace in traces]
    ids = [request_id(line, trace) for line, trace in zip(lines, traces, strict=True)]
    paid = _paid(teacher, book, dict(zip(ids, traces, strict=True)))
    most = {}
    refused = {}
    for name, trace in zip(ids, traces, strict=True):
        if name not in paid and name not in most:
            tokens = teacher.most(trace)
            if reason := teacher.account.reserve(*tokens, wait=False):
                refused[name] = reason
            else:
                most[name] = tokens
    asked = {name: line for name, line in zip(ids, lines, strict=True) if name in most}
    outcomes = paid | _run(teacher, book, asked)
    heard: list[Heard | None] = []
    for name, trace in zip(ids, traces, strict=True):
        if name in outcomes:
            get = partial(_said, teacher, outcomes[name], trace)
            heard.append(teacher.settle(trace, get, most.pop(name, None)))
        else:
            # Once the others are settled, there may be enough for this one.
            waits = bool(outcomes)
            heard.append(None if waits else Heard(Reply(), f"not asked: {refused[name]}"))
    return heard


def request_id(line: str, trace: Trace) -> str:
    """The name of a request: the same for the same content and attempt."""
    return hashlib.sha1(f"{trace.question.id}\n{trace.attempt}\n{line}".encode()).hexdigest()


def _said(teacher: Asker, outcome: Outcome, trace: Trace) -> Said:
    if isinstance(outcome, Exception):
        raise outcome
    return teacher.connection.read(outcome, trace)


def _run(teacher: Asker, book: Book, lines: dict[str, str]) -> dict[str, Outcome]:
    """The outcome of every line, once all batches of them are done."""
    opened: dict[str, list[str]] = {}
    outcomes: dict[str, Outcome] = {}
    for part in _parts(lines, teacher.connection.batch_bytes):
        try:
            name = teacher.connection.submit(part)
        except teacher.connection.errors as error:
            outcomes |= dict.fromkeys(part, error)
            continue
        book.add(name, list(part))
        opened[name] = list(part)
    for name, ids in opened.items():
        outcomes |= _wait(teacher, name, ids)
    return outcomes


def _paid(teacher: Asker, book: Book, traces: dict[str, Trace]) -> dict[str, Outcome]:
    """Of these requests, what an earlier run has asked for; good replies only."""
    bodies: dict[str, Outcome] = {}
    for name, ids in book.batches().items():
        if wanted := traces.keys() & set(ids):
            outcomes = _wait(teacher, name, ids)
            bodies |= {i: outcomes[i] for i in wanted if _good(teacher, outcomes[i], traces[i])}
    return bodies


def _good(teacher: Asker, outcome: Outcome, trace: Trace) -> bool:
    """Whether an earlier reply will do; one that failed, or is another model's, is asked again.

    A batch that cannot be looked at now is not gone, and must not be paid for twice.
    """
    try:
        said = _said(teacher, outcome, trace)
    except BatchError:
        return False
    except teacher.connection.errors as error:
        unread = error is not outcome
        return not unread and getattr(error, "status_code", getattr(error, "code", 0)) != GONE
    return not said.refused and teacher.accepts(said.served)


def _wait(teacher: Asker, name: str, ids: list[str]) -> dict[str, Outcome]:
    """The outcomes of a batch once it is done, looked at less and less often."""
    wait_s = teacher.limits.retry_delay_s
    try:
        while (bodies := teacher.connection.fetch(name, ids)) is None:
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
    except teacher.connection.errors as error:
        return dict.fromkeys(ids, error)
    nothing = bodies.get("", BatchError("the batch is done without it"))
    return {name: bodies.get(name, nothing) for name in ids}


def _parts(lines: dict[str, str], most_bytes: int) -> Iterator[dict[str, str]]:
    """The lines in parts of no more bytes than a batch may have; a longer line alone."""
    part: dict[str, str] = {}
    size = 0
    for name, line in lines.items():
        if part and size + len(line) > most_bytes:
            yield part
            part = {}
            size = 0
        part[name] = line
        size += len(line)
    if part:
        yield part
