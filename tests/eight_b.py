"""Models of published sizes and random weights, drawn a layer at a time where they will work.

Works on configs alone: no weight is read, none is written, and memory never holds more than the
model and one layer. Weights do not change what a step costs.
"""

import torch
from accelerate import init_empty_weights
from bitsandbytes.nn import Linear4bit, Params4bit
from torch import nn
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from act2see.profiles import PROFILES
from act2see.student import Qwen3VLImageProcessor, compute_dtype, load_processor

SIDE_PX = 448  # 196 tokens a frame
TINY_SIDE_PX = 64
TEXT = {
    "vocab_size": 151_936, "hidden_size": 4096, "intermediate_size": 12_288, "head_dim": 128,
    "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8,
    "max_position_embeddings": 262_144,
    "rope_parameters": {
        "rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20],
        "mrope_interleaved": True,
    },
}  # fmt: skip
EYE = {
    "depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "patch_size": 16,
    "out_hidden_size": 4096, "deepstack_visual_indexes": [8, 16, 24],
    "num_position_embeddings": 2304,
}  # fmt: skip
TINY_TEXT = TEXT | {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 4}
TINY_TEXT |= {"num_attention_heads": 2, "num_key_value_heads": 1}
TINY_EYE = EYE | {"depth": 4, "hidden_size": 64, "intermediate_size": 64, "num_heads": 2}
TINY_EYE |= {"out_hidden_size": 256, "deepstack_visual_indexes": [0, 1, 2]}


def device() -> str:
    """Where models work on this machine."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def build(tiny: bool) -> tuple[Qwen3VLForConditionalGeneration, Qwen3VLImageProcessor]:
    """Qwen3-VL-8B as `load_student` leaves it, in NF4 but for eyes and head; the pocket's processor
    with the large one's pictures. The model says words of that processor, and never ends by itself.
    """
    processor = load_processor(PROFILES["pocket"].student)
    eye = processor.image_processor
    eye.patch_size = 16
    side_px = TINY_SIDE_PX if tiny else SIDE_PX
    eye.size = {"shortest_edge": side_px**2, "longest_edge": side_px**2}
    token = processor.tokenizer.convert_tokens_to_ids
    config = Qwen3VLConfig(
        text_config=TINY_TEXT | {"vocab_size": 1024} if tiny else TEXT,
        vision_config=TINY_EYE if tiny else EYE,
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        name_or_path="random",
    )
    with init_empty_weights():
        model = Qwen3VLForConditionalGeneration(config)
    filled(model, four_bit=True, exact=("model.visual", "lm_head"))
    model.is_loaded_in_4bit = True  # what from_pretrained notes for peft and the Trainer
    # A row of zeros is never the largest: numbers without a word, and tags, are not said.
    model.lm_head.weight[[*processor.tokenizer.get_added_vocab().values()]] = 0
    model.lm_head.weight[len(processor.tokenizer) :] = 0
    return model, processor


@torch.no_grad()
def filled(model: nn.Module, four_bit: bool = False, exact: tuple[str, ...] = ()) -> nn.Module:
    """The model itself, whose weights were on no device, with random ones on the GPU, frozen.

    four_bit: linear layers in NF4 with double quantisation, but for those whose names begin with
    one of `exact`. Everything else is in what this machine computes in.
    """
    torch.manual_seed(0)
    options = {"quant_type": "nf4", "compress_statistics": True}
    for name, layer in list(model.named_modules()):
        for key, weight in list(layer.named_parameters(recurse=False)):
            layer.register_parameter(key, nn.Parameter(drawn(key, weight), requires_grad=False))
        if four_bit and isinstance(layer, nn.Linear) and not name.startswith(exact):
            sizes = layer.in_features, layer.out_features, layer.bias is not None
            small = Linear4bit(*sizes, compute_dtype(), **options, device="meta")
            small.bias = layer.bias
            values = layer.weight.data
            small.weight = Params4bit(values, requires_grad=False, module=small, **options)
            small.weight = small.weight.to(device())
            layer.weight = None  # the list of layers holds this one until all are done
            del values
            model.set_submodule(name, small)
    return model.to(device()).eval()


def drawn(key: str, weight: torch.Tensor) -> torch.Tensor:
    """Random values of a weight's shape: small ones, of a norm ones, of a bias zeros."""
    values = torch.zeros(weight.shape, dtype=compute_dtype(), device=device())
    if weight.ndim > 1:
        return values.normal_(std=0.02)
    return values.fill_(key.endswith("weight"))
