"""A student's turn in tokens: how it is drawn, what ends it, and what it says.

Works on a processor and token ids. Knows no model and no server, so that a student says the same in
both places: `qwen` decodes by these rules, `served` reads by them. Our choice.
"""

import hashlib
from dataclasses import dataclass, replace

from transformers import ProcessorMixin

from act2see.dialects import dialect_of
from act2see.trace import LETTERS, Reply, Trace

STOP_TOKENS = 16  # more than any closing tag has


@dataclass(frozen=True)
class Speech:
    """How a student speaks. `temperature` 0 is greedy; otherwise tokens are drawn, from `seed`.

    system: text of a system message, for checkpoints that need to be told the answer's form.
    top_k, top_p: only so many likeliest tokens are drawn from, and of those only as many as have
    this share of the chances together; 0 and 1.0 for all. Raises ValueError for any other limit.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    system: str = ""
    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}; a turn needs at least 1")
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            rule = "temperature and top_k must be 0 or more, top_p above 0 and at most 1"
            raise ValueError(f"{self.temperature=}, {self.top_k=}, {self.top_p=}: {rule}")

    @property
    def setting(self) -> str:
        """All of it in words: what shapes the answers, besides model and question.

        >>> Speech(64).setting
        '64 tokens a turn, greedy'
        """
        limits = f"temperature {self.temperature:g}, top-p {self.top_p:g}, top-k {self.top_k}"
        sampling = f"{limits}, seed {self.seed}" if self.temperature else "greedy"
        mark = hashlib.sha1(self.system.encode("utf-8", "replace")).hexdigest()[:8]
        system = f", system {mark}" if self.system else ""
        return f"{self.max_new_tokens} tokens a turn, {sampling}{system}"


class TurnTokens:
    """Which tokens end a turn, which are not read, and which state a letter."""

    def __init__(self, processor: ProcessorMixin):
        self.tokenizer = processor.tokenizer
        ends = self.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
        self.ends = frozenset(ends)  # of a turn, and of all that a base says
        added = self.tokenizer.get_added_vocab()
        # Tags such as <think> are read; what only the template may write is not.
        self.controls = {number for token, number in added.items() if token.startswith("<|")}
        # Tokens that may complete a closing tag: only behind these it is worth looking for one.
        vocabulary = self.tokenizer.get_vocab()
        self.closing = {number for token, number in vocabulary.items() if ">" in token}

    def ended(self, tokens: list[int], stops: tuple[str, ...]) -> bool:
        """Whether a turn has ended by itself or with one of these texts."""
        if tokens[-1] in self.ends or not stops or tokens[-1] not in self.closing:
            return tokens[-1] in self.ends
        tail = self.tokenizer.decode(tokens[-STOP_TOKENS:])
        return any(stop in tail for stop in stops)

    def read(self, tokens: list[int], trace: Trace, truncated: bool) -> Reply:
        """What these tokens say, as the next turn of a trace."""
        words = [token for token in tokens if token not in self.controls]
        reply = dialect_of(trace).read_reply(self.tokenizer.decode(words), truncated)
        return replace(reply, tokens=tokens)

    def letters(self, trace: Trace) -> dict[int, str]:
        """The tokens that state a letter, for every option of a trace's question."""
        options = LETTERS[: len(trace.question.options)]
        return {self.tokenizer.encode(f" {letter}")[-1]: letter for letter in options}
