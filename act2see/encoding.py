"""A trace as tokens: for training and for inference alike.

Works on a `Trace` and a Qwen3-VL processor. Knows nothing of weights. There is one way from trace
to tokens, so that what a student is trained on is what it meets later (peers in whom the two differ
lose their results there).
"""

from dataclasses import dataclass

import torch
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from act2see.toolbox import SCHEMAS
from act2see.trace import Trace


@dataclass
class Encoding:
    """ids: the dialogue's tokens, frames expanded; images: its frames, in order; grids: their
    sizes in patches, (1, height, width) each.
    """

    ids: list[int]
    images: list[Image.Image]
    grids: list[tuple[int, int, int]]


def encode(trace: Trace, processor, reply_next: bool = False, system: str = "") -> Encoding:
    """The trace's tokens; with `reply_next`, up to where the assistant speaks next.

    The tokens after n turns are a prefix of those after n + 1.
    """
    return encode_messages(trace.messages(), trace.tools, processor, reply_next, system)


def encode_messages(messages, tools, processor, reply_next=False, system="") -> Encoding:
    """Chat messages as tokens and images; `tools` are names out of the toolbox."""
    if system:
        messages = [{"role": "system", "content": system}, *messages]
    text = processor.apply_chat_template(
        messages,
        tools=[SCHEMAS[name] for name in tools] or None,
        tokenize=False,
        add_generation_prompt=reply_next,
    )
    parts = [p for m in messages if isinstance(m["content"], list) for p in m["content"]]
    images = [p["image"] for p in parts if p["type"] == "image"]
    pieces = text.split(processor.image_token)
    if len(pieces) != len(images) + 1:
        raise ValueError(
            f"the chat template wrote {len(pieces) - 1} image places for {len(images)} images"
        )
    grids = [grid(image, processor.image_processor) for image in images]
    merged = processor.image_processor.merge_size**2
    expanded = pieces[0]
    for (_, height, width), piece in zip(grids, pieces[1:], strict=True):
        expanded += processor.image_token * (height * width // merged) + piece
    ids = processor.tokenizer.encode(expanded, add_special_tokens=False)
    return Encoding(ids, images, grids)


def grid(image: Image.Image, images) -> tuple[int, int, int]:
    """(1, height, width) of this image in patches, as the image processor will resize it."""
    low, high = images.size["shortest_edge"], images.size["longest_edge"]
    factor = images.patch_size * images.merge_size
    height, width = smart_resize(image.height, image.width, factor, low, high)
    return 1, height // images.patch_size, width // images.patch_size


def positions(encoding: Encoding, model) -> torch.Tensor:
    """(3, length) multimodal rotary positions of a dialogue; a prefix's are a prefix of them."""
    ids = torch.tensor([encoding.ids])
    images = (ids == model.config.image_token_id).int()
    grids = torch.tensor(encoding.grids) if encoding.grids else None
    return model.model.get_rope_index(ids, images, grids)[0][:, 0]


def pixels(images: list[Image.Image], processor) -> dict[str, torch.Tensor]:
    """pixel_values and image_grid_thw of these images, {} for none."""
    return dict(processor.image_processor(images, return_tensors="pt")) if images else {}


def assistant_labels(ids: list[int], tokenizer) -> list[int]:
    """`ids` where the assistant said them, -100 elsewhere.

    Said by the assistant: what follows the generation prompt, up to and including `<|im_end|>`.
    """
    opening = tokenizer.encode("<|im_start|>assistant\n", add_special_tokens=False)
    thinking = tokenizer.encode("<think>\n", add_special_tokens=False)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    labels = [-100] * len(ids)
    start = 0
    while start < len(ids):
        if ids[start : start + len(opening)] != opening:
            start += 1
            continue
        start += len(opening)
        if ids[start : start + len(thinking)] == thinking:
            start += len(thinking)
        stop = ids.index(end, start) + 1 if end in ids[start:] else len(ids)
        labels[start:stop] = ids[start:stop]
        start = stop
    return labels
