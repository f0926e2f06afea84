"""How well each frame of a video matches a sentence: BLIP-2's image-text contrastive head.

Works on the path of a video and a text. Knows nothing of traces, nor of which frame is shown. The
model and the score (the largest cosine between the sentence and a frame's query tokens) are
TFVTG's, which the paper retrieves with; batches and what is kept are our choice.
"""

import os
from functools import lru_cache

import numpy as np
import torch
from cachetools import LRUCache
from torch.nn.functional import normalize
from tqdm import tqdm
from transformers import (
    AutoConfig,
    AutoTokenizer,
    Blip2ForImageTextRetrieval,
    BlipImageProcessorPil,
)

from act2see.student import compute_dtype, fingerprint, locate
from act2see.video import nearest_frames, probe, read_frames

RATE_HZ = 3.0  # the paper's and TFVTG's
BATCH = 32  # frames
# An hour and a half at 3 Hz: the published checkpoint has 32 tokens of 256 numbers a frame.
KEPT_BYTES = 256e6
KEPT_TEXTS = 256
LONG = 2_000  # frames from which on a bar says how far it is: about ten minutes of video
HEAD = ("query_tokens", "embeddings", "qformer", "vision_projection", "text_projection")


class Retriever:
    """Scores the frames of videos by sentences. Embeddings are kept: a video is looked at once.

    `__name__` tells its model from others, in `Trace.setting`. For one thread.
    """

    def __init__(
        self,
        model: Blip2ForImageTextRetrieval,
        images: BlipImageProcessorPil,
        tokenizer,
        name: str,
    ):
        self.model = model
        self.images = images
        self.tokenizer = tokenizer
        self.__name__ = name
        self.videos = LRUCache(KEPT_BYTES, getsizeof=lambda kept: sum(a.nbytes for a in kept))
        self.texts = LRUCache(KEPT_TEXTS)

    def __call__(
        self, video: str, query: str, rate_hz: float = RATE_HZ
    ) -> tuple[np.ndarray, np.ndarray]:
        """(n,) times in seconds of the frames sampled at `rate_hz`, and their (n,) cosines.

        A cosine is the largest one between the sentence and any of a frame's query tokens.
        Raises VideoError as `video.probe`, ValueError for a rate that is not above 0.
        """
        times_s, tokens = self.embed_video(video, rate_hz)
        text = self.embed_text(query)
        scores = [
            # float16 is for keeping: a part at a time, so that no second copy of it all is made.
            (tokens[i : i + 1024].astype(np.float32) @ text).max(1)
            for i in range(0, len(tokens), 1024)
        ]
        return times_s, np.concatenate(scores)

    def embed_video(self, video: str, rate_hz: float) -> tuple[np.ndarray, np.ndarray]:
        """(n,) frame times in seconds, and (n, tokens, width) float16 of unit length.

        Two moments that fall on one frame give it once. Kept by path, time and size of the file.
        """
        if not rate_hz > 0:
            raise ValueError(f"rate_hz is {rate_hz:g}; it must be above 0")
        clip = probe(video)
        status = os.stat(video)
        key = (str(video), status.st_mtime_ns, status.st_size, rate_hz)
        if key in self.videos:
            return self.videos[key]
        moments_s = np.arange(0, clip.duration_s, 1 / rate_hz)
        times_s = clip.times_s[np.unique(nearest_frames(clip.times_s, moments_s, clip.duration_s))]
        # More pixels than twice what the model sees only fill the memory.
        side_px = 2 * self.model.config.vision_config.image_size
        tokens = []
        steps = range(0, len(times_s), BATCH)
        for i in tqdm(steps, desc="frames to search", disable=len(times_s) < LONG, leave=False):
            pictures, _ = read_frames(video, times_s[i : i + BATCH], side_px)
            tokens.append(self.embed_frames(pictures))
        kept = times_s, np.concatenate(tokens)
        # What is larger than the whole store is looked at anew for each query.
        if self.videos.getsizeof(kept) <= self.videos.maxsize:
            self.videos[key] = kept
        return kept

    @torch.inference_mode()
    def embed_frames(self, pictures: list) -> np.ndarray:
        """(n, tokens, width) float16 of unit length: n pictures through the query tokens."""
        model = self.model
        pixels = self.images(pictures, return_tensors="pt").pixel_values.to(model.device)
        patches = model.vision_model(pixel_values=pixels).last_hidden_state
        queries = model.query_tokens.expand(len(pictures), -1, -1)
        tokens = model.qformer(query_embeds=queries, encoder_hidden_states=patches)
        return _unit(model.vision_projection, tokens.last_hidden_state).astype(np.float16)

    @torch.inference_mode()
    def embed_text(self, text: str) -> np.ndarray:
        """(width,) float32 of unit length: a sentence by its first token; what is too long is cut.

        The frames' query tokens have no part in it, so that one text serves all videos.
        """
        if text not in self.texts:
            model = self.model
            longest = model.config.qformer_config.max_position_embeddings
            words = self.tokenizer([text], truncation=True, max_length=longest, return_tensors="pt")
            ids = words.input_ids.to(model.device)
            hidden = model.qformer(query_embeds=model.embeddings(input_ids=ids), query_length=0)
            self.texts[text] = _unit(model.text_projection, hidden.last_hidden_state[0, 0])
        return self.texts[text]


def _unit(projection: torch.nn.Linear, hidden: torch.Tensor) -> np.ndarray:
    """Projected, and brought to unit length in float32."""
    projected = projection(hidden.to(projection.weight.dtype))
    return normalize(projected.float(), dim=-1).cpu().numpy()


def load_retriever(checkpoint: str) -> Retriever:
    """The retriever of a folder or hub name; the same object for all who ask for the same weights.

    checkpoint: a `Blip2ForImageTextRetrieval`, e.g. `Salesforce/blip2-itm-vit-g-coco`.
    Raises ValueError for another model or one that lacks the contrastive head, FileNotFoundError
    as `student.locate`.
    """
    place = locate(checkpoint)
    return _load(place, fingerprint(place))


# Two tools that search share one model; a folder whose weights have changed is loaded anew.
@lru_cache(maxsize=1)
def _load(place: str, weights: str) -> Retriever:
    config = AutoConfig.from_pretrained(place)
    wanted = Blip2ForImageTextRetrieval.__name__
    # Asked first: the weights of another BLIP-2 are fifteen gigabytes to find it out from.
    classes = config.architectures or [type(config).__name__]
    if wanted not in classes:
        raise ValueError(
            f"{place} holds a {classes[0]}; it must be a {wanted}, whose contrastive head scores "
            "frames: use Salesforce/blip2-itm-vit-g-coco"
        )
    model, report = Blip2ForImageTextRetrieval.from_pretrained(
        place, dtype=compute_dtype(), output_loading_info=True
    )
    if lacking := sorted(key for key in report["missing_keys"] if key.startswith(HEAD)):
        raise ValueError(
            f"{place} lacks {len(lacking)} weights of the contrastive head, {lacking[0]} first: "
            "use Salesforce/blip2-itm-vit-g-coco"
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    side_px = config.vision_config.image_size
    # The PIL form gives the same pixels with torchvision and without it. Positions are learnt for
    # one size, and pictures of another would get those of other places without an error.
    images = BlipImageProcessorPil.from_pretrained(
        place, size={"height": side_px, "width": side_px}
    )
    tokenizer = AutoTokenizer.from_pretrained(place, truncation_side="right")
    return Retriever(model.to(device).eval(), images, tokenizer, f"searched by {weights}")
