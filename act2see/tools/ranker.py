"""How well frames match a query: SigLIP 2, or any model of that family, through transformers.

Works on frames and a text. Knows nothing of windows or calls. Ranking inside a
window is our choice; the paper searches a whole video, which is `retriever`.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn.functional import cosine_similarity
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from act2see.student import fingerprint, locate
from act2see.trace import Frame

# SigLIP was trained on texts of this length, padded at their end, without a mask.
QUERY = {"padding": "max_length", "max_length": 64, "truncation": True}


def load_ranker(checkpoint: str) -> Callable[[list[Frame], str], np.ndarray]:
    """A function from n frames and a query to (n,) cosines of their embeddings.

    checkpoint: folder or hub name of a SigLIP, e.g. `google/siglip2-base-patch16-224`.
    Raises ValueError for a model that ranks nothing, FileNotFoundError as `student.locate`.
    """
    place = locate(checkpoint)
    eye = AutoImageProcessor.from_pretrained(place)
    tokenizer = AutoTokenizer.from_pretrained(place, padding_side="right")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModel.from_pretrained(place, dtype=torch.float32).to(device).eval()
    if not hasattr(model, "get_text_features"):
        raise ValueError(
            f"{checkpoint} is a {type(model).__name__}, which embeds no texts: it ranks nothing"
        )

    @torch.inference_mode()
    def rank(frames: list[Frame], query: str) -> np.ndarray:
        pixels = eye([frame.image() for frame in frames], return_tensors="pt").to(device)
        # SigLIP 2 was trained on lower case; not every version of its tokenizer sees to that.
        words = tokenizer([query.lower()], return_tensors="pt", **QUERY).input_ids.to(device)
        images = model.get_image_features(**pixels).pooler_output
        text = model.get_text_features(input_ids=words).pooler_output
        return cosine_similarity(images, text).cpu().numpy()

    # Filed in a trace's setting: another ranker shows other frames.
    rank.__name__ = f"ranked by {fingerprint(place)}"
    return rank
