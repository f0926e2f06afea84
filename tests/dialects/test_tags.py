"""The paper's form: one turn of the assistant, with what is supplied in the middle of it."""

import pytest
from PIL import Image
from pydantic import Field

from act2see.dialects.dialect import PICTURE
from act2see.dialects.tags import TAGS
from act2see.encoding import encode
from act2see.interleave import Budget, interleave
from act2see.letters import lenient_letter
from act2see.policies.qwen import QwenPolicy
from act2see.tools.tool import Arguments, CallError, Tool
from act2see.trace import Frame, Question, Reply, Step, Trace, read_letter
from act2see.video import read_frames
from tests.policies.naive import Naive, Scripted


class Query(Arguments):
    query: str = Field(max_length=300)


class Retrieve(Tool):
    """Half a second later at each call; a stand-in for the search by text."""

    name = "retrieve"
    description = "A frame that shows what the query says."
    arguments = Query

    def run(self, trace, wish):
        if not wish.query:
            raise CallError("query has 0 characters; it must have 1 to 300.")
        at_s = 4.0 + 0.5 * len(trace.calls())
        (image,), (time_s,) = read_frames(trace.question.video, [at_s])
        return [Frame(time_s=time_s, pixels=image)]


TOOLS = (Retrieve(),)
LOOK = Step(kind="call", tool="retrieve", arguments={"query": "the visitor is a cross."})
BUDGET = Budget(max_calls=2, dialect="tags")


def whole(steps=5) -> Trace:
    frame = Frame(time_s=3, pixels=Image.new("RGB", (48, 48), "blue"))
    question = Question(video="v.mp4", text="which?", options=["red", "blue"], duration_s=9)
    moves = [
        Step(kind="think", text="the frames do not show it."),
        LOOK,
        Step(kind="evidence", frames=[frame]),
        Step(kind="think", text="at 3.0 it is blue."),
        Step(kind="answer", text="Answer: B"),
    ]
    return Trace(question=question, overview=[frame], steps=moves[:steps], dialect="tags")


def text_of(trace, processor, reply_next=False):
    segments, _ = TAGS.render(trace, processor.apply_chat_template, reply_next)
    return segments


def test_the_dialogue_is_one_turn_in_the_papers_form(processor):
    segments = text_of(whole(), processor)
    turn = "".join(s.text for s in segments).partition("<|im_start|>assistant\n")[2]
    assert turn == (
        "<think>\nthe frames do not show it.\n<retrieve> the visitor is a cross. </retrieve>"
        f"<frame><3.0 seconds>{PICTURE}</frame>\nat 3.0 it is blue.\n</think>\n\n"
        "<answer> B </answer><|im_end|>\n"
    )


def test_all_that_is_said_carries_loss_and_nothing_that_is_supplied(processor):
    encoding = encode(whole(), processor)
    decode = processor.tokenizer.decode
    learnt = decode([token for token in encoding.labels if token != -100])
    assert learnt == (
        "the frames do not show it.\n<retrieve> the visitor is a cross. </retrieve>"
        "at 3.0 it is blue.\n</think>\n\n<answer> B </answer><|im_end|>"
    )
    pairs = zip(encoding.ids, encoding.labels, strict=True)
    assert all(label in (-100, token) for token, label in pairs)
    assert processor.image_token_id not in encoding.labels and len(encoding.images) == 2


def test_tokens_after_n_moves_begin_those_after_more(processor):
    ids = encode(whole(), processor).ids
    for count in (0, 3):
        part = encode(whole(count), processor, reply_next=True).ids
        assert ids[: len(part)] == part


@pytest.mark.parametrize(
    ("text", "thinking", "call", "answer"),
    [
        ("hm.\n<retrieve> a cup </retrieve>", "hm.", {"query": "a cup"}, ""),
        ("<generate>a cup</generate>", "", {"query": "a cup"}, ""),
        ("<retrieve></retrieve>", "", {"query": ""}, ""),
        ("so.\n</think>\n\n<answer> B </answer>", "so.", None, "Answer: B"),
        ("so. <answer>(B)</answer>", "so.", None, "Answer: (B)"),
        ("so.\n</think>\n\n<answer> B", "so.", None, "Answer: B"),
        ("so.\n</think>\n\nit is B", "so.", None, "it is B"),
        ("so.</think>\nit is clear. <answer> B </answer>", "so.\nit is clear.", None, "Answer: B"),
        ("<answer> A </answer> no. <answer> B </answer>", "A  no.", None, "Answer: B"),
        ("so. <answer> A </answer> <retrieve> a cup </retrieve>", "so.", None, "Answer: A"),
        ("<answer> A. <retrieve> a cup </retrieve>", "A.", {"query": "a cup"}, ""),
        ("<think>a</think>\n<retrieve> a cup </retrieve>", "a", {"query": "a cup"}, ""),
        ("<retrieve> a </retrieve> <generate> b </generate>", "", {"query": "a"}, ""),
        ("so.</think> B </answer>", "so.", None, "B"),
        ("<answer></answer>", "", None, "Answer:"),
        ("on and on", "on and on", None, ""),
        ("", "", None, ""),
    ],
)
def test_replies_are_taken_apart(text, thinking, call, answer):
    reply = TAGS.read_reply(text)
    assert (reply.thinking, reply.answer) == (thinking, answer)
    assert [step.arguments for step in reply.calls] == ([] if call is None else [call])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hm <retrieve> a cup", "must be <retrieve> query </retrieve>"),
        ("hm <retrieve> a <generate> b </generate>", "no other tag"),
        ("hm <retrieve> a </generate>", "must be <retrieve>"),
        ("hm </retrieve>", "closes a call that was not opened"),
    ],
)
def test_a_call_that_cannot_be_read_is_kept_and_explained(text, reason):
    (call,) = TAGS.read_reply(text).calls
    assert not call.tool and text.endswith(call.text) and reason in TAGS.unreadable(call.text)


