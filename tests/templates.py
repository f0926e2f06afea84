"""How Qwen3-VL-Thinking's published chat template writes messages, in plain Python.

Only its words about tools are others: those of the shipped base's template.
"""

import json

PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"


def said(content, pictures=True):
    """The words of a message, a place for each picture among them where it may have some."""
    if isinstance(content, str):
        return content
    parts = [part.get("text", PICTURE if pictures else "") for part in content]
    return "".join(parts)


def thinking(messages, tools=None, add_generation_prompt=False, tokenize=False):
    """The text of a dialogue; a `template` for `Dialect.render`."""
    assert not tokenize
    roles = [message["role"] for message in messages]
    text = opening(messages, tools)
    asked = [i for i, m in enumerate(messages) if m["role"] == "user" and not responds(m)]
    for i, message in enumerate(messages):
        before = roles[i - 1] if i else ""
        after = roles[i + 1] if i + 1 < len(messages) else ""
        if message["role"] == "user":
            text += f"<|im_start|>user\n{said(message['content'])}<|im_end|>\n"
        if message["role"] == "tool":
            # Responses to calls of one turn stand in one turn of the user.
            text += "<|im_start|>user" if before != "tool" else ""
            text += f"\n<tool_response>\n{said(message['content'])}\n</tool_response>"
            text += "<|im_end|>\n" if after != "tool" else ""
        if message["role"] == "assistant":
            thought = i > max(asked, default=-1) and (
                bool(message["reasoning_content"]) or not after
            )
            text += f"<|im_start|>assistant\n{turn(message, thought)}<|im_end|>\n"
    return text + "<|im_start|>assistant\n<think>\n" * add_generation_prompt


def opening(messages, tools):
    """The system's turn, with the tools in it; "" without either."""
    system = said(messages[0]["content"]) if messages[0]["role"] == "system" else ""
    if not tools:
        return f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
    schemas = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    gap = "\n\n" if system else ""
    offer = f"You may call these tools:\n<tools>\n{schemas}\n</tools>"
    return f"<|im_start|>system\n{system}{gap}{offer}<|im_end|>\n"


def responds(message):
    """Whether a user's message is a tool's response as a whole."""
    text = said(message["content"])
    return text.startswith("<tool_response>") and text.endswith("</tool_response>")


def turn(message, thought):
    """What the assistant said; pictures in its words are lost, and all thoughts but some."""
    words = said(message["content"], pictures=False)
    text = words
    if thought:
        reasoning = message["reasoning_content"].strip("\n")
        text = f"<think>\n{reasoning}\n</think>\n\n" + words.lstrip("\n")
    for number, call in enumerate(message.get("tool_calls", [])):
        name = call["function"]["name"]
        arguments = json.dumps(call["function"]["arguments"], ensure_ascii=False)
        text += "\n" if words or number else ""
        text += f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'
    return text
