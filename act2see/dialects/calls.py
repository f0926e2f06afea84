"""Dialect `calls`: chat messages with JSON tool calls, in the model family's own grammar.

Works on `Trace`, a chat template and text. Knows nothing of tools but their schemas, nor of tokens
but those that open and close an assistant's turn. Qwen3-VL was trained on this form, and
OpenAI-compatible servers speak it. Our choice; the paper's own form is another dialect.
"""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from act2see.dialects.dialect import (
    Picture,
    Segment,
    frame_parts,
    hints,
    question_parts,
    spaced,
)
from act2see.trace import LETTERS, Reply, Step, Trace, read_letter

# What stands behind a generation prompt, up to the end of the turn or of the text.
TURN = re.compile(r"(?<=<\|im_start\|>assistant\n<think>\n)(.+?(?:<\|im_end\|>|\Z))", re.S)
# Stands for an empty thought, since a template writes no <think> block for one. No text can say it:
# `spaced` breaks its first two letters.
NO_THOUGHT = "<|no thought|>"
MAX_NESTED = 50  # brackets opened in a call that is still taken for one
# The tags of a call in the words of other families.
TAGGED = re.compile(
    r"(?i)(?:<|&lt;)\s?(/?)\s?(?:(?:tool|function)_?calls?|tool)\s?(?:>|&gt;)|\[()TOOL_CALLS?\]"
)
# Where a call begins that stands between no tags.
BARE = re.compile(
    r"""\{[^{}]{0,200}?["'](?:arguments|parameters|args)["']\s?:|\b[a-z]+_\w+\(\s*\w+\s*="""
    r"""|<(?:function=|invoke |｜tool|retrieve>|generate>)|^Action(?: Input)?:""",
    re.MULTILINE,
)
# Several in one pair of tags.
NEXT = re.compile(r"""(?<=\})\s*(?:,\s*)?(?=\{\s*["'](?:name|tool|type|function)["'])""")
SLIPS = {
    r",(?=\s*[}\]])": "",
    r"(?<=[:,\[])\s*None(?=\s*[,}\]])": "null",
    r"(?<=[:,\[])\s*True(?=\s*[,}\]])": "true",
    r"(?<=[:,\[])\s*False(?=\s*[,}\]])": "false",
}
ITEM = r"""(\w+)\s*=\s*("[^"]*"|'[^']*'|[-+.\w]+)\s*"""
PYTHON = re.compile(rf"([A-Za-z_]\w*)\(\s*((?:{ITEM}(?:,\s*{ITEM})*,?\s*)?)\)")
XML = re.compile(r"""<(?:function=|invoke name=")([\w.-]+)"?>(.*)""", re.DOTALL)
PARAMETER = r"""<parameter(?:=| name=")([\w.-]+)"?>([^<]*)</parameter>"""
STUDENT = (
    "Answer the question about a video. You see some of its frames, each behind its time. Say "
    "which frame shows what. End with a single line: Answer: and the letter of the right option."
)
TEACHER = (
    "You answer a question about a video. You see some of its frames, each behind its time. Before "
    "every step think inside <think></think>: which frame shows what, and what is still missing. "
    "End with a single line: Answer: and the letter of the right option."
)
LOOK = " Call a tool where the frames shown do not settle the question, and only there."


