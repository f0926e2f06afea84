"""Models of no size and random weights, of the classes that the large profiles load, on disk."""

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoTokenizer,
    Blip2Config,
    Blip2ForImageTextRetrieval,
    BlipImageProcessorPil,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessorPil,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Siglip2Config,
    Siglip2ImageProcessorPil,
    Siglip2Model,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    T5Config,
    T5EncoderModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from act2see.profiles import PROFILES
from act2see.student import load_processor

WORDS = (
    "the A a disc is it red blue and then man opens cup falls which first wall turns dark . , at"
)
LAYERS = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
LAYERS |= {"num_attention_heads": 2}


def tokenizer(folder: Path, longest: int) -> int:
    """A tokenizer of single words; returns how many it knows."""
    words = Tokenizer(models.WordLevel(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    words.train_from_iterator([WORDS], trainers.WordLevelTrainer(special_tokens=special))
    ends = [("<s>", 0), ("</s>", 2)]
    words.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=ends)
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), special, strict=True))
    PreTrainedTokenizerFast(
        tokenizer_object=words, model_max_length=longest, **names
    ).save_pretrained(folder)
    return words.get_vocab_size()


def siglip(folder: Path) -> str:
    """What google/siglip2-base-patch16-224 is: a SigLIP at a fixed size."""
    torch.manual_seed(0)
    text = LAYERS | {"vocab_size": tokenizer(folder, 64), "projection_size": 32}
    vision = LAYERS | {"image_size": 32, "patch_size": 16}
    SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


def siglip2(folder: Path) -> str:
    """What google/siglip2-base-patch16-naflex is: a SigLIP 2 that keeps a picture's shape."""
    torch.manual_seed(0)
    text = LAYERS | {"vocab_size": tokenizer(folder, 64), "projection_size": 32}
    vision = LAYERS | {"num_patches": 16, "patch_size": 16}
    Siglip2Model(Siglip2Config(text_config=text, vision_config=vision)).save_pretrained(folder)
    Siglip2ImageProcessorPil(max_num_patches=16).save_pretrained(folder)
    return str(folder)


def blip2(folder: Path) -> str:
    """What Salesforce/blip2-itm-vit-g-coco is: a BLIP-2 with the heads that compare, no decoder.

    Its tokenizer has a word for the picture, which its processor puts before each sentence.
    """
    torch.manual_seed(0)
    known = tokenizer(folder, 64)
    words = AutoTokenizer.from_pretrained(folder)
    words.add_tokens(["<image>"], special_tokens=True)
    words.save_pretrained(folder)
    text = LAYERS | {"vocab_size": known, "max_position_embeddings": 64}
    text |= {"cross_attention_frequency": 1, "use_qformer_text_input": True}
    # Of the usual spread of weights, so small a model would embed every frame alike.
    spread = {"initializer_range": 0.5}
    config = Blip2Config(
        vision_config=LAYERS | spread | {"image_size": 32, "patch_size": 16},
        qformer_config=text | spread,
        num_query_tokens=4, image_text_hidden_size=16, image_token_index=known, **spread,
    )  # fmt: skip
    model = Blip2ForImageTextRetrieval(config)
    # They begin as zeros, and four of them would be one.
    model.query_tokens.data.normal_()
    model.save_pretrained(folder)
    BlipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


def bge_m3(folder: Path) -> str:
    """What BAAI/bge-m3 is: an XLM-RoBERTa with the linear maps of its sparse and ColBERT heads, and
    files that say how it is used.

    Its attention is even, so that texts are alike as far as they share words.
    """
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=tokenizer(folder, 8192),
        max_position_embeddings=8194,
        pad_token_id=1,
        **LAYERS | {"hidden_size": 256},
    )
    model = XLMRobertaModel(config)
    first, layer = model.embeddings, model.encoder.layer[0]
    layer.attention.output.dense.weight.data *= 100
    for weight in (
        first.word_embeddings.weight[0], first.position_embeddings.weight,
        first.token_type_embeddings.weight, layer.attention.self.query.weight,
        layer.intermediate.dense.weight,
    ):  # fmt: skip
        weight.data.zero_()
    model.save_pretrained(folder)
    for name, width in (("sparse_linear", 1), ("colbert_linear", 256)):
        torch.save(torch.nn.Linear(256, width).state_dict(), folder / f"{name}.pt")
    (folder / "1_Pooling").mkdir()
    modes = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (folder / "1_Pooling/config.json").write_text(json.dumps(modes))
    prompts = {"prompts": {}, "default_prompt_name": None}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    return str(folder)


