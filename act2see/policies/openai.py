"""A teacher behind any OpenAI-compatible chat server: vLLM, SGLang, transformers serve, OpenAI.

Works on traces; over the wire go the dialect's messages in that protocol's words. Knows nothing of
tools or questions. Frames that a tool returned follow its text in a user's message, the form that
every server takes: our choice. vLLM has to be told how its model writes: for Qwen3-VL-Thinking
`--enable-auto-tool-choice --tool-call-parser hermes --reasoning-parser qwen3`; SGLang the same by
`--tool-call-parser qwen25 --reasoning-parser qwen3`, llama.cpp by `--jinja`.
"""

import json
import re
from base64 import b64encode
from collections.abc import Callable
from typing import Any

from openai import BadRequestError, OpenAI, OpenAIError, UnprocessableEntityError
from pydantic import AliasChoices, AliasPath, BaseModel, Field, ValidationError

from act2see.dialects import dialect_of
from act2see.dialects.calls import read_call
from act2see.policies import teacher as teachers
from act2see.policies.client import Client
from act2see.policies.teacher import Teacher
from act2see.policies.wire import BatchError, Connection, Said, ServerError, jpeg, rounds
from act2see.trace import Step, Trace

CALL = "call{:05d}"  # nine letters and digits, as Mistral's models insist
CHAT = "/v1/chat/completions"
MAX_STOPS = 4  # of a request
# Fields that some servers or models refuse; without them they answer all the same.
REFUSABLE = ("max_tokens", "max_completion_tokens", "stop", "temperature")


def openai_teacher(model: str, base_url: str = "", **options: Any) -> Teacher:
    """A policy that answers with `model` on the server at `base_url`, "" for OpenAI's own.

    options: further ones of `Teacher`; `key_name` is OPENAI_API_KEY unless given.
    """
    return Teacher(model, _connect, base_url, **{"key_name": "OPENAI_API_KEY"} | options)


def ask_judge(prompt: str, model: str, base_url: str = "") -> str:
    """What `model` replies to a prompt, for benchmarks that a judge scores; greedily if it can.

    base_url: "" for OpenAI's own server, which raises ValueError without OPENAI_API_KEY. Raises
    OpenAIError where the server gives no reply, ServerError where it gives an error as one.
    """
    key = teachers.secret("OPENAI_API_KEY")
    if not key and not base_url:
        raise ValueError("OPENAI_API_KEY is neither in the environment nor a Colab secret")
    limits = teachers.Limits()
    http = Client(key, limits.timeout_s)
    address = base_url or None
    client = OpenAI(api_key=key or "none", base_url=address, max_retries=5, http_client=http)
    messages = [{"role": "user", "content": prompt}]
    create = client.chat.completions.with_raw_response.create
    body = _body(create, {"model": model, "messages": messages, "temperature": 0}, set())
    content = read_completion(body).text
    return content.rpartition("</think>")[2].strip()


def _connect(teacher: Teacher, key: str) -> Connection:
    limits = teacher.limits
    client = OpenAI(
        api_key=key,
        base_url=teacher.base_url or None,
        timeout=limits.timeout_s,
        max_retries=limits.retries,
        http_client=Client(teacher.key, limits.timeout_s),
    )
    refused: set[str] = set()

    def ask(line: str) -> str:
        # The body itself: the client's own classes trust servers to send what they should.
        create = client.chat.completions.with_raw_response.create
        return _body(create, json.loads(line), refused)

    def read(body: str, trace: Trace) -> Said:
        said = read_completion(body)
        if "stop" in refused and said.stop is None:
            said.stop = ""  # nothing was taken off
        return said

    def submit(lines: dict[str, str]) -> str:
        head = f'"method": "POST", "url": "{CHAT}", "body": '
        rows = [f'{{"custom_id": "{name}", {head}{line}}}\n' for name, line in lines.items()]
        file = ("requests.jsonl", "".join(rows).encode())
        stored = client.files.create(file=file, purpose="batch")
        batch = client.batches.create(
            input_file_id=stored.id, endpoint=CHAT, completion_window="24h"
        )
        return batch.id

    def fetch(name: str, ids: list[str]) -> dict[str, str | BatchError] | None:
        batch = client.batches.retrieve(name)
        if batch.status not in ("completed", "failed", "expired", "cancelled"):
            return None
        reasons = [error.message for error in batch.errors.data or []] if batch.errors else []
        bodies = {"": BatchError(f"the batch is {batch.status}. {' '.join(map(str, reasons))}")}
        for file in filter(None, (batch.output_file_id, batch.error_file_id)):
            rows = client.files.content(file).text.split("\n")
            bodies |= dict(read_row(row) for row in rows if row.strip())
        return bodies

    return Connection(
        line=lambda trace, last: json.dumps(request_of(teacher, trace, last)),
        ask=ask,
        errors=(OpenAIError, ValidationError, json.JSONDecodeError),
        submit=submit,
        fetch=fetch,
        read=read,
        batch_bytes=150_000_000,  # a file may have 200 MB
    )


def read_row(row: str) -> tuple[str, str | BatchError]:
    """Id and body, or what went wrong, out of a line of a batch's output or error file."""
    fields = json.loads(row)
    response = fields.get("response") or {}
    body = response.get("body")
    good = response.get("status_code") == 200
    outcome = json.dumps(body) if good else BatchError(json.dumps(fields.get("error") or body))
    return fields.get("custom_id", ""), outcome


