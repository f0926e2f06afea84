"""A local Qwen3-VL as policy: many dialogues decoded together, one cache kept across tool turns.

Works on traces, a loaded model and its processor. Knows nothing of tools or questions. A turn feeds
only what is new since the last one, frames included; rows of unequal length leave holes in the
cache, which the attention mask hides and the next turn squeezes out. All state is in the policy
object, none on the model. Batched cached decoding is our choice; its greedy text is that of a loop
that sends everything again (tests/policies/test_qwen.py).
"""

from itertools import takewhile

import torch
from transformers import DynamicCache

from act2see.checkpoints import unwrapped
from act2see.encoding import Encoding, encode, encode_messages, pixels, positions
from act2see.interleave import Reply, read_reply
from act2see.trace import LETTERS, Trace


class DialogueCache:
    """Keys and values of several dialogues, a row each, and which slots of a row hold a token.

    `tokens[i]` are the tokens in row i, in slot order; `real` is (rows, slots), False for holes.
    `owners` holds the traces themselves, so that no new one can be taken for one that has gone.
    """

    def __init__(self):
        self.owners: list[Trace] = []
        self.tokens: list[list[int]] = []
        self.real = torch.zeros(0, 0, dtype=torch.bool)
        self.layers = DynamicCache()

    def keep(self, traces: list[Trace]) -> None:
        """Rows for these dialogues in this order, new ones empty, the others without holes."""
        old = {id(trace): i for i, trace in enumerate(self.owners)}
        source = [old.get(id(trace), -1) for trace in traces]
        self.tokens = [self.tokens[i] if i >= 0 else [] for i in source]
        counts = torch.tensor([len(t) for t in self.tokens])
        longest = int(counts.max())
        layers = DynamicCache()
        if longest:
            index = torch.zeros(len(traces), longest, dtype=torch.long)
            for row, i in enumerate(source):
                if i >= 0:
                    index[row, : counts[row]] = self.real[i].nonzero()[:, 0]
            rows = torch.tensor(source).clamp(min=0)
            for number, layer in enumerate(self.layers.layers):
                picked = (kv[rows[:, None], :, index].transpose(1, 2).contiguous()
                          for kv in (layer.keys, layer.values))  # fmt: skip
                layers.update(*picked, number)
        self.owners, self.layers = list(traces), layers
        self.real = torch.arange(longest)[None] < counts[:, None]

    def cut(self, row: int, length: int) -> None:
        """Forget what this row holds after its first `length` tokens."""
        slots = self.real[row].nonzero()[:, 0]
        self.real[row, slots[length:]] = False
        self.tokens[row] = self.tokens[row][:length]

    def append(self, news: list[list[int]]) -> torch.Tensor:
        """Note new tokens, left-padded to a block; (rows, 1, width, slots) who may look where.

        A pad looks at itself alone, so that nothing is ever divided by zero.
        """
        width, past = max(map(len, news)), self.real.shape[1]
        counts = torch.tensor([len(new) for new in news])
        block = torch.arange(width)[None] >= width - counts[:, None]
        self.real = torch.cat([self.real, block], 1)
        for tokens, new in zip(self.tokens, news, strict=True):
            tokens += new
        here = past + torch.arange(width)[:, None]
        slot = torch.arange(past + width)[None]
        return (self.real[:, None, None] & (slot <= here)) | (slot == here)


