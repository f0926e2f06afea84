"""A trace as tokens, and tokens and frames through the model: for training and inference alike.

Works on a `Trace`, a Qwen3-VL and its processor. Knows nothing of losses or replies. One way from
trace to tokens, so that a student meets what it was trained on (peers in whom the two differ lose
results there).
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from act2see.toolbox import SCHEMAS
from act2see.trace import Trace

Picture = Image.Image | tuple[Image.Image, Image.Image]  # a frame, or two of a video merged


@dataclass
class Encoding:
    """A dialogue's tokens, each picture expanded to its own, and the pictures in order."""

    ids: list[int]
    images: list[Picture]
    grids: list[tuple[int, int, int]]  # the pictures' sizes in patches, (1, height, width)


def encode(trace: Trace, processor, reply_next: bool = False, system: str = "") -> Encoding:
    """The trace's tokens, with `reply_next` up to the assistant's next; one more turn only adds."""
    return encode_messages(trace.messages(), trace.tools, processor, reply_next, system)


def encode_messages(messages, tools, processor, reply_next=False, system="") -> Encoding:
    """Chat messages as tokens and images; `tools` are names out of the toolbox."""
    if system:
        messages = [{"role": "system", "content": system}, *messages]
    messages = _spaced(messages)
    schemas = [SCHEMAS[name] for name in tools] or None
    text = processor.apply_chat_template(
        messages, tools=schemas, tokenize=False, add_generation_prompt=reply_next
    )
    parts = [p for m in messages if isinstance(m["content"], list) for p in m["content"]]
    images = [p["image"] for p in parts if p["type"] == "image"]
    pieces = text.split(processor.image_token)
    if len(pieces) != len(images) + 1:
        raise ValueError(f"{len(pieces) - 1} image places in the text for {len(images)} images")
    eye = processor.image_processor
    limits = eye.size["shortest_edge"], eye.size["longest_edge"]
    grids, expanded = [], pieces[0]
    for image, piece in zip(images, pieces[1:], strict=True):
        frame, *second = frames_of(image)
        token = processor.video_token if second else processor.image_token
        sides_px = smart_resize(frame.height, frame.width, eye.patch_size * eye.merge_size, *limits)
        height, width = (side_px // eye.patch_size for side_px in sides_px)
        grids.append((1, height, width))
        expanded += token * (height * width // eye.merge_size**2) + piece
    ids = processor.tokenizer.encode(expanded, add_special_tokens=False)
    return Encoding(ids, images, grids)


def _spaced(value):
    """`<|` becomes `< |` in all text: nobody writes a control token by its name."""
    if isinstance(value, str):
        return value.replace("<|", "< |")
    if isinstance(value, list):
        return [_spaced(item) for item in value]
    return {_spaced(k): _spaced(v) for k, v in value.items()} if isinstance(value, dict) else value


def positions(encoding: Encoding, model) -> torch.Tensor:
    """(3, length) multimodal rotary positions of a dialogue; a prefix's are a prefix of them.

    The same as `get_rope_index` of the model, which takes several times as long.
    """
    merged = model.model.visual.spatial_merge_size
    shown = pictured(torch.tensor(encoding.ids), model).numpy()
    begins = np.flatnonzero(np.diff(shown, prepend=False) & shown)
    spots = np.tile(np.arange(len(encoding.ids)), (3, 1))
    for begin, (_, height, width) in zip(begins, encoding.grids, strict=True):
        height, width = height // merged, width // merged
        end = begin + height * width
        spots[:, end:] -= height * width - max(height, width)
        spots[:, begin:end] = spots[0, begin] + np.indices((1, height, width)).reshape(3, -1)
    return torch.from_numpy(spots)


def pictured(ids: torch.Tensor, model) -> torch.Tensor:
    """Where `ids` stand for pictures. A pair takes its place in a dialogue like an image."""
    return (ids == model.config.image_token_id) | (ids == model.config.video_token_id)


def frames_of(picture: Picture) -> tuple[Image.Image, ...]:
    """The one frame of a picture, or both."""
    return picture if isinstance(picture, tuple) else (picture,)


def pixels(images: list[Picture], processor) -> dict[str, torch.Tensor]:
    """pixel_values and image_grid_thw of these pictures, {} for none.

    A patch reaches over two moments: of an image both are the same, of a pair one is each frame's.
    """
    if not images:
        return {}
    look, depth = processor.image_processor, processor.image_processor.temporal_patch_size
    seen = dict(look([frames_of(image)[0] for image in images], return_tensors="pt"))
    if pairs := [image for image in images if isinstance(image, tuple)]:
        counts = seen["image_grid_thw"].prod(-1)
        paired = torch.tensor([isinstance(i, tuple) for i in images]).repeat_interleave(counts)
        second = look([two for _, two in pairs], return_tensors="pt")["pixel_values"]
        first, second = (p.unflatten(1, (3, depth, -1)) for p in (seen["pixel_values"], second))
        first[paired, :, 1] = second[:, :, 1]
    return seen


def see(images: list[Picture], model, processor) -> list[torch.Tensor]:
    """What the vision tower makes of each picture: (1 + deepstack layers, tokens, width)."""
    if not images:
        return []
    seen, eye = pixels(images, processor), model.model.visual
    grids = seen["image_grid_thw"].to(eye.device)
    pixel_values = seen["pixel_values"].to(eye.device, eye.dtype)
    made = eye(pixel_values, grid_thw=grids, return_dict=True)
    tokens = grids.prod(-1) // eye.spatial_merge_size**2
    layers = torch.stack([made.pooler_output, *made.deepstack_features])
    return list(layers.split(tokens.tolist(), 1))


def hidden_states(model, ids: torch.Tensor, features: list[torch.Tensor], **inputs) -> torch.Tensor:
    """(rows, columns, width) last hidden states of `ids`, whose frames `see` saw, row by row.

    The same as the model's own forward pass, which would look at every frame again.
    """
    embedded = model.get_input_embeddings()(ids)
    if features:
        shown = pictured(ids, model)
        first, *deeper = torch.cat(features, 1).to(embedded)
        embedded = embedded.masked_scatter(shown[..., None], first)
        inputs |= {"visual_pos_masks": shown, "deepstack_visual_embeds": deeper}
    return model.model.language_model(inputs_embeds=embedded, **inputs).last_hidden_state


def assistant_labels(ids: list[int], tokenizer) -> list[int]:
    """`ids` where the assistant said them (generation prompt to `<|im_end|>`), -100 elsewhere."""
    opening = tokenizer.encode("<|im_start|>assistant\n", add_special_tokens=False)
    thinking = tokenizer.encode("<think>\n", add_special_tokens=False)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    labels = [-100] * len(ids)
    for begin in range(len(ids)):
        start = begin + len(opening)
        if ids[begin:start] == opening:
            if ids[start : start + len(thinking)] == thinking:
                start += len(thinking)
            stop = ids.index(end, start) + 1 if end in ids[start:] else len(ids)
            labels[start:stop] = ids[start:stop]
    return labels


def alike(counts: list[int], most: int) -> list[tuple[int, int]]:
    """Ranges of ascending `counts` to feed together: none has more than `most` when padded, unless
    it is a single one, and of none is more than an eighth pads.

    >>> alike([10, 11, 12, 90, 100], 1000)
    [(0, 3), (3, 5)]
    """
    ranges, first = [], 0
    for last in range(1, len(counts) + 1):
        whole = counts[first : last + 1]
        if last == len(counts) or len(whole) * whole[-1] > min(1.15 * sum(whole), most):
            ranges.append((first, last))
            first = last
    return ranges
