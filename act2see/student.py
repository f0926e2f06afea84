"""The student on disk: processor, 4-bit or full base, adapter.

Works on folders or hub names of Qwen3-VL checkpoints. Knows nothing of traces. NF4 with double
quantisation is QLoRA's; the vision tower and the head stay as they are (our choice).
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from peft import PeftModel, get_peft_model_state_dict
from peft.tuners import lora
from peft.utils import SAFETENSORS_WEIGHTS_NAME, load_peft_weights
from safetensors import SafetensorError
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    Qwen2VLImageProcessorPil,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
)
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.utils import cached_file, logging

ADAPTER = "adapter_config.json"  # the file that makes a folder an adapter
REPEATED = "sdpa_repeated"  # a name of ours for an attention, in transformers' list
UNPACKED_BYTES = 1_000_000_000  # what a base's unpacked matrices may take
THOUGHT = "<think>\n"  # what a generation prompt of a student that thinks ends with


class Qwen3VLImageProcessor(Qwen3VLProcessor):
    """A `Qwen3VLProcessor` that does without a video processor, which needs torchvision."""

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        """The class of an argument; that of none for a video processor that is not there."""
        if argument_name == "video_processor" and argument is None:
            return type(None)
        return super().check_argument_for_proper_class(argument_name, argument)

    def save_pretrained(self, folder: str | Path) -> None:
        """Tokenizer (with the chat template) and image processor, each in its own file."""
        self.tokenizer.chat_template = self.chat_template
        self.tokenizer.save_pretrained(folder)
        self.image_processor.save_pretrained(folder)


def locate(checkpoint: str | Path, file: str = "config.json") -> str:
    """The checkpoint as a loader takes it: a folder that holds `file`, or a hub name that has it.

    A path, and a text in a path's form, is a folder: absolute, with "." or "~" first, with more
    than one "/", or with a first part that is a folder here. Any other text is a hub name.
    Raises FileNotFoundError, naming the text, where there is none.
    """
    name = str(checkpoint)
    folder = Path(checkpoint).expanduser()
    if (folder / file).is_file():
        return str(folder)
    if folder.exists():
        raise FileNotFoundError(f"{checkpoint} is here, but holds no checkpoint (no {file})")
    # For a mistyped folder a hub's error speaks of connections and logins: the form decides.
    local = folder.is_absolute() or name.startswith(".") or isinstance(checkpoint, Path)
    nested = len(folder.parts) > 2 or (len(folder.parts) == 2 and folder.parent.is_dir())
    if local or nested:
        raise FileNotFoundError(f"{checkpoint}: there is no such folder; correct the path")
    try:
        # What is cached needs no network: without one, the hub is tried for half a minute.
        if not isinstance(try_to_load_from_cache(name, file), str):
            cached_file(name, file)
    except (OSError, HFValidationError) as error:
        # "outputs/none" has both forms, so that the reader has to hear both.
        raise FileNotFoundError(
            f"{checkpoint}: it is neither a folder here nor a model that the hub hands out or that "
            f"is cached; correct it, or connect to the hub ({str(error).splitlines()[0]})"
        ) from error
    return name


def load_processor(checkpoint: str | Path) -> Qwen3VLImageProcessor:
    """The processor of a Qwen3-VL checkpoint: tokenizer, chat template, PIL images.

    Raises ValueError for a template that opens no thought, as those of Instruct checkpoints, and as
    `locate`.
    """
    place = locate(checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(place)
    template = tokenizer.chat_template or _template(place)
    images = Qwen2VLImageProcessorPil.from_pretrained(place)
    processor = Qwen3VLImageProcessor(images, tokenizer, None, chat_template=template)
    asked = [{"role": "user", "content": "?"}]
    prompt = processor.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    if not prompt.endswith(THOUGHT):
        raise ValueError(
            f"{checkpoint}: its chat template ends a prompt with {prompt[-24:]!r}; it must open a "
            f"thought with {THOUGHT!r}: use the checkpoint whose name says Thinking"
        )
    return processor


def _template(place: str) -> str:
    """The template out of the file in which older checkpoints keep it, apart from the tokenizer."""
    file = cached_file(place, "chat_template.json", _raise_exceptions_for_missing_entries=False)
    if not file:
        raise ValueError(f"{place} has no chat template: no chat_template.jinja, none as JSON")
    return json.loads(Path(file).read_text())["chat_template"]


def load_student(
    checkpoint: str | Path, adapter: str | Path = "", four_bit: bool = True, unpack: bool = False
) -> PreTrainedModel | PeftModel:
    """The student ready to answer: base in NF4, or as it is, with an adapter where one is named.

    unpack: where a processor computes, and there is room, hold the numbers that NF4 stands for, and
    add the adapter's to them: the same answers, in two thirds of the time.
    Raises as `locate`, `check_adapter` and `with_adapter`.
    """
    place = locate(checkpoint)
    if adapter:
        check_adapter(Path(adapter), place)
    # By its number: every process of a training has another GPU.
    device = torch.cuda.current_device() if torch.cuda.is_available() else "cpu"
    options = {"device_map": {"": device}}
    options["attn_implementation"] = attention()
    if four_bit:
        # Four fifths of an 8B model are language matrices: exact eyes and head cost little.
        exact = ["model.visual", "lm_head"]
        options["quantization_config"] = BitsAndBytesConfig(**nf4(), llm_int8_skip_modules=exact)
    model = Qwen3VLForConditionalGeneration.from_pretrained(place, dtype=compute_dtype(), **options)
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # Where a processor has AVX-512 bf16, bitsandbytes packs a matrix anew at the first
            # answer and rounds its scales for good: training would go on over another base.
            module.support_avx512bf16_for_cpu = False
    unpacked = unpack and _unpacked(model)
    if adapter:
        model = with_adapter(model, Path(adapter))
        model = model.merge_and_unload() if unpacked else model
    return model.eval()


def _unpacked(model: PreTrainedModel) -> bool:
    """Whether the model, on a processor, holds no matrix in NF4 any more, but its numbers.

    A processor would make them anew at each product: a fifth of a training step. Our choice.
    """
    packed = [w.quant_state for w in model.parameters() if hasattr(w, "quant_state")]
    weights = sum(state.shape.numel() for state in packed)
    if model.device.type != "cpu" or 4 * weights > UNPACKED_BYTES:
        return False
    if packed:
        said = logging.get_verbosity()
        logging.set_verbosity_error()  # it warns of a loss that there is none of, from NF4
        model.dequantize(torch.float32)
        logging.set_verbosity(said)
    return True


@contextmanager
def merged(model: PeftModel) -> Iterator[None]:
    """A context with the adapter inside the base's matrices: a token takes two thirds of the time.

    Afterwards they are as before, to the bit. Matrices in NF4 stay as they are: a sum is not NF4.
    """
    layers = [module for module in model.modules() if isinstance(module, lora.Linear)]
    kept = [layer.base_layer.weight.detach().clone() for layer in layers]
    for layer in layers:
        layer.merge()
    try:
        yield
    finally:
        for layer, weight in zip(layers, kept, strict=True):
            layer.unmerge()
            layer.base_layer.weight.data.copy_(weight)


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
    # An older GPU says that it can, and emulates bfloat16, which is slow.
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float16


def attention() -> str:
    """The name of the attention that suits this machine: `sdpa`, or with each key repeated.

    Before compute capability 8.0 (T4, V100) no kernel takes several queries a key but the one that
    writes all scores out: 11.1 GB at 4,592 tokens with 32 heads, and 0.34 GB in a seventh of the
    time with keys repeated, as measured with that choice of kernels on an H100.
    """
    gpu = torch.cuda.is_available()
    return REPEATED if gpu and torch.cuda.get_device_capability() < (8, 0) else "sdpa"


def _repeated(
    module: torch.nn.Module, query: torch.Tensor, *key_value: torch.Tensor, **options: Any
) -> tuple[torch.Tensor, None]:
    """`sdpa` of as many keys as there are queries."""
    groups = getattr(module, "num_key_value_groups", 1)
    key, value, *mask = key_value
    many = (repeat_kv(tensor, groups) for tensor in (key, value))
    # A module without groups: of one with groups, transformers would hand over the keys unrepeated.
    plain = SimpleNamespace(is_causal=getattr(module, "is_causal", True))
    return sdpa_attention_forward(plain, query, *many, *mask, **options)


AttentionInterface.register(REPEATED, _repeated)
AttentionMaskInterface.register(REPEATED, sdpa_mask)


def unwrapped(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The Qwen3-VL model itself, adapters left in place inside it."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def fingerprint(checkpoint: str | Path) -> str:
    """What tells one base from another: a hub name, or a digest of a folder's weight files."""
    folder = Path(checkpoint).expanduser()
    if not folder.is_dir():
        return str(checkpoint)
    digest = hashlib.sha256()
    # A pipeline's weights lie in folders inside.
    for file in sorted(folder.rglob("*.safetensors")):
        status = file.stat()
        digest.update(_digest(file.resolve(), status.st_size, status.st_mtime_ns))
    return digest.hexdigest()[:16]