def flux2_klein(folder: Path) -> str:
    """What black-forest-labs/FLUX.2-klein-4B is: a Flux2KleinPipeline, with a Qwen3 that reads.

    The Qwen3 has 28 layers, as the pipeline takes its ninth, eighteenth and twenty-seventh.
    """
    torch.manual_seed(0)
    words = AutoTokenizer.from_pretrained(PROFILES["pocket"].student)
    text = Qwen3Config(
        vocab_size=len(words), head_dim=8, num_key_value_heads=1,
        **LAYERS | {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 28},
    )  # fmt: skip
    vae = AutoencoderKLFlux2(
        block_out_channels=(8,) * 4, layers_per_block=1, latent_channels=4, norm_num_groups=4
    )
    painter = Flux2Transformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=3 * text.hidden_size, axes_dims_rope=(4,) * 4,
        guidance_embeds=False,
    )  # fmt: skip
    parts = FlowMatchEulerDiscreteScheduler(), vae, Qwen3ForCausalLM(text), words, painter
    Flux2KleinPipeline(*parts, is_distilled=True).save_pretrained(folder)
    return str(folder)


def sd3(folder: Path) -> str:
    """What stabilityai/stable-diffusion-3.5-large is: a pipeline from text, with three readers."""
    torch.manual_seed(0)
    known = tokenizer(folder / "words", 16)
    words = AutoTokenizer.from_pretrained(folder / "words")
    clip = LAYERS | {"vocab_size": known, "max_position_embeddings": 16, "projection_dim": 32}
    readers = [CLIPTextModelWithProjection(CLIPTextConfig(**clip)) for _ in range(2)]
    text = T5Config(
        vocab_size=known, d_model=64, d_kv=16, d_ff=64, num_layers=1, num_heads=2, pad_token_id=1
    )
    vae = AutoencoderKL(
        block_out_channels=(8,) * 4, latent_channels=4, norm_num_groups=4, shift_factor=0.0,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip
    # Its usual size, a megapixel: 128 latents of 8 pixels.
    painter = SD3Transformer2DModel(
        sample_size=128, patch_size=2, in_channels=4, out_channels=4, num_layers=1,
        attention_head_dim=16, num_attention_heads=2, caption_projection_dim=32,
        joint_attention_dim=64, pooled_projection_dim=64, pos_embed_max_size=96,
    )  # fmt: skip
    StableDiffusion3Pipeline(
        transformer=painter, scheduler=FlowMatchEulerDiscreteScheduler(), vae=vae,
        text_encoder=readers[0], tokenizer=words, text_encoder_2=readers[1], tokenizer_2=words,
        text_encoder_3=T5EncoderModel(text), tokenizer_3=words,
    ).save_pretrained(folder)  # fmt: skip
    return str(folder)


def qwen3_vl(folder: Path) -> str:
    """What Qwen/Qwen3-VL-8B-Thinking is: patches of 16 px, grouped keys, a head of its own.

    Tokenizer and chat template are the shipped base's: the template has the published grammar.
    """
    torch.manual_seed(0)
    processor = load_processor(PROFILES["pocket"].student)
    eye = LAYERS | {"depth": 2, "num_heads": 2, "patch_size": 16, "out_hidden_size": 64}
    eye |= {"deepstack_visual_indexes": [0, 1], "num_position_embeddings": 256}
    text = LAYERS | {"vocab_size": len(processor.tokenizer), "hidden_size": 64}
    text |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [4, 2, 2]}
    text |= {"head_dim": 16, "rope_parameters": rope | {"mrope_interleaved": True}}
    name = processor.tokenizer.convert_tokens_to_ids
    # Of the usual spread of weights, all tokens would be about as likely.
    spread = {"initializer_range": 0.3}
    config = Qwen3VLConfig(
        text_config=text | spread, vision_config=eye | spread, tie_word_embeddings=False,
        image_token_id=name("<|image_pad|>"), video_token_id=name("<|video_pad|>"),
        vision_start_token_id=name("<|vision_start|>"), vision_end_token_id=name("<|vision_end|>"),
    )  # fmt: skip
    Qwen3VLForConditionalGeneration(config).save_pretrained(folder)
    processor.tokenizer.save_pretrained(folder)
    size = {"shortest_edge": 128 * 128, "longest_edge": 512 * 512}
    grey = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    Qwen2VLImageProcessorPil(patch_size=16, size=size, **grey).save_pretrained(folder)
    return str(folder)
