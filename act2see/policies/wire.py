"""What the protocols of servers share: what was said, read in a dialect, and the turns to send.

Works on traces and plain data. Knows nothing of any protocol, of keys or of money. Words that a
server took for a thought, a stop text that it took off, and a statement without its answer line are
read as what they were meant to be: our choice.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from act2see.dialects import dialect_of
from act2see.dialects.calls import CALLS
from act2see.dialects.dialect import Dialect
from act2see.letters import lenient_letter
from act2see.trace import Question, Reply, Step, Trace


@dataclass
class Said:
    """What a server sent, in the terms that protocols share.

    refused: why there is no turn. usage: tokens in and out, if told. served: the model's name, if
    told. stop: the stop text that ended the turn and was taken off, "" where the turn ended by
    itself, None where the server does not tell which.
    """

    thinking: str = ""
    text: str = ""
    calls: list[Step] = field(default_factory=list)
    truncated: bool = False
    refused: str = ""
    usage: tuple[int, int] | None = None
    served: str = ""
    stop: str | None = None


@dataclass
class Heard:
    """What came of a request: a turn, or why there is none; who answered."""

    reply: Reply
    failed: str = ""
    served: str = ""


class BatchError(Exception):
    """A request of a batch brought nothing; the message says why."""


class ServerError(Exception):
    """A reply of status 200 that holds an error instead of a turn; `code` is its own, if told."""

    def __init__(self, error: Any):
        fields = error if isinstance(error, dict) else {}
        self.code = fields.get("code")
        words = fields.get("message") or error
        super().__init__(f"the server said 200 and sent an error: {words}")


ABSURD = 50  # times the most that a request may take: no count that can be true
PASSING = "passing: run again later"
LASTING = "lasting: correct key, model, address or question first"
PAID = "paid: it may answer when it is asked again"
PASSING_CODES = (408, 409, 425, 429)
EMPTY = "QUOTA_EXCEEDED", "insufficient_quota"  # 429 for an account that has nothing left


def kind_of(error: Exception) -> str:
    """Whether the failure that a client raised passes or lasts; what is paid for raises nothing."""
    own = getattr(error, "code", None)
    code = getattr(error, "status_code", None) or own
    if any(word in f"{own} {error}" for word in EMPTY):
        return LASTING
    if isinstance(code, str) and not code.isdigit():
        return PASSING
    if code:
        return PASSING if int(code) in PASSING_CODES or int(code) >= 500 else LASTING
    # Without a code there was no reply, unless there was one that is none of the protocol.
    return LASTING if isinstance(error, ValueError) else PASSING


@dataclass(frozen=True)
class Connection:
    """A server, as a teacher uses it.

    line: the request for the next turn of a trace, and whether an answer is due, as JSON. ask: a
    line -> the body of its reply. errors: what any of these raise. submit: lines by id -> the
    batch's name. fetch: of a batch by its name and ids, the bodies of the replies by id, or None
    while it runs; "" has what went wrong with all. read: a body, as what was said about a trace.
    batch_bytes: of a batch.
    """

    line: Callable[[Trace, bool], str]
    ask: Callable[[str], str]
    errors: tuple[type[Exception], ...]
    submit: Callable[[dict[str, str]], str]
    fetch: Callable[[str, list[str]], dict[str, str | BatchError] | None]
    read: Callable[[str, Trace], Said]
    batch_bytes: int


def counted(usage: Any, most: tuple[int, int] | None) -> tuple[int, int]:
    """The tokens that a server counted; the most there may be where that cannot be true."""
    if not most:
        return (0, 0)
    pairs = zip(usage or (), most, strict=False)
    sane = [type(n) is int and 0 <= n <= ABSURD * limit for n, limit in pairs]
    return tuple(usage) if sane == [True, True] else most


def hear(said: Said, trace: Trace) -> Heard:
    """The next turn of a trace, out of what a server said; nothing at all is a failure."""
    dialect = dialect_of(trace)
    reply = _in_text(said, dialect) if dialect.stops else _beside_calls(said, trace.question)
    empty = not (said.thinking or said.text or said.calls or said.truncated)
    reason = said.refused or "the reply is empty: the model stopped without a word" * empty
    return Heard(reply, reason and f"{reason} [{PAID}]", said.served)


def _beside_calls(said: Said, question: Question) -> Reply:
    """Words next to a call, or before the answer line, are reasoning too and join the thinking."""
    thinking = said.thinking.strip()
    text = said.text.strip()
    if not text and not said.calls:
        # The server took the whole turn for a thought.
        text = f"<think>{thinking}"
        thinking = ""
    # Servers that take the thinking out leave no tag: all that follows is said aloud.
    text = text if "think>" in text else f"</think>{text}"
    reply = CALLS.read_reply(text, said.truncated)
    reply.calls = said.calls or reply.calls
    words = reply.answer
    lines = list(re.finditer(r"[*_ ]*Answer:", words))
    start = len(words) if reply.calls or said.truncated else 0
    if lines and not reply.calls:
        start = lines[-1].start()
    reply.answer = words[start:]
    if not lines and reply.answer and question.options:
        # An answer without its line: all of it is reasoning, and its last line may state a letter.
        start = len(words)
        letter = lenient_letter(words.splitlines()[-1], question.options)
        reply.answer = f"Answer: {letter}" if letter else ""
    reply.thinking = "\n\n".join(filter(None, (thinking, reply.thinking, words[:start].strip())))
    return reply


def _in_text(said: Said, dialect: Dialect) -> Reply:
    """A turn of a dialect whose calls are text.

    The visible text carries the trace. A server's own thinking joins it where the text opens none;
    of calls that were only thought of, the words stay and the tags go. Where nothing is visible,
    the server took the whole turn for a thought, and that is read.
    """
    visible = said.text.strip()
    turn = visible or said.thinking.strip()
    reply = dialect.read_reply(turn if said.truncated else closed(turn, dialect, said.stop))
    reply.truncated = said.truncated and not any(call.tool for call in reply.calls)
    reply.calls = reply.calls or said.calls
    apart = visible and "<think>" not in visible
    thoughts = (said.thinking.strip() if apart else "", reply.thinking)
    tags = "|".join("</?" + re.escape(stop[2:]) for stop in dialect.stops)
    reply.thinking = re.sub(tags, "", "\n\n".join(filter(None, thoughts)))
    return reply


def closed(text: str, dialect: Dialect, stop: str | None) -> str:
    """The text with the closing tag that a server took off its end.

    stop: as in `Said`. A turn that ended by itself stays as it is: a tag left open is a mistake.
    Where the server does not tell, an open tag is closed: a turn cut at a stop is the rule there,
    and one that ends by itself inside a call the exception.

    >>> from act2see.dialects.tags import TAGS
    >>> closed("hm <retrieve> a cup ", TAGS, None), closed("hm <retrieve> a cup", TAGS, "")
    ('hm <retrieve> a cup </retrieve>', 'hm <retrieve> a cup')
    """
    if stop is not None:
        cut = stop in dialect.stops and not text.endswith(stop)
        return text + stop * cut
    ends = {
        text.rfind(tag): stop for stop in dialect.stops for tag in (stop, stop.replace("/", ""))
    }
    last = max(ends)
    return text + ends[last] * (last >= 0 and not text.startswith("</", last))


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
    servers take neither from a tool. In a dialect whose calls are text, everything is.
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
        tool = next(calls).tool if message["role"] == "tool" else ""
        text = f"{frames} frames follow." if frames else content[0]["text"]
        turns[-1].answers.append(Answered(tool, text, content if frames or not tool else []))
    return turns


def jpeg(image: Image.Image) -> bytes:
    """The picture as teachers get it."""
    image.save(file := io.BytesIO(), "JPEG", quality=90)
    return file.getvalue()