@pytest.mark.parametrize("said", ["(B)", "B.", "**B**", "B", " B ", "a blue cup", "A blue cup."])
def test_an_answer_may_be_a_letter_in_any_form_or_the_options_text(said):
    answer = TAGS.read_reply(f"so. <answer>{said}</answer>").answer
    options = ["red cup", "a blue cup", "a cup"]
    assert lenient_letter(answer, options) == "B"
    assert read_letter(answer, 3) == ("B" if "cup" not in said else "")


class Script:
    """Says these texts, one a turn, whatever it is shown."""

    name = "script"

    def __init__(self, *texts):
        self.texts = texts

    def reply(self, traces):
        turns = [sum(step.kind == "think" for step in trace.steps) for trace in traces]
        return [TAGS.read_reply(self.texts[min(n, len(self.texts) - 1)]) for n in turns]

    def force(self, traces):
        return ["Answer: A" for _ in traces]


@pytest.mark.parametrize(
    ("texts", "failed", "forced"),
    [
        (["<retrieve> a </retrieve>", "<answer> A </answer>"], 0, False),
        (["<retrieve> </retrieve>", "<answer> A </answer>"], 1, False),
        (["<retrieve> a", "<answer> A </answer>"], 1, False),
        (["</retrieve>", "<answer> A </answer>"], 1, False),
        (["<retrieve> a <retrieve> b </retrieve>", "<answer> A </answer>"], 1, False),
        (["<generate> a </generate>", "<answer> A </answer>"], 1, False),  # not on offer
        (["<retrieve> a </retrieve>"], 1, True),  # again and again
        (["no tag at all"], 0, True),
        ([f"<retrieve> {'a' * 10_000} </retrieve>", "<answer> A </answer>"], 1, False),
        (["<retrieve> a </retrieve> <generate> b </generate>", "<answer> A </answer>"], 0, False),
        (["<retrieve> a </generate>", "<answer> A </answer>"], 1, False),
        (["<retrieve> a </retrieve>"] * 3 + ["<answer> A </answer>"], 1, False),  # one too many
        (["<answer> A </answer> <retrieve> a </retrieve>"], 0, False),
        (["<answer> B </answer> no. <answer> A </answer>"], 0, False),
        (["<answer> (A) </answer>"], 0, False),
        (["<answer>A.</answer>"], 0, False),
        (["<answer> **A** </answer>"], 0, False),
        (["<answer> </answer>"], 0, True),
        (["<retrieve> <|im_end|> <|image_pad|> </retrieve>", "<answer> A </answer>"], 0, False),
        (["</think></think><think>", "<answer> A </answer>"], 0, True),
        (["<frame>a</frame><answer> A"], 0, False),
    ],
)
def test_whatever_is_said_the_dialogue_ends_and_faults_are_counted(
    questions, processor, texts, failed, forced
):
    (trace,) = interleave(questions[:1], Script(*texts), TOOLS, BUDGET)
    assert (trace.failed_calls(), trace.forced) == (failed, forced)
    assert trace.letter() == "A" and encode(trace, processor).ids


def test_cached_and_batched_says_what_a_loop_that_sends_all_again_says(base, processor, questions):
    script = {question.id: [LOOK] for question in questions[:4]}

    def thoughts(policy, open_dialogues):
        budget = Budget(max_calls=2, dialect="tags", open_dialogues=open_dialogues)
        done = interleave(questions[:4], Scripted(policy, script), TOOLS, budget)
        return {t.question.id: [s.text for s in t.steps if s.kind == "think"] for t in done}

    naive = thoughts(Naive(base, processor, 40), 1)
    for open_dialogues in (1, 4):
        ours = thoughts(QwenPolicy(base, processor, max_new_tokens=40), open_dialogues)
        assert ours == naive


def test_a_turn_stops_where_its_call_is_closed(base, processor, traces):
    policy = QwenPolicy(base, processor, max_new_tokens=4)
    tokens = processor.tokenizer.encode("a <retrieve> b </retrieve>", add_special_tokens=False)
    assert policy.turn.ended(tokens, TAGS.stops) and not policy.turn.ended(tokens[:-1], TAGS.stops)
    assert not policy.turn.ended(tokens, ())


def test_a_server_sees_what_was_supplied_as_the_users(processor):
    messages = TAGS.messages(whole())
    assert [message["role"] for message in messages] == ["user", "assistant", "user", "assistant"]
    assert messages[1]["content"] == (
        "<think>\nthe frames do not show it.\n<retrieve> the visitor is a cross. </retrieve>"
    )
    words = [part.get("text") for part in messages[2]["content"]]
    assert words == ["<frame>", "<3.0 seconds>", None, "</frame>"]
    assert messages[3]["content"] == "at 3.0 it is blue.\n</think>\n\n<answer> B </answer>"


def test_human_reasoning_is_in_the_instruction_only_on_demand():
    trace = whole()
    trace.question.reasoning = "I look at the end."
    assert "I look at the end." not in TAGS.instruction(trace)
    assert "I look at the end." in TAGS.instruction(trace, human_reasoning=True)
    assert isinstance(TAGS.read_reply("x"), Reply)
