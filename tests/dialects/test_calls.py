import json

import pytest
from PIL import Image

from act2see.dialects.calls import CALLS
from act2see.encoding import encode, encode_forced
from act2see.trace import Frame, Step, Trace
from tests import templates
from tests.test_trace import question, trace

FRAME = Frame(time_s=3, pixels=Image.new("RGB", (48, 48), "blue"))
SCHEMA = {"type": "function", "function": {"name": "retrieve_frames", "parameters": {}}}
READABLE = Step(kind="call", tool="retrieve_frames", arguments={"start_s": 3.0, "note": "é"})
UNREADABLE = Step(kind="call", text='{"name": ')
SHOWN = Step(kind="evidence", frames=[FRAME])
REFUSED = Step(kind="evidence", text="start_s is 9; it must be below 5.")
ANSWER = Step(kind="answer", text="Answer: B")
THOUGHT = Step(kind="think", text="it is red.")
EMPTY = Step(kind="think")
DIALOGUES = {
    "plain": [THOUGHT, READABLE, SHOWN, THOUGHT, ANSWER],
    "a call without a thought": [EMPTY, READABLE, SHOWN, EMPTY, READABLE, SHOWN, THOUGHT, ANSWER],
    "no thought at all": [EMPTY, READABLE, SHOWN, EMPTY, ANSWER],
    "two calls": [EMPTY, READABLE, READABLE, SHOWN, SHOWN, THOUGHT, ANSWER],
    "one of two refused": [THOUGHT, READABLE, UNREADABLE, SHOWN, REFUSED, EMPTY, ANSWER],
    "refused first": [EMPTY, UNREADABLE, READABLE, REFUSED, SHOWN, THOUGHT, ANSWER],
    "only refused": [EMPTY, UNREADABLE, UNREADABLE, REFUSED, REFUSED, EMPTY, ANSWER],
}


def test_messages_after_n_steps_begin_those_after_more():
    whole = trace()
    for count in (0, 3):
        shorter = CALLS.messages(whole.model_copy(update={"steps": whole.steps[:count]}))
        assert CALLS.messages(whole)[: len(shorter)] == shorter


def test_messages_keep_roles_calls_and_times():
    messages = CALLS.messages(trace())
    assert [m["role"] for m in messages] == ["user", "assistant", "tool", "assistant"]
    call = messages[1]["tool_calls"][0]["function"]
    assert call == {"name": "retrieve_frames", "arguments": {"start_s": 3.0, "end_s": 4.0}}
    assert messages[2]["content"][0]["text"] == "<3.0 seconds>"
    assert messages[3]["content"] == "Answer: B"


def test_an_unreadable_call_stands_as_it_was_written():
    steps = [Step(kind="think"), Step(kind="call", text='{"name": ')]
    message = CALLS.messages(Trace(question=question(), steps=steps))[-1]
    assert message["content"] == '<tool_call>\n{"name": \n</tool_call>'


@pytest.mark.parametrize(
    ("text", "thinking", "calls", "answer"),
    [
        ("a\n</think>\n\nAnswer: B", "a", 0, "Answer: B"),
        ("<think>a</think><tool_call>{}</tool_call>", "a", 1, ""),
        ("a</think><tool_call>{}</tool_call><tool_call>{}</tool_call>", "a", 2, ""),
        ("a<tool_call>{}", "a", 1, ""),
        ("never closed", "never closed", 0, ""),
        ("", "", 0, ""),
    ],
)
def test_replies_are_taken_apart(text, thinking, calls, answer):
    reply = CALLS.read_reply(text)
    assert (reply.thinking, len(reply.calls), reply.answer) == (thinking, calls, answer)


def dialogue(name: str) -> Trace:
    """The dialogue of this name, with an overview of one frame and a tool."""
    return Trace(question=question(), overview=[FRAME], tools=[SCHEMA], steps=DIALOGUES[name])


