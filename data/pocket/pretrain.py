"""Trains the pocket base model from scratch: `python data/pocket/pretrain.py data/pocket/base`.

First the vision tower alone learns to name what stands in each cell of single frames, by a linear
read-out that is thrown away: a student whose eye starts blind takes an hour to find out what there
is to see. Then the whole model works on `lessons`, drawn afresh at every step from (seed, step):
nothing is seen twice, and a run that was interrupted goes on where its last checkpoint stands.
Knows nothing of traces. The recipe (Muon for matrices, AdamW for the rest, bf16 autocast) is our
choice.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from lessons import (
    CELL_CLASSES,
    Lesson,
    cells,
    descriptions,
    frames_in_turns,
    montage,
    overview_frames,
    several_frames,
    single_frame,
    words_only,
)
from models import FRAME_TOKENS, build_model, build_processor
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, Dataset

from act2see.encoding import assistant_labels
from act2see.pocket import language
from act2see.pocket.world import render
from act2see.toolbox import SCHEMAS

# From which step on, which lessons, how many of each a step. Nothing but descriptions until they
# are right: mixed with the rest, the places in them were never learnt. Then all kinds at once,
# because a kind that is left out is forgotten.
STAGES = (
    (0, ((descriptions, 32),)),
    (110, ((descriptions, 16), (single_frame, 12), (montage, 8), (words_only, 12))),
    (
        170,
        (
            (descriptions, 8),
            (single_frame, 6),
            (overview_frames, 2),
            (several_frames, 4),
            (frames_in_turns, 6),
            (montage, 10),
            (words_only, 10),
        ),
    ),
)


class Lessons(Dataset):
    """Step number -> two padded batches, shorter and longer, per kind of lesson."""

    def __init__(self, processor, seed: int, steps: int):
        self.processor, self.seed, self.steps = processor, seed, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> list[dict[str, torch.Tensor]]:
        rng = np.random.default_rng([self.seed, step])
        batches = []
        for make, count in [kinds for first, kinds in STAGES if first <= step][-1]:
            lessons = sorted((make(rng) for _ in range(count)), key=lambda x: len(x.text))
            batches += [lessons[: count // 2], lessons[count // 2 :]]
        return [collate(lessons, self.processor) for lessons in batches]


def collate(lessons: list[Lesson], processor) -> dict[str, torch.Tensor]:
    """A right-padded batch: input_ids, attention_mask, labels (n, l), pixels, image_grid_thw."""
    tokenizer = processor.tokenizer
    pad = tokenizer.pad_token_id
    texts = [x.text.replace("<|image_pad|>", "<|image_pad|>" * FRAME_TOKENS) for x in lessons]
    ids = tokenizer(texts, add_special_tokens=False).input_ids
    longest = max(map(len, ids))
    batch = {
        "input_ids": torch.tensor([row + [pad] * (longest - len(row)) for row in ids]),
        "attention_mask": torch.tensor([[1] * len(r) + [0] * (longest - len(r)) for r in ids]),
        "labels": torch.tensor(
            [assistant_labels(r, tokenizer) + [-100] * (longest - len(r)) for r in ids]
        ),
    }
    frames = [render(scene, np.array([t]))[0] for x in lessons for scene, t in x.frames]
    if frames:
        images = processor.image_processor(images=frames, return_tensors="pt")
        batch["pixel_values"], batch["image_grid_thw"] = images.values()
    return batch


def loss_and_hits(model, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, int, int]:
    """Mean cross-entropy over trained tokens, how many were predicted right, how many there are.

    Padding stands on the right, where causal attention never looks: no mask, and half the time.
    """
    images = batch["input_ids"] == model.config.image_token_id
    grid = batch.get("image_grid_thw")
    positions, _ = model.model.get_rope_index(
        batch["input_ids"], images.int(), grid, attention_mask=batch["attention_mask"]
    )
    hidden = model.model(
        input_ids=batch["input_ids"],
        position_ids=positions,
        pixel_values=batch.get("pixel_values"),
        image_grid_thw=grid,
        use_cache=False,
    ).last_hidden_state[:, :-1]
    labels = batch["labels"][:, 1:]
    trained = labels != -100
    logits = model.lm_head(hidden[trained]).float()
    wanted = labels[trained]
    hits = int((logits.argmax(-1) == wanted).sum())
    return torch.nn.functional.cross_entropy(logits, wanted), hits, len(wanted)


def open_eyes(eye, processor, seed: int, lr: float, steps: int = 400, frames: int = 128) -> None:
    """Teach the vision tower, in place, what stands in each of a frame's cells."""
    rng = np.random.default_rng([seed, 2])
    reader = torch.nn.Linear(eye.config.out_hidden_size, sum(CELL_CLASSES))
    weights = [*eye.parameters(), *reader.parameters()]
    optim = torch.optim.AdamW(weights, lr=lr, betas=(0.9, 0.98), weight_decay=0.0)
    slowing = torch.optim.lr_scheduler.LambdaLR(optim, lambda step: schedule(step, steps))
    for step in range(steps):
        shown, named = cells(rng, frames)
        images = processor.image_processor(images=shown, return_tensors="pt")
        with torch.autocast("cpu", torch.bfloat16):
            seen = eye(images["pixel_values"], grid_thw=images["image_grid_thw"]).pooler_output
        said = reader(seen.float())
        parts = zip(said.split(CELL_CLASSES, -1), torch.tensor(named).flatten(0, 1).T, strict=True)
        losses = [torch.nn.functional.cross_entropy(one, wanted) for one, wanted in parts]
        sum(losses).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optim.step()
        optim.zero_grad()
        slowing.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"eye {step:4d}  " + "  ".join(f"{loss:.4f}" for loss in losses), flush=True)


