"""Hypothetical frames: a diffusers editing pipeline as a function of a real frame and a prompt.

Works on pictures and text. Knows nothing of traces. Conditional image generation is the paper's; it
does not say by which model. Any pipeline that takes `prompt` and `image` will do (our choice).
"""

import hashlib
import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from diffusers import BitsAndBytesConfig, DiffusionPipeline, PipelineQuantizationConfig
from PIL import Image
from transformers import BitsAndBytesConfig as ReaderConfig

from act2see.student import compute_dtype, fingerprint, locate, nf4

SMALL_GPU_GB = 24  # below, a transformer that paints and the model that reads for it are in NF4


def load_generator(
    name: str, options: Mapping = {}, four_bit: bool | None = None
) -> Callable[[Image.Image, str], Image.Image]:
    """A function from a frame and a prompt to the frame changed as the prompt says, as large.

    name: a folder or a hub name of a pipeline. options: for every call of it, as
    the number of steps. four_bit: transformers in NF4; None: on a small GPU. The same frame and
    prompt give the same picture: they make the seed. Its `__name__` tells it from others, in
    `Trace.setting`.
    Raises FileNotFoundError as `student.locate`, ValueError for a pipeline that is broken or edits
    nothing.
    """
    place = locate(name, "model_index.json")
    gpu = torch.cuda.is_available()
    memory = torch.cuda.get_device_properties(0).total_memory if gpu else 0
    small = 0 < memory < SMALL_GPU_GB * 1e9
    with _quiet():
        pipe, four_bit = _pipeline(place, small if four_bit is None else four_bit)
    if missing := {"prompt", "image"} - inspect.signature(pipe.__call__).parameters.keys():
        raise ValueError(
            f"{name} is a {type(pipe).__name__}, which takes no {missing.pop()}: it edits nothing"
        )
    pipe.set_progress_bar_config(disable=True)
    if gpu:
        # The student is on the same GPU: each part of the pipeline visits it only to work.
        pipe.enable_model_cpu_offload()

    def generate(frame: Image.Image, prompt: str) -> Image.Image:
        content = hashlib.sha1(prompt.encode() + frame.tobytes()).digest()
        # Drawn on the CPU, so that every machine starts from the same noise.
        noise = torch.Generator("cpu").manual_seed(int.from_bytes(content[:4]))
        picture = pipe(prompt=prompt, image=frame, generator=noise, **options).images[0]
        return picture.convert("RGB").resize(frame.size)

    generate.__name__ = f"pictures by {fingerprint(place)} {dict(options)}{' in NF4' * four_bit}"
    return generate


def _pipeline(place: str, four_bit: bool):
    """The pipeline, and whether it is in NF4, which is for transformers only: U-Nets are small.

    Raises ValueError for a folder that is not a whole pipeline.
    """
    options = {"torch_dtype": compute_dtype()}
    try:
        four_bit = four_bit and "transformer" in DiffusionPipeline.load_config(place)
        if four_bit:
            # Two classes of one name: diffusers loads the painter, transformers the reader.
            parts = {"transformer": BitsAndBytesConfig(**nf4())}
            parts["text_encoder"] = ReaderConfig(**nf4())
            options["quantization_config"] = PipelineQuantizationConfig(quant_mapping=parts)
        return DiffusionPipeline.from_pretrained(place, **options), four_bit
    except (AttributeError, KeyError, ValueError) as error:
        raise ValueError(f"{place} is not a whole pipeline: {error}") from error


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