class Calls:
    """Thinking between tags, calls as JSON, frames in the messages of a tool."""

    name = "calls"
    no_calls_left = "no calls are left: answer now."
    answer_now = "Look no further. Answer now, with a single line: Answer: and a letter."
    stops = ()
    bad_calls = tuple(
        f"i look again.\n</think>\n\n<tool_call>\n{call}\n</tool_call>"
        for call in (
            '{"name": "zoom_in", "arguments": {"start_s": 1, "end_s": 2}}',
            '{"name": "retrieve_frames", "arguments": {"start_s": 1, ',
            '{"name": "retrieve_frames", "arguments": {"start_s": -9, "end_s": 5}}',
            '{"name": "retrieve_frames", "arguments": {"start_s": 9, "end_s": 5}}',
            '{"name": "retrieve_frames", "arguments": {"start_s": "noon", "end_s": 5}}',
        )
    )

    def messages(
        self, trace: Trace, merged: bool = True, written: bool = False
    ) -> list[dict[str, Any]]:
        """The dialogue as chat messages with PIL images; one more turn only adds to the end.

        merged: an overview that is a video stands there in pairs of images, one part each.
        written: calls stand in the words, readable or not, in the order in which they are answered.
        """
        messages = [{"role": "user", "content": question_parts(trace, merged)}]
        for step in trace.steps:
            text = spaced(step.text)
            if step.kind == "evidence":
                words = [{"type": "text", "text": text}] if text else []
                messages.append({"role": "tool", "content": words + frame_parts(step.frames)})
                continue
            if step.kind == "think" or messages[-1]["role"] != "assistant":
                empty = {"reasoning_content": "", "content": "", "tool_calls": []}
                messages.append({"role": "assistant", **empty})
            turn = messages[-1]
            if step.kind == "think":
                turn["reasoning_content"] = text
            elif step.kind == "answer":
                turn["content"] += text
            elif step.tool and not written:
                function = {"name": step.tool, "arguments": spaced(step.arguments)}
                turn["tool_calls"].append({"type": "function", "function": function})
            else:
                turn["content"] += "\n" * bool(turn["content"]) + _call(step)
        return messages

    def render(
        self, trace: Trace, template: Callable[..., str], reply_next: bool = False, system: str = ""
    ) -> tuple[list[Segment], list[Picture]]:
        """The template's text in segments, and the pictures in order."""
        messages = self.messages(trace, written=True)
        text, pictures = _written(messages, trace, template, reply_next, system)
        return _learnt(segments(text), messages), pictures

    def render_forced(
        self, trace: Trace, template: Callable[..., str], system: str = ""
    ) -> tuple[list[Segment], list[Picture]]:
        """The same up to the `Answer:` that ends the last turn, whatever it called."""
        messages = self.messages(trace, written=True)
        messages[-1]["content"] = "Answer:"
        text, pictures = _written(messages, trace, template, False, system)
        return segments(text[: text.rindex("<|im_end|>")]), pictures

    def read_reply(self, text: str, truncated: bool = False) -> Reply:
        """What a chat model said after `<think>`, taken apart.

        >>> CALLS.read_reply("it is red.\\n</think>\\n\\nAnswer: A").answer
        'Answer: A'
        """
        text = TAGGED.sub(lambda tag: f"<{tag[1] or ''}tool_call>", text.removeprefix("<think>"))
        thinking, _, rest = text.partition("</think>")
        if not rest.strip() and "<tool_call>" in thinking:
            # Nothing was said aloud: the call stands in the thought.
            thinking, rest = thinking.split("<tool_call>", 1)
            rest = f"<tool_call>{rest}"
        raw_calls = re.findall(r"<tool_call>(.*?)(?:</tool_call>|$)", rest, re.S)
        bare = BARE.search(rest)
        if not raw_calls and bare and not read_letter(rest, len(LETTERS)):
            raw_calls = [rest[bare.start() :].replace("</tool_call>", "")]
        calls = [read_call(part) for raw in raw_calls for part in _parts(raw)]
        return Reply(thinking.strip(), calls, "" if calls else rest.strip(), truncated)

    def unreadable(self, text: str) -> str:
        """What is wrong with the JSON of a call."""
        try:
            _json(text)
        except (ValueError, RecursionError) as error:
            return f"the call is not JSON: {error}."
        return 'the call must be {"name": tool, "arguments": {…}}.'

    def instruction(
        self, trace: Trace, reveal_answer: bool = False, human_reasoning: bool = False
    ) -> str:
        """What a teacher is told first; answer and human reasoning are in it only on demand."""
        known = hints(trace.question, reveal_answer, human_reasoning)
        length = f" The video lasts {trace.question.duration_s:g} seconds."
        return TEACHER + LOOK * bool(trace.tools) + length + known


CALLS = Calls()


def segments(text: str) -> list[Segment]:
    """A chat text cut at the assistant's turns, each from behind its generation prompt to its end.

    >>> [s.text for s in segments("<|im_start|>assistant\\n<think>\\nhm<|im_end|>") if s.spoken]
    ['hm<|im_end|>']
    """
    parts = TURN.split(text)
    return [Segment(part, number % 2 == 1) for number, part in enumerate(parts) if part]


def _learnt(parts: list[Segment], messages: list[dict[str, Any]]) -> list[Segment]:
    """The segments, of which a turn whose call was refused is not to be learnt."""
    refused = []
    for message in messages:
        if message["role"] == "assistant":
            refused.append(False)
        elif message["role"] == "tool":
            refused[-1] |= all(part["type"] == "text" for part in message["content"])
    turns = iter(refused)
    return [Segment(p.text, p.spoken and not next(turns)) for p in parts]


def read_call(raw: str) -> Step:
    """The call that a model wrote between its tags; without a tool where it cannot be read.

    It should be JSON. Slips are put right where the meaning is clear: other names for its fields,
    single quotes, commas too many, a brace too few, a call in Python's or XML's words.

    >>> read_call('{"name": "retrieve_frames", "arguments": {"start_s": 7}}').arguments
    {'start_s': 7}
    """
    raw = raw.encode("utf-8", "replace").decode()
    if raw.count("[") + raw.count("{") <= MAX_NESTED:
        for read in (_mended, _from_words):
            with suppress(ValueError):  # also for a number of over 4,300 digits
                name, arguments = _named(read(raw))
                return Step(kind="call", tool=name, arguments=arguments)
    return Step(kind="call", text=raw.strip())


