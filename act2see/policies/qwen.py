"""A local Qwen3-VL as policy: many dialogues decoded together, one cache kept across tool turns.

Works on traces, a loaded model and its processor. Knows nothing of tools or questions. A turn feeds
only what is new since the last one, frames included, rows with about as much to feed together; what
all dialogues begin with is fed once; a row that has said its turn is decoded no further; a picture
that was seen lately is not looked at again. All state is in the policy object, none on the model.
Batched cached decoding is our choice; its greedy text is that of a loop that sends everything again
(tests/policies/test_qwen.py).
"""

from itertools import takewhile
from typing import Any

import numpy as np
import torch
from cachetools import LRUCache
from peft import PeftModel
from transformers import PreTrainedModel, ProcessorMixin

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
from act2see.policies.threads import Threads
from act2see.policies.turn import Speech, TurnTokens
from act2see.student import unwrapped
from act2see.trace import Reply, Trace

FED_TOKENS = 4096  # at a time: enough to fill a GPU


class QwenPolicy:
    """Answers with a local model.

    cache_gb: what keys and values may take; dialogues for which there is no room wait. speech:
    fields of `Speech`, which says what they mean; its limits hold.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        processor: ProcessorMixin,
        name: str = "act2see",
        cache_gb: float = 4.0,
        **speech: Any,
    ):
        self.speech = Speech(**speech)
        self.model = unwrapped(model).eval()
        self.processor = processor
        self.name = name
        self.setting = self.speech.setting
        self.turn = TurnTokens(processor)
        self.undrawn = sorted(self.turn.controls - self.turn.ends)
        self.picture = processor.vision_start_token_id
        self.random = torch.Generator(model.device).manual_seed(self.speech.seed)
        language = self.model.config.text_config
        numbers = 2 * language.num_hidden_layers * language.num_key_value_heads * language.head_dim
        room = int(cache_gb * 1e9 / numbers / self.model.lm_head.weight.element_size())
        self.cache = DialogueCache(language.num_hidden_layers, self.picture, room)
        # A processor is as fast with a quarter, in less memory.
        self.fed_tokens = FED_TOKENS if model.device.type == "cuda" else FED_TOKENS // 4
        self.threads = Threads()
        self.features = LRUCache(256e6, getsizeof=lambda pair: pair[1].nbytes)

    @torch.inference_mode()
    def reply(self, traces: list[Trace]) -> list[Reply | None]:
        """The next turn of every trace, None where memory has no room for it yet: the first ones
        come first. What these same traces were fed before is not fed again.
        """
        encodings = [encode(t, self.processor, True, self.speech.system) for t in traces]
        served = self._fitting(encodings)
        if served > 1 and not self.cache.owners:
            # All dialogues begin alike, up to the first picture: that is fed once for all.
            opening = takewhile(lambda token: token != self.picture, encodings[0].ids)
            self._feed(traces[:1], [Encoding([*opening], [], [], [])])
        order, logits, following = self._feed(
            traces[:served], encodings[:served], self.speech.max_new_tokens
        )
        replies: list[Reply | None] = [None] * len(traces)
        stops = [dialect_of(trace).stops for trace in traces]
        for i, tokens in enumerate(self._decode(order, logits, following, stops)):
            ended = self.turn.ended(tokens, stops[i])
            replies[i] = self.turn.read(tokens, traces[i], truncated=not ended)
        return replies

    @torch.inference_mode()
    def force(self, traces: list[Trace]) -> list[str]:
        """`Answer: X` with the likeliest letter after what was thought so far."""
        encodings = [encode_forced(t, self.processor, self.speech.system) for t in traces]
        answers = [""] * len(traces)
        order, logits, _ = self._feed(traces, encodings)
        for i, row in zip(order, logits, strict=True):
            letters = self.turn.letters(traces[i])
            likeliest = max(letters, key=lambda token: row[token].item(), default=-1)
            answers[i] = f"Answer: {letters.get(likeliest, '')}".strip()
        return answers

    def _fitting(self, encodings: list[Encoding]) -> int:
        """How many of the first dialogues fit with their next turn; at least one."""
        longest = np.maximum.accumulate(
            [len(e.ids) + self.speech.max_new_tokens for e in encodings]
        )
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
        self.threads.settle()
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
                ended = self.turn.ended(tokens, stops[live[row]])
                if ended or len(tokens) >= self.speech.max_new_tokens:
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

    def _choose(self, logits: torch.Tensor) -> list[int]:
        """A token a row: the likeliest, or one drawn."""
        speech = self.speech
        if speech.temperature == 0:
            return logits.argmax(-1).tolist()
        # What only the template may write is not drawn: a picture's place without a picture.
        logits[:, self.undrawn] = -torch.inf
        likeliest, tokens = logits.topk(min(speech.top_k or 10**9, logits.shape[-1]))
        chances = torch.softmax(likeliest / speech.temperature, -1)
        # What comes behind a share of `top_p` is not drawn; the likeliest always may be.
        chances[chances.cumsum(-1) - chances >= speech.top_p] = 0
        places = torch.multinomial(chances, 1, generator=self.random)
        return tokens.gather(-1, places)[:, 0].tolist()
