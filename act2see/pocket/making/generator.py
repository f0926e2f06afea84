"""Trains the pocket generator from scratch: `python -m act2see.pocket.making.generator FOLDER`.

A small editing pipeline of the class that InstructPix2Pix has: it gets a real frame and an
instruction, and draws the hypothetical frame. First an autoencoder learns to keep frames, then text
encoder and U-Net learn from pairs (frame, instruction, frame after the edit), drawn from scenes of
the `pretrain` split. An interrupted run goes on from its last checkpoint. Works on pairs of frames.
Does not know traces or questions. Sizes and recipe are our choice.
"""

from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import (
    AutoencoderTiny,
    DDIMScheduler,
    StableDiffusionInstructPix2PixPipeline,
    UNet2DConditionModel,
)
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from act2see.pocket.edits import KINDS, Edit, edited, sample_edit
from act2see.pocket.making.lessons import any_moment, brief_moment
from act2see.pocket.making.training import Progress, ahead, command_line, descend, record, share
from act2see.pocket.questions import scene_seed
from act2see.pocket.world import COLOURS, PLACES, SHAPES, render, sample_scene

RATE = 1e-3
BATCH = 64
LATENTS = 16
WIDTHS = (64, 96, 96)


class Stage(NamedTuple):
    """How many steps, what learns in them, and how often each kind of edit is drawn."""

    steps: int
    learner: str
    chances: tuple[float, ...]  # remove, paint, add, move


# The learning rate rises and falls once a stage. Moves come last and most: nothing but them needs
# to know where a word like `left` is.
STAGES = (
    Stage(400, "autoencoder", (0.25, 0.25, 0.25, 0.25)),
    Stage(1600, "editor", (0.25, 0.25, 0.25, 0.25)),
    Stage(900, "editor", (0.1, 0.1, 0.1, 0.7)),
)
# Every step's stage, and its number in it.
COURSE = [(stage, number) for stage in STAGES for number in range(stage.steps)]


class Pairs(NamedTuple):
    """Frames, uint8 (n, side, side, 3), an instruction each, and the frames after it."""

    before: np.ndarray
    after: np.ndarray
    prompts: list[str]