def _call(step: Step) -> str:
    """A call as the model writes it, in the form of the family's template."""
    call = {"name": step.tool, "arguments": step.arguments}
    text = json.dumps(spaced(call), ensure_ascii=False) if step.tool else spaced(step.text)
    return f"<tool_call>\n{text}\n</tool_call>"


def unfenced(text: str) -> str:
    """The text without the fence of a code block around it.

    >>> unfenced("```json\\n{}\\n```")
    '{}'
    """
    return re.sub(r"\A\s*```\w*|```\s*\Z", "", text).strip()


def _object(value: Any) -> dict[str, Any]:
    """The object that this is, or that this text says. Raises ValueError where it is none.

    Models write text within text: `"arguments": "{\\"start_s\\": 7}"`.
    """
    for _ in range(3):
        value = _json(unfenced(value)) if isinstance(value, str) else value
    if not isinstance(value, dict):
        raise ValueError(f"{value!r} is no object")
    return value


def _named(call: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Tool and arguments of a call. Raises ValueError where it names none."""
    call = call["function"] if isinstance(call.get("function"), dict) else call
    name = next((call[key] for key in ("name", "tool", "function") if key in call), "")
    rest = {key: value for key, value in call.items() if key not in ("name", "tool", "function")}
    given = [rest[key] for key in ("arguments", "parameters", "args") if key in rest]
    arguments = (given[0] if given else rest) or {}
    arguments = _mended(arguments) if isinstance(arguments, str) else _object(arguments)
    # Fails for half a character in an escape.
    json.dumps([name, arguments], ensure_ascii=False).encode()
    if not isinstance(name, str) or not name:
        raise ValueError(f"{name!r} is no name")
    return name, arguments


def _mended(raw: str) -> dict[str, Any]:
    """The object that this text says, but for slips. Raises ValueError where it is none."""
    with suppress(ValueError):
        return _object(raw)
    text = unfenced(raw)
    if '"' not in text:
        text = re.sub("[“”']", '"', text)
    for slip, right in SLIPS.items():
        text = re.sub(slip, right, text)
    surplus = text.count("}") - text.count("{")
    # A brace behind a brace: what is cut off anywhere else may lack a digit.
    if text.endswith("}") and abs(surplus) == 1:
        text = text[:-1] if surplus == 1 else text + "}"
    return _object(text)


def _from_words(raw: str) -> dict[str, Any]:
    """A call in Python's or XML's words. Raises ValueError for anything else."""
    text = unfenced(raw)
    if found := XML.fullmatch(text):
        pairs = re.findall(PARAMETER, found[2])
    elif found := PYTHON.fullmatch(text):
        pairs = re.findall(ITEM, found[2])
    else:
        raise ValueError("no call in words")
    arguments = {}
    for name, word in pairs:
        try:
            arguments[name] = _json(word)
        except ValueError:
            arguments[name] = word.strip().strip("'\"")
    return {"name": found[1], "arguments": arguments}


def _parts(raw: str) -> list[str]:
    """The calls between one pair of tags: mostly one; a list of them, or one behind the other."""
    text = unfenced(raw.replace("<tool_call>", ""))
    listed = text.startswith("[") and text.endswith("]")
    return NEXT.split(text[1:-1] if listed else text)


def _json(raw: str) -> Any:
    """What this JSON says. Raises ValueError, also for NaN and Infinity, which JSON lacks."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no number")

    return json.loads(raw, parse_constant=refuse)


def _written(
    messages: list[dict[str, Any]],
    trace: Trace,
    template: Callable[..., str],
    reply_next: bool,
    system: str,
) -> tuple[str, list[Picture]]:
    for message in messages:
        if message["role"] == "assistant":
            # The generation prompt opens a thought. By itself the template would write an earlier
            # turn that has none without its tags: not what inference fed, so nothing of it trained.
            message["reasoning_content"] = message["reasoning_content"] or NO_THOUGHT
    if system:
        messages = [{"role": "system", "content": system}, *messages]
    options = {"tools": trace.tools or None, "add_generation_prompt": reply_next}
    text = template(messages, tokenize=False, **options).replace(NO_THOUGHT, "")
    parts = [part for m in messages if isinstance(m["content"], list) for part in m["content"]]
    return text, [part["image"] for part in parts if part["type"] == "image"]
