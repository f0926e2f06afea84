"""Gemini, the paper's teacher, through google-genai with function calling.

Works on traces; over the wire go the dialect's messages in that protocol's words, but the model's
own turns as they came, since it asks for the signatures of its thoughts. Knows nothing of tools or
questions. Frames that a tool returned stand behind its responses in one content: our choice.
"""

import json
import weakref
from collections.abc import Callable
from typing import Any

import httpx
from google.genai import Client, errors, types
from pydantic import ValidationError

from act2see.dialects import dialect_of
from act2see.dialects.calls import read_call
from act2see.policies.teacher import Heard, Teacher, hear, jpeg, rounds
from act2see.trace import Step, Trace

UNREADABLE = ("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL")
BAD_BODY = (json.JSONDecodeError, ValidationError, RecursionError)


def gemini_teacher(model: str = "gemini-2.5-pro", base_url: str = "", **options: Any) -> Teacher:
    """A policy that answers with a Gemini model, on Google's server where `base_url` is "".

    options: further ones of `Teacher`; `key_name` is GEMINI_API_KEY unless given.
    """
    return Teacher(model, _connect, base_url, **{"key_name": "GEMINI_API_KEY"} | options)


def _connect(
    teacher: Teacher, key: str
) -> tuple[Callable[[Trace, bool], Heard], tuple[type[Exception], ...]]:
    own: dict[int, dict[int, types.Content]] = {}
    limits = teacher.limits
    wait_s = limits.retry_delay_s
    again = {"attempts": limits.retries + 1, "initial_delay": wait_s, "jitter": wait_s}
    options = {
        "base_url": teacher.base_url or None,
        "retry_options": again,  # without these, this client does not ask again
        "timeout": int(1000 * limits.timeout_s),
        "httpx_client": httpx.Client(follow_redirects=True),  # ours: we know what it raises
    }
    client = Client(api_key=key, vertexai=False, http_options=options)

    def ask(trace: Trace, last: bool) -> Heard:
        if id(trace) not in own:
            own[id(trace)] = {}
            # An id is free again once its trace is gone.
            weakref.finalize(trace, own.pop, id(trace), None)
        config = {
            "system_instruction": dialect_of(trace).instruction(trace, teacher.reveal_answer),
            "max_output_tokens": limits.reply_tokens,
            "thinking_config": {"include_thoughts": True},
        }
        if trace.tools:
            functions = [tool["function"] for tool in trace.tools]
            calling = {"mode": "NONE" if last else "AUTO"}
            config["tools"] = [{"function_declarations": functions}]
            config["tool_config"] = {"function_calling_config": calling}
        response = client.models.generate_content(
            model=teacher.model,
            contents=contents(trace, own[id(trace)], last),
            config=config | teacher.request,
        )
        content = response.candidates[0].content if response.candidates else None
        if content and content.parts:
            own[id(trace)][len(rounds(trace))] = content
        return read_response(response)

    return ask, (errors.APIError, httpx.HTTPError, *BAD_BODY)


def contents(trace: Trace, own: dict[int, types.Content], last: bool = False) -> list[Any]:
    """The trace's messages in the protocol's words; `last` asks to answer.

    own: the model's turns as they came; one stands where the trace holds as many calls of it.
    """
    dialect = dialect_of(trace)
    question = dialect.messages(trace, merged=False)[0]["content"]
    turns: list[Any] = [{"role": "user", "parts": [*map(_part, question)]}]
    for number, turn in enumerate(rounds(trace)):
        calls = [types.FunctionCall(name=f["name"], args=f["arguments"]) for f in turn.functions]
        if number in own and len(_calls(own[number])) == len(calls):
            calls = _calls(own[number])
            turns.append(own[number])
        elif turn.words or calls:
            words = [{"text": turn.words}] if turn.words else []
            parts = words + [{"function_call": call} for call in calls]
            turns.append({"role": "model", "parts": parts})
        responses = []
        frames = []
        for answer in turn.answers:
            if answer.tool:
                call = calls[len(responses)]
                response = {"output" if answer.parts else "error": answer.text}
                fields = {"id": call.id, "name": call.name, "response": response}
                responses.append({"function_response": fields})
            frames += map(_part, answer.parts)
        if turn.answers:
            turns.append({"role": "user", "parts": responses + frames})
    if last:
        turns.append({"role": "user", "parts": [{"text": dialect.answer_now}]})
    return turns


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "text":
        return {"text": part["text"]}
    return {"inline_data": {"data": jpeg(part["image"]), "mime_type": "image/jpeg"}}


def _calls(content: types.Content) -> list[types.FunctionCall]:
    return [part.function_call for part in content.parts or [] if part.function_call]


def read_response(response: types.GenerateContentResponse) -> Heard:
    """The turn in a response, or why there is none; a call that Gemini spoilt is a call."""
    counts = response.usage_metadata
    usage = None
    if counts and counts.prompt_token_count is not None:
        out = (counts.candidates_token_count or 0) + (counts.thoughts_token_count or 0)
        usage = counts.prompt_token_count, out
    candidate = response.candidates[0] if response.candidates else types.Candidate()
    content = candidate.content or types.Content()
    texts = [part for part in content.parts or [] if part.text]
    thinking = "".join(part.text for part in texts if part.thought)
    text = "".join(part.text for part in texts if not part.thought)
    raw = [{"name": call.name, "arguments": call.args or {}} for call in _calls(content)]
    calls = [read_call(json.dumps(call)) for call in raw]
    finish = candidate.finish_reason.name if candidate.finish_reason else "STOP"
    if finish in UNREADABLE and not calls:
        calls = [Step(kind="call", text=candidate.finish_message or finish)]
    good = finish in ("STOP", "MAX_TOKENS", *UNREADABLE)
    refused = "" if good else f"refused: {finish} {candidate.finish_message or ''}".strip()
    if response.prompt_feedback and response.prompt_feedback.block_reason:
        refused = f"refused: the prompt is blocked, {response.prompt_feedback.block_reason.name}"
    return hear(thinking, text, calls, finish == "MAX_TOKENS", refused, usage)
