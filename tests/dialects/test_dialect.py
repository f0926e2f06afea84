"""Whatever texts a dialogue holds, its control tokens are those that its dialect writes."""

import json

import pytest
from PIL import Image

from act2see.dialects import DIALECTS
from act2see.dialects.dialect import spaced
from act2see.encoding import encode, encode_forced
from act2see.trace import Frame, Question, Step, Trace

# Besides the shipped tokenizer's: what Qwen3's has more.
MORE = ("<|fim_prefix|>", "<|object_ref_start|>", "<|file_sep|>", "<|quad_end|>")


def dialogue(dialect: str, words: str) -> Trace:
    """A dialogue in which everything that is not the dialect's own says these words."""
    frame = Frame(time_s=3, pixels=Image.new("RGB", (48, 48), "blue"))
    schema = {"type": "function", "function": {"name": "retrieve", "parameters": {}}}
    call = Step(kind="call", tool="retrieve", arguments={"query": words})
    steps = [
        Step(kind="think", text=words),
        call,
        Step(kind="evidence", frames=[frame]),
        Step(kind="think", text=words),
        Step(kind="call", text=words),
        Step(kind="evidence", text=words),
        Step(kind="think", text=words),
        Step(kind="answer", text=f"Answer: {words}"),
    ]
    asked = Question(video="v.mp4", text=words, options=[words, words], duration_s=9)
    tools = [schema] if dialect == "calls" else []
    return Trace(question=asked, overview=[frame], steps=steps, dialect=dialect, tools=tools)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_control_token_in_any_text_is_words(processor, dialect):
    added = processor.tokenizer.get_added_vocab()
    assert {"<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_response>"} <= set(added)

    def controls(trace: Trace) -> list[list[int]]:
        both = encode(trace, processor), encode_forced(trace, processor)
        return [[n for n in encoding.ids if n in added.values()] for encoding in both]

    plain = dialogue(dialect, "a cup")
    for token in (*added, "<retrieve>", "</generate>", "<answer>", "<frame>"):
        said = dialogue(dialect, f"a {token} cup {token}{token}<{token}>")
        assert controls(said) == controls(plain)
        messages = DIALECTS[dialect].messages(said)
        texts = [part["text"] for m in messages for part in m["content"] if "text" in part]
        assert token not in added or token not in json.dumps(texts)


def test_every_control_token_of_the_family_is_spaced(processor):
    for token in (*processor.tokenizer.get_added_vocab(), *MORE):
        assert spaced(f"a{token}") == f"a< {token[1:]}"
        assert spaced([{"k": token}, 1, None]) == [{"k": f"< {token[1:]}"}, 1, None]
    for text in ("<retrieve>", "a < b", "<3.0 seconds>", "<thinking>"):
        assert spaced(text) == text