def build_pipeline() -> StableDiffusionInstructPix2PixPipeline:
    """An untrained pipeline for frames of 96 x 96 pixels, of about 4.5 M parameters."""
    tokenizer = build_tokenizer()
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=96, intermediate_size=192, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=16, projection_dim=96,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    eye = AutoencoderTiny(
        encoder_block_out_channels=(32, 32, 32), decoder_block_out_channels=(32, 32, 32),
        num_encoder_blocks=(0, 1, 1), num_decoder_blocks=(2, 1, 0), latent_channels=LATENTS,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=24, in_channels=2 * LATENTS, out_channels=LATENTS, cross_attention_dim=96,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=WIDTHS, layers_per_block=1, attention_head_dim=4, norm_num_groups=8,
    )  # fmt: skip
    noise = DDIMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="sample", clip_sample=False,
        timestep_spacing="trailing", rescale_betas_zero_snr=True,
    )  # fmt: skip
    return StableDiffusionInstructPix2PixPipeline(
        vae=eye, text_encoder=CLIPTextModel(text), tokenizer=tokenizer, unet=unet, scheduler=noise,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def build_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer whose merges are learnt from every instruction there is."""
    prompts = [Edit(*words).prompt() for words in product(KINDS, SHAPES, COLOURS, PLACES)]
    blank = CLIPTokenizer(model_max_length=16)
    return blank.train_new_from_iterator(prompts, vocab_size=1024, show_progress=False)


def draw_pairs(step: int, seed: int) -> Pairs:
    """Frames at any moment, a third of them at a brief event, and an edit of each."""
    rng = np.random.default_rng([seed, 3, step])
    stage, _ = COURSE[step]
    before = []
    after = []
    prompts = []
    for _ in range(BATCH):
        numbers = rng.integers(10**6), rng.integers(10**6)
        scene = sample_scene(scene_seed("pretrain", *map(int, numbers)))
        time_s = any_moment(scene, rng)
        if rng.random() < 0.33:
            time_s = brief_moment(scene, rng)
        edit = sample_edit(scene, rng, str(rng.choice(KINDS, p=stage.chances)))
        before.append(render(scene, np.array([time_s]))[0])
        after.append(render(edited(scene, time_s, edit), np.array([time_s]))[0])
        prompts.append(edit.prompt())
    return Pairs(np.stack(before), np.stack(after), prompts)


def pixels(frames: np.ndarray) -> torch.Tensor:
    """(n, 3, side, side) in [-1, 1], as the pipeline gives them to its autoencoder."""
    return torch.as_tensor(frames).permute(0, 3, 1, 2).float() / 127.5 - 1


def autoencoder_loss(pipe: StableDiffusionInstructPix2PixPipeline, pairs: Pairs) -> torch.Tensor:
    """Mean absolute and squared error of frames that went through the autoencoder."""
    frames = pixels(pairs.after)
    copies = pipe.vae.decode(pipe.vae.encode(frames).latents).sample.float()
    return functional.l1_loss(copies, frames) + 4 * functional.mse_loss(copies, frames)


def editing_loss(
    pipe: StableDiffusionInstructPix2PixPipeline, pairs: Pairs, rng: torch.Generator
) -> torch.Tensor:
    """Squared error of the latents made out of noise; what the edit changed weighs more."""
    with torch.no_grad():
        before = pipe.vae.encode(pixels(pairs.before)).latents.float()
        after = pipe.vae.encode(pixels(pairs.after)).latents.float()
    # Rather much noise: the picture follows from frame and instruction, which is to be learnt.
    steps = (1000 * torch.rand(len(before), generator=rng) ** 0.5).long()
    noise = torch.randn(after.shape, generator=rng)
    noisy = pipe.scheduler.add_noise(after, noise, steps)
    ids = pipe.tokenizer(pairs.prompts, padding="max_length", truncation=True, return_tensors="pt")
    words = pipe.text_encoder(ids.input_ids).last_hidden_state
    latents = pipe.unet(torch.cat([noisy, before], 1), steps, words).sample.float()
    error = (latents - after).square().mean(1)
    # An edit changes a ninth or two of a frame: unweighted, copying it would be nearly right.
    changed = ((before - after).square().mean(1) > 0.02).float()
    return ((1 + 4 * changed) * error).mean()


def train(folder: str, seed: int) -> None:
    """All stages, with a checkpoint every 100 steps to go on from."""
    torch.manual_seed(seed)
    pipe = build_pipeline()
    parts = {"vae": pipe.vae, "text_encoder": pipe.text_encoder, "unet": pipe.unet}
    weights = {
        "autoencoder": [*pipe.vae.parameters()],
        "editor": [*pipe.text_encoder.parameters(), *pipe.unet.parameters()],
    }
    optims = {
        learner: torch.optim.AdamW(own, lr=RATE, betas=(0.9, 0.98), weight_decay=0.0)
        for learner, own in weights.items()
    }
    progress = Progress(Path(folder, "checkpoint.pt"), parts | optims)
    first = progress.step
    count = sum(w.numel() for own in weights.values() for w in own)
    print(f"{count:,} parameters, from step {first}", flush=True)
    rng = torch.Generator().manual_seed(seed + first)
    draw = partial(draw_pairs, seed=seed)
    for step, pairs in enumerate(ahead(draw, range(first, len(COURSE))), first):
        stage, number = COURSE[step]
        with torch.autocast("cpu", torch.bfloat16):
            if stage.learner == "editor":
                loss = editing_loss(pipe, pairs, rng)
            else:
                loss = autoencoder_loss(pipe, pairs)
        loss.backward()
        rate = RATE * share(number, stage.steps, least=0.02)
        descend([optims[stage.learner]], weights[stage.learner], rate)
        if step % 20 == 0:
            print(f"{step:5d} {progress.spent_s():6.0f}s  {loss.item():.5f}", flush=True)
        if step % 100 == 99:
            progress.save(step + 1)
    pipe.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    record(Path(folder), "generator FOLDER", seed, progress.spent_s())


if __name__ == "__main__":
    train(**command_line(__doc__, "folder", seed=0))
