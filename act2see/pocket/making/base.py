"""Trains the pocket base model from scratch: `python -m act2see.pocket.making.base FOLDER`.

First the vision tower alone learns to name what stands in each cell of single frames, by a linear
read-out that is thrown away: a student whose eye starts blind takes an hour to find out what there
is to see. Then the whole model works on lessons, drawn afresh at every step from (seed, step):
none comes twice, and a run that was interrupted goes on where its last checkpoint stands.
Works on scenes of the split `pretrain`. Does not know traces. The recipe (Muon for matrices, AdamW
for the rest, bf16 autocast) is our choice.
"""

import json
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, ProcessorMixin

from act2see.dialects.calls import segments
from act2see.encoding import pixels, tokenize
from act2see.pocket import language
from act2see.pocket.making.lessons import (
    CELL_CLASSES,
    Lesson,
    cells,
    descriptions,
    montage,
    single_frame,
)
from act2see.pocket.making.looking import frames_in_turns, overview_frames, several_frames
from act2see.pocket.making.models import build_model, build_processor
from act2see.pocket.making.training import Progress, ahead, command_line, descend, record, share
from act2see.pocket.making.words import words_only
from act2see.tools.generate import GenerateFrame
from act2see.tools.retrieve import RetrieveFrames

RATE = 2e-3
# From which step on, which lessons, how many of each a step. Nothing but descriptions until they
# are right: mixed with the rest, the places in them were never learnt. Then all kinds at once,
# because a kind that is left out is forgotten.
STAGES = {
    0: {descriptions: 32},
    110: {descriptions: 16, single_frame: 12, montage: 8, words_only: 12},
    170: {
        descriptions: 8,
        single_frame: 6,
        overview_frames: 2,
        several_frames: 4,
        frames_in_turns: 6,
        montage: 10,
        words_only: 10,
    },
}