# Gigabytes take seconds, and a run asks several times.
@lru_cache(maxsize=256)
def _digest(file: Path, size: int, written_ns: int) -> bytes:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").digest()


def find_adapter(adapter: str, *runs: Path) -> Path:
    """The folder of the adapter named, or else what notebook 03 left in the first run that has one.

    runs: folders of runs, such as `outputs/pocket`.
    Raises FileNotFoundError, which says where an adapter was looked for and what to do.
    """
    trained = [run / "finetune" / "adapter" for run in runs]
    folders = [Path(adapter).expanduser()] if adapter else trained
    folder = next((folder for folder in folders if (folder / ADAPTER).is_file()), None)
    if folder is None:
        raise FileNotFoundError(
            f"there is no adapter in {' or '.join(dict.fromkeys(map(str, folders)))} (no "
            f"{ADAPTER}): run notebook 03, or set `adapter` to a folder that holds one"
        )
    return folder


def check_adapter(adapter: Path, checkpoint: str | Path) -> None:
    """Raise FileNotFoundError where the folder holds no adapter, ValueError where it is for another
    base than `checkpoint`. Its `revision` is the fingerprint of a base that is a folder.
    """
    if not (adapter / ADAPTER).is_file():
        raise FileNotFoundError(f"{adapter} holds no adapter (no {ADAPTER})")
    fields = json.loads((adapter / ADAPTER).read_text())
    name = fields["base_model_name_or_path"]
    origin = fields["revision"] or name
    base = fingerprint(checkpoint)
    if origin != base:
        raise ValueError(
            f"{adapter} is for {name} ({origin}); {checkpoint} ({base}) is another base"
        )


