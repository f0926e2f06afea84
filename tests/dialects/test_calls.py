import json
from itertools import pairwise

import pytest
from PIL import Image

from act2see.dialects.calls import CALLS
from act2see.encoding import encode, encode_forced
from act2see.interleave import Budget, open_trace, take_turn
from act2see.pocket.oracle import OraclePolicy
from act2see.profiles import PROFILES
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


CALL = '{"name": "retrieve_frames", "arguments": {"start_s": 1, "end_s": 5}}'
LATER = CALL.replace("1", "8").replace("5", "12")
INNER = '{"start_s": 1, "end_s": 5}'
# The bar: a call from 1 to 5 s, written in forty ways; read.
READ = {
    "plain": f"<tool_call>{CALL}</tool_call>",
    "in a fence": f"<tool_call>```json\n{CALL}\n```</tool_call>",
    "the fence outside": f"```json\n<tool_call>{CALL}</tool_call>\n```",
    "a fence for tags": f"```json\n{CALL}\n```",
    "a named fence for tags": f"I look.\n```tool_call\n{CALL}\n```",
    "without tags": CALL,
    "the closing tag alone": f"{CALL}</tool_call>",
    "not closed": f"<tool_call>{CALL}",
    "opened twice": f"<tool_call><tool_call>{CALL}</tool_call></tool_call>",
    "capital tags": f"<TOOL_CALL>{CALL}</TOOL_CALL>",
    "tags in one word": f"<toolcall>{CALL}</toolcall>",
    "tags with spaces": f"< tool_call >{CALL}</ tool_call >",
    "tags escaped": f"&lt;tool_call&gt;{CALL}&lt;/tool_call&gt;",
    "another family's tags": f"<function_call>{CALL}</function_call>",
    "tags of a list": f"<tool_calls>[{CALL}]</tool_calls>",
    "tags in brackets": f"[TOOL_CALLS][{CALL}]",
    "arguments as text": f"<tool_call>{CALL}</tool_call>".replace(INNER, json.dumps(INNER)),
    "all as text": f"<tool_call>{json.dumps(CALL)}</tool_call>",
    "text in text": f"<tool_call>{json.dumps(json.dumps(CALL))}</tool_call>",
    "single quotes": f"<tool_call>{CALL}</tool_call>".replace('"', "'"),
    "curly quotes": "<tool_call>" + CALL.replace('"', "”") + "</tool_call>",
    "commas too many": f"<tool_call>{CALL}</tool_call>".replace("}", ",}"),
    "a brace too few": f"<tool_call>{CALL[:-1]}</tool_call>",
    "a brace too many": f"<tool_call>{CALL}}}</tool_call>",
    "parameters": f"<tool_call>{CALL}</tool_call>".replace("arguments", "parameters"),
    "args": f"<tool_call>{CALL}</tool_call>".replace("arguments", "args"),
    "tool": f"<tool_call>{CALL}</tool_call>".replace("name", "tool"),
    "as a server writes it": f'<tool_call>{{"type": "function", "function": {CALL}}}</tool_call>',
    "flat": '<tool_call>{"name": "retrieve_frames", "start_s": 1, "end_s": 5}</tool_call>',
    "numbers as text": f"<tool_call>{CALL}".replace("1", '"1"').replace("5", '"5.0"'),
    "mm:ss": f"<tool_call>{CALL}".replace("1", '"00:01"').replace("5", '"0:05"'),
    "Python in tags": "<tool_call>retrieve_frames(start_s=1, end_s=5)</tool_call>",
    "Python": "I call retrieve_frames(start_s=1, end_s=5)",
    "Python in a fence": "```python\nretrieve_frames(start_s=1, end_s=5)\n```",
    "XML in tags": "<tool_call>\n<function=retrieve_frames>\n<parameter=start_s>\n1\n</parameter>\n"
    "<parameter=end_s>\n5\n</parameter>\n</function>\n</tool_call>",
    "XML": '<invoke name="retrieve_frames"><parameter name="start_s">1</parameter>'
    '<parameter name="end_s">5</parameter></invoke>',
}
# Not read, and told so.
COUNTED = {
    "no quotes": f"<tool_call>{CALL}</tool_call>".replace('"', ""),
    "words around": f"<tool_call>I call {CALL} now</tool_call>",
    "a comment": f"<tool_call>{CALL}</tool_call>".replace(", ", ", // look\n"),
    "printed": "```tool_code\nprint(retrieve_frames(start_s=1, end_s=5))\n```",
    "keys and values": "<tool_call>retrieve_frames\n<arg_key>start_s</arg_key>\n"
    "<arg_value>1</arg_value>\n</tool_call>",
    "an action": f"Action: retrieve_frames\nAction Input: {INNER}",
    "another dialect": "<retrieve> a cup </retrieve>",
    "a list of numbers": f"<tool_call>{CALL}</tool_call>".replace(INNER, "[1, 5]"),
    "nested": f"<tool_call>{CALL}</tool_call>".replace(INNER, f'{{"window": {INNER}}}'),
    "cut off": f"<tool_call>{CALL[:-4]}",
    "nothing": "<tool_call></tool_call>",
}


