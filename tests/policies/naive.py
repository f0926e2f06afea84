"""What every peer does at a tool turn: the whole dialogue through `generate` again, batch 1."""

from itertools import takewhile

import torch

from act2see.dialects import dialect_of
from act2see.encoding import encode, pixels


class Naive:
    """`generate` from scratch at every turn: slow and obvious."""

    name = "naive"

    def __init__(self, model, processor, tokens):
        self.model, self.processor, self.tokens = model, processor, tokens
        self.ends = processor.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])

    def reply(self, traces):
        return [self._reply(trace) for trace in traces]

    def _reply(self, trace):
        encoding = encode(trace, self.processor, reply_next=True)
        ids = torch.tensor([encoding.ids])
        stops = dialect_of(trace).stops
        more = {"stop_strings": list(stops), "tokenizer": self.processor.tokenizer} if stops else {}
        tokens = self.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == self.processor.image_token_id).int(),
            max_new_tokens=self.tokens,
            do_sample=False,
            eos_token_id=self.ends,
            pad_token_id=self.ends[0],
            **pixels(encoding.images, self.processor),
            **more,
        )[0, len(encoding.ids) :].tolist()
        return self.read(trace, tokens)

    def read(self, trace, tokens):
        """The reply that these tokens are, up to the first that ends one."""
        said = list(takewhile(lambda token: token not in self.ends, tokens))
        text = self.processor.tokenizer.decode(said)
        ended = len(said) < len(tokens) or any(stop in text for stop in dialect_of(trace).stops)
        return dialect_of(trace).read_reply(text, truncated=not ended)

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
            if reply and made < len(calls):
                reply.calls, reply.answer, reply.truncated = [calls[made]], "", False
        return replies

    def force(self, traces):
        return self.inner.force(traces)
