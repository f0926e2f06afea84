"""Servers that take a prompt as token ids with images: vLLM and SGLang.

Works on token ids, images and plain sampling fields. Knows nothing of traces. vLLM takes them at
`/inference/v1/generate` (`content_parts`: since August 2026), SGLang at `/generate` (0.5.15). The
completions of vLLM take ids without images, those of `transformers serve` text alone. Our choice.
"""

import io
from base64 import b64encode
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import httpx
from PIL import Image

from act2see.policies.model_name import ServedModelError
from act2see.policies.teacher import secret

NOTICEABLE = 1e-3  # of a log-probability: more than two runs of the same weights differ by
PROOF_TOKENS = 8


class Spoken(NamedTuple):
    """What a server said: the tokens, why it stopped ("stop", "length"), their log-probabilities
    where asked for; and what it read, as ids or as their number."""

    ids: list[int]
    finish: str
    chances: list[float]
    read: list[int] | int


@dataclass(frozen=True)
class TokenServer:
    """The server at `base_url`, and the model there that answers.

    parent: the name of the base beneath an adapter, "" for a base. kind: "vllm" or "sglang".
    """

    http: httpx.Client
    model: str
    parent: str
    kind: str

    def ask(
        self, ids: list[int], images: list[Image.Image], limit: int, chances: bool, **sampling: Any
    ) -> Spoken:
        """What the model says after `ids`, in which one token stands for each image.

        limit: most tokens. Raises httpx.HTTPError, and ValueError or LookupError for a reply that
        is not one.
        """
        urls = [*map(data_url, images)]
        ask = self._vllm if self.kind == "vllm" else self._sglang
        return ask(ids, urls, limit, chances, sampling)

    def prove(self, ids: list[int]) -> None:
        """Raise ServedModelError unless the adapter changes what its base says after `ids`."""
        if not self.parent:
            rule = "serve it as one; or pass tuned=False for a base or a merged checkpoint"
            raise ServedModelError(f"{self.model!r} is no adapter on the server; {rule}")
        base = replace(self, model=self.parent, parent="")
        servers = (self, base)
        tuned, plain = (s.ask(ids, [], PROOF_TOKENS, True, temperature=0.0) for s in servers)
        pairs = zip(tuned.chances, plain.chances, strict=False)
        if tuned.ids == plain.ids and all(abs(one - other) < NOTICEABLE for one, other in pairs):
            rule = "the server has no adapter under that name; load it"
            raise ServedModelError(f"{self.model!r} says what {self.parent!r} says: {rule}")

    def _vllm(
        self, ids: list[int], urls: list[str], limit: int, chances: bool, sampling: dict[str, Any]
    ) -> Spoken:
        sampling |= {"max_tokens": limit, "logprobs": 0 if chances else None}
        body = {"model": self.model, "token_ids": ids, "sampling_params": sampling}
        body |= {"return_token_ids": True}
        if urls:
            body["content_parts"] = [{"type": "image_url", "url": url} for url in urls]
        fields = self._post("/inference/v1/generate", body)
        if fields.get("model", self.model) != self.model:
            raise ServedModelError(f"model is {self.model!r}, but {fields['model']!r} answered")
        choice = fields["choices"][0]
        rows = (choice.get("logprobs") or {}).get("content") or []
        logprobs = [row["logprob"] for row in rows]
        return Spoken(
            choice["token_ids"], choice["finish_reason"], logprobs, fields["prompt_token_ids"]
        )

    def _sglang(
        self, ids: list[int], urls: list[str], limit: int, chances: bool, sampling: dict[str, Any]
    ) -> Spoken:
        if "seed" in sampling:
            sampling["sampling_seed"] = sampling.pop("seed")
        sampling |= {"max_new_tokens": limit, "skip_special_tokens": False}
        body = {"input_ids": ids, "sampling_params": sampling, "return_logprob": chances}
        body |= {"lora_path": self.model} if self.parent else {}
        body |= {"image_data": urls} if urls else {}
        fields = self._post("/generate", body)
        meta = fields["meta_info"]
        logprobs = [row[0] for row in meta.get("output_token_logprobs") or []]
        finish = meta["finish_reason"]["type"]
        return Spoken(fields["output_ids"], finish, logprobs, meta["prompt_tokens"])

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        response = self.http.post(path, json=body)
        if response.is_error:
            # What is wrong stands in the body, which httpx leaves out of its error.
            reason = f"{response.status_code} {response.text[:300]}"
            raise httpx.HTTPStatusError(reason, request=response.request, response=response)
        return response.json()


def connect(model: str, base_url: str, timeout_s: float = 600.0) -> TokenServer:
    """The server that has `model`, asked whether it does. Its key is STUDENT_API_KEY, if it wants
    one. Raises ServedModelError for a server without that model, ValueError for another kind.
    """
    key = secret("STUDENT_API_KEY")
    # Token ids are asked for outside /v1.
    place = base_url.rstrip("/").removesuffix("/v1")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    http = httpx.Client(base_url=place, timeout=timeout_s, headers=headers)
    cards = {c["id"]: c for c in http.get("/v1/models").raise_for_status().json()["data"]}
    if model not in cards:
        raise ServedModelError(f"model is {model!r}; {base_url} serves: {', '.join(cards)}")
    kind = cards[model].get("owned_by")
    if kind not in ("vllm", "sglang"):
        rule = "it must be vLLM or SGLang: others take no token ids with images"
        raise ValueError(f"the server at {base_url} is {kind!r}; {rule}")
    return TokenServer(http, model, cards[model].get("parent") or "", kind)


def data_url(image: Image.Image) -> str:
    """The picture as a PNG in a URL, every pixel as it is."""
    image.save(file := io.BytesIO(), "PNG", compress_level=1)
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"


def one_each(ids: list[int], image: int) -> list[int]:
    """The ids with one token for each image: a server puts in as many as the image takes.

    >>> one_each([5, 9, 9, 6, 5, 9, 6], 9)
    [5, 9, 6, 5, 9, 6]
    """
    pairs = zip(ids, [-1, *ids], strict=False)
    return [token for token, before in pairs if (token, before) != (image, image)]
