"""Gemini, the family of the paper's teacher, through google-genai.

Works on traces; over the wire go the dialect's messages in that protocol's words, but a model's own
turns with functions as they came, since it asks for the signatures of its thoughts. Knows nothing
of tools or questions. The paper's own teacher, Gemini 2.5 Pro, is served until 2026-12-01.
"""

import json
import re
import weakref
from typing import Any

import httpx
from google.genai import Client, errors, types
from pydantic import ValidationError

from act2see.dialects import dialect_of
from act2see.dialects.calls import read_call
from act2see.policies.client import Client as HttpClient
from act2see.policies.teacher import Teacher
from act2see.policies.wire import Answered, BatchError, Connection, Said, jpeg, rounds
from act2see.trace import Step, Trace

# In t4 and large: served, not a preview, and what requests for Gemini 2.5 Pro are answered by.
DEFAULT = "gemini-3.8-flash"
MAX_STOPS = 5  # of a request
UNREADABLE = ("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL")
BAD_BODY = (json.JSONDecodeError, ValidationError, RecursionError)


def gemini_teacher(model: str = DEFAULT, base_url: str = "", **options: Any) -> Teacher:
    """A policy that answers with a Gemini model, on Google's server where `base_url` is "".

    options: further ones of `Teacher`; `key_name` is GEMINI_API_KEY unless given.
    """
    return Teacher(model, _connect, base_url, **{"key_name": "GEMINI_API_KEY"} | options)


def _connect(teacher: Teacher, key: str) -> Connection:
    own: dict[int, dict[int, types.Content]] = {}
    limits = teacher.limits
    wait_s = limits.retry_delay_s
    again = {"attempts": limits.retries + 1, "initial_delay": wait_s, "jitter": wait_s}
    options = {
        "base_url": teacher.base_url or None,
        "retry_options": again,  # without these, this client does not ask again
        "timeout": int(1000 * limits.timeout_s),
        "httpx_client": HttpClient(key, limits.timeout_s),
    }
    client = Client(api_key=key, vertexai=False, http_options=options)

    def asked(trace: Trace, last: bool) -> dict[str, Any]:
        if id(trace) not in own:
            own[id(trace)] = {}
            # An id is free again once its trace is gone.
            weakref.finalize(trace, own.pop, id(trace), None)
        return {
            "contents": contents(trace, own[id(trace)], last, takes_nested(teacher.model)),
            "config": config_of(teacher, trace, last),
        }

    def read(response: types.GenerateContentResponse, trace: Trace) -> Said:
        content = response.candidates[0].content if response.candidates else None
        if content and content.parts:
            own[id(trace)][len(rounds(trace))] = content
        return read_response(response)

    def ask(line: str) -> str:
        request = types.InlinedRequest.model_validate_json(line)
        response = client.models.generate_content(
            model=teacher.model, contents=request.contents, config=request.config
        )
        return response.model_dump_json(exclude_none=True, exclude={"sdk_http_response"})

    def line(trace: Trace, last: bool) -> str:
        request = types.InlinedRequest.model_validate(asked(trace, last))
        return request.model_dump_json(exclude_none=True)

    def submit(lines: dict[str, str]) -> str:
        requests = [types.InlinedRequest.model_validate_json(text) for text in lines.values()]
        for name, request in zip(lines, requests, strict=True):
            request.metadata = {"key": name}
        return client.batches.create(model=teacher.model, src=requests).name

    return Connection(
        line=line,
        ask=ask,
        errors=(errors.APIError, httpx.HTTPError, *BAD_BODY),
        submit=submit,
        fetch=lambda name, ids: fetch(client, name, ids),
        read=lambda body, trace: read(
            types.GenerateContentResponse.model_validate_json(body), trace
        ),
        batch_bytes=15_000_000,  # a request may have 20 MB
    )


def fetch(client: Client, name: str, ids: list[str]) -> dict[str, str | BatchError] | None:
    """The bodies of a batch's replies, or what went wrong, by id; None while it runs."""
    job = client.batches.get(name=name)
    if not job.done:
        return None
    bodies = {"": BatchError(f"the batch is {job.state.name}. {job.error or ''}")}
    responses = (job.dest and job.dest.inlined_responses) or []
    for number, one in enumerate(responses):
        key = (one.metadata or {}).get("key") or ids[number]
        if one.response:
            bodies[key] = one.response.model_dump_json(exclude_none=True)
        else:
            bodies[key] = BatchError(str(one.error))
    return bodies