def corpus(seed: int, lessons: int = 600) -> list[str]:
    """Texts that the tokenizer learns from: lessons, the tools' schemas, the words of looking."""
    rng = np.random.default_rng([seed, 1])
    makers = [make for make, _ in STAGES[-1][1]]
    texts = [makers[i % len(makers)](rng).text for i in range(lessons)]
    more = [json.dumps(s) for s in SCHEMAS.values()] + [
        f"{language.UNSEEN} {language.look(7.0, 9.0)}",
        '{"name": "retrieve_frames", "arguments": {"start_s": 7.0, "end_s": 9.0}}',
        '{"name": "generate_frame", "arguments": {"prompt": "the red disc is green", "time_s": 9}}',
        "if the disc were removed added painted moved to the top, on the left",
        "i imagine the picture: a generated frame at 9.0 shows which shape would be seen there",
        "this call failed: the answer was not given. no more calls are left, answer now.",
    ]
    return texts + more * 40


def optimizers(model, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the weight matrices inside the blocks, AdamW for everything else."""
    matrices, rest = [], []
    for name, weight in model.named_parameters():
        inside = "layers." in name or "blocks." in name
        (matrices if inside and weight.ndim == 2 else rest).append(weight)
    muon = torch.optim.Muon(
        matrices, lr=lr, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    return [muon, torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.0)]


def train(folder: Path, seed: int, steps: int, lr: float, minutes: float, every: int) -> None:
    """Train to `steps`, or stop after `minutes` with a checkpoint to go on from."""
    began = time.time()
    torch.manual_seed(seed)
    processor = build_processor(corpus(seed))
    model = build_model(processor)
    model.train()
    optims = optimizers(model, lr)
    state = folder / "checkpoint"
    first, before_s = resume(state, model, optims)
    if not first:
        open_eyes(model.model.visual, processor, seed, lr)
    print(
        f"{sum(w.numel() for w in model.parameters()):,} parameters, from step {first}", flush=True
    )
    loader = DataLoader(
        Lessons(processor, seed, steps),
        batch_size=None,
        sampler=range(first, steps),
        num_workers=1,
        prefetch_factor=3,
    )
    for step, batches in enumerate(loader, first):
        scale = schedule(step, steps)
        for optim in optims:
            for group in optim.param_groups:
                group["lr"] = lr * scale
        report = [learn(model, batch, len(batches)) for batch in batches]
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optim in optims:
            optim.step()
            optim.zero_grad()
        if step % 20 == 0:
            told = "  ".join(f"{loss:.3f} {100 * hits:.1f}%" for loss, hits in report)
            spent = before_s + time.time() - began
            print(f"{step:5d} {spent:6.0f}s  {told}  |g| {norm:.2f}", flush=True)
        late = minutes and time.time() - began > 60 * minutes
        if step % every == every - 1 or step == steps - 1 or late:
            save(state, model, optims, step + 1, before_s + time.time() - began)
        if late:
            return
    finish(folder, model, processor, seed, steps, before_s + time.time() - began)


def learn(model, batch, parts: int) -> tuple[float, float]:
    """One backward pass; (loss, share of trained tokens predicted right)."""
    with torch.autocast("cpu", torch.bfloat16):
        loss, hits, count = loss_and_hits(model, batch)
    (2 * loss / parts).backward()  # gradients of about one before clipping
    return float(loss.detach()), hits / count


def schedule(step: int, steps: int) -> float:
    """Share of the learning rate: up, constant, and down over the last 40 %."""
    return min((step + 1) / 50, 1.0, max((steps - step) / (0.4 * steps), 0.05))


def save(state: Path, model, optims, step: int, spent_s: float) -> None:
    """Write a checkpoint beside the old one, then put it in its place."""
    state.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{n}": w.detach() for n, w in model.named_parameters()}
    for i, optim in enumerate(optims):
        for j, slots in optim.state_dict()["state"].items():
            tensors |= {f"optim.{i}.{j}.{k}": v for k, v in slots.items()}
    numbers = {"step": str(step), "spent_s": str(spent_s)}
    save_file(tensors, state / "new.safetensors", numbers)
    (state / "new.safetensors").replace(state / "last.safetensors")


def resume(state: Path, model, optims) -> tuple[int, float]:
    """Load the last checkpoint, if there is one; (next step, seconds spent so far)."""
    path = state / "last.safetensors"
    if not path.exists():
        return 0, 0.0
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        numbers = file.metadata()
    tensors = load_file(path)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(tensors[f"model.{name}"])
    for i, optim in enumerate(optims):
        slots: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            kind, *where = name.split(".")
            if kind == "optim" and int(where[0]) == i:
                slots.setdefault(int(where[1]), {})[where[2]] = value
        optim.load_state_dict({**optim.state_dict(), "state": slots})
    return int(numbers["step"]), float(numbers["spent_s"])


def finish(folder: Path, model, processor, seed: int, steps: int, spent_s: float) -> None:
    """Save the model in bf16 with its processor, and beside it how it was made."""
    model.eval().to(torch.bfloat16).save_pretrained(folder)
    processor.save_pretrained(folder)
    made = {
        "command": f"python data/pocket/pretrain.py FOLDER --seed {seed} --steps {steps}",
        "seed": seed,
        "steps": steps,
        "minutes": round(spent_s / 60, 1),
        "machine": f"{torch.get_num_threads()} CPU threads",
        "torch": torch.__version__,
    }
    (folder / "made.json").write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--minutes", type=float, default=0.0, help="stop early; run again to go on")
    parser.add_argument("--every", type=int, default=100, help="steps between checkpoints")
    options = parser.parse_args()
    train(**vars(options))
