"""How well frames match a query: SigLIP 2, or any model of that family, through transformers.

Works on frames and a text. Knows nothing of windows or calls. The paper names no ranker: our
choice.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn.functional import cosine_similarity
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from act2see.checkpoints import fingerprint
from act2see.trace import Frame

Ranker = Callable[[list[Frame], str], np.ndarray]
QUERY_TOKENS = 64  # always: SigLIP was trained on texts padded at their end, without a mask


def load_ranker(checkpoint: str) -> Ranker | None:
    """A function from n frames and a query to (n,) cosines of their embeddings; None for "".

    checkpoint: folder or hub name of a SigLIP, e.g. `google/siglip2-base-patch16-224`.
    Raises ValueError for a model that ranks nothing, OSError where there is none.
    """
    if not checkpoint:
        return None
    eye = AutoImageProcessor.from_pretrained(checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, padding_side="right")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModel.from_pretrained(checkpoint, dtype=torch.float32).to(device).eval()
    if not hasattr(model, "get_text_features"):
        kind = type(model).__name__
        raise ValueError(f"{checkpoint} is a {kind}, which embeds no texts: it ranks nothing")

    @torch.inference_mode()
    def rank(frames: list[Frame], query: str) -> np.ndarray:
        shown = eye([frame.image() for frame in frames], return_tensors="pt").to(device)
        length = {"padding": "max_length", "max_length": QUERY_TOKENS, "truncation": True}
        words = tokenizer([query.lower()], return_tensors="pt", **length).input_ids.to(device)
        seen = model.get_image_features(**shown).pooler_output
        asked = model.get_text_features(input_ids=words).pooler_output
        return cosine_similarity(seen, asked).cpu().numpy()

    rank.__name__ = f"ranked by {fingerprint(checkpoint)}"
    return rank