def called(question, text: str) -> Trace:
    """A dialogue in which a model says this, after its thought, and is answered."""
    tools = PROFILES["pocket"].tools
    trace = open_trace(question, OraclePolicy(), tools, Budget(4))
    take_turn(trace, CALLS.read_reply(text), tools, Budget(4))
    return trace


@pytest.mark.parametrize("name", READ)
def test_a_call_with_a_clear_meaning_is_carried_out(questions, name):
    plain = called(questions[0], f"hm</think>\n\n{READ['plain']}")
    for text in (f"hm</think>\n\n{READ[name]}", f"<think>hm</think>{READ[name]}"):
        trace = called(questions[0], text)
        assert [frame.time_s for frame in trace.frames()] == [f.time_s for f in plain.frames()]
        assert (len(trace.calls()), trace.failed_calls(), trace.forced) == (1, 0, False)
        assert trace.steps[0].text == "hm"


@pytest.mark.parametrize("name", COUNTED)
def test_a_call_that_cannot_be_read_is_counted_and_told_so(questions, name):
    trace = called(questions[0], f"hm</think>\n\n{COUNTED[name]}")
    assert (len(trace.calls()), trace.failed_calls(), trace.forced) == (1, 1, False)
    assert trace.steps[-1].kind == "evidence" and trace.steps[-1].text


@pytest.mark.parametrize(
    ("text", "calls", "failed"),
    [
        (f"<think>hm <tool_call>{CALL}</tool_call></think>", 1, 0),  # all of it a thought
        (f"hm <tool_call>{CALL}</tool_call>", 1, 0),
        (f"hm <function_call>{CALL}</function_call></think>\n\n", 1, 0),
        (f"hm</think><tool_call>{CALL}</tool_call>\n<tool_call>{LATER}</tool_call>", 2, 0),
        (f"hm</think><tool_call>{CALL}\n{LATER}</tool_call>", 2, 0),
        (f"hm</think><tool_call>[{CALL}, {LATER}]</tool_call>", 2, 0),
        (f"hm</think><tool_call>{CALL}</tool_call><tool_call>{{</tool_call>", 2, 1),
        (f"hm</think><tool_call>{CALL}</tool_call>\nAnswer: B", 1, 0),
        (f"hm</think>Answer: B\n<tool_call>{CALL}</tool_call>", 1, 0),
    ],
)
def test_no_call_of_a_turn_is_lost(questions, text, calls, failed):
    trace = called(questions[0], text)
    assert (len(trace.calls()), trace.failed_calls()) == (calls, failed)
    assert "tool_call" not in trace.steps[0].text


@pytest.mark.parametrize(
    "answer",
    ["Answer: B", '{"answer": "B"}', "B (a cup)", "f(x) = 2", '{"name": "B"}', "The action: B"],
)
def test_an_answer_is_not_taken_for_a_call(answer):
    reply = CALLS.read_reply(f"hm</think>\n\n{answer}")
    assert (reply.calls, reply.answer) == ([], answer)


def dialogue(name: str) -> Trace:
    """The dialogue of this name, with an overview of one frame and a tool."""
    return Trace(question=question(), overview=[FRAME], tools=[SCHEMA], steps=DIALOGUES[name])


def by_hand(trace: Trace) -> list[tuple[str, bool]]:
    """The dialogue in the grammar of Qwen3-VL-Thinking, and whether it is to be learnt."""
    asked = [{"role": "user", "content": f"<3.0 seconds>{templates.PICTURE}{question().prompt()}"}]
    spans = [(templates.thinking(asked, trace.tools, True), False)]
    said, supplied, refused = "", "", False
    for step in [*trace.steps, THOUGHT]:
        if step.kind in ("think", "call") and supplied:
            head = "\n<|im_start|>user"
            spans += [(f"{said}<|im_end|>", not refused), (f"{head}{supplied}<|im_end|>\n", False)]
            spans.append(("<|im_start|>assistant\n<think>\n", False))
            said, supplied, refused = "", "", False
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
            refused = refused or not step.frames
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
    steps = DIALOGUES[name]
    starts = [i for i, step in enumerate(steps) if step.kind == "think"]
    for count, end in pairwise([*starts, len(steps)]):
        shorter = dialogue(name).model_copy(update={"steps": steps[:count]})
        fed = encode(shorter, processor, reply_next=True)
        assert whole.ids[: len(fed.ids)] == fed.ids
        # The very next token is trained, unless a call of this turn was refused.
        refused = any(s.kind == "evidence" and not s.frames for s in steps[count:end])
        assert (whole.labels[len(fed.ids)] == -100) == refused


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
