"""A trace as tokens, and tokens and frames through the model: for training and inference alike.

Works on a `Trace`, a Qwen3-VL and its processor. Knows nothing of losses or replies, nor of how a
dialogue is written: its dialect does. One way from trace to tokens, so that a student meets what it
was trained on (peers in whom the two differ lose results there).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedModel, ProcessorMixin
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from act2see.dialects import dialect_of
from act2see.dialects.dialect import Picture, Segment
from act2see.trace import Trace


@dataclass
class Encoding:
    """A dialogue's tokens, each picture expanded to its own, and the pictures in order."""

    ids: list[int]
    images: list[Picture]
    grids: list[tuple[int, int, int]]  # the pictures' sizes in patches, (1, height, width)
    labels: list[int]  # the tokens that the assistant is to learn to say, -100 elsewhere


def encode(
    trace: Trace, processor: ProcessorMixin, reply_next: bool = False, system: str = ""
) -> Encoding:
    """The trace's tokens, with `reply_next` up to the assistant's next; one more turn only adds."""
    template = processor.apply_chat_template
    return tokenize(*dialect_of(trace).render(trace, template, reply_next, system), processor)


def encode_forced(trace: Trace, processor: ProcessorMixin, system: str = "") -> Encoding:
    """The trace's tokens up to the place where the letter of its answer follows."""
    template = processor.apply_chat_template
    return tokenize(*dialect_of(trace).render_forced(trace, template, system), processor)


def tokenize(
    segments: list[Segment], pictures: list[Picture], processor: ProcessorMixin
) -> Encoding:
    """A dialogue's tokens, each place of a picture expanded to as many as the picture takes.

    Raises ValueError where there are not as many places as pictures.
    """
    image = processor.image_token
    places = sum(segment.text.count(image) for segment in segments)
    if places != len(pictures):
        raise ValueError(f"{places} image places in the text for {len(pictures)} images")
    encoding = Encoding([], pictures, [], [])
    waiting = iter(pictures)
    for text, spoken in segments:
        first, *pieces = text.split(image)
        for piece in pieces:
            picture = next(waiting)
            grid = _grid(picture, processor.image_processor)
            encoding.grids.append(grid)
            # Two frames of a video stand for one picture, under the token of videos.
            token = processor.video_token if isinstance(picture, tuple) else image
            merged = grid[1] * grid[2] // processor.image_processor.merge_size**2
            first += token * merged + piece
        ids = processor.tokenizer.encode(first, add_special_tokens=False)
        encoding.ids += ids
        encoding.labels += ids if spoken else [-100] * len(ids)
    return encoding


