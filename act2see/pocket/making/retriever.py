"""Trains the pocket retriever from scratch: `python -m act2see.pocket.making.retriever FOLDER`.

A small model of the class that BLIP-2's retriever has: it gives a frame a few vectors, a sentence
one, and their largest cosine says whether the sentence is true of the frame. First the vision tower
alone learns to name what stands in each cell; then the rest learns from frames of `pretrain` scenes
and every sentence that may describe one, whose truth the simulation knows. An interrupted run goes
on from its last checkpoint. Works on scenes of the split `pretrain`. Does not know traces or tools.
No such model ships yet. Sizes and recipe are our choice.
"""

import io
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import (
    BatchEncoding,
    Blip2Config,
    Blip2ForImageTextRetrieval,
    Blip2VisionModel,
    BlipImageProcessorPil,
    PreTrainedTokenizerFast,
)

from act2see.finetune import multiplies_bf16
from act2see.pocket import language
from act2see.pocket.edits import KINDS, Edit
from act2see.pocket.making.lessons import CELL_CLASSES, cells, fresh_scene, moment
from act2see.pocket.making.training import Progress, ahead, command_line, descend, record, share
from act2see.pocket.world import COLOURS, PLACES, SHAPES, SIDE_PX, Facts, Rng, render

RATE = 4e-3
EYE_STEPS = 150
STEPS = 800
FRAMES = 64  # a step
SCENES = 8  # that they are of: frames of one clip are what the retriever has to tell apart
PAIRS = 60  # sentences of two facts, a step
# The cosine at which a sentence is as likely true as false. TFVTG counts up to 0.2 as nothing.
BOUND = 0.3
SHARPNESS = 15.0
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
SENTENCES = (
    *(f"the wall is {wall}." for wall in ("dark", "light")),
    *(f"the {s} is {c}." for s, c in product(SHAPES, (*COLOURS, "white"))),
    "no visitor.",
    "there is a visitor.",
    *(f"the visitor is a {shape}." for shape in SHAPES),
    *(f"the visitor is {colour}." for colour in COLOURS),
    *(f"the visitor is a {c} {s}." for c, s in product(COLOURS, SHAPES)),
)


class Batch(NamedTuple):
    """Frames, sentences, and (frames, sentences) whether the one is true of the other."""

    pixels: torch.Tensor
    words: BatchEncoding
    truth: torch.Tensor


def true_sentences(facts: Facts) -> set[str]:
    """Those of `SENTENCES` that are true of a frame."""
    texts = {language.wall(facts), language.visitor(facts)}
    texts |= {language.colour(facts, shape) for shape in facts.things}
    if facts.visitor:
        shape, colour = facts.visitor
        more = f"the visitor is a {shape}.", f"the visitor is {colour}."
        texts |= {"there is a visitor.", *more}
    return texts


def subject(sentence: str) -> str:
    """What a sentence is about: `wall`, `visitor` or a shape."""
    return "visitor" if "visitor" in sentence else sentence.split()[1]


def draw_pair(rng: Rng, truth: np.ndarray) -> tuple[int, int]:
    """Two sentences about different things, by their numbers in `SENTENCES`.

    truth: (frames, sentences). Most of the time both or one of them are true of one of the frames:
    chance alone would draw hardly any pair that is.
    """
    while True:
        one, two = rng.integers(len(SENTENCES), size=2).tolist()
        draw = rng.random()
        known = np.flatnonzero(truth[rng.integers(len(truth))])
        if draw < 0.8:
            one = int(rng.choice(known))
        if draw < 0.5:
            two = int(rng.choice(known))
        if subject(SENTENCES[one]) != subject(SENTENCES[two]):
            return one, two


def worn(picture: np.ndarray, rng: Rng) -> Image.Image:
    """The picture, half of the time as a codec leaves it: blocks, and colour at half the size.

    A JPEG is what an H.264 key frame is much like, and a hundredth of the work of a clip.
    """
    image = Image.fromarray(picture)
    if rng.random() < 0.5:
        return image
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(rng.integers(60, 96)), subsampling=2)
    return Image.open(file).convert("RGB")


