"""The batched, cached policy against one that sends everything again, one dialogue at a time."""

import torch

from act2see.encoding import encode, pixels
from act2see.interleave import Budget, interleave, read_reply
from act2see.policies.qwen import QwenPolicy
from act2see.profiles import PROFILES

TOOLBOX = PROFILES["pocket"].toolbox


class Naive:
    """`generate` from scratch at every turn, batch 1: slow and obvious."""

    name = "naive"

    def __init__(self, model, processor, tokens):
        self.model, self.processor, self.tokens = model, processor, tokens

    def reply(self, traces):
        return [self._reply(trace) for trace in traces]

    def _reply(self, trace):
        encoding = encode(trace, self.processor, reply_next=True)
        ids = torch.tensor([encoding.ids])
        end = self.processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
        said = self.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == self.processor.image_token_id).int(),
            max_new_tokens=self.tokens,
            do_sample=False,
            eos_token_id=end,
            **pixels(encoding.images, self.processor),
        )[0, len(encoding.ids) :].tolist()
        text = self.processor.tokenizer.decode([t for t in said if t != end])
        return read_reply(text, truncated=said[-1] != end)

    def force(self, traces):
        return ["Answer: A" for _ in traces]


class Scripted:
    """Makes the wrapped policy call first, so that caches meet frames of later turns."""

    def __init__(self, inner, script):
        self.inner, self.script, self.name = inner, script, inner.name

    def reply(self, traces):
        replies = self.inner.reply(traces)
        for trace, reply in zip(traces, replies, strict=True):
            calls = self.script[trace.question.id]
            made = len(trace.calls())
            if made < len(calls):
                reply.calls, reply.answer, reply.truncated = [calls[made]], "", False
        return replies

    def force(self, traces):
        return self.inner.force(traces)


def answered(policy, questions, traces, **budget):
    """Step texts and frame times by question; the teacher's calls are put into its mouth."""
    script = {t.question.id: t.calls() for t in traces}
    done = interleave(questions, Scripted(policy, script), TOOLBOX, Budget(**budget))
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


def test_a_forced_answer_names_an_option(base, processor, traces):
    cut = traces[0].model_copy(update={"steps": traces[0].steps[:1]})
    (answer,) = QwenPolicy(base, processor).force([cut])
    assert answer in {"Answer: A", "Answer: B", "Answer: C", "Answer: D"}


def test_sampling_follows_its_seed(base, processor, traces):
    opened = traces[1].model_copy(update={"steps": []})

    def sample(seed):
        policy = QwenPolicy(base, processor, max_new_tokens=30, temperature=3.0, seed=seed)
        return policy.reply([opened])[0]

    assert sample(1) == sample(1) != sample(2)