def _grid(picture: Picture, eye) -> tuple[int, int, int]:
    """The picture's size in patches, (1, height, width), as its image processor resizes it."""
    frame = frames_of(picture)[0]
    size = _limits(picture, eye)
    limits = size["shortest_edge"], size["longest_edge"]
    sides_px = smart_resize(frame.height, frame.width, eye.patch_size * eye.merge_size, *limits)
    height, width = (side_px // eye.patch_size for side_px in sides_px)
    return 1, height, width


def _limits(picture: Picture, eye) -> dict[str, int]:
    """Fewest and most pixels of a frame, in the processor's words, which call both an edge."""
    if not isinstance(picture, tuple):
        return dict(eye.size)
    # The processor of videos enlarges no frame but to a whole token: its least is of a whole video.
    return dict(eye.size) | {"shortest_edge": (eye.patch_size * eye.merge_size) ** 2}


def positions(encoding: Encoding, model: PreTrainedModel) -> torch.Tensor:
    """(3, length) multimodal rotary positions of a dialogue; a prefix's are a prefix of them.

    The same as `get_rope_index` of the model, which takes several times as long.
    """
    merge = model.model.visual.spatial_merge_size
    places = pictured(torch.tensor(encoding.ids), model).numpy()
    begins = np.flatnonzero(np.diff(places, prepend=False) & places)
    spots = np.tile(np.arange(len(encoding.ids)), (3, 1))
    for begin, (_, rows, columns) in zip(begins, encoding.grids, strict=True):
        height = rows // merge
        width = columns // merge
        end = begin + height * width
        # A picture takes as many positions as its longer side, however many tokens it has.
        spots[:, end:] -= height * width - max(height, width)
        # Time stands still within it; row and column count from where it begins.
        spots[:, begin:end] = spots[0, begin] + np.indices((1, height, width)).reshape(3, -1)
    return torch.from_numpy(spots)


def pictured(ids: torch.Tensor, model: PreTrainedModel) -> torch.Tensor:
    """Where `ids` stand for pictures. A pair takes its place in a dialogue like an image."""
    return (ids == model.config.image_token_id) | (ids == model.config.video_token_id)


def frames_of(picture: Picture) -> tuple[Image.Image, ...]:
    """The one frame of a picture, or both."""
    return picture if isinstance(picture, tuple) else (picture,)


def pixels(images: list[Picture], processor: ProcessorMixin) -> dict[str, torch.Tensor]:
    """pixel_values and image_grid_thw of these pictures, {} for none.

    A patch reaches over two moments: of an image both are the same, of a pair one is each frame's.
    """
    if not images:
        return {}
    eye = processor.image_processor
    if not any(isinstance(image, tuple) for image in images):
        # All at once takes half the time, which matters where frames are small and many.
        return dict(eye(images, return_tensors="pt"))
    patches = [_patches(image, eye) for image in images]
    return {name: torch.cat([part[name] for part in patches]) for name in patches[0]}


def _patches(picture: Picture, eye) -> dict[str, torch.Tensor]:
    """pixel_values and image_grid_thw of one picture."""
    frames = list(frames_of(picture))
    patches = dict(eye(frames, size=_limits(picture, eye), return_tensors="pt"))
    first, *later = patches["pixel_values"].chunk(len(frames))
    if later:
        # The processor repeats an image for the second moment; a pair's second frame goes there.
        moments = (3, eye.temporal_patch_size, -1)
        second = later[0].unflatten(1, moments)[:, :, 1]
        first.unflatten(1, moments)[:, :, 1] = second
    return {"pixel_values": first, "image_grid_thw": patches["image_grid_thw"][:1]}


def see(
    images: list[Picture], model: PreTrainedModel, processor: ProcessorMixin
) -> list[torch.Tensor]:
    """What the vision tower makes of each picture: (1 + deepstack layers, tokens, width)."""
    if not images:
        return []
    tower = model.model.visual
    patches = pixels(images, processor)
    grids = patches["image_grid_thw"].to(tower.device)
    pixel_values = patches["pixel_values"].to(tower.device, tower.dtype)
    output = tower(pixel_values, grid_thw=grids, return_dict=True)
    counts = grids.prod(-1) // tower.spatial_merge_size**2
    layers = torch.stack([output.pooler_output, *output.deepstack_features])
    return list(layers.split(counts.tolist(), 1))


def hidden_states(
    model: PreTrainedModel, ids: torch.Tensor, features: list[torch.Tensor], **inputs: Any
) -> torch.Tensor:
    """(rows, columns, width) last hidden states of `ids`, whose frames `see` saw, row by row.

    The same as the model's own forward pass, which would look at every frame again.
    """
    embeddings = model.get_input_embeddings()(ids)
    if features:
        places = pictured(ids, model)
        first, *deeper = torch.cat(features, 1).to(embeddings)
        embeddings = embeddings.masked_scatter(places[..., None], first)
        inputs |= {"visual_pos_masks": places, "deepstack_visual_embeds": deeper}
    return model.model.language_model(inputs_embeds=embeddings, **inputs).last_hidden_state


def alike(counts: list[int], most: int) -> list[tuple[int, int]]:
    """Ranges of ascending `counts` to feed together: none has more than `most` when padded, unless
    it is a single one, and of none is more than an eighth pads.

    >>> alike([10, 11, 12, 90, 100], 1000)
    [(0, 3), (3, 5)]
    """
    ranges = []
    first = 0
    for last in range(1, len(counts) + 1):
        whole = counts[first : last + 1]
        if last == len(counts) or len(whole) * whole[-1] > min(1.15 * sum(whole), most):
            ranges.append((first, last))
            first = last
    return ranges
