"""The tuned student behind a server, asked with token ids: it reads what it was trained on.

Works on traces, a processor and a `TokenServer`, which gets the tokens of `encode` and the frames.
Knows no model. A chat endpoint would write the dialogue again, by a template and a parser that the
student was not trained with. A request that fails ends its own trace. Our choice.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
from transformers import ProcessorMixin

from act2see.dialects import dialect_of
from act2see.encoding import Encoding, encode, encode_forced
from act2see.policies.token_server import connect, one_each
from act2see.policies.turn import Speech, TurnTokens
from act2see.trace import Reply, Trace

FORCED = 100.0  # added to a letter's logit: no other token is so far ahead


class ServedPolicy:
    """Answers with `model`, the name under which the server at `base_url` has the adapter.

    tuned: on start it is proved that the adapter changes what its base says; False asks the base
    beneath that name, or what stands there itself, such as a merged checkpoint, of which a server
    can prove nothing. concurrency: requests open at a time. speech: fields of `Speech`. Raises as
    `token_server.connect`, and ServedModelError for an adapter that is not there.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        processor: ProcessorMixin,
        name: str = "act2see",
        tuned: bool = True,
        concurrency: int = 16,
        **speech: Any,
    ):
        self.processor = processor
        self.name = name
        self.speech = Speech(**speech)
        self.turn = TurnTokens(processor)
        self.concurrency = concurrency
        server = connect(model, base_url)
        plain = replace(server, model=server.parent or model, parent="")
        self.server = server if tuned else plain
        self.setting = f"{self.speech.setting}, {self.server.model} on {server.kind}"
        if tuned:
            question = [{"role": "user", "content": "Who comes?"}]
            prompt = processor.apply_chat_template(
                question, tokenize=False, add_generation_prompt=True
            )
            self.server.prove(processor.tokenizer.encode(prompt, add_special_tokens=False))

    def reply(self, traces: list[Trace]) -> list[Reply | None]:
        """The next turn of every trace; of one whose request failed, `failed` says why."""
        return self._each(self._reply, traces)

    def force(self, traces: list[Trace]) -> list[str | None]:
        """`Answer: X` with the likeliest letter after what was thought so far."""
        return self._each(self._force, traces)

    def _each(self, ask: Callable[[Trace], Any], traces: list[Trace]) -> list[Any]:
        if any(trace.overview_as_video for trace in traces):
            rule = "it must be False, in training too: servers take no two frames as one picture"
            raise ValueError(f"overview_as_video is True; {rule}")
        with ThreadPoolExecutor(self.concurrency) as pool:
            return list(pool.map(ask, traces))

    def _reply(self, trace: Trace) -> Reply:
        stops = dialect_of(trace).stops
        encoding = encode(trace, self.processor, True, self.speech.system)
        tokens, finish = self._say(trace, encoding, self.speech.max_new_tokens, stop=list(stops))
        # Cut as a local student is, should the server have gone on behind a stop.
        ends = (n for n in range(1, len(tokens) + 1) if self.turn.ended(tokens[:n], stops))
        end = next(ends, None)
        return self.turn.read(tokens[:end], trace, truncated=finish == "length" and end is None)

    def _force(self, trace: Trace) -> str:
        letters = self.turn.letters(trace)
        if not letters:
            return "Answer:"
        encoding = encode_forced(trace, self.processor, self.speech.system)
        bias = {str(token): FORCED for token in letters}
        tokens, _ = self._say(trace, encoding, 1, temperature=0.0, logit_bias=bias)
        return f"Answer: {letters.get(next(iter(tokens), -1), '')}".strip()

    def _say(
        self, trace: Trace, encoding: Encoding, limit: int, **changed: Any
    ) -> tuple[list[int], str]:
        """What is said after a dialogue's tokens, and why no more; nothing where that failed."""
        speech = self.speech
        sampling = {"temperature": speech.temperature, "top_p": speech.top_p}
        sampling |= {"top_k": speech.top_k} if speech.top_k else {}
        # Asked again, a question is drawn anew.
        sampling |= {"seed": speech.seed + trace.attempt - 1} if speech.temperature else {}
        sampling |= {"stop_token_ids": sorted(self.turn.ends), **changed}
        ids = one_each(encoding.ids, self.processor.image_token_id)
        try:
            spoken = self.server.ask(ids, encoding.images, limit, False, **sampling)
        except (httpx.HTTPError, ValueError, LookupError) as error:
            trace.failed = f"{type(error).__name__}: {error}"[:500]
            return [], ""
        trace.served = self.server.model
        expected = encoding.ids if isinstance(spoken.read, list) else len(encoding.ids)
        if spoken.read != expected:
            trace.failed = f"the server read other tokens than the {len(encoding.ids)} trained on"
        return spoken.ids, spoken.finish
