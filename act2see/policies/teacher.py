"""What teachers behind an API share: key, account, and many requests at once.

Works on traces and on a function that asks a server about one of them. Knows nothing of protocols.
A request that fails ends its own trace, with the reason in `Trace.failed`, and no other. The model
that answers must be the one asked for: the name of the paper's teacher, Gemini 2.5 Pro, is answered
by another model from 2026-12-01 on. All of this is our choice.
"""

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Condition, Lock
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from pydantic_core import PydanticSerializationError, from_json

from act2see.dialects import dialect_of
from act2see.files import add_line, locked
from act2see.plain import mended, printable
from act2see.policies.batch import ask_in_batches, request_id
from act2see.policies.client import each, without_key
from act2see.policies.model_name import ServedModelError, same_model
from act2see.policies.wire import (
    LASTING,
    PAID,
    BatchError,
    Connection,
    Heard,
    Said,
    ServerError,
    counted,
    hear,
    kind_of,
)
from act2see.trace import Reply, Step, Trace

IMAGE_TOKENS = 2_000  # the estimate for a frame until the server has counted it
BATCH_SHARE = 0.5  # of the price, with Google as with OpenAI
CHARS_PER_TOKEN = 8  # a reply with more characters has ignored its limit of tokens


@dataclass(frozen=True)
class Limits:
    """How a server is asked, and asked again after 429, 5xx or a timeout."""

    concurrency: int = 8
    reply_tokens: int = 8_192  # of a turn, thinking included
    timeout_s: float = 300.0
    retries: int = 5
    retry_delay_s: float = 1.0  # the first wait of google-genai; openai's client has its own


@dataclass
class Account:
    """Tokens and money used, and a budget that requests open together do not overdraw.

    Prices are of a million tokens. An open request counts with `reply_tokens` and an estimate of
    its input. Raises ValueError for a budget without prices, or a budget below 0.
    """

    budget_usd: float = math.inf
    input_usd: float = 0.0
    output_usd: float = 0.0
    price_share: float = 1.0  # of these prices: batches cost half
    tokens_in: int = 0
    tokens_out: int = 0
    open: int = 0
    settled: Condition = field(default_factory=Condition, repr=False)

    def __post_init__(self):
        free = self.budget_usd < math.inf and self.input_usd + self.output_usd <= 0
        if free or not self.budget_usd >= 0:
            rule = "it must be 0 or more, and needs input_usd, output_usd"
            raise ValueError(f"budget_usd is {self.budget_usd:g}; {rule}")

    def __str__(self) -> str:
        return f"{self.tokens_in} tokens in, {self.tokens_out} out: ${self.usd():.4f}"

    def usd(self, more_in: int = 0, more_out: int = 0) -> float:
        """What the tokens used, and so many more, cost."""
        of_input = (self.tokens_in + more_in) * self.input_usd
        whole = of_input + (self.tokens_out + more_out) * self.output_usd
        return whole * self.price_share / 1e6

    def reserve(self, most_in: int, most_out: int, wait: bool = True) -> str:
        """Count the most that a request may take, once it can be paid for; "" or why it cannot.

        wait: for open requests to be settled, which may leave enough.
        """
        with self.settled:
            while (usd := self.usd(most_in, most_out)) > self.budget_usd:
                if not (self.open and wait):
                    return f"it may bring costs to ${usd:.4f}; budget_usd is {self.budget_usd:g}"
                self.settled.wait()
            self.add(1, most_in, most_out)
            return ""

    def add(self, requests: int, tokens_in: int, tokens_out: int) -> None:
        """Open a request (1) with the most it may take, or close one (-1) with the difference."""
        with self.settled:
            self.open += requests
            self.tokens_in += tokens_in
            self.tokens_out += tokens_out
            self.settled.notify_all()