def config_of(teacher: Teacher, trace: Trace, last: bool) -> dict[str, Any]:
    """How the next turn of a trace is asked for; `last` asks to answer."""
    stops = dialect_of(trace).stops[:MAX_STOPS]
    config = {
        "system_instruction": teacher.instruction(trace),
        "max_output_tokens": teacher.limits.reply_tokens,
        "thinking_config": {"include_thoughts": True},
    }
    if stops:
        config["stop_sequences"] = list(stops)
    elif trace.tools:
        functions = [tool["function"] for tool in trace.tools]
        calling = {"mode": "NONE" if last else "AUTO"}
        config["tools"] = [{"function_declarations": functions}]
        config["tool_config"] = {"function_calling_config": calling}
    return config | teacher.request


def takes_nested(model: str) -> bool:
    """Whether frames go into a function's response, as from Gemini 3 on; 2.5 refuses them there.

    >>> takes_nested("models/gemini-3.8-flash"), takes_nested("gemini-2.5-pro")
    (True, False)
    """
    version = re.search(r"gemini-(\d+)", model)
    return bool(version) and int(version[1]) >= 3


def contents(
    trace: Trace, own: dict[int, types.Content], last: bool = False, nested: bool = False
) -> list[Any]:
    """The trace's messages in the protocol's words; `last` asks to answer.

    own: the model's turns as they came; one stands where the trace holds as many calls of it.
    nested: frames stand in the response of their function, not behind all responses.
    """
    dialect = dialect_of(trace)
    question = dialect.messages(trace, merged=False)[0]["content"]
    turns: list[Any] = [{"role": "user", "parts": [*map(_part, question)]}]
    for number, turn in enumerate(rounds(trace)):
        calls = [types.FunctionCall(name=f["name"], args=f["arguments"]) for f in turn.functions]
        # In a dialect whose calls are text, the trace holds it with the stop that was taken off.
        if not dialect.stops and number in own and len(_calls(own[number])) == len(calls):
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
                fields = {"id": call.id, "name": call.name, **_response(answer, nested)}
                responses.append({"function_response": fields})
            if not (answer.tool and nested):
                frames += map(_part, answer.parts)
        if turn.answers:
            turns.append({"role": "user", "parts": responses + frames})
    if last:
        turns.append({"role": "user", "parts": [{"text": dialect.answer_now}]})
    return turns


def _response(answer: Answered, nested: bool) -> dict[str, Any]:
    """What a function gave: its text; `nested`, its frames too, each named next to its label."""
    response: dict[str, Any] = {"output" if answer.parts else "error": answer.text}
    if not nested or not answer.parts:
        return {"response": response}
    labels = [part["text"] for part in answer.parts if part["type"] == "text"]
    images = [jpeg(part["image"]) for part in answer.parts if part["type"] == "image"]
    names = [f"frame{number}.jpg" for number in range(len(images))]
    pairs = zip(labels, names, strict=True)
    response["frames"] = [{"label": label, "picture": {"$ref": name}} for label, name in pairs]
    blobs = zip(names, images, strict=True)
    parts = [{"display_name": name, "mime_type": "image/jpeg", "data": d} for name, d in blobs]
    return {"response": response, "parts": [{"inline_data": part} for part in parts]}


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "text":
        return {"text": part["text"]}
    return {"inline_data": {"data": jpeg(part["image"]), "mime_type": "image/jpeg"}}


def _calls(content: types.Content) -> list[types.FunctionCall]:
    return [part.function_call for part in content.parts or [] if part.function_call]


def read_response(response: types.GenerateContentResponse) -> Said:
    """What a response says; a call that Gemini spoilt is a call."""
    counts = response.usage_metadata
    usage = None
    if counts and counts.prompt_token_count is not None:
        out = (counts.candidates_token_count or 0) + (counts.thoughts_token_count or 0)
        usage = counts.prompt_token_count, out
    candidate = response.candidates[0] if response.candidates else types.Candidate()
    content = candidate.content or types.Content()
    texts = [part for part in content.parts or [] if part.text]
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
    return Said(
        thinking="".join(part.text for part in texts if part.thought),
        text=text,
        calls=calls,
        truncated=finish == "MAX_TOKENS",
        refused=refused,
        usage=usage,
        served=response.model_version or "",
        stop=None if text.strip() else "",  # stop texts do not end thoughts
    )
