"""A local Qwen3-VL as policy: many dialogues decoded together, one cache kept across tool turns.

Works on traces, a loaded model and its processor. Knows nothing of tools or questions. A turn feeds
only what is new since the last one, frames included, rows with about as much to feed together; what
all dialogues begin with is fed once; a row that has said its turn is decoded no further; a picture
that was seen lately is not looked at again. All state is in the policy object, none on the model.
Batched cached decoding is our choice; its greedy text is that of a loop that sends everything again
(tests/policies/test_qwen.py).
"""

from itertools import takewhile

import numpy as np
import torch
from cachetools import LRUCache
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from act2see.checkpoints import unwrapped
from act2see.encoding import (
    Encoding,
    Picture,
    alike,
    encode,
    encode_messages,
    frames_of,
    hidden_states,
    positions,
    see,
)
from act2see.interleave import Reply, read_reply
from act2see.trace import LETTERS, Trace

GROWTH = 1.25  # slots made for every slot needed, so that not every token makes new ones
FED_TOKENS = 4096  # at a time: enough to fill a GPU, few enough for a processor's cache


class RowLayer(DynamicLayer):
    """One layer's keys and values, (rows, heads, slots, size) each, with room to grow.

    A row's tokens lie one after the other from slot 0 on, whatever the other rows hold.
    """

    def __init__(self, cache: "DialogueCache"):
        super().__init__()
        self.cache, self.store = cache, []

    def seat(self, sources: list[int], known: list[int], slots: int) -> None:
        """Give each row so many slots, and the first tokens that are known of another row."""
        for number, was in enumerate(self.store):
            kept = was.new_empty(len(sources), was.shape[1], slots, was.shape[3])
            for row, (source, end) in enumerate(zip(sources, known, strict=True)):
                kept[row, :, :end] = was[source, :, :end]
                kept[row, :, end:] = 0
            self.store[number] = kept

    def update(self, keys, values, *args, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
        """Write where `cache.place` says; what the rows fed now may look at."""
        (rows, columns, slots), end = self.cache.place, self.cache.end
        count, heads, size = len(self.cache.tokens), keys.shape[1], keys.shape[3]
        self.store = self.store or [new.new_empty(count, heads, 0, size) for new in (keys, values)]
        if (held := self.store[0].shape[2]) < end:
            self.seat([*range(count)], [held] * count, int(end * GROWTH))
        fed = slice(self.cache.first, self.cache.first + len(keys))
        for kept, new in zip(self.store, (keys, values), strict=True):
            kept[fed][rows, :, slots] = new[rows, :, columns]
        return tuple(kept[fed, :, :end] for kept in self.store)


class DialogueCache:
    """Keys and values of several dialogues, a row each; `tokens[i]` are those that row i holds.

    `owners` holds the traces themselves, so that no new one can be taken for one that has gone.
    """

    def __init__(self, layers: int, picture: int):
        self.picture = picture  # the token that opens one
        self.owners: list[Trace] = []
        self.tokens: list[list[int]] = []
        self.layers = Cache(layers=[RowLayer(self) for _ in range(layers)])

    def seat(self, traces: list[Trace], encodings: list[Encoding]) -> list[int]:
        """Give every dialogue a row, those with least to feed first; their order, as indices.

        A row keeps as many tokens as are still true, and leaves at least one to feed. A dialogue
        that is new begins with what the first row holds too, up to its first picture.
        """
        rows = {id(owner): row for row, owner in enumerate(self.owners)}
        sources, known = [], []
        for trace, encoding in zip(traces, encodings, strict=True):
            sources.append(rows.get(id(trace), 0))
            end = None if id(trace) in rows else self.picture
            pairs = zip(self.tokens[sources[-1]] if rows else [], encoding.ids, strict=False)
            same = sum(1 for _ in takewhile(lambda p, end=end: p[0] == p[1] != end, pairs))
            known.append(min(same, len(encoding.ids) - 1))
        order = sorted(range(len(traces)), key=lambda i: len(encodings[i].ids) - known[i])
        slots = int(max(len(encoding.ids) for encoding in encodings) * GROWTH)
        for layer in self.layers.layers:
            layer.seat([sources[i] for i in order], [known[i] for i in order], slots)
        self.owners = [traces[i] for i in order]
        self.tokens = [encodings[i].ids[: known[i]] for i in order]
        return order

    def append(self, first: int, news: list[list[int]]) -> torch.Tensor | None:
        """Note new tokens of the rows from `first` on, which are fed left-padded to one width.

        Returns (rows, 1, width, slots): who may look where, None where plain causal attention says
        the same, in half the time. A pad looks at its row's first token.
        """
        width = max(map(len, news))
        held = torch.tensor([len(t) for t in self.tokens[first : first + len(news)]])
        counts = torch.tensor([len(new) for new in news])
        slots = (held - width + counts)[:, None] + torch.arange(width)
        rows, columns = (torch.arange(width) >= width - counts[:, None]).nonzero(as_tuple=True)
        self.first, self.place = first, (rows, columns, slots[rows, columns])
        self.end = int((held + counts).max())
        for tokens, new in zip(self.tokens[first:], news, strict=False):
            tokens += new
        alike = len({*held.tolist()}) == 1 and int(counts.min()) == width
        if alike and (width == 1 or not held[0]):
            return None
        return (torch.arange(self.end) <= slots.clamp(min=0)[..., None])[:, None]

    def swap(self, one: int, other: int) -> None:
        """Let two rows change places."""
        if one == other:
            return
        for held in (self.owners, self.tokens):
            held[one], held[other] = held[other], held[one]
        for kept in [kept for layer in self.layers.layers for kept in layer.store]:
            kept[one], kept[other] = kept[other].clone(), kept[one].clone()


class QwenPolicy:
    """Answers with a local model. `temperature` 0 is greedy; sampling draws from `seed`.

    system: text of a system message, for checkpoints that need to be told the answer's form.
    cache_gb: what keys and values may take; dialogues for which there is no room wait.
    """

    def __init__(
        self,
        model,
        processor,
        name: str = "act2see",
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
        system: str = "",
        cache_gb: float = 4.0,
    ):
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {max_new_tokens}; a turn needs at least 1")
        self.model, self.processor, self.name = unwrapped(model).eval(), processor, name
        self.max_new_tokens, self.temperature, self.system = max_new_tokens, temperature, system
        self.end = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
        self.picture = processor.vision_start_token_id
        added = processor.tokenizer.get_added_vocab()
        self.controls = {number for token, number in added.items() if token.startswith("<|")}
        self.random = torch.Generator(model.device).manual_seed(seed)
        language = self.model.config.text_config
        self.cache = DialogueCache(language.num_hidden_layers, self.picture)
        numbers = 2 * language.num_hidden_layers * language.num_key_value_heads * language.head_dim
        self.room = int(cache_gb * 1e9 / numbers / self.model.lm_head.weight.element_size())
        self.seen = LRUCache(256e6, getsizeof=lambda pair: pair[1].nbytes)

    @torch.inference_mode()
    def reply(self, traces: list[Trace]) -> list[Reply | None]:
        """The next turn of every trace, None where memory has no room for it yet: the first ones
        come first. What these same traces were fed before is not fed again.
        """
        encodings = [encode(t, self.processor, True, self.system) for t in traces]
        served = self._fitting(encodings)
        if served > 1 and not self.cache.owners:
            opening = takewhile(lambda token: token != self.picture, encodings[0].ids)
            self._feed(traces[:1], [Encoding([*opening], [], [])])
        order, logits, following = self._feed(traces[:served], encodings[:served])
        said = self._decode(order, logits, following)
        decode = self.processor.tokenizer.decode
        return [
            read_reply(decode([t for t in s if t not in self.controls]), s[-1] != self.end)
            for s in said
        ] + [None] * (len(traces) - served)

    @torch.inference_mode()
    def force(self, traces: list[Trace]) -> list[str]:
        """`Answer: X` with the likeliest letter after what was thought so far."""
        encodings, answers = [], [""] * len(traces)
        for trace in traces:
            messages = trace.messages()
            messages[-1]["content"], messages[-1]["tool_calls"] = "Answer:", []
            whole = encode_messages(messages, trace.tools, self.processor, False, self.system)
            last = len(whole.ids) - whole.ids[::-1].index(self.end) - 1
            encodings.append(Encoding(whole.ids[:last], whole.images, whole.grids))
        order, logits, _ = self._feed(traces, encodings)
        for i, row in zip(order, logits, strict=True):
            letters = LETTERS[: len(traces[i].question.options)]
            tokens = [self.processor.tokenizer.encode(f" {x}")[-1] for x in letters]
            answers[i] = f"Answer: {letters[int(row[tokens].argmax())] if letters else ''}".strip()
        return answers

    def _fitting(self, encodings: list[Encoding]) -> int:
        """How many of the first dialogues fit with their next turn; at least one."""
        longest = np.maximum.accumulate([len(e.ids) + self.max_new_tokens for e in encodings])
        needed = np.arange(1, len(encodings) + 1) * longest * GROWTH
        return max(1, int(np.searchsorted(needed, self.room, "right")))

    def _see(self, frames: list[Picture]) -> list[torch.Tensor]:
        """The frames' features; what was seen lately is not looked at again."""
        names = [tuple(map(id, frames_of(frame))) for frame in frames]
        kept = {name: self.seen[name] for name in names if name in self.seen}
        new = {n: frame for n, frame in zip(names, frames, strict=True) if n not in kept}
        features = see(list(new.values()), self.model, self.processor)
        made = dict(zip(new, zip(new.values(), features, strict=True), strict=True))
        self.seen.update(made)
        return [(kept | made)[name][1] for name in names]

    def _feed(self, traces: list[Trace], encodings: list[Encoding]):
        """Bring the cache up to these encodings: which of them each row holds, and per row (rows,
        vocabulary) logits of what comes next and (rows,) its position.
        """
        order = self.cache.seat(traces, encodings)
        encodings = [encodings[i] for i in order]
        known = [len(tokens) for tokens in self.cache.tokens]
        spots = [positions(encoding, self.model) for encoding in encodings]
        logits = []
        counts = [len(e.ids) - k for e, k in zip(encodings, known, strict=True)]
        for first, last in alike(counts, FED_TOKENS):
            news, frames = [], []
            for encoding, fed in zip(encodings[first:last], known[first:last], strict=True):
                news.append(encoding.ids[fed:])
                frames += encoding.images[encoding.ids[:fed].count(self.picture) :]
            block = torch.zeros(3, len(news), max(map(len, news)), dtype=torch.long)
            for row, new in enumerate(news):
                block[:, row, -len(new) :] = spots[first + row][:, -len(new) :]
            logits.append(self._forward(first, news, block, frames))
        return order, torch.cat(logits), torch.stack([spot.max() + 1 for spot in spots])

    def _forward(self, first: int, news, spots: torch.Tensor, frames) -> torch.Tensor:
        """(rows, vocabulary) logits after new tokens of the rows from `first` on."""
        width, device = spots.shape[2], self.model.device
        pad = self.processor.tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (width - len(new)) + new for new in news])
        mask = self.cache.append(first, news)
        hidden = hidden_states(
            self.model,
            ids.to(device),
            self._see(frames),
            position_ids=spots.to(device),
            attention_mask=None if mask is None else mask.to(device),
            past_key_values=self.cache.layers,
            use_cache=True,
        )
        return self.model.lm_head(hidden[:, -1]).float()

    def _decode(self, order: list[int], logits, following: torch.Tensor) -> list[list[int]]:
        """Tokens said in every dialogue, up to `<|im_end|>` or the limit.

        Rows still speaking stand first; one that ends changes places with the last of them.
        """
        said: list[list[int]] = [[] for _ in order]
        at, following = list(order), following.tolist()
        while at:
            for i, token in zip(at, self._choose(logits), strict=True):
                said[i].append(token)
            for row in reversed(range(len(at))):
                last = said[at[row]]
                if last[-1] == self.end or len(last) >= self.max_new_tokens:
                    end = len(at) - 1
                    self.cache.swap(row, end)
                    at[row], following[row] = at[end], following[end]
                    del at[end], following[end]
            if at:
                spots = torch.tensor(following)[None, :, None].expand(3, -1, 1)
                logits = self._forward(0, [said[i][-1:] for i in at], spots, [])
                following = [position + 1 for position in following]
        return said

    def _choose(self, logits: torch.Tensor) -> list[int]:
        if self.temperature == 0:
            return logits.argmax(-1).tolist()
        chances = torch.softmax(logits / self.temperature, -1)
        return torch.multinomial(chances, 1, generator=self.random)[:, 0].tolist()
