"""The batched, cached policy against one that sends everything again, one dialogue at a time."""

import gc
import weakref

import pytest

from act2see.encoding import encode
from act2see.interleave import Budget, interleave, open_trace
from act2see.policies.qwen import QwenPolicy
from tests.conftest import TOOLS
from tests.policies.naive import Naive, Scripted


def answered(policy, questions, traces, **budget):
    """Step texts and frame times by question; the teacher's calls are put into its mouth."""
    script = {t.question.id: t.calls() for t in traces}
    done = interleave(questions, Scripted(policy, script), TOOLS, Budget(**budget))
    return {
        t.question.id: [(s.kind, s.text, [f.time_s for f in s.frames]) for s in t.steps]
        for t in done
    }


def test_cached_and_batched_says_what_naive_says(base, processor, questions, traces):
    naive = answered(Naive(base, processor, 60), questions, traces, open_dialogues=1)
    for open_dialogues in (1, 3, 8):
        ours = QwenPolicy(base, processor, max_new_tokens=60)
        cached = answered(ours, questions, traces, open_dialogues=open_dialogues)
        for key in naive:
            # A forced answer is our policy's own; everything said before it must be the same.
            steps = [s for s in naive[key] if s[0] != "answer"]
            assert [s for s in cached[key] if s[0] != "answer"] == steps


def test_dialogues_without_room_wait_and_say_the_same(base, processor, questions, traces):
    wide = answered(QwenPolicy(base, processor, max_new_tokens=20), questions, traces)
    tight = QwenPolicy(base, processor, max_new_tokens=20, cache_gb=0.02)
    widths, feed = [], tight._feed
    tight._feed = lambda some, *more: widths.append(len(some)) or feed(some, *more)
    assert answered(tight, questions, traces) == wide
    assert 1 <= max(widths) < len(questions)


@pytest.mark.parametrize("as_video", [False, True])
def test_a_picture_seen_lately_is_not_looked_at_again(
    base, processor, questions, monkeypatch, as_video
):
    policy = QwenPolicy(base, processor, max_new_tokens=2)
    budget = Budget(overview_as_video=as_video)
    first = [open_trace(question, policy, TOOLS, budget) for question in questions[:2]]
    before = policy.reply(first)
    monkeypatch.setattr(base.model.visual, "forward", None)
    again = [trace.model_copy() for trace in first]  # new dialogues, old pictures
    assert policy.reply(again) == before


def test_an_overview_as_video_is_continued_as_if_fed_at_once(base, processor, traces):
    trace = next(t for t in traces if t.calls()).model_copy(update={"overview_as_video": True})
    policy, steps = QwenPolicy(base, processor, max_new_tokens=30), trace.steps
    trace.steps = []
    policy.reply([trace])
    trace.steps = steps[:3]
    assert policy.reply([trace]) == QwenPolicy(base, processor, max_new_tokens=30).reply([trace])
    single = trace.model_copy(update={"overview_as_video": False})
    assert len(encode(single, processor).ids) - len(encode(trace, processor).ids) > 4 * 9


def test_only_what_is_new_is_fed(base, processor, questions, traces):
    fed = []
    policy = QwenPolicy(base, processor, max_new_tokens=4)
    forward = policy._forward
    policy._forward = lambda cache, news, *rest: (
        fed.append(sum(map(len, news))) or forward(cache, news, *rest)
    )
    trace = next(t for t in traces if t.calls()).model_copy(deep=True)
    steps, trace.steps = trace.steps, []
    policy.reply([trace])
    first = fed[0]
    assert first == len(encode(trace, processor, True).ids)
    trace.steps = steps[:3]
    fed.clear()
    policy.reply([trace])
    new = len(encode(trace, processor, True).ids) - first
    assert new - 4 <= fed[0] <= new  # of its own four tokens, those that the script also says stay


def test_what_all_begin_with_is_fed_once(base, processor, traces):
    fed, opened = [], [t.model_copy(update={"steps": []}) for t in traces[:3]]
    policy = QwenPolicy(base, processor, max_new_tokens=1)
    forward = policy._forward
    policy._forward = lambda cache, news, *rest: (
        fed.append(sum(map(len, news))) or forward(cache, news, *rest)
    )
    policy.reply(opened)
    encoded = [encode(t, processor, True).ids for t in opened]
    opening = encoded[0].index(processor.vision_start_token_id)
    assert fed[0] == opening > 0
    shared = sum(
        next(i for i in range(opening + 1) if i == opening or ids[i] != encoded[0][i])
        for ids in encoded
    )
    assert sum(fed) == opening + sum(map(len, encoded)) - shared


def test_a_forced_answer_names_an_option(base, processor, traces):
    cut = traces[0].model_copy(update={"steps": traces[0].steps[:1]})
    (answer,) = QwenPolicy(base, processor).force([cut])
    assert answer in {"Answer: A", "Answer: B", "Answer: C", "Answer: D"}


def test_a_policy_that_goes_takes_its_cache_along(base, processor, traces):
    policy = QwenPolicy(base, processor, max_new_tokens=2)
    policy.reply(traces[:2])
    held = weakref.ref(policy.cache.layers.layers[0].store)
    gc.disable()  # memory of a GPU must not wait for the next collection
    del policy
    gc.enable()
    assert held() is None


def test_sampling_follows_its_seed(base, processor, traces):
    opened = traces[1].model_copy(update={"steps": []})

    def sample(seed):
        policy = QwenPolicy(base, processor, max_new_tokens=30, temperature=3.0, seed=seed)
        return policy.reply([opened])[0]

    assert sample(1) == sample(1) != sample(2)


def test_a_turn_ends_where_all_ends(base, processor):
    ended = QwenPolicy(base, processor).turn.ended
    ends = processor.tokenizer.encode("so<|endoftext|>"), processor.tokenizer.encode("so<|im_end|>")
    assert all(ended(tokens, ()) and not ended(tokens[:-1], ()) for tokens in ends)
