"""Trains the pocket generator from scratch: `python data/pocket/train_generator.py FOLDER`.

A small editing pipeline of the class that InstructPix2Pix has: it gets a real frame and an
instruction, and draws the hypothetical frame. First an autoencoder learns to keep frames, then text
encoder and U-Net learn from pairs (frame, instruction, frame after the edit), drawn from scenes of
the `pretrain` split. An interrupted run goes on from its last checkpoint. Sizes and recipe are our
choice.
"""

import argparse
import json
import time
from itertools import product
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderTiny,
    DDIMScheduler,
    StableDiffusionInstructPix2PixPipeline,
    UNet2DConditionModel,
)
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from act2see.pocket.edits import KINDS, Edit, edited, sample_edit
from act2see.pocket.questions import scene_seed
from act2see.pocket.world import COLOURS, EVENT_S, FPS, PLACES, SHAPES, render, sample_scene

LATENTS = 16
WIDTHS = (64, 96, 96)
# Steps, what learns in them, and how often each kind of edit is drawn (remove, paint, add, move).
# The learning rate rises and falls once a stage. Moves come last and most: nothing but them needs
# to know where a word like `left` is.
STAGES = (
    (400, "autoencoder", (0.25, 0.25, 0.25, 0.25)),
    (1600, "editor", (0.25, 0.25, 0.25, 0.25)),
    (900, "editor", (0.1, 0.1, 0.1, 0.7)),
)


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


class Pairs(Dataset):
    """Step number -> (before, after) frames, uint8 (n, side, side, 3) each, and n instructions."""

    def __init__(self, seed: int, count: int):
        self.seed, self.count = seed, count

    def __len__(self) -> int:
        return sum(steps for steps, *_ in STAGES)

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
        rng = np.random.default_rng([self.seed, 3, step])
        return draw_pairs(rng, self.count, stage(step)[-1])


def stage(step: int) -> tuple[int, int, str, tuple[float, ...]]:
    """The step inside its stage, how many that has, what learns, and the chances of the kinds."""
    for steps, learns, chances in STAGES:
        if step < steps:
            return step, steps, learns, chances
        step -= steps
    raise IndexError("past the last stage")


def draw_pairs(rng: np.random.Generator, count: int, chances):
    """Frames at any moment, a third of them at a brief event, and an edit of each."""
    before, after, prompts = [], [], []
    for _ in range(count):
        scene = sample_scene(
            scene_seed("pretrain", int(rng.integers(10**6)), int(rng.integers(10**6)))
        )
        time_s = float(rng.integers(int(scene.duration_s * FPS)) / FPS)
        if rng.random() < 0.33:
            event = scene.events[int(rng.integers(len(scene.events)))]
            time_s = float(np.ceil(event.start_s * FPS + int(rng.integers(EVENT_S * FPS))) / FPS)
        edit = sample_edit(scene, rng, str(rng.choice(KINDS, p=chances)))
        moment = np.array([time_s])
        before.append(render(scene, moment)[0])
        after.append(render(edited(scene, time_s, edit), moment)[0])
        prompts.append(edit.prompt())
    return np.stack(before), np.stack(after), prompts


def pixels(frames) -> torch.Tensor:
    """(n, 3, side, side) in [-1, 1], as the pipeline gives them to its autoencoder."""
    return torch.as_tensor(frames).permute(0, 3, 1, 2).float() / 127.5 - 1


def autoencoder_loss(pipe, batch) -> torch.Tensor:
    """Mean absolute and squared error of frames that went through the autoencoder."""
    frames = pixels(batch[1])
    told = pipe.vae.decode(pipe.vae.encode(frames).latents).sample.float()
    return functional.l1_loss(told, frames) + 4 * functional.mse_loss(told, frames)