def batches(step: int, processor: ProcessorMixin, seed: int) -> list[dict[str, torch.Tensor]]:
    """What is learned from in a step: two padded batches per kind of lesson."""
    rng = np.random.default_rng([seed, step])
    stage = STAGES[max(first for first in STAGES if first <= step)]
    groups = []
    for make, count in stage.items():
        # The shorter half apart from the longer: fewer pads.
        lessons = sorted((make(rng) for _ in range(count)), key=lambda x: len(x.text))
        groups += [lessons[: count // 2], lessons[count // 2 :]]
    return [collate(lessons, processor) for lessons in groups]


def collate(lessons: list[Lesson], processor: ProcessorMixin) -> dict[str, torch.Tensor]:
    """A right-padded batch: input_ids, attention_mask, labels (n, l), pixels, image_grid_thw."""
    encodings = [tokenize(segments(x.text), x.images(), processor) for x in lessons]
    pad = processor.tokenizer.pad_token_id
    ids = pad_sequence([torch.tensor(e.ids) for e in encodings], True, pad)
    batch = {
        "input_ids": ids,
        "attention_mask": (ids != pad).long(),
        "labels": pad_sequence([torch.tensor(e.labels) for e in encodings], True, -100),
    }
    return batch | pixels([image for e in encodings for image in e.images], processor)


def learn(model: PreTrainedModel, batch: dict[str, torch.Tensor], parts: int) -> str:
    """One backward pass; in words the loss, and how many trained tokens were predicted right."""
    ids = batch["input_ids"]
    grid = batch.get("image_grid_thw")
    images = (ids == model.config.image_token_id).int()
    mask = batch["attention_mask"]
    positions, _ = model.model.get_rope_index(ids, images, grid, attention_mask=mask)
    with torch.autocast("cpu", torch.bfloat16):
        # Padding stands on the right, where causal attention never looks: no mask, half the time.
        hidden = model.model(
            input_ids=ids,
            position_ids=positions,
            pixel_values=batch.get("pixel_values"),
            image_grid_thw=grid,
            use_cache=False,
        ).last_hidden_state[:, :-1]
        labels = batch["labels"][:, 1:]
        trained = labels != -100
        logits = model.lm_head(hidden[trained]).float()
        loss = cross_entropy(logits, labels[trained])
    # Twice the mean over the parts: gradients of about one before clipping.
    (2 * loss / parts).backward()
    hits = (logits.argmax(-1) == labels[trained]).float().mean()
    return f"{float(loss.detach()):.3f} {100 * float(hits):.1f}%"


def open_eyes(
    eye: PreTrainedModel,
    processor: ProcessorMixin,
    seed: int,
    steps: int = 400,
    frames: int = 128,
) -> None:
    """Teach the vision tower, in place, what stands in each of a frame's cells."""
    rng = np.random.default_rng([seed, 2])
    reader = torch.nn.Linear(eye.config.out_hidden_size, sum(CELL_CLASSES))
    weights = [*eye.parameters(), *reader.parameters()]
    optim = torch.optim.AdamW(weights, lr=RATE, betas=(0.9, 0.98), weight_decay=0.0)
    for step in range(steps):
        pictures, classes = cells(rng, frames)
        images = processor.image_processor(images=pictures, return_tensors="pt")
        with torch.autocast("cpu", torch.bfloat16):
            features = eye(images["pixel_values"], grid_thw=images["image_grid_thw"]).pooler_output
        guesses = reader(features.float()).split(CELL_CLASSES, -1)
        truths = torch.tensor(classes).flatten(0, 1).T
        losses = [cross_entropy(*pair) for pair in zip(guesses, truths, strict=True)]
        sum(losses).backward()
        descend([optim], weights, RATE * share(step, steps))
        if step % 50 == 0 or step == steps - 1:
            print(f"eye {step:4d}  " + "  ".join(f"{loss:.4f}" for loss in losses), flush=True)


def corpus(seed: int, lessons: int = 600) -> list[str]:
    """Texts that the tokenizer learns from: lessons, the tools' schemas, the words of looking."""
    rng = np.random.default_rng([seed, 1])
    makers = list(STAGES[max(STAGES)])
    texts = [makers[i % len(makers)](rng).text for i in range(lessons)]
    # No lesson shows the tools, and yet their words should not fall into single letters.
    more = [
        *(json.dumps(tool.schema()) for tool in (RetrieveFrames(), GenerateFrame())),
        f"{language.UNSEEN} {language.look(7.0, 9.0)}",
        '{"name": "retrieve_frames", "arguments": {"start_s": 7.0, "end_s": 9.0}}',
        '{"name": "generate_frame", "arguments": {"prompt": "the red disc is green", "time_s": 9}}',
        "if the disc were removed added painted moved to the top, on the left",
        "i imagine the picture: a generated frame at 9.0 shows which shape would be seen there",
        "this call failed: the answer was not given. no more calls are left, answer now.",
    ]
    return texts + more * 40


def optimizers(model: PreTrainedModel) -> list[torch.optim.Optimizer]:
    """Muon for the weight matrices inside the blocks, AdamW for everything else."""
    blocks = {n: w for n, w in model.named_parameters() if "layers." in n or "blocks." in n}
    matrices = {name: weight for name, weight in blocks.items() if weight.ndim == 2}
    rest = [weight for name, weight in model.named_parameters() if name not in matrices]
    muon = torch.optim.Muon(
        matrices.values(), lr=RATE, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    return [muon, torch.optim.AdamW(rest, lr=RATE, betas=(0.9, 0.98), weight_decay=0.0)]


def train(folder: str, seed: int, steps: int) -> None:
    """Train to `steps`, with a checkpoint every 100 to go on from."""
    torch.manual_seed(seed)
    processor = build_processor(corpus(seed))
    model = build_model(processor).train()
    optims = optimizers(model)
    parts = {"model": model, "matrices": optims[0], "rest": optims[1]}
    progress = Progress(Path(folder, "checkpoint.pt"), parts)
    first = progress.step
    if not first:
        open_eyes(model.model.visual, processor, seed)
    print(f"{model.num_parameters():,} parameters, from step {first}", flush=True)
    draw = partial(batches, processor=processor, seed=seed)
    for step, groups in enumerate(ahead(draw, range(first, steps)), first):
        report = "  ".join(learn(model, batch, len(groups)) for batch in groups)
        length = descend(optims, [*model.parameters()], RATE * share(step, steps))
        if step % 20 == 0:
            print(f"{step:5d} {progress.spent_s():6.0f}s  {report}  |g| {length:.2f}", flush=True)
        if step % 100 == 99:
            progress.save(step + 1)
    model.eval().to(torch.bfloat16).save_pretrained(folder)
    processor.save_pretrained(folder)
    record(Path(folder), f"base FOLDER --steps {steps}", seed, progress.spent_s(), steps=steps)


if __name__ == "__main__":
    train(**command_line(__doc__, "folder", seed=0, steps=700))