def by_hand(trace: Trace) -> list[tuple[str, bool]]:
    """The dialogue in the grammar of Qwen3-VL-Thinking, and whether the assistant said it."""
    asked = [{"role": "user", "content": f"<3.0 seconds>{templates.PICTURE}{question().prompt()}"}]
    spans = [(templates.thinking(asked, trace.tools, True), False)]
    said, supplied = "", ""
    for step in [*trace.steps, THOUGHT]:
        if step.kind in ("think", "call") and supplied:
            head = "\n<|im_start|>user"
            spans += [(said + "<|im_end|>", True), (head + supplied + "<|im_end|>\n", False)]
            spans.append(("<|im_start|>assistant\n<think>\n", False))
            said, supplied = "", ""
        if step.kind == "think":
            said = f"{step.text}\n</think>\n\n"
        elif step.kind == "answer":
            return [*spans, (said + step.text + "<|im_end|>", True), ("\n", False)]
        elif step.kind == "call":
            call = {"name": step.tool, "arguments": step.arguments}
            text = json.dumps(call, ensure_ascii=False) if step.tool else step.text
            gap = "\n" if said.endswith("</tool_call>") else ""
            said += f"{gap}<tool_call>\n{text}\n</tool_call>"
        else:
            text = step.text or f"<3.0 seconds>{templates.PICTURE}"
            supplied += f"\n<tool_response>\n{text}\n</tool_response>"
    return spans


@pytest.mark.parametrize("name", DIALOGUES)
def test_tokens_and_trained_ones_are_those_of_the_grammar_by_hand(processor, name):
    encoding = encode(dialogue(name), processor)
    ids, labels = [], []
    for text, spoken in by_hand(dialogue(name)):
        text = text.replace("<|image_pad|>", "<|image_pad|>" * 9)
        # Cut where the assistant begins and ends to speak, as inference feeds it.
        new = processor.tokenizer.encode(text, add_special_tokens=False)
        ids += new
        labels += new if spoken else [-100] * len(new)
    decode = processor.tokenizer.decode
    assert decode(encoding.ids) == decode(ids)
    trained = [token for token in labels if token != -100]
    assert [token for token in encoding.labels if token != -100] == trained
    shown = sum(step.kind == "evidence" and bool(step.frames) for step in DIALOGUES[name])
    assert len(encoding.images) == encoding.ids.count(processor.image_token_id) / 9 == 1 + shown


@pytest.mark.parametrize("name", DIALOGUES)
def test_tokens_after_n_turns_begin_those_after_more(processor, name):
    whole = encode(dialogue(name), processor)
    kinds = [step.kind for step in DIALOGUES[name]]
    for count in (i for i, kind in enumerate(kinds) if kind == "think"):
        shorter = dialogue(name).model_copy(update={"steps": DIALOGUES[name][:count]})
        fed = encode(shorter, processor, reply_next=True)
        assert whole.ids[: len(fed.ids)] == fed.ids
        assert whole.labels[len(fed.ids)] != -100  # the very next token is trained


@pytest.mark.parametrize("name", DIALOGUES)
def test_a_forced_answer_follows_what_was_thought(processor, name):
    steps = DIALOGUES[name][:-1]
    cut = dialogue(name).model_copy(update={"steps": steps})
    opened = cut.model_copy(update={"steps": steps[:-1]})
    fed = encode(opened, processor, reply_next=True).ids
    forced = encode_forced(cut, processor).ids
    rest = processor.tokenizer.decode(forced[len(fed) :])
    assert forced[: len(fed)] == fed and rest == f"{steps[-1].text}\n</think>\n\nAnswer:"


@pytest.mark.parametrize("system", ["", "hi"])
@pytest.mark.parametrize("name", DIALOGUES)
def test_the_shipped_template_has_the_published_grammar(processor, name, system):
    """For the messages of servers too, in which a call without a thought has no block."""
    for written in (True, False):
        messages = CALLS.messages(dialogue(name), written=written)
        messages = [{"role": "system", "content": system}] * bool(system) + messages
        for count in range(1 + bool(system), len(messages) + 1):
            for more in ({"add_generation_prompt": True}, {"tools": [SCHEMA]}):
                theirs = processor.apply_chat_template(messages[:count], tokenize=False, **more)
                assert theirs == templates.thinking(messages[:count], **more)


def test_the_shipped_template_drops_what_the_published_one_drops(processor):
    """Thoughts before the last question, pictures that an assistant says."""
    picture = [{"type": "image"}, {"type": "text", "text": "see"}]
    again = {"role": "user", "content": "and now?"}
    response = {"role": "user", "content": "<tool_response>\nx\n</tool_response>"}
    said = {"role": "assistant", "content": picture, "reasoning_content": "hm"}
    for messages in ([again, said, again, said], [again, said, response, said, response]):
        text = processor.apply_chat_template(messages, tokenize=False)
        assert text == templates.thinking(messages) and "<|image_pad|>" not in text
