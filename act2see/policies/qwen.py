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

from act2see.dialects import dialect_of
from act2see.dialects.dialect import Picture
from act2see.encoding import (
    Encoding,
    alike,
    encode,
    encode_forced,
    frames_of,
    hidden_states,
    positions,
    see,
)
from act2see.policies.cache import DialogueCache
from act2see.student import unwrapped
from act2see.trace import LETTERS, Reply, Trace

FED_TOKENS = 4096  # at a time: enough to fill a GPU
STOP_TOKENS = 16  # more than any closing tag has


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
        self.model = unwrapped(model).eval()
        self.processor = processor
        self.name = name
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        self.system = system
        ends = processor.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
        self.ends = frozenset(ends)  # of a turn, and of all that a base says
        self.picture = processor.vision_start_token_id
        added = processor.tokenizer.get_added_vocab()
        # Tags such as <think> are read; what only the template may write is not.
        self.controls = {number for token, number in added.items() if token.startswith("<|")}
        # Tokens that may complete a closing tag: only behind these it is worth looking for one.
        vocabulary = processor.tokenizer.get_vocab()
        self.closing = {number for token, number in vocabulary.items() if ">" in token}
        self.random = torch.Generator(model.device).manual_seed(seed)
        language = self.model.config.text_config
        numbers = 2 * language.num_hidden_layers * language.num_key_value_heads * language.head_dim
        room = int(cache_gb * 1e9 / numbers / self.model.lm_head.weight.element_size())
        self.cache = DialogueCache(language.num_hidden_layers, self.picture, room)
        # A processor is as fast with a quarter, in less memory.
        self.fed_tokens = FED_TOKENS if model.device.type == "cuda" else FED_TOKENS // 4
        self.features = LRUCache(256e6, getsizeof=lambda pair: pair[1].nbytes)

    @torch.inference_mode()
    def reply(self, traces: list[Trace]) -> list[Reply | None]:
        """The next turn of every trace, None where memory has no room for it yet: the first ones
        come first. What these same traces were fed before is not fed again.
        """
        encodings = [encode(t, self.processor, True, self.system) for t in traces]
        served = self._fitting(encodings)
        if served > 1 and not self.cache.owners:
            # All dialogues begin alike, up to the first picture: that is fed once for all.
            opening = takewhile(lambda token: token != self.picture, encodings[0].ids)
            self._feed(traces[:1], [Encoding([*opening], [], [], [])])
        order, logits, following = self._feed(
            traces[:served], encodings[:served], self.max_new_tokens
        )
        replies: list[Reply | None] = [None] * len(traces)
        dialects = [dialect_of(trace) for trace in traces]
        stops = [dialect.stops for dialect in dialects]
        for i, tokens in enumerate(self._decode(order, logits, following, stops)):
            words = [token for token in tokens if token not in self.controls]
            text = self.processor.tokenizer.decode(words)
            replies[i] = dialects[i].read_reply(text, not self._ended(tokens, stops[i]))
        return replies

    @torch.inference_mode()
    def force(self, traces: list[Trace]) -> list[str]:
        """`Answer: X` with the likeliest letter after what was thought so far."""
        encodings = [encode_forced(t, self.processor, self.system) for t in traces]
        answers = [""] * len(traces)
        order, logits, _ = self._feed(traces, encodings)
        for i, row in zip(order, logits, strict=True):
            letters = LETTERS[: len(traces[i].question.options)]
            tokens = [self.processor.tokenizer.encode(f" {x}")[-1] for x in letters]
            answers[i] = f"Answer: {letters[int(row[tokens].argmax())] if letters else ''}".strip()
        return answers

    def _fitting(self, encodings: list[Encoding]) -> int:
        """How many of the first dialogues fit with their next turn; at least one."""
        longest = np.maximum.accumulate([len(e.ids) + self.max_new_tokens for e in encodings])
        needed = np.arange(1, len(encodings) + 1) * longest
        return max(1, int(np.searchsorted(needed, self.cache.seating.room, "right")))

    def _see(self, frames: list[Picture]) -> list[torch.Tensor]:
        """The frames' features; what was seen lately is not looked at again."""
        names = [tuple(map(id, frames_of(frame))) for frame in frames]
        known = {name: self.features[name] for name in names if name in self.features}
        new = {n: frame for n, frame in zip(names, frames, strict=True) if n not in known}
        features = see(list(new.values()), self.model, self.processor)
        # The frame is kept with its features: while it lives, no other can have its id.
        fresh = dict(zip(new, zip(new.values(), features, strict=True), strict=True))
        self.features.update(fresh)
        return [(known | fresh)[name][1] for name in names]

    def _feed(
        self, traces: list[Trace], encodings: list[Encoding], more: int = 0
    ) -> tuple[list[int], torch.Tensor, torch.Tensor]:
        """Bring the cache up to these encodings, with room for `more` tokens.

        Returns which of them each row holds, and per row (rows, vocabulary) logits of what comes
        next and (rows,) its position.
        """
        order = self.cache.seat(traces, encodings, more)
        encodings = [encodings[i] for i in order]
        known = [len(tokens) for tokens in self.cache.tokens]
        spots = [positions(encoding, self.model) for encoding in encodings]
        logits = []
        counts = [len(e.ids) - k for e, k in zip(encodings, known, strict=True)]
        for first, last in alike(counts, self.fed_tokens):
            news = []
            frames = []
            for encoding, fed in zip(encodings[first:last], known[first:last], strict=True):
                news.append(encoding.ids[fed:])
                frames += encoding.images[encoding.ids[:fed].count(self.picture) :]
            block = torch.zeros(3, len(news), max(map(len, news)), dtype=torch.long)
            for row, new in enumerate(news):
                block[:, row, -len(new) :] = spots[first + row][:, -len(new) :]
            logits.append(self._forward(first, news, block, frames))
        return order, torch.cat(logits), torch.stack([spot.max() + 1 for spot in spots])

    def _forward(
        self, first: int, news: list[list[int]], spots: torch.Tensor, frames: list[Picture]
    ) -> torch.Tensor:
        """(rows, vocabulary) logits after new tokens of the rows from `first` on."""
        width = spots.shape[2]
        device = self.model.device
        pad = self.processor.tokenizer.pad_token_id
        # Pads stand on the left, so that every row's newest token is in the last column.
        ids = torch.tensor([[pad] * (width - len(new)) + new for new in news])
        mask = self.cache.append(first, news)
        hidden = hidden_states(
            self.model,
            ids.to(device),
            self._see(frames),
            position_ids=spots.to(device),
            attention_mask=None if mask is None else mask.to(device, self.model.dtype),
            past_key_values=self.cache.layers,
            use_cache=True,
        )
        return self.model.lm_head(hidden[:, -1]).float()

    def _decode(
        self,
        order: list[int],
        logits: torch.Tensor,
        following: torch.Tensor,
        stops: list[tuple[str, ...]],
    ) -> list[list[int]]:
        """Tokens said in every dialogue, up to one or a text that ends its turn, or the limit.

        Rows still speaking stand first; one that ends changes places with the last of them.
        """
        replies: list[list[int]] = [[] for _ in order]
        live = list(order)
        places = following.tolist()
        while live:
            for i, token in zip(live, self._choose(logits), strict=True):
                replies[i].append(token)
            for row in reversed(range(len(live))):
                tokens = replies[live[row]]
                if len(tokens) >= self.max_new_tokens or self._ended(tokens, stops[live[row]]):
                    self.cache.swap(row, len(live) - 1)
                    # The last row comes here; in the last row itself, pop undoes the writing.
                    live[row] = live[-1]
                    places[row] = places[-1]
                    live.pop()
                    places.pop()
            if live:
                spots = torch.tensor(places)[None, :, None].expand(3, -1, 1)
                logits = self._forward(0, [replies[i][-1:] for i in live], spots, [])
                places = [place + 1 for place in places]
        return replies

    def _ended(self, tokens: list[int], stops: tuple[str, ...]) -> bool:
        """Whether a turn has ended by itself or with one of these texts."""
        if tokens[-1] in self.ends or not stops or tokens[-1] not in self.closing:
            return tokens[-1] in self.ends
        tail = self.processor.tokenizer.decode(tokens[-STOP_TOKENS:])
        return any(stop in tail for stop in stops)

    def _choose(self, logits: torch.Tensor) -> list[int]:
        """A token a row: the likeliest, or one drawn."""
        if self.temperature == 0:
            return logits.argmax(-1).tolist()
        chances = torch.softmax(logits / self.temperature, -1)
        return torch.multinomial(chances, 1, generator=self.random)[:, 0].tolist()
