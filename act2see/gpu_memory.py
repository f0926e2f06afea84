"""How much GPU memory a profile takes, computed from its student's config before anything loads.

Works on a profile and the config of a Qwen3-VL, whose weights are counted on the meta device. Knows
nothing of what runs. What autograd keeps of a token was read off its saved tensors in bfloat16
(tests/test_gpu_memory.py does so again); allocator, CUDA context and fragments are an allowance.
What a profile's tools look with is a number of the profile. All of it is our choice.
"""

import torch
from pandas import DataFrame, Series
from transformers import (
    AutoConfig,
    PretrainedConfig,
    Qwen2VLImageProcessorPil,
    Qwen3VLForConditionalGeneration,
)

from act2see.policies.cache import GROWTH
from act2see.policies.qwen import FED_TOKENS
from act2see.profiles import Profile
from act2see.student import locate

# Of a weight: half a byte, a scale for 64 of them, and that scale quantised once more.
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
HALF_BYTES = 2
TRAINED_BYTES = 16  # a trained weight is float32, with gradient and two moments
LOGIT_BYTES = 12  # in 16 bits and in 32, and the gradients of both
PROMPT_TOKENS = 500
LOOK_FRAMES = 64  # that the vision tower sees at a time
OVERHEAD_GB = 0.8