@dataclass(repr=False)
class Teacher:
    """A policy that asks a server about many traces at once.

    connect: (self, key) -> the connection to its server. base_url: "" for the maker's own, which
    raises ValueError without a key of `key_name`. request: more fields of every request, such as
    temperature. allow_model: the name of another model that may answer, as the server writes it.
    reveal_answer, human_reasoning: what the teacher is told of the question. batch: a file that
    remembers batches; with one, the requests of a round go as a batch, at half the price and within
    a day. A request that brings no turn leaves the reason in `trace.failed`.
    """

    model: str
    connect: Callable[["Teacher", str], Connection]
    base_url: str
    key_name: str
    limits: Limits = field(default_factory=Limits)
    account: Account = field(default_factory=Account)
    reveal_answer: bool = False
    human_reasoning: bool = False
    allow_model: str = ""
    batch: str = ""
    request: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        told = [" (told the answer)"] * self.reveal_answer
        told += [" (told human reasoning)"] * self.human_reasoning
        self.name = self.model + "".join(told)  # files are found by it
        self.stranger = ""  # a model that answered and was not asked for
        self.replies: dict[str, str] = {}  # request -> body, of dialogues that have not ended
        self.journal: BinaryIO | None = None  # where they are kept
        self.writing = Lock()
        self.lost = False  # whether a dialogue failed, and its replies are still of use
        self.key = secret(self.key_name)
        if not self.key and not self.base_url:
            raise ValueError(f"{self.key_name} is neither in the environment nor a Colab secret")
        self.connection = self.connect(self, self.key or "none")
        if self.batch:
            self.account.price_share = BATCH_SHARE

    @property
    def setting(self) -> str:
        """What shapes its answers, besides its name and what it is told."""
        # Not the port: the same server is at another one tomorrow.
        host = urlsplit(self.base_url).hostname or "its maker's server"
        more = f", {json.dumps(self.request, sort_keys=True, default=str)}" if self.request else ""
        return f"{self.limits.reply_tokens} tokens a turn, {host}{more}"

    @contextmanager
    def keeping(self, path: Path) -> Iterator[None]:
        """A context in which good replies are kept in a file as they come, and not paid for twice.

        The file goes with the context, unless a dialogue failed or was interrupted: then the next
        run finds in it what was said before. Batches have a separate file.
        """
        with locked(path) as file:
            file.seek(0)
            for row in file:
                with suppress(ValueError, KeyError, TypeError):
                    fields = from_json(row)
                    self.replies[fields["request"]] = fields["body"]
            self.journal = file
            self.lost = False
            try:
                yield
                if not self.lost:
                    file.truncate(0)
            finally:
                self.journal = None
                self.replies = {}

    def instruction(self, trace: Trace) -> str:
        """What the server is told first about a trace."""
        hints = {"human_reasoning": True} if self.human_reasoning else {}
        return dialect_of(trace).instruction(trace, self.reveal_answer, **hints)

    def accepts(self, served: str) -> bool:
        """Whether these models, as in `Trace.served`, are the one asked for or allowed."""
        names = served.split(", ")
        return all(same_model(self.model, n) or n == self.allow_model for n in names)

    def reply(self, traces: list[Trace], last: bool = False) -> list[Reply | None]:
        """The next turn of every trace; of one that failed, what was said as thinking.

        None for a trace that another model answered. The other turns of the round count, and what
        ends with them is written down; the next round raises ServedModelError and asks nothing.
        """
        if self.stranger:
            model = self.stranger
            self.stranger = ""  # whoever tries again asks again
            rule = "ask for that one, or name it in allow_model"
            raise ServedModelError(f"model is {self.model!r}, but {model!r} answered; {rule}")
        if self.batch:
            heard = ask_in_batches(self, traces, last)
        else:
            heard = each(partial(self._ask, last=last), traces, self.limits.concurrency)
        pairs = zip(traces, heard, strict=True)
        return [one and self._take(trace, one) for trace, one in pairs]

    def force(self, traces: list[Trace]) -> list[str | None]:
        """An answer line of every trace, "" of one that failed, None as in `reply`."""
        return [reply and reply.answer for reply in self.reply(traces, last=True)]

    def _take(self, trace: Trace, heard: Heard) -> Reply | None:
        """The reply, once the trace says who answered, and why it failed if it did."""
        if not self.accepts(heard.served):
            self.stranger = heard.served
            return None
        names = filter(None, (*trace.served.split(", "), heard.served))
        trace.served = ", ".join(dict.fromkeys(names))
        reason, bracket, kind = heard.failed.rpartition(" [")
        reason = " ".join(without_key(reason, self.key).split())[:420]
        trace.failed = mended(printable(reason + bracket + kind))
        self.lost = self.lost or bool(trace.failed)
        return heard.reply

    def most(self, trace: Trace) -> tuple[int, int]:
        """The most tokens, in and out, that the next request about a trace may take."""
        chars = len(str(dialect_of(trace).messages(trace)))
        most_in = 1_000 + chars // 2 + IMAGE_TOKENS * len(trace.frames())
        return most_in, self.limits.reply_tokens

    def _ask(self, trace: Trace, last: bool) -> Heard:
        line = self.connection.line(trace, last)
        name = request_id(line, trace)
        read = self.connection.read
        if name in self.replies:
            return self.settle(trace, lambda: read(self.replies[name], trace), None)
        most = self.most(trace)
        if reason := self.account.reserve(*most):
            return Heard(Reply(), f"not asked: {reason} [{LASTING}]")
        bodies: list[str] = []

        def get() -> Said:
            bodies.append(self.connection.ask(line))
            return read(bodies[0], trace)

        heard = self.settle(trace, get, most)
        if not heard.failed and self.accepts(heard.served):
            self._keep(name, bodies[0])
        return heard

    def _keep(self, name: str, body: str) -> None:
        with self.writing:
            if self.journal:
                self.replies[name] = body
                add_line(self.journal, json.dumps({"request": name, "body": body}).encode())

    def settle(self, trace: Trace, get: Callable[[], Said], most: tuple[int, int] | None) -> Heard:
        """What came of a request: what `get` brings or raises, once the account is charged for it.

        most: the tokens that were reserved; None for a reply that was paid for before.
        """
        limit = CHARS_PER_TOKEN * self.limits.reply_tokens
        used = (0, 0)
        try:
            said = get()
            used = counted(said.usage, most)
            heard = hear(said, trace)
            words = _words(heard.reply)
            for step in (Step(kind="think", text=words + heard.served), *heard.reply.calls):
                step.model_dump_json()  # half a character cannot be written down
        except (*self.connection.errors, PydanticSerializationError, BatchError) as error:
            return Heard(Reply(), f"{type(error).__name__}: {error} [{kind_of(error)}]")
        except ServerError as error:
            return Heard(Reply(), f"{error} [{kind_of(error)}]")
        finally:
            if most:
                self.account.add(-1, used[0] - most[0], used[1] - most[1])
        if len(words) > limit and not heard.failed:
            size = f"the reply has {len(words)} characters; the limit is {limit}"
            heard.failed = f"{size} [{PAID}]"
        return Heard(Reply(words), heard.failed, heard.served) if heard.failed else heard


def _words(reply: Reply) -> str:
    """All that a reply says, calls included."""
    calls = [call.text or str(call.arguments) for call in reply.calls]
    return "\n\n".join(filter(None, [reply.thinking, *calls, reply.answer]))


def secret(name: str) -> str:
    """The key of this name, from the environment or else Colab's secret store; "" for none."""
    key = os.environ.get(name, "")
    if not key:
        with suppress(ImportError):
            from google.colab import userdata

            with suppress(userdata.SecretNotFoundError, userdata.NotebookAccessError):
                key = userdata.get(name)
    return key.strip()
