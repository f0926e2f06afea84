"""The student on disk: processor, 4-bit or full base, adapter.

Works on folders or hub names of Qwen3-VL checkpoints. Knows nothing of traces. NF4 with double
quantisation is QLoRA's; the vision tower and the head stay as they are (our choice).
"""

import hashlib
import json
from pathlib import Path

import torch
from peft import PeftModel
from transformers import (
    AutoTokenizer,
    BitsAndBytesConfig,
    Qwen2VLImageProcessorPil,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
)


class Qwen3VLImageProcessor(Qwen3VLProcessor):
    """A `Qwen3VLProcessor` that does without a video processor, which needs torchvision."""

    def check_argument_for_proper_class(self, argument_name, argument):
        if argument_name == "video_processor" and argument is None:
            return type(None)
        return super().check_argument_for_proper_class(argument_name, argument)

    def save_pretrained(self, folder: str | Path) -> None:
        """Tokenizer (with the chat template) and image processor, each in its own file."""
        self.tokenizer.chat_template = self.chat_template
        self.tokenizer.save_pretrained(folder)
        self.image_processor.save_pretrained(folder)


def load_processor(checkpoint: str | Path) -> Qwen3VLImageProcessor:
    """The processor of a Qwen3-VL checkpoint: tokenizer, chat template, PIL images.

    Raises FileNotFoundError for an absolute path that is no folder.
    """
    if Path(checkpoint).is_absolute() and not Path(checkpoint).is_dir():
        raise FileNotFoundError(f"{checkpoint} is no folder with a checkpoint")
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    images = Qwen2VLImageProcessorPil.from_pretrained(checkpoint)
    return Qwen3VLImageProcessor(images, tokenizer, None, chat_template=tokenizer.chat_template)


def load_student(checkpoint: str | Path, adapter: str | Path = "", four_bit: bool = True):
    """The student ready to answer: base in NF4, or as it is, with an adapter where one is named.

    Raises as `check_adapter`.
    """
    if adapter:
        check_adapter(Path(adapter), checkpoint)
    gpu, dtype = torch.cuda.is_available(), compute_dtype()
    quantised = BitsAndBytesConfig(**nf4(), llm_int8_skip_modules=["model.visual", "lm_head"])
    options = {"quantization_config": quantised} if four_bit else {}
    model = Qwen3VLForConditionalGeneration.from_pretrained(
        checkpoint, dtype=dtype, device_map={"": "cuda" if gpu else "cpu"}, **options
    )
    return PeftModel.from_pretrained(model, adapter).eval() if adapter else model.eval()


def nf4() -> dict:
    """Fields of a bitsandbytes configuration, of transformers or diffusers, for 4 bits a weight."""
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": compute_dtype(),
    }


def compute_dtype() -> torch.dtype:
    """What this machine computes in: bfloat16, on older GPUs float16, without a GPU float32."""
    if not torch.cuda.is_available():
        return torch.float32
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float16


def unwrapped(model):
    """The Qwen3-VL model itself, adapters left in place inside it."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def fingerprint(checkpoint: str | Path) -> str:
    """What tells one base from another: a hub name, or a digest of a folder's weight files."""
    folder = Path(checkpoint)
    if not folder.is_dir():
        return str(checkpoint)
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.safetensors")):
        with file.open("rb") as weights:
            digest.update(weights.read(1 << 22) + str(file.stat().st_size).encode())
    return digest.hexdigest()[:16]


def check_adapter(adapter: Path, checkpoint: str | Path) -> None:
    """Raise FileNotFoundError where the folder holds no adapter, ValueError where it is for another
    base than `checkpoint`. Its `revision` is the fingerprint of a base that is a folder.
    """
    config = adapter / "adapter_config.json"
    if not config.exists():
        raise FileNotFoundError(f"{adapter} holds no adapter (no {config.name})")
    told, given = json.loads(config.read_text()), fingerprint(checkpoint)
    name = told["base_model_name_or_path"]
    if (own := told["revision"] or name) != given:
        raise ValueError(f"{adapter} is for {name} ({own}); {checkpoint} ({given}) is another base")