def editing_loss(pipe, batch, rng: torch.Generator) -> torch.Tensor:
    """Squared error of the latents told from noise; what the edit changed weighs more."""
    before, after, prompts = batch
    with torch.no_grad():
        shown = pipe.vae.encode(pixels(before)).latents.float()
        wanted = pipe.vae.encode(pixels(after)).latents.float()
    # Rather much noise: the picture follows from frame and instruction, which is to be learnt.
    steps = (1000 * torch.rand(len(shown), generator=rng) ** 0.5).long()
    noise = torch.randn(wanted.shape, generator=rng)
    noisy = pipe.scheduler.add_noise(wanted, noise, steps)
    ids = pipe.tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt")
    words = pipe.text_encoder(ids.input_ids).last_hidden_state
    told = pipe.unet(torch.cat([noisy, shown], 1), steps, words).sample.float()
    error = (told - wanted).square().mean(1)
    changed = ((shown - wanted).square().mean(1) > 0.02).float()
    return ((1 + 4 * changed) * error).mean()


def train(folder: Path, seed: int, batch: int, lr: float) -> None:
    """All stages, with a checkpoint every 100 steps to go on from."""
    torch.manual_seed(seed)
    began, pipe = time.time(), build_pipeline()
    state = folder / "checkpoint.pt"
    parts = {"vae": pipe.vae, "text_encoder": pipe.text_encoder, "unet": pipe.unet}
    eye = [*pipe.vae.parameters()]
    rest = [*pipe.text_encoder.parameters(), *pipe.unet.parameters()]
    optims = [torch.optim.AdamW(w, lr=lr, betas=(0.9, 0.98), weight_decay=0.0) for w in (eye, rest)]
    first, spent_s = 0, 0.0
    if state.exists():
        kept = torch.load(state, weights_only=True)
        first, spent_s = kept["step"], kept["spent_s"]
        for name, part in parts.items():
            part.load_state_dict(kept[name])
        for optim, old in zip(optims, kept["optims"], strict=True):
            optim.load_state_dict(old)
    count = sum(w.numel() for w in [*eye, *rest])
    print(f"{count:,} parameters, from step {first}", flush=True)
    pairs = Pairs(seed, batch)
    order = range(first, len(pairs))
    loader = DataLoader(pairs, batch_size=None, sampler=order, num_workers=1, prefetch_factor=3)
    rng = torch.Generator().manual_seed(seed + first)
    for step, drawn in enumerate(loader, first):
        at, whole, learns, _ = stage(step)
        edits = learns == "editor"
        optim, weights = optims[edits], (eye, rest)[edits]
        for group in optim.param_groups:
            group["lr"] = lr * min((at + 1) / 50, 1.0, max((whole - at) / (0.4 * whole), 0.02))
        with torch.autocast("cpu", torch.bfloat16):
            loss = editing_loss(pipe, drawn, rng) if edits else autoencoder_loss(pipe, drawn)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optim.step()
        optim.zero_grad()
        if step % 20 == 0:
            told = spent_s + time.time() - began
            print(f"{step:5d} {told:6.0f}s  {float(loss.detach()):.5f}", flush=True)
        if step % 100 == 99:
            folder.mkdir(parents=True, exist_ok=True)
            kept = {name: part.state_dict() for name, part in parts.items()}
            kept |= {"optims": [o.state_dict() for o in optims], "step": step + 1}
            kept["spent_s"] = spent_s + time.time() - began
            torch.save(kept, state.with_suffix(".new"))
            state.with_suffix(".new").replace(state)
    finish(folder, pipe, seed, spent_s + time.time() - began)


def finish(folder: Path, pipe, seed: int, spent_s: float) -> None:
    """Save the pipeline in half precision, and beside it how it was made."""
    pipe.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    made = {
        "command": f"python data/pocket/train_generator.py FOLDER --seed {seed}",
        "seed": seed,
        "minutes": round(spent_s / 60, 1),
        "machine": f"{torch.get_num_threads()} CPU threads",
        "torch": torch.__version__,
    }
    (folder / "made.json").write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    options = parser.parse_args()
    train(**vars(options))
