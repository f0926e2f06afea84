"""Hypothetical frames: a diffusers editing pipeline as a function of a real frame and a prompt.

Works on pictures and text. Knows nothing of traces. Conditional image generation is the paper's; it
does not say by which model. Any pipeline that takes `prompt` and `image` will do (our choice).
"""

import hashlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path

from PIL import Image

from act2see.checkpoints import compute_dtype, fingerprint, nf4

Generator = Callable[[Image.Image, str], Image.Image]
SMALL_GPU_GB = 24  # below, a transformer that paints and the model that reads for it are in NF4


def load_generator(
    name: str, options: Mapping = {}, four_bit: bool | None = None
) -> Generator | None:
    """A function from a frame and a prompt to the frame changed as the prompt says, as large.

    name: a folder or a hub name of a pipeline; none for "". options: given to it at every call, as
    the number of steps. four_bit: transformers in NF4; None: on a small GPU. The same frame and
    prompt give the same picture: they make the seed. Its `__name__` tells it from others, in
    `Trace.setting`.
    Raises FileNotFoundError for a folder without a pipeline, ValueError for one that is
    broken or edits nothing.
    """
    if not name:
        return None
    import torch
    from diffusers import BitsAndBytesConfig, DiffusionPipeline, PipelineQuantizationConfig
    from transformers import BitsAndBytesConfig as ReaderConfig

    gpu = torch.cuda.is_available()
    if four_bit is None:
        memory = torch.cuda.get_device_properties(0).total_memory if gpu else 0
        four_bit = 0 < memory < SMALL_GPU_GB * 1e9
    if Path(name).is_absolute() and not (Path(name) / "model_index.json").exists():
        raise FileNotFoundError(f"{name} is no folder with a pipeline (no model_index.json)")
    loading = {"torch_dtype": compute_dtype()}
    try:
        four_bit = four_bit and "transformer" in DiffusionPipeline.load_config(name)
        if four_bit:
            parts = {
                "transformer": BitsAndBytesConfig(**nf4()),
                "text_encoder": ReaderConfig(**nf4()),
            }
            loading["quantization_config"] = PipelineQuantizationConfig(quant_mapping=parts)
        pipe = DiffusionPipeline.from_pretrained(name, **loading)
    except (AttributeError, KeyError, ValueError) as error:
        raise ValueError(f"{name} is no whole pipeline: {error}") from error
    if missing := {"prompt", "image"} - inspect.signature(pipe.__call__).parameters.keys():
        kind = type(pipe).__name__
        raise ValueError(f"{name} is a {kind}, which takes no {missing.pop()}: it edits nothing")
    pipe.set_progress_bar_config(disable=True)
    if gpu:
        pipe.enable_model_cpu_offload()

    def generate(frame: Image.Image, prompt: str) -> Image.Image:
        told = hashlib.sha1(prompt.encode() + frame.tobytes()).digest()
        seed = torch.Generator("cpu").manual_seed(int.from_bytes(told[:4]))
        picture = pipe(prompt=prompt, image=frame, generator=seed, **options).images[0]
        return picture.convert("RGB").resize(frame.size)

    generate.__name__ = f"pictures by {fingerprint(name)} {dict(options)}{' in NF4' * four_bit}"
    return generate
