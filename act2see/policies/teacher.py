"""What teachers behind an API share: key, account, and many requests at once.

Works on traces and on a function that asks a server about one of them. Knows nothing of protocols.
A request that fails ends its own trace, with the reason in `Trace.failed`, and no other. The paper
names its teacher, Gemini 2.5 Pro; all of this is our choice.
"""

import io
import math
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from threading import Condition
from typing import Any

from PIL import Image
from pydantic_core import PydanticSerializationError

from act2see.dialects import dialect_of
from act2see.dialects.calls import CALLS
from act2see.trace import Reply, Step, Trace

IMAGE_TOKENS = 2_000  # the estimate for a frame until the server has counted it
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
    its input. Raises ValueError for a budget without prices, or a budget that is no amount.
    """

    budget_usd: float = math.inf
    input_usd: float = 0.0
    output_usd: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    open: int = 0
    settled: Condition = field(default_factory=Condition, repr=False)

    def __post_init__(self):
        free = self.budget_usd < math.inf and self.input_usd + self.output_usd <= 0
        if free or not self.budget_usd >= 0:
            rule = "it must be 0 or more, and needs input_usd, output_usd"
            raise ValueError(f"budget_usd is {self.budget_usd:g}; {rule}")

    def usd(self, more_in: int = 0, more_out: int = 0) -> float:
        """What the tokens used, and so many more, cost."""
        of_input = (self.tokens_in + more_in) * self.input_usd
        return (of_input + (self.tokens_out + more_out) * self.output_usd) / 1e6

    def reserve(self, most_in: int, most_out: int) -> str:
        """Wait until a request can be paid for and count the most it may take; "" or why not."""
        with self.settled:
            while (usd := self.usd(most_in, most_out)) > self.budget_usd:
                if not self.open:
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


@dataclass
class Heard:
    """What came of a request: a turn, or why there is none. usage: tokens in and out, if known."""

    reply: Reply
    failed: str = ""
    usage: tuple[int, int] | None = None


@dataclass(repr=False)
class Teacher:
    """A policy that asks a server about many traces at once.

    connect: (self, key) -> a function that makes one request, out of a trace and whether an answer
    is due now, and the errors it may raise. base_url: "" for the maker's own server, which raises
    ValueError without a key of `key_name`. request: more fields of every request, such as
    temperature. A request that brings no turn leaves the reason in `trace.failed`.
    """

    model: str
    connect: Callable[["Teacher", str], tuple[Callable[[Trace, bool], Heard], tuple[type, ...]]]
    base_url: str
    key_name: str
    limits: Limits = field(default_factory=Limits)
    account: Account = field(default_factory=Account)
    reveal_answer: bool = False
    request: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        self.name = self.model + " (told the answer)" * self.reveal_answer  # files are found by it
        self.key = secret(self.key_name)
        if not self.key and not self.base_url:
            raise ValueError(f"{self.key_name} is neither in the environment nor a Colab secret")
        self.ask, self.errors = self.connect(self, self.key or "none")

    def reply(self, traces: list[Trace], last: bool = False) -> list[Reply]:
        """The next turn of every trace; of one that failed, what was said as thinking."""
        with ThreadPoolExecutor(self.limits.concurrency) as pool:
            heard = list(pool.map(partial(self._ask, last=last), traces))
        for trace, one in zip(traces, heard, strict=True):
            reason = one.failed.replace(self.key, "[key]") if self.key else one.failed
            trace.failed = " ".join(reason.split())[:500].encode(errors="replace").decode()
        return [one.reply for one in heard]

    def force(self, traces: list[Trace]) -> list[str]:
        """An answer line of every trace, "" of one that failed."""
        return [reply.answer for reply in self.reply(traces, last=True)]

    def _ask(self, trace: Trace, last: bool) -> Heard:
        chars = len(str(dialect_of(trace).messages(trace)))
        limit = CHARS_PER_TOKEN * self.limits.reply_tokens
        most_in = 1_000 + chars // 2 + IMAGE_TOKENS * len(trace.frames())
        most_out = self.limits.reply_tokens
        if reason := self.account.reserve(most_in, most_out):
            return Heard(Reply(), f"not asked: {reason}")
        used_in, used_out = 0, 0
        try:
            heard = self.ask(trace, last)
            used_in, used_out = heard.usage or (most_in, most_out)
            words = _words(heard.reply)
            for step in (Step(kind="think", text=words), *heard.reply.calls):
                step.model_dump_json()  # half a character cannot be written down
        except (*self.errors, PydanticSerializationError) as error:
            return Heard(Reply(), f"{type(error).__name__}: {error}")
        finally:
            self.account.add(-1, used_in - most_in, used_out - most_out)
        if len(words) > limit and not heard.failed:
            heard.failed = f"the reply has {len(words)} characters; the limit is {limit}"
        return Heard(Reply(words), heard.failed) if heard.failed else heard


def hear(
    thinking: str,
    text: str,
    calls: list[Step],
    truncated: bool,
    refused: str,
    usage: tuple[int, int] | None,
) -> Heard:
    """What was heard, out of a server's thinking, its words and its calls; nothing is a failure.

    Words beside a call, or before the answer line, are reasoning too and join the thinking.
    """
    # Servers that take the thinking out leave no tag: all that follows is said aloud.
    reply = CALLS.read_reply(text.strip() if "think>" in text else f"</think>{text}", truncated)
    reply.calls = calls or reply.calls
    lines = list(re.finditer(r"[*_ ]*Answer:", reply.answer))
    start = len(reply.answer) if reply.calls or truncated else 0
    if lines and not reply.calls:
        start = lines[-1].start()
    reasons = (thinking.strip(), reply.thinking, reply.answer[:start].strip())
    reply.thinking = "\n\n".join(filter(None, reasons))
    reply.answer = reply.answer[start:]
    empty = not (thinking or text or calls or truncated)
    return Heard(reply, refused or "the reply is empty" * empty, usage)


@dataclass
class Answered:
    """What a call got back: tool, text, and the parts that a user has to show."""

    tool: str
    text: str
    parts: list[dict[str, Any]]


@dataclass
class Round:
    """A turn so far: words with the thinking between tags, functions called, what they got."""

    words: str
    functions: list[dict[str, Any]]
    answers: list[Answered] = field(default_factory=list)


def rounds(trace: Trace) -> list[Round]:
    """The turns so far, in the terms that the protocols of servers share.

    Frames, and what was wrong with a call that could not be read, are for the user to show: most
    servers take neither from a tool.
    """
    turns: list[Round] = []
    calls = iter(trace.calls())
    for message in dialect_of(trace).messages(trace)[1:]:
        content = message["content"]
        if message["role"] == "assistant":
            thinking = message.get("reasoning_content", "")
            words = f"<think>\n{thinking}\n</think>\n\n{content}".strip() if thinking else content
            functions = [call["function"] for call in message.get("tool_calls", [])]
            turns.append(Round(words, functions))
            continue
        frames = sum(part["type"] == "image" for part in content)
        tool = next(calls).tool
        text = f"{frames} frames follow." if frames else content[0]["text"]
        turns[-1].answers.append(Answered(tool, text, content if frames or not tool else []))
    return turns


def _words(reply: Reply) -> str:
    """All that a reply says, calls included."""
    calls = [call.text or str(call.arguments) for call in reply.calls]
    return "\n\n".join(filter(None, [reply.thinking, *calls, reply.answer]))


def jpeg(image: Image.Image) -> bytes:
    """The picture as teachers get it."""
    image.save(file := io.BytesIO(), "JPEG", quality=90)
    return file.getvalue()


def secret(name: str) -> str:
    """The key of this name, from the environment or else Colab's secret store; "" for none."""
    key = os.environ.get(name, "")
    if not key:
        with suppress(ImportError):
            from google.colab import userdata

            with suppress(userdata.SecretNotFoundError, userdata.NotebookAccessError):
                key = userdata.get(name)
    return key.strip()