def memory_plan(
    profile: Profile, four_bit: bool = True, label_tokens: int = 1500, cache_gb: float = 4.0
) -> DataFrame:
    """GB that training and answering take at their peak, part by part, with `total` last.

    For the largest dialogue: overview and every call's frames, square ones.
    label_tokens: what a trace to learn from says. cache_gb: as of `QwenPolicy`, where dialogues
    wait for room. Raises ValueError naming the number to lower where `profile.memory_gb` is too
    small.
    """
    config = AutoConfig.from_pretrained(locate(profile.student))
    text = config.text_config
    recipe = profile.recipe
    dialogues = profile.budget.open_dialogues
    frames = most_frames(profile)
    opening = frames * frame_tokens(profile) + PROMPT_TOKENS
    base, adapter = weights(profile.student, recipe.rank, four_bit)
    look, features = frame_bytes(config, frames, opening - PROMPT_TOKENS)
    rows = max(1, min(recipe.batch_size, recipe.fed_tokens // (opening + label_tokens)))
    dialogue = opening + (profile.budget.max_calls + 1) * profile.reply_tokens
    fed = min(FED_TOKENS, dialogue * dialogues)
    wide = 3 * text.intermediate_size + 4 * text.hidden_size
    # Keys and values of a layer, repeated for its queries, and in training their gradients.
    repeated = 2 * HALF_BYTES * text.num_attention_heads * text.head_dim
    parts = {
        "weights": (base, base),
        "adapter": (TRAINED_BYTES * adapter, HALF_BYTES * 2 * adapter),
        "frames": (max(look, rows * features), look + features),
        "activations": (
            rows * (opening + label_tokens) * token_bytes(text, recipe.recompute),
            HALF_BYTES * fed * wide,
        ),
        "logits": (
            LOGIT_BYTES * rows * label_tokens * text.vocab_size,
            6 * dialogues * text.vocab_size,
        ),
        "attention": (2 * repeated * rows * (opening + label_tokens), repeated * dialogue),
        "cache": (0, cache_bytes(text, dialogue, dialogues, cache_gb)),
        "tools": (0, profile.tools_gb * 1e9),
    }
    plan = DataFrame(parts, index=["training", "answering"]).T / 1e9
    plan.loc["overhead"] = OVERHEAD_GB
    plan.loc["total"] = plan.sum()
    for work, total_gb in plan.loc["total"].items():
        if total_gb > profile.memory_gb:
            raise ValueError(
                f"{work} takes {total_gb:.1f} GB of memory_gb, {profile.memory_gb:g}: "
                f"{too_much(plan[work], profile)}"
            )
    return plan


def most_frames(profile: Profile) -> int:
    """The most pictures of a dialogue: the overview's, and every call's."""
    budget = profile.budget
    # Two frames of a video are one picture.
    overview = -(-budget.overview_frames // (2 if budget.overview_as_video else 1))
    per_call = max((getattr(tool, "frames_per_call", 1) for tool in profile.tools), default=0)
    return overview + budget.max_calls * per_call


def frame_tokens(profile: Profile) -> int:
    """The most tokens of a frame: a square of `max_side_px`, or what the processor allows."""
    eye = Qwen2VLImageProcessorPil.from_pretrained(locate(profile.student))
    # Both "edges" are areas, whatever their names.
    most_px = min(profile.budget.max_side_px**2 or float("inf"), eye.size["longest_edge"])
    return max(most_px, eye.size["shortest_edge"]) // (eye.patch_size * eye.merge_size) ** 2


def frame_bytes(config: PretrainedConfig, frames: int, tokens: int) -> tuple[float, int]:
    """What looking at `frames` of so many tokens takes, and what their features take afterwards."""
    eye = config.vision_config
    text = config.text_config
    patches = eye.spatial_merge_size**2 * tokens * min(1, LOOK_FRAMES / frames)
    look = HALF_BYTES * patches * (eye.intermediate_size + 6 * eye.hidden_size)
    # The deepest layer's, and a set for each of the language layers that get one.
    sets = 1 + len(eye.deepstack_visual_indexes)
    return look, HALF_BYTES * tokens * text.hidden_size * sets


def weights(checkpoint: str, rank: int, four_bit: bool) -> tuple[float, int]:
    """Bytes of the base, its language matrices in NF4; and the adapter's number of weights."""
    with torch.device("meta"):
        model = Qwen3VLForConditionalGeneration(AutoConfig.from_pretrained(locate(checkpoint)))
    layers = model.model.language_model.layers.modules()
    matrices = [m.weight for m in layers if isinstance(m, torch.nn.Linear)]
    quantised = sum(w.numel() for w in matrices)
    whole = sum(w.numel() for w in model.parameters())
    matrix_bytes = NF4_BYTES if four_bit else HALF_BYTES
    adapter = rank * sum(sum(w.shape) for w in matrices)
    return quantised * matrix_bytes + (whole - quantised) * HALF_BYTES, adapter


def layer_bytes(text: PretrainedConfig) -> int:
    """What autograd keeps of a token in a language layer with an adapter."""
    queries = text.num_attention_heads * text.head_dim
    keys = text.num_key_value_heads * text.head_dim
    return 28 * text.hidden_size + 10 * text.intermediate_size + 12 * queries + 8 * keys


def token_bytes(text: PretrainedConfig, recompute: bool) -> int:
    """What autograd keeps of a token in all layers."""
    # Computed again, each layer keeps its input, and one is whole at a time.
    again = layer_bytes(text) + HALF_BYTES * text.hidden_size * text.num_hidden_layers
    return again if recompute else layer_bytes(text) * text.num_hidden_layers


def cache_bytes(text: PretrainedConfig, dialogue: int, dialogues: int, cache_gb: float) -> float:
    """What keys and values of `dialogues` of so many tokens take, and a spare layer."""
    token = 2 * HALF_BYTES * text.num_hidden_layers * text.num_key_value_heads * text.head_dim
    room = min(cache_gb * 1e9, GROWTH * dialogue * token * dialogues)
    # One dialogue is let in even where `cache_gb` has no room for it.
    return max(room, dialogue * token) * (1 + 1 / text.num_hidden_layers)


def too_much(plan: Series, profile: Profile) -> str:
    """Which number to lower, for the largest part of a plan in GB that can be lowered."""
    recipe = profile.recipe
    if plan["weights"] + OVERHEAD_GB > profile.memory_gb:
        return f"the weights alone take {plan['weights']:.1f}; take a smaller student"
    part = plan[["activations", "frames", "logits", "cache"]].idxmax()
    levers = {
        "activations": "overview_frames, frames_per_call or max_side_px",
        "frames": "max_side_px",
        "logits": "label_tokens: leave out the longest traces",
        "cache": "reply_tokens or cache_gb",
    }
    lever = f"lower {levers[part]}"
    if part == "activations" and plan.name == "training" and not recipe.recompute:
        lever = "set recompute=True"
    elif part in ("activations", "logits") and plan.name == "training" and recipe.fed_tokens > 1:
        lever = f"lower fed_tokens, {recipe.fed_tokens}"
    return f"most are {part}, {plan[part]:.1f}; {lever}"