def with_adapter(model: PreTrainedModel, adapter: Path) -> PeftModel:
    """The model with the folder's adapter in it, proved: PEFT only warns of what does not arrive.

    Raises FileNotFoundError without a file of weights, and ValueError, naming file and weight,
    unless all of them are in the model as they are on disk, finite, and change what it says.
    """
    file = adapter / SAFETENSORS_WEIGHTS_NAME
    if not file.is_file():
        raise FileNotFoundError(f"{adapter} holds no weights (no {file.name}); train it again")
    renamed = getattr(model, "_checkpoint_conversion_mapping", {})
    try:
        stored = load_peft_weights(str(adapter), device="cpu", key_mapping=renamed)
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged ({error}); train it again") from error
    tuned = PeftModel.from_pretrained(model, adapter)
    arrived = get_peft_model_state_dict(tuned, save_embedding_layers=False)
    for fault, keys in (
        ("has no", arrived.keys() - stored.keys()),
        ("has what the model does not:", stored.keys() - arrived.keys()),
        ("has values that are not finite:", {k for k, w in stored.items() if not _finite(w)}),
        ("has not the values of the model:", _differing(stored, arrived)),
    ):
        if keys:
            raise ValueError(f"{file} {fault} {min(keys)} ({len(keys)} weights); train it again")
    # Any text will do: a few times the first word.
    words = torch.zeros((1, 4), dtype=torch.long, device=model.device)
    with torch.inference_mode():
        logits = tuned(input_ids=words).logits
        with tuned.disable_adapter():
            same = torch.equal(logits, tuned(input_ids=words).logits)
    if same:
        raise ValueError(f"{file} changes nothing that the model says; train it again")
    return tuned


def _finite(weight: torch.Tensor) -> bool:
    return bool(weight.isfinite().all())


def _differing(stored: dict[str, torch.Tensor], arrived: dict[str, torch.Tensor]) -> set[str]:
    """The weights of both whose values are not the same."""
    both = stored.keys() & arrived.keys()
    return {k for k in both if not torch.equal(stored[k].to(arrived[k].dtype), arrived[k].cpu())}
