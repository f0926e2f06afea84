"""The pocket student's parts, built from nothing: tokenizer, processor, chat template, weights.

Works on a text corpus. Does not know training. They are instances of the classes that carry
Qwen3-VL-8B (`Qwen3VLForConditionalGeneration`, `Qwen3VLProcessor`), with Qwen's special and tool
tokens, saved and loaded in the same way. Sizes are our choice.
"""

from collections.abc import Iterable
from importlib.resources import files

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from act2see.student import Qwen3VLImageProcessor

FRAME_PX = 48
PATCH_PX = 8
SPECIAL_TOKENS = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
    "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
]  # fmt: skip
# One token each, but written out when decoded: a reply is read by them.
WORD_TOKENS = [
    "<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>",
]  # fmt: skip
# Qwen's own cuts. A digit is a token: times are read and written figure by figure.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# The grammar of Qwen3-VL-Thinking's. It ships next to the base, and is written by hand.
CHAT_TEMPLATE = files("act2see") / "pocket" / "models" / "base" / "chat_template.jinja"


def build_processor(corpus: Iterable[str], vocabulary: int = 1024) -> Qwen3VLImageProcessor:
    """A processor whose byte-level BPE is learnt from `corpus`, digits one by one as Qwen's.

    Frames become 48 x 48 pixels, 9 tokens each. There is no video processor: it needs torchvision.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIAL_TOKENS + WORD_TOKENS,
        # Sorted, because it comes as a set: in another order the same corpus gives other tokens.
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=SPECIAL_TOKENS[1:],
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
    )
    images = Qwen2VLImageProcessorPil(
        patch_size=PATCH_PX,
        merge_size=2,
        temporal_patch_size=2,
        size=dict.fromkeys(("shortest_edge", "longest_edge"), FRAME_PX**2),
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    template = CHAT_TEMPLATE.read_text()
    return Qwen3VLImageProcessor(images, fast, None, chat_template=template)


def build_model(
    processor: Qwen3VLImageProcessor,
    hidden: int = 192,
    layers: int = 5,
    heads: int = 4,
    vision: int = 96,
) -> Qwen3VLForConditionalGeneration:
    """An untrained student of about 3 M parameters for this processor's vocabulary."""
    tokens = processor.tokenizer.convert_tokens_to_ids
    half = hidden // heads // 2
    text = {
        "vocab_size": len(processor.tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": hidden // heads,
        "max_position_embeddings": 4096,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "mrope_section": [half - 2 * (half // 4), half // 4, half // 4],
            "mrope_interleaved": True,
        },
        "pad_token_id": processor.tokenizer.pad_token_id,
        "tie_word_embeddings": True,
    }
    eye = {
        "depth": 3,
        "hidden_size": vision,
        "intermediate_size": 3 * vision,
        "num_heads": vision // 32,
        "patch_size": PATCH_PX,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": hidden,
        "num_position_embeddings": (FRAME_PX // PATCH_PX) ** 2,
        "deepstack_visual_indexes": [0, 1],
    }
    config = Qwen3VLConfig(
        text_config=text,
        vision_config=eye,
        image_token_id=tokens("<|image_pad|>"),
        video_token_id=tokens("<|video_pad|>"),
        vision_start_token_id=tokens("<|vision_start|>"),
        vision_end_token_id=tokens("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    model = Qwen3VLForConditionalGeneration(config)
    # A server stops where this says; without it, at its own limit.
    model.generation_config.eos_token_id = [tokens("<|im_end|>"), tokens("<|endoftext|>")]
    return model
