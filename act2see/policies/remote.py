"""What teachers behind an API share: instruction, key, account, and many requests at once.

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

from act2see.interleave import Reply, read_reply
from act2see.trace import LETTERS, Step, Trace

INSTRUCTION = (
    "You answer a question about a video. You see some of its frames, each behind its time. Before "
    "every step think inside <think></think>: which frame shows what, and what is still missing. "
    "End with a single line: Answer: and the letter of the right option."
)
LOOK = " Call a tool where the frames shown do not settle the question, and only there."
REVEALED = " The right answer is {}) {}. Find in the frames what supports it; never say you knew."
ANSWER_NOW = "Look no further. Answer now, with a single line: Answer: and a letter."
IMAGE_TOKENS = 2_000  # what a frame is reckoned at until the server has counted it
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
            told = "it must be 0 or more, and needs input_usd, output_usd"
            raise ValueError(f"budget_usd is {self.budget_usd:g}; {told}")

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
            self.open, self.tokens_in = self.open + requests, self.tokens_in + tokens_in
            self.tokens_out += tokens_out
            self.settled.notify_all()


@dataclass
class Heard:
    """What came of a request: a turn, or why there is none. took: tokens in and out, where said."""

    reply: Reply
    failed: str = ""
    took: tuple[int, int] | None = None


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
        self.name = self.model + " (told the answer)" * self.reveal_answer
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
        chars, limit = len(str(trace.messages())), CHARS_PER_TOKEN * self.limits.reply_tokens
        most = 1_000 + chars // 2 + IMAGE_TOKENS * len(trace.frames()), self.limits.reply_tokens
        if over := self.account.reserve(*most):
            return Heard(Reply(), f"not asked: {over}")
        took = 0, 0
        try:
            heard = self.ask(trace, last)
            took, reply = heard.took or most, heard.reply
            texts = [reply.thinking, *(c.text or str(c.arguments) for c in reply.calls)]
            said = "\n\n".join(filter(None, [*texts, reply.answer]))
            for step in (Step(kind="think", text=said), *reply.calls):
                step.model_dump_json()  # half a character cannot be written down
        except (*self.errors, PydanticSerializationError) as error:
            return Heard(Reply(), f"{type(error).__name__}: {error}")
        finally:
            self.account.add(-1, took[0] - most[0], took[1] - most[1])
        if len(said) > limit and not heard.failed:
            heard.failed = f"the reply has {len(said)} characters; the limit is {limit}"
        return Heard(Reply(said), heard.failed) if heard.failed else heard


def hear(thinking: str, said: str, calls: list[Step], truncated: bool, refused: str, took) -> Heard:
    """What was heard, out of a server's thinking, its words and its calls; nothing is a failure.

    Words beside a call, or before the answer line, are reasoning too and join the thinking.
    """
    reply = read_reply(said.strip() if "think>" in said else f"</think>{said}", truncated)
    reply.calls = calls or reply.calls
    lines = list(re.finditer(r"[*_ ]*Answer:", reply.answer))
    spent = len(reply.answer) if reply.calls or truncated else 0
    start = lines[-1].start() if lines and not reply.calls else spent
    beside, reply.answer = reply.answer[:start], reply.answer[start:]
    reply.thinking = "\n\n".join(filter(None, (thinking.strip(), reply.thinking, beside.strip())))
    empty = not (thinking or said or calls or truncated)
    return Heard(reply, refused or "the reply is empty" * empty, took)


def rounds(trace: Trace) -> list[tuple[str, list[dict], list[tuple[str, str, list[dict]]]]]:
    """The turns so far: words, functions called, and (tool, text, parts to show) for every call.

    Thinking stands between tags in the words. Frames, and what was wrong with a call that could not
    be read, are for the user to show: most servers take neither from a tool.
    """
    turns, calls = [], iter(trace.calls())
    for message in trace.messages()[1:]:
        content = message["content"]
        if message["role"] == "assistant":
            thinking = message["reasoning_content"]
            said = f"<think>\n{thinking}\n</think>\n\n{content}".strip() if thinking else content
            turns.append((said, [call["function"] for call in message["tool_calls"]], []))
            continue
        frames, tool = sum(part["type"] == "image" for part in content), next(calls).tool
        text = f"{frames} frames follow." if frames else content[0]["text"]
        turns[-1][2].append((tool, text, content if frames or not tool else []))
    return turns


def instruction(trace: Trace, reveal_answer: bool = False) -> str:
    """What a teacher is told first; the right answer is in it only with `reveal_answer`."""
    text, question = INSTRUCTION + LOOK * bool(trace.tools), trace.question
    if reveal_answer and question.answer >= 0:
        text += REVEALED.format(LETTERS[question.answer], question.options[question.answer])
    return text


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
