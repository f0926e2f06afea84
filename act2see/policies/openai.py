"""A teacher behind any OpenAI-compatible chat server: vLLM, SGLang, transformers serve, OpenAI.

Works on traces; over the wire go `Trace.messages()` in that protocol's words. Knows nothing of
tools or questions. Frames that a tool returned follow its text in a user's message, the form that
every server takes: our choice.
"""

import json
from base64 import b64encode
from typing import Any

from openai import OpenAI, OpenAIError
from pydantic import AliasPath, BaseModel, Field, ValidationError

from act2see.policies import remote
from act2see.policies.remote import ANSWER_NOW, Heard, Teacher, hear, instruction, jpeg, rounds
from act2see.toolbox import SCHEMAS, read_call
from act2see.trace import Step, Trace

CALL = "call{:05d}"  # nine letters and digits, as Mistral's models insist


def openai_teacher(model: str, base_url: str = "", **options: Any) -> Teacher:
    """A policy that answers with `model` on the server at `base_url`, "" for OpenAI's own.

    options: further ones of `Teacher`; `key_name` is OPENAI_API_KEY unless given.
    """
    return Teacher(model, _connect, base_url, **{"key_name": "OPENAI_API_KEY"} | options)


def ask_judge(prompt: str, model: str, base_url: str = "") -> str:
    """What `model` replies to a prompt, greedily; for benchmarks that a judge scores.

    base_url: "" for OpenAI's own server, which raises ValueError without OPENAI_API_KEY. Raises
    OpenAIError where the server gives no reply.
    """
    key = remote.secret("OPENAI_API_KEY")
    if not key and not base_url:
        raise ValueError("OPENAI_API_KEY is neither in the environment nor a Colab secret")
    client = OpenAI(api_key=key or "none", base_url=base_url or None, max_retries=5)
    asked = {"messages": [{"role": "user", "content": prompt}], "temperature": 0}
    made = client.chat.completions.with_raw_response.create(model=model, **asked)
    said = Completion.model_validate_json(made.http_response.text).content or ""
    return said.rpartition("</think>")[2].strip()


def _connect(teacher: Teacher, key: str):
    limits = teacher.limits
    settings = {"timeout": limits.timeout_s, "max_retries": limits.retries}
    client = OpenAI(api_key=key, base_url=teacher.base_url or None, **settings)

    def ask(trace: Trace, last: bool) -> Heard:
        fields = {"model": teacher.model, "max_completion_tokens": limits.reply_tokens}
        fields["messages"] = wire(trace, instruction(trace, teacher.reveal_answer), last)
        if trace.tools:
            fields["tools"] = [SCHEMAS[name] for name in trace.tools]
            fields["tool_choice"] = "none" if last else "auto"
        # The body itself: the client's own classes trust servers to send what they should.
        create = client.chat.completions.with_raw_response.create
        return read_completion(create(**fields | teacher.request).http_response.text)

    return ask, (OpenAIError, ValidationError)


def wire(trace: Trace, system: str, last: bool = False) -> list[dict[str, Any]]:
    """The trace's messages in the protocol's words, frames as data URLs; `last` asks to answer."""
    said = [
        ("system", system, {}),
        ("user", [*map(_part, trace.messages(merged=False)[0]["content"])], {}),
    ]
    made = 0
    for text, functions, answers in rounds(trace):
        calls, shown = [], []
        for number, function in enumerate(functions, made):
            function = function | {"arguments": json.dumps(function["arguments"])}
            calls.append({"id": CALL.format(number), "type": "function", "function": function})
        if text or calls:
            said.append(("assistant", text, {"tool_calls": calls} if calls else {}))
        for tool, told, parts in answers:
            if tool:
                said.append(("tool", told, {"tool_call_id": CALL.format(made)}))
                made += 1
            shown += map(_part, parts)
        said += [("user", shown, {})] if shown else []
    said += [("user", ANSWER_NOW, {})] if last else []
    return [{"role": role, "content": content, **more} for role, content, more in said]


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
        given = self.arguments or {}
        arguments = given if isinstance(given, str) else json.dumps(given)
        return read_call(f'{{"name": {json.dumps(self.name)}, "arguments": {arguments}}}')


class Completion(BaseModel):
    """What we read of a chat completion; servers differ in the rest."""

    finish: str | None = _at("choices", 0, "finish_reason")
    content: str | None = _at("choices", 0, "message", "content")
    refusal: str | None = _at("choices", 0, "message", "refusal")
    reasoning: str | None = _at("choices", 0, "message", "reasoning")
    reasoning_content: str | None = _at("choices", 0, "message", "reasoning_content")
    calls: list[Call] | None = _at("choices", 0, "message", "tool_calls")
    tokens_in: int | None = _at("usage", "prompt_tokens")
    tokens_out: int | None = _at("usage", "completion_tokens")


def read_completion(text: str) -> Heard:
    """The turn in the body of a chat completion, or why there is none; raises ValidationError."""
    said = Completion.model_validate_json(text)
    thinking, took = said.reasoning or said.reasoning_content, (said.tokens_in, said.tokens_out)
    calls, cut = [call.step() for call in said.calls or []], said.finish == "length"
    why = said.refusal or (said.finish if said.finish == "content_filter" else "")
    refused, took = f"refused: {why}" if why else "", None if None in took else took
    return hear(thinking or "", said.content or "", calls, cut, refused, took)