class QwenPolicy:
    """Answers with a local model. `temperature` 0 is greedy; sampling draws from `seed`.

    system: text of a system message, for checkpoints that need to be told the answer's form.
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
    ):
        self.model, self.processor, self.name = unwrapped(model).eval(), processor, name
        self.max_new_tokens, self.temperature, self.system = max_new_tokens, temperature, system
        self.end = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
        self.picture = processor.vision_start_token_id
        self.random = torch.Generator(model.device).manual_seed(seed)
        self.cache = DialogueCache()

    @torch.inference_mode()
    def reply(self, traces: list[Trace]) -> list[Reply]:
        """The next turn of every trace. What these same traces were fed before is not fed again."""
        encodings = [encode(t, self.processor, True, self.system) for t in traces]
        self.cache.keep(traces)
        logits, following = self._feed(self.cache, encodings)
        said = self._decode(logits, following)
        decode = self.processor.tokenizer.decode
        return [
            read_reply(decode([t for t in s if t != self.end]), truncated=s[-1] != self.end)
            for s in said
        ]

    @torch.inference_mode()
    def force(self, traces: list[Trace]) -> list[str]:
        """`Answer: X` with the likeliest letter after what was thought so far."""
        answers = []
        for trace in traces:
            messages = trace.messages()
            messages[-1]["content"], messages[-1]["tool_calls"] = "Answer:", []
            whole = encode_messages(messages, trace.tools, self.processor, False, self.system)
            last = len(whole.ids) - whole.ids[::-1].index(self.end) - 1
            cache = DialogueCache()
            cache.keep([trace])
            logits, _ = self._feed(cache, [Encoding(whole.ids[:last], whole.images, whole.grids)])
            letters = LETTERS[: len(trace.question.options)]
            tokens = [self.processor.tokenizer.encode(f" {x}")[-1] for x in letters]
            best = letters[int(logits[0, tokens].argmax())] if letters else ""
            answers.append(f"Answer: {best}".strip())
        return answers

    def _feed(self, cache: DialogueCache, encodings: list[Encoding]):
        """Bring the cache up to these encodings: (rows, vocabulary) logits of what comes next, and
        (rows,) its position.
        """
        news, frames, spots = [], [], []
        for row, encoding in enumerate(encodings):
            same = takewhile(
                lambda pair: pair[0] == pair[1], zip(cache.tokens[row], encoding.ids, strict=False)
            )
            known = min(sum(1 for _ in same), len(encoding.ids) - 1)
            cache.cut(row, known)
            news.append(encoding.ids[known:])
            frames += encoding.images[encoding.ids[:known].count(self.picture) :]
            spots.append(positions(encoding, self.model))
        width = max(map(len, news))
        block = torch.zeros(3, len(news), width, dtype=torch.long)
        for row, (new, spot) in enumerate(zip(news, spots, strict=True)):
            block[:, row, width - len(new) :] = spot[:, len(spot[0]) - len(new) :]
        logits = self._forward(cache, news, block, frames)
        return logits, torch.stack([spot.max() + 1 for spot in spots])

    def _forward(self, cache: DialogueCache, news, spots: torch.Tensor, frames) -> torch.Tensor:
        """(rows, vocabulary) logits after one pass over new tokens, left-padded to one width."""
        width = spots.shape[2]
        pad, device = self.processor.tokenizer.pad_token_id, self.model.device
        ids = torch.tensor([[pad] * (width - len(new)) + new for new in news])
        hidden = self.model.model(
            input_ids=ids.to(device),
            position_ids=spots.to(device),
            attention_mask=cache.append(news).to(device),
            past_key_values=cache.layers,
            use_cache=True,
            **{name: x.to(device) for name, x in pixels(frames, self.processor).items()},
        ).last_hidden_state
        return self.model.lm_head(hidden[:, -1]).float()

    def _decode(self, logits: torch.Tensor, following: torch.Tensor) -> list[list[int]]:
        """Tokens said by every row, each up to `<|im_end|>` or the limit."""
        said: list[list[int]] = [[] for _ in logits]
        live = [True] * len(said)
        while True:
            for tokens, token, on in zip(said, self._choose(logits), live, strict=True):
                if on:
                    tokens.append(token)
            live = [s[-1] != self.end and len(s) < self.max_new_tokens for s in said]
            if not any(live):
                return said
            news = [s[-1:] if on else [] for s, on in zip(said, live, strict=True)]
            logits = self._forward(self.cache, news, following[None, :, None].expand(3, -1, 1), [])
            following = following + torch.tensor(live)

    def _choose(self, logits: torch.Tensor) -> list[int]:
        if self.temperature == 0:
            return logits.argmax(-1).tolist()
        chances = torch.softmax(logits / self.temperature, -1)
        return torch.multinomial(chances, 1, generator=self.random)[:, 0].tolist()
