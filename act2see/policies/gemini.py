"""Gemini, the paper's teacher, through google-genai with function calling.

Works on traces; over the wire go `Trace.messages()` in that protocol's words, but the model's own
turns as they came, since it asks for the signatures of its thoughts. Knows nothing of tools or
questions. Frames that a tool returned stand behind its responses in one content: our choice.
"""

import json
import weakref
from typing import Any

import httpx
from google.genai import Client, errors, types
from pydantic import ValidationError

from act2see.policies.remote import ANSWER_NOW, Heard, Teacher, hear, instruction, jpeg, rounds
from act2see.toolbox import SCHEMAS, read_call
from act2see.trace import Step, Trace

UNREADABLE = ("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL")
BAD_BODY = (json.JSONDecodeError, ValidationError, RecursionError)


def gemini_teacher(model: str = "gemini-2.5-pro", base_url: str = "", **options: Any) -> Teacher:
    """A policy that answers with a Gemini model, on Google's server where `base_url` is "".

    options: further ones of `Teacher`; `key_name` is GEMINI_API_KEY unless given.
    """
    return Teacher(model, _connect, base_url, **{"key_name": "GEMINI_API_KEY"} | options)


def _connect(teacher: Teacher, key: str):
    own: dict[int, dict[int, types.Content]] = {}
    limits, wait_s = teacher.limits, teacher.limits.retry_delay_s
    again = {"attempts": limits.retries + 1, "initial_delay": wait_s, "jitter": wait_s}
    options = {
        "base_url": teacher.base_url or None,
        "retry_options": again,  # untold, this client would not ask again
        "timeout": int(1000 * limits.timeout_s),
        "httpx_client": httpx.Client(follow_redirects=True),  # ours: we know what it raises
    }
    client = Client(api_key=key, vertexai=False, http_options=options)

    def ask(trace: Trace, last: bool) -> Heard:
        if id(trace) not in own:
            own[id(trace)] = {}
            weakref.finalize(trace, own.pop, id(trace), None)
        config = {
            "system_instruction": instruction(trace, teacher.reveal_answer),
            "max_output_tokens": limits.reply_tokens,
            "thinking_config": {"include_thoughts": True},
        }
        if trace.tools:
            functions = [SCHEMAS[name]["function"] for name in trace.tools]
            calling = {"mode": "NONE" if last else "AUTO"}
            config["tools"] = [{"function_declarations": functions}]
            config["tool_config"] = {"function_calling_config": calling}
        asked, config = contents(trace, own[id(trace)], last), config | teacher.request
        said = client.models.generate_content(model=teacher.model, contents=asked, config=config)
        content = said.candidates[0].content if said.candidates else None
        if content and content.parts:
            own[id(trace)][len(rounds(trace))] = content
        return read_response(said)

    return ask, (errors.APIError, httpx.HTTPError, *BAD_BODY)


def contents(trace: Trace, own: dict[int, types.Content], last: bool = False) -> list[Any]:
    """The trace's messages in the protocol's words; `last` asks to answer.

    own: the model's turns as they came; one stands where the trace holds as many calls of it.
    """
    said: list[Any] = [
        {"role": "user", "parts": [*map(_part, trace.messages(merged=False)[0]["content"])]}
    ]
    for turn, (words, functions, answers) in enumerate(rounds(trace)):
        calls = [types.FunctionCall(name=f["name"], args=f["arguments"]) for f in functions]
        if turn in own and len(_calls(own[turn])) == len(calls):
            calls = _calls(own[turn])
            said.append(own[turn])
        elif words or calls:
            parts = [{"text": words}] if words else []
            said.append({"role": "model", "parts": parts + [{"function_call": c} for c in calls]})
        responses, shown = [], []
        for tool, told, parts in answers:
            if tool:
                call, key = calls[len(responses)], "output" if parts else "error"
                response = {"id": call.id, "name": call.name, "response": {key: told}}
                responses.append({"function_response": response})
            shown += map(_part, parts)
        said += [{"role": "user", "parts": responses + shown}] if answers else []
    return said + ([{"role": "user", "parts": [{"text": ANSWER_NOW}]}] if last else [])


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "text":
        return {"text": part["text"]}
    return {"inline_data": {"data": jpeg(part["image"]), "mime_type": "image/jpeg"}}


def _calls(content: types.Content) -> list[types.FunctionCall]:
    return [part.function_call for part in content.parts or [] if part.function_call]


def read_response(response: types.GenerateContentResponse) -> Heard:
    """The turn in a response, or why there is none; a call that Gemini spoilt is a call."""
    usage, took = response.usage_metadata, None
    if usage and usage.prompt_token_count is not None:
        out = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
        took = usage.prompt_token_count, out
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
    return hear(thinking, text, calls, finish == "MAX_TOKENS", refused, took)
