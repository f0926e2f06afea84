"""What the frozen vision tower makes of pictures, kept on disk for all epochs.

Works on encodings, a Qwen3-VL and its processor. Knows nothing of labels or losses. Our choice.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from transformers import PreTrainedModel, ProcessorMixin

from act2see.checkpoints import reserve
from act2see.encoding import Encoding, frames_of, see
from act2see.pictures import digest


@torch.no_grad()
def see_once(
    encodings: Sequence[Encoding],
    model: PreTrainedModel,
    processor: ProcessorMixin,
    path: Path,
    limit_gb: float,
) -> list[list[torch.Tensor]]:
    """Per dialogue its frames' features, every picture put through the vision tower once.

    They lie in the file `path`, mapped into memory, for all epochs: the first process writes it.
    Where they take more than `limit_gb`, or than the disk has, the dialogues get empty lists, and
    frames are looked at whenever they are needed.
    """
    eye = model.model.visual
    names = [[digest(*frames_of(image)) for image in e.images] for e in encodings]
    pictures = {
        name: (image, rows * columns // eye.spatial_merge_size**2)
        for keys, e in zip(names, encodings, strict=True)
        for name, image, (_, rows, columns) in zip(keys, e.images, e.grids, strict=True)
    }
    layers = 1 + len(eye.deepstack_visual_indexes)
    width = eye.config.out_hidden_size
    sizes = [layers * width * tokens for _, tokens in pictures.values()]
    needed = sum(sizes) * eye.dtype.itemsize
    if not 0 < needed < limit_gb * 1e9:
        return [[] for _ in encodings]
    state = PartialState()
    with state.main_process_first():
        if state.is_main_process:
            _take_room(path, needed)
        if not path.exists():
            return [[] for _ in encodings]
        # A mapped file takes as much memory as there is to spare: the system drops what lies idle.
        store = torch.from_file(str(path), shared=True, size=sum(sizes), dtype=eye.dtype)
        places = store.split(sizes)
        images = [image for image, _ in pictures.values()]
        for first in range(0, len(images) if state.is_main_process else 0, 64):
            batch = see(images[first : first + 64], model, processor)
            for place, features in zip(places[first:], batch, strict=False):
                place.copy_(features.flatten())
    views = (place.view(layers, -1, width) for place in places)
    features = dict(zip(pictures, views, strict=True))
    return [[features[name] for name in keys] for keys in names]


def _take_room(path: Path, needed: int) -> None:
    """A file of so many bytes; where there is no room, say so and leave none."""
    try:
        reserve(path, needed)
    except OSError as error:
        path.unlink(missing_ok=True)
        slower = "frames are looked at whenever they are needed, which takes longer"
        full = f"{path} has no room for {needed / 1e9:.3f} GB ({error}); {slower}"
        warnings.warn(full, stacklevel=3)
