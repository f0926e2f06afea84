"""Hypothetical frames: a diffusers pipeline as a function of a real frame and a prompt.

Works on pictures and text. Knows nothing of traces. The paper generates with Stable Diffusion 3.5
Large, image to image, as reported in a third party's note on it; its strength and its steps are not
known. Any pipeline that takes `prompt` and `image`, or has a sibling that does, will do; sizes,
strength, NF4 and the refusal of blackened pictures are our choice.
"""

import hashlib
import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import diffusers
import numpy as np
import torch
from diffusers import (
    AutoPipelineForImage2Image,
    BitsAndBytesConfig,
    DiffusionPipeline,
    PipelineQuantizationConfig,
)
from PIL import Image
from transformers import BitsAndBytesConfig as ReaderConfig

from act2see.student import compute_dtype, fingerprint, locate, nf4
from act2see.tools.tool import CallError

SMALL_GPU_GB = 40  # below, a transformer that paints and the model that reads for it are in NF4
EDITS = {"prompt", "image"}  # what a pipeline takes that changes a picture


def load_generator(
    name: str, options: Mapping = {}, four_bit: bool | None = None
) -> Callable[[Image.Image, str], Image.Image]:
    """A function from a frame and a prompt to the frame changed as the prompt says, as large.

    name: a folder or a hub name of a pipeline; one that only takes a text is loaded as its sibling
    that takes a picture too. options: for every call of it, as the number of steps, or, where it
    takes one, the `strength` in 0 to 1 by which it leaves the frame. four_bit: transformers in NF4;
    None: on a small GPU. The same frame and prompt give the same picture: they make the seed. Its
    `__name__` tells it from others, in `Trace.setting`. The function raises CallError where the
    pipeline's own checker blackened the picture.
    Raises FileNotFoundError as `student.locate`, ValueError for a pipeline that is broken, edits
    nothing or does not take an option.
    """
    place = locate(name, "model_index.json")
    gpu = torch.cuda.is_available()
    memory = torch.cuda.get_device_properties(0).total_memory if gpu else 0
    small = 0 < memory < SMALL_GPU_GB * 1e9
    with _quiet():
        pipe, four_bit = _pipeline(place, small if four_bit is None else four_bit)
    taken = inspect.signature(pipe.__call__).parameters.keys()
    if strange := (EDITS | options.keys()) - taken:
        raise ValueError(f"{name} is a {type(pipe).__name__}, which takes no {min(strange)}")
    pipe.set_progress_bar_config(disable=True)
    if gpu:
        # The student is on the same GPU: each part of the pipeline visits it only to work.
        pipe.enable_model_cpu_offload()
    # A transformer paints patches of 2 × 2 latents, a U-Net single ones.
    multiple = pipe.vae_scale_factor * (2 if hasattr(pipe, "transformer") else 1)

    def generate(frame: Image.Image, prompt: str) -> Image.Image:
        content = hashlib.sha1(prompt.encode() + frame.tobytes()).digest()
        # Drawn on the CPU, so that every machine starts from the same noise.
        noise = torch.Generator("cpu").manual_seed(int.from_bytes(content[:4]))
        canvas = _padded(frame, multiple)
        # Some would paint a megapixel square, whatever the frame's shape.
        sizes = {"width": canvas.width, "height": canvas.height}
        sizes = {side: pixels for side, pixels in sizes.items() if side in taken}
        output = pipe(prompt=prompt, image=canvas, generator=noise, **sizes | options)
        # A checker returns a black picture, which would pass for evidence of the dark.
        if any(getattr(output, "nsfw_content_detected", None) or ()):
            raise CallError("the generator's safety checker withheld the picture; ask for another.")
        picture = output.images[0].convert("RGB").resize(canvas.size)
        return picture.crop((0, 0, *frame.size))

    generate.__name__ = f"pictures by {fingerprint(place)} {dict(options)}{' in NF4' * four_bit}"
    return generate


def _padded(frame: Image.Image, multiple: int) -> Image.Image:
    """The frame in RGB, its last column and row repeated until both sides are multiples."""
    # Pipelines crop or stretch other sizes: what they paint would not lie where it lay.
    right, below = (-side % multiple for side in frame.size)
    pixels = np.asarray(frame.convert("RGB"))
    return Image.fromarray(np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="edge"))


def _pipeline(place: str, four_bit: bool) -> tuple[DiffusionPipeline, bool]:
    """The pipeline, and whether it is in NF4, which is for transformers only: U-Nets are small.

    Raises ValueError for a folder that is not a whole pipeline, or whose family changes no picture.
    """
    options = {"torch_dtype": compute_dtype()}
    try:
        config = DiffusionPipeline.load_config(place)
        four_bit = four_bit and "transformer" in config
        if four_bit:
            # Two classes of one name: diffusers loads the painter, transformers the readers. CLIP
            # is small, and sums up a prompt in one vector.
            readers = [n for n in config if "text_encoder" in n and "CLIP" not in str(config[n])]
            parts = {"transformer": BitsAndBytesConfig(**nf4())}
            parts |= dict.fromkeys(readers, ReaderConfig(**nf4()))
            options["quantization_config"] = PipelineQuantizationConfig(quant_mapping=parts)
        kind = getattr(diffusers, config["_class_name"])
        edits = EDITS <= inspect.signature(kind.__call__).parameters.keys()
        loader = DiffusionPipeline if edits else AutoPipelineForImage2Image
        return loader.from_pretrained(place, **options), four_bit
    except (AttributeError, KeyError, ValueError) as error:
        raise ValueError(f"{place} is not a whole pipeline that edits: {error}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing is logged but errors, and no warning of changes to come."""
    # A pipeline in good order brings ten lines of them when it is loaded: of backends that it does
    # without, of fields that a class does not read, of a name that diffusers 1.0 takes away.
    before = logging.root.manager.disable
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)
