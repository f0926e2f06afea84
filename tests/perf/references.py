"""What an expert would write in place of the cached, batched loop, with the stock model alone."""

from itertools import takewhile

import torch
from transformers import DynamicCache

from act2see.encoding import encode, pixels, positions
from act2see.trace import Trace
from tests.policies.naive import Naive


class Continued(Naive):
    """One cache a dialogue through the stock forward pass, batch 1: only what is new is fed."""

    def __init__(self, *args):
        super().__init__(*args)
        self.kept = {}

    @torch.inference_mode()
    def _reply(self, trace: Trace):
        encoding = encode(trace, self.processor, reply_next=True)
        # The trace is kept with its cache: while it lives, no other can have its id.
        _, cache, known = self.kept.setdefault(id(trace), (trace, DynamicCache(), []))
        pairs = zip(known, encoding.ids[:-1], strict=False)
        fed = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        if stale := cache.get_seq_length() - fed:
            cache.crop(-stale)
        images = encoding.images[encoding.ids[:fed].count(self.processor.vision_start_token_id) :]
        spots = positions(encoding, self.model)
        seen = {k: v.to(self.model.device) for k, v in pixels(images, self.processor).items()}
        said = [self._next(encoding.ids[fed:], spots[:, fed:], cache, seen)]
        for place in range(int(spots.max()) + 1, int(spots.max()) + self.tokens):
            if said[-1] in self.ends:
                break
            said.append(self._next(said[-1:], torch.full((3, 1), place), cache, {}))
        known[:] = encoding.ids + said[:-1]
        return self.read(trace, said)

    def _next(self, ids: list[int], spots: torch.Tensor, cache: DynamicCache, seen: dict) -> int:
        given = {"input_ids": torch.tensor([ids]), "position_ids": spots[:, None]}
        given = {k: v.to(self.model.device) for k, v in given.items()} | seen
        output = self.model(**given, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return int(output.logits[0, -1].argmax())


class Padded(Naive):
    """`generate` on all open dialogues at once, padded on the left, each from its beginning."""

    def reply(self, traces: list[Trace]) -> list:
        encodings = [encode(trace, self.processor, reply_next=True) for trace in traces]
        longest = max(len(encoding.ids) for encoding in encodings)
        ids = torch.full((len(traces), longest), self.ends[0])
        mask = torch.zeros_like(ids)
        for row, encoding in enumerate(encodings):
            ids[row, longest - len(encoding.ids) :] = torch.tensor(encoding.ids)
            mask[row, longest - len(encoding.ids) :] = 1
        images = [image for encoding in encodings for image in encoding.images]
        said = self.model.generate(
            input_ids=ids,
            attention_mask=mask,
            mm_token_type_ids=(ids == self.processor.image_token_id).int(),
            max_new_tokens=self.tokens,
            do_sample=False,
            eos_token_id=self.ends,
            pad_token_id=self.ends[0],
            **pixels(images, self.processor),
        )[:, longest:].tolist()
        return [self.read(trace, row) for trace, row in zip(traces, said, strict=True)]