def request_of(teacher: Teacher, trace: Trace, last: bool) -> dict[str, Any]:
    """The fields of the request for the next turn of a trace; `last` asks to answer."""
    stops = dialect_of(trace).stops[:MAX_STOPS]
    limit = teacher.limits.reply_tokens
    fields = {"model": teacher.model, "max_completion_tokens": limit}
    if teacher.base_url:
        # The older name, which is all that several servers know; the maker's own refuses both.
        fields["max_tokens"] = limit
    fields["messages"] = wire(trace, teacher.instruction(trace), last)
    if stops:
        fields["stop"] = list(stops)
    elif trace.tools:
        fields["tools"] = trace.tools
        fields["tool_choice"] = "none" if last else "auto"
    return fields | teacher.request


def _body(create: Callable[..., Any], fields: dict[str, Any], refused: set[str]) -> str:
    """The reply's body, asked for again without each field that the server says it refuses.

    refused: such fields, of this request and those before it; grows. Raises OpenAIError.
    """
    while True:
        sent = {name: value for name, value in fields.items() if name not in refused}
        try:
            return create(**sent).http_response.text
        except (BadRequestError, UnprocessableEntityError) as error:
            # The field refused is named first; what to use instead may follow.
            found = re.finditer(rf"\b({'|'.join(REFUSABLE)})\b", str(error))
            named = [match[1] for match in found if match[1] in sent]
            if not named:
                raise
            refused.add(named[0])


def wire(trace: Trace, system: str, last: bool = False) -> list[dict[str, Any]]:
    """The trace's messages in the protocol's words, frames as data URLs; `last` asks to answer."""
    dialect = dialect_of(trace)
    question = dialect.messages(trace, merged=False)[0]["content"]
    messages = [
        {"role": "system", "content": system},
        {"role": "user", "content": [*map(_part, question)]},
    ]
    answered = 0
    for turn in rounds(trace):
        calls = []
        frames = []
        for number, function in enumerate(turn.functions, answered):
            function = function | {"arguments": json.dumps(function["arguments"])}
            calls.append({"id": CALL.format(number), "type": "function", "function": function})
        if turn.words or calls:
            fields = {"tool_calls": calls} if calls else {}
            messages.append({"role": "assistant", "content": turn.words, **fields})
        for answer in turn.answers:
            if answer.tool:
                fields = {"content": answer.text, "tool_call_id": CALL.format(answered)}
                messages.append({"role": "tool", **fields})
                answered += 1
            frames += map(_part, answer.parts)
        if frames:
            # A template of Qwen's drops every thought before a user's message, unless it is one
            # tool response from end to end. In tags, the dialect frames them itself.
            ends = () if dialect.stops else ("<tool_response>\n", "\n</tool_response>")
            tags = [{"type": "text", "text": end} for end in ends]
            messages.append({"role": "user", "content": [*tags[:1], *frames, *tags[1:]]})
    if last:
        messages.append({"role": "user", "content": dialect.answer_now})
    return messages


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "text":
        return part
    url = f"data:image/jpeg;base64,{b64encode(jpeg(part['image'])).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def _at(*path: str | int) -> Any:
    return Field(None, validation_alias=AliasPath(*path))


class Call(BaseModel):
    """A call in a reply; `arguments` should be JSON text, and is an object with some servers."""

    name: str | None = _at("function", "name")
    arguments: Any = _at("function", "arguments")

    def step(self) -> Step:
        """The call as a step; without a tool where it cannot be read."""
        arguments = self.arguments or {}
        step = read_call(json.dumps({"name": self.name, "arguments": arguments}))
        if not step.tool:
            # As the model wrote it, for its eyes.
            text = arguments if isinstance(arguments, str) else json.dumps(arguments)
            step.text = f'{{"name": {json.dumps(self.name)}, "arguments": {text}}}'
        return step


class Completion(BaseModel):
    """What we read of a chat completion; servers differ in the rest."""

    model: Any = None
    error: Any = Field(
        None, validation_alias=AliasChoices("error", AliasPath("choices", 0, "error"))
    )
    finish: str | None = _at("choices", 0, "finish_reason")
    content: str | None = _at("choices", 0, "message", "content")
    refusal: str | None = _at("choices", 0, "message", "refusal")
    reasoning: str | None = _at("choices", 0, "message", "reasoning")
    reasoning_content: str | None = _at("choices", 0, "message", "reasoning_content")
    calls: list[Call] | None = _at("choices", 0, "message", "tool_calls")
    tokens_in: Any = _at("usage", "prompt_tokens")
    tokens_out: Any = _at("usage", "completion_tokens")
    # vLLM's name and SGLang's: the stop text, or none or a token's number where a turn ended by
    # itself. Others, OpenAI among them, leave it out.
    stop: Any = Field(
        False,
        validation_alias=AliasChoices(
            AliasPath("choices", 0, "stop_reason"), AliasPath("choices", 0, "matched_stop")
        ),
    )


def read_completion(text: str) -> Said:
    """What the body of a chat completion says.

    Raises ValidationError where it is none, and ServerError where it holds an error instead.
    """
    completion = Completion.model_validate_json(text)
    if completion.error:
        raise ServerError(completion.error)
    filtered = completion.finish if completion.finish == "content_filter" else ""
    reason = completion.refusal or filtered
    usage = completion.tokens_in, completion.tokens_out
    stop = completion.stop
    return Said(
        thinking=completion.reasoning or completion.reasoning_content or "",
        text=completion.content or "",
        calls=[call.step() for call in completion.calls or []],
        truncated=completion.finish == "length",
        refused=f"refused: {reason}" if reason else "",
        usage=None if None in usage else usage,
        served=completion.model if isinstance(completion.model, str) else "",
        stop=None if stop is False else stop if isinstance(stop, str) else "",
    )
