"""How much GPU memory a profile takes, reckoned from its student's config before anything loads.

Works on a profile and the config of a Qwen3-VL, whose weights are counted on the meta device. Knows
nothing of what runs. What autograd keeps of a token was read off its saved tensors in bfloat16
(tests/test_memory.py does so again); allocator, CUDA context and fragments are an allowance.
Ranker and generator come on top. All of it is our choice.
"""

import torch
from pandas import DataFrame
from transformers import AutoConfig, Qwen2VLImageProcessorPil, Qwen3VLForConditionalGeneration

from act2see.policies.cache import GROWTH
from act2see.policies.qwen import FED_TOKENS
from act2see.profiles import Profile

NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)  # of a weight, its scales quantised once more
HALF_BYTES, TRAINED_BYTES = 2, 16  # a trained weight is float32, with gradient and two moments
LOGIT_BYTES = 10  # in 16 bits, in 32, and its gradient
PROMPT_TOKENS, SEEN_AT_ONCE = 500, 64
OVERHEAD_GB = 0.8


def memory_plan(
    profile: Profile, four_bit: bool = True, said_tokens: int = 1500, cache_gb: float = 4.0
) -> DataFrame:
    """GB that training and answering take at their peak, part by part, with `total` last.

    Reckoned for the largest dialogue: overview and every call's frames, square ones.
    said_tokens: what a trace to learn from says. cache_gb: as of `QwenPolicy`, where dialogues wait
    for room. Raises ValueError naming the number to lower where `profile.memory_gb` is not enough.
    """
    config = AutoConfig.from_pretrained(profile.student)
    text, eye, recipe = config.text_config, config.vision_config, profile.recipe
    budget, toolbox = profile.budget, profile.toolbox
    overview = -(-budget.overview_frames // (2 if budget.overview_as_video else 1))
    frames = overview + budget.max_calls * toolbox.frames_per_call
    seen = frames * frame_tokens(profile)
    patches = eye.spatial_merge_size**2 * seen * min(1, SEEN_AT_ONCE / frames)
    looking = HALF_BYTES * patches * (eye.intermediate_size + 6 * eye.hidden_size)
    features = HALF_BYTES * seen * text.hidden_size * (1 + len(eye.deepstack_visual_indexes))
    fixed, adapter = weights(profile.student, recipe.rank, four_bit)
    learned = seen + PROMPT_TOKENS + said_tokens
    abreast = max(1, min(recipe.batch_size, recipe.fed_tokens // learned))
    tokens = abreast * learned
    kept = tokens * layer_bytes(text) * text.num_hidden_layers
    if recipe.recompute:
        kept = tokens * (layer_bytes(text) + HALF_BYTES * text.hidden_size * text.num_hidden_layers)
    dialogue = seen + PROMPT_TOKENS + (budget.max_calls + 1) * profile.reply_tokens
    token = 2 * HALF_BYTES * text.num_hidden_layers * text.num_key_value_heads * text.head_dim
    cache = min(cache_gb * 1e9, GROWTH * dialogue * token * budget.open_dialogues)
    cache = max(cache, dialogue * token) * (1 + 1 / text.num_hidden_layers)  # and a spare layer
    fed = min(FED_TOKENS, dialogue * budget.open_dialogues)
    wide = 3 * text.intermediate_size + 4 * text.hidden_size
    parts = {
        "weights": (fixed, fixed),
        "adapter": (TRAINED_BYTES * adapter, HALF_BYTES * 2 * adapter),
        "frames": (max(looking, abreast * features), looking + features),
        "activations": (kept, HALF_BYTES * fed * wide),
        "logits": (
            LOGIT_BYTES * abreast * said_tokens * text.vocab_size,
            6 * budget.open_dialogues * text.vocab_size,
        ),
        "cache": (0, cache),
    }
    plan = DataFrame(parts, index=["training", "answering"]).T / 1e9
    plan.loc["overhead"] = OVERHEAD_GB
    plan.loc["total"] = plan.sum()
    for work, needed in plan.loc["total"].items():
        if needed > profile.memory_gb:
            raise ValueError(
                f"{work} takes {needed:.1f} GB of memory_gb, {profile.memory_gb:g}: "
                f"{too_much(plan[work], profile)}"
            )
    return plan


def frame_tokens(profile: Profile) -> int:
    """The most tokens of a frame: a square of `max_side_px`, or what the processor allows."""
    eye = Qwen2VLImageProcessorPil.from_pretrained(profile.student)
    most_px = min(
        eye.size["longest_edge"], profile.toolbox.max_side_px**2 or eye.size["longest_edge"]
    )
    return max(most_px, eye.size["shortest_edge"]) // (eye.patch_size * eye.merge_size) ** 2


def weights(checkpoint: str, rank: int, four_bit: bool) -> tuple[float, int]:
    """Bytes of the base, its language matrices in NF4; and the adapter's number of weights."""
    with torch.device("meta"):
        model = Qwen3VLForConditionalGeneration(AutoConfig.from_pretrained(checkpoint))
    layers = model.model.language_model.layers.modules()
    matrices = [m.weight for m in layers if isinstance(m, torch.nn.Linear)]
    quantised = sum(w.numel() for w in matrices)
    whole = sum(w.numel() for w in model.parameters())
    of_matrix = NF4_BYTES if four_bit else HALF_BYTES
    adapter = rank * sum(sum(w.shape) for w in matrices)
    return quantised * of_matrix + (whole - quantised) * HALF_BYTES, adapter


def layer_bytes(text) -> int:
    """What autograd keeps of a token in a language layer with an adapter."""
    queries = text.num_attention_heads * text.head_dim
    keys = text.num_key_value_heads * text.head_dim
    return 28 * text.hidden_size + 10 * text.intermediate_size + 12 * queries + 8 * keys


def too_much(needed, profile: Profile) -> str:
    """Which number to lower, for the largest part of `needed` GB that can be lowered."""
    recipe = profile.recipe
    if needed["weights"] + OVERHEAD_GB > profile.memory_gb:
        return f"the weights alone take {needed['weights']:.1f}; take a smaller student"
    part = needed[["activations", "frames", "logits", "cache"]].idxmax()
    levers = {
        "activations": "overview_frames, frames_per_call or max_side_px",
        "frames": "max_side_px",
        "logits": "said_tokens: leave out the longest traces",
        "cache": "reply_tokens or cache_gb",
    }
    lever = f"lower {levers[part]}"
    if part == "activations" and needed.name == "training" and not recipe.recompute:
        lever = "set recompute=True"
    elif part in ("activations", "logits") and needed.name == "training" and recipe.fed_tokens > 1:
        lever = f"lower fed_tokens, {recipe.fed_tokens}"
    return f"most are {part}, {needed[part]:.1f}; {lever}"