def draw_frames(rng: Rng) -> tuple[list[Image.Image], list[Facts]]:
    """Frames of a few scenes, as many of each, and what they show."""
    pictures = []
    facts = []
    for _ in range(SCENES):
        scene = fresh_scene(rng)
        moments = [moment(scene, rng) for _ in range(FRAMES // SCENES)]
        pictures += [worn(picture, rng) for picture in render(scene, np.array(moments))]
        facts += [scene.facts(time_s) for time_s in moments]
    return pictures, facts


def draw_batch(
    step: int, images: BlipImageProcessorPil, tokenizer: PreTrainedTokenizerFast, seed: int
) -> Batch:
    """What is learned from in a step: frames, all sentences, and pairs of them."""
    rng = np.random.default_rng([seed, 1, step])
    pictures, facts = draw_frames(rng)
    known = [true_sentences(frame) for frame in facts]
    truth = np.array([[text in texts for text in SENTENCES] for texts in known])
    pairs = np.array([draw_pair(rng, truth) for _ in range(PAIRS)])
    both = truth[:, pairs[:, 0]] & truth[:, pairs[:, 1]]
    texts = [*SENTENCES, *(f"{SENTENCES[one]} {SENTENCES[two]}" for one, two in pairs)]
    words = tokenizer(texts, padding=True, return_tensors="pt")
    pixels = images(pictures, return_tensors="pt").pixel_values
    return Batch(pixels, words, torch.tensor(np.concatenate([truth, both], 1)))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of whole words: those of the sentences and of the edits' prompts."""
    prompts = [Edit(*words).prompt() for words in product(KINDS, SHAPES, COLOURS, PLACES)]
    pieces = pre_tokenizers.BertPreTokenizer()
    texts = [*SENTENCES, *prompts]
    words = {word for text in texts for word, _ in pieces.pre_tokenize_str(text)}
    numbers = {word: i for i, word in enumerate((*SPECIAL, *sorted(words)))}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pieces
    ends = [(name, numbers[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=ends)
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **names)


def build_images() -> BlipImageProcessorPil:
    """An image processor for frames of the pocket world's size."""
    size = {"height": SIDE_PX, "width": SIDE_PX}
    return BlipImageProcessorPil(size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3)


def build_model(
    words: int, hidden: int = 96, queries: int = 12, width: int = 96
) -> Blip2ForImageTextRetrieval:
    """An untrained retriever of about 0.6 M parameters, for so many words.

    Its head that looks at frame and sentence at once stays untrained: nothing here asks it.
    """
    layers = {"hidden_size": hidden, "intermediate_size": 2 * hidden, "num_attention_heads": 3}
    # Four patches a cell.
    vision = layers | {"num_hidden_layers": 3, "image_size": SIDE_PX, "patch_size": SIDE_PX // 6}
    text = layers | {
        "num_hidden_layers": 2,
        "vocab_size": words,
        "max_position_embeddings": 64,
        "cross_attention_frequency": 1,
        "use_qformer_text_input": True,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    config = Blip2Config(
        vision_config=vision | {"initializer_range": 0.02},
        qformer_config=text,
        num_query_tokens=queries,
        image_text_hidden_size=width,
    )
    model = Blip2ForImageTextRetrieval(config)
    # They begin as zeros, and what begins alike learns alike.
    torch.nn.init.normal_(model.query_tokens, std=0.5)
    return model


def open_eyes(eye: Blip2VisionModel, images: BlipImageProcessorPil, seed: int) -> None:
    """Teach the vision tower, in place, what stands in each of a frame's cells."""
    eye.requires_grad_(True)
    rng = np.random.default_rng([seed, 2])
    reader = torch.nn.Linear(eye.config.hidden_size, sum(CELL_CLASSES))
    weights = [*eye.parameters(), *reader.parameters()]
    optim = torch.optim.AdamW(weights, lr=RATE, betas=(0.9, 0.98), weight_decay=0.0)
    for step in range(EYE_STEPS):
        pictures, classes = cells(rng, FRAMES)
        pixels = images([worn(p, rng) for p in pictures], return_tensors="pt").pixel_values
        with torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bf16()):
            patches = eye(pixel_values=pixels).last_hidden_state[:, 1:]
        # Two by two patches are a cell.
        grid = patches.float().reshape(FRAMES, 3, 2, 3, 2, -1).mean((2, 4))
        guesses = reader(grid.flatten(0, 2)).split(CELL_CLASSES, -1)
        truths = torch.tensor(classes).flatten(0, 1).T
        losses = [cross_entropy(*pair) for pair in zip(guesses, truths, strict=True)]
        sum(losses).backward()
        descend([optim], weights, RATE * share(step, EYE_STEPS))
        if step % 50 == 0 or step == EYE_STEPS - 1:
            print(f"eye {step:4d}  " + "  ".join(f"{loss:.4f}" for loss in losses), flush=True)
    eye.requires_grad_(False)


def matching_loss(cosines: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of frames and sentences that match or not: half of it over those that do."""
    logits = SHARPNESS * (cosines - BOUND)
    errors = binary_cross_entropy_with_logits(logits, truth.float(), reduction="none")
    return (errors[truth].mean() + errors[~truth].mean()) / 2


def optimizers(model: Blip2ForImageTextRetrieval) -> list[torch.optim.Optimizer]:
    """Muon for the weight matrices inside the blocks, AdamW for everything else that learns."""
    learners = {name: w for name, w in model.named_parameters() if w.requires_grad}
    matrices = {name: w for name, w in learners.items() if ".layer" in name and w.ndim == 2}
    rest = [w for name, w in learners.items() if name not in matrices]
    muon = torch.optim.Muon(
        matrices.values(), lr=RATE, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    return [muon, torch.optim.AdamW(rest, lr=RATE, betas=(0.9, 0.98), weight_decay=0.0)]


def train(folder: str, seed: int, minutes: int) -> None:
    """Both stages, with a checkpoint every 100 steps to go on from.

    minutes: stop after so many, with a checkpoint; 0 trains to the end.
    """
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    images = build_images()
    model = build_model(len(tokenizer)).train()
    # It sees by then: frozen, it takes a third of the time and forgets nothing.
    model.vision_model.requires_grad_(False)
    optims = optimizers(model)
    parts = {"model": model, "matrices": optims[0], "rest": optims[1]}
    progress = Progress(Path(folder, "checkpoint.pt"), parts)
    late_s = progress.spent_s() + 60 * minutes if minutes else float("inf")
    if not progress.step:
        open_eyes(model.vision_model, images, seed)
    weights = [w for w in model.parameters() if w.requires_grad]
    draw = partial(draw_batch, images=images, tokenizer=tokenizer, seed=seed)
    for step, batch in enumerate(ahead(draw, range(progress.step, STEPS)), progress.step):
        with torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bf16()):
            cosines = model(batch.pixels, **batch.words).logits_per_image
        loss = matching_loss(cosines.float(), batch.truth)
        loss.backward()
        descend(optims, weights, RATE * share(step, STEPS))
        if step % 20 == 0:
            print(f"{step:5d} {progress.spent_s():6.0f}s  {float(loss.detach()):.4f}", flush=True)
        late = progress.spent_s() > late_s
        if late or step % 100 == 99:
            progress.save(step + 1)
        if late:
            return
    for part in (model.to(torch.float16), tokenizer, images):
        part.save_pretrained(folder)
    record(Path(folder), "retriever FOLDER", seed, progress.spent_s())


if __name__ == "__main__":
    train(**command_line(__doc__, "folder", seed=0, minutes=0))
