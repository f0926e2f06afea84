"""Trains the pocket retriever from scratch: `python -m act2see.pocket.making.retriever FOLDER`.

A small model of the class that BLIP-2's retriever has: it gives a frame a few vectors, a sentence
one, and their largest cosine says whether the sentence is true of the frame. First the vision tower
learns to name what stands in each cell, then nine of the queries do; then they and the reader of
sentences learn from frames of `pretrain` scenes and every sentence that may describe one, whose
truth the simulation knows. An interrupted run goes on from its last checkpoint. Works on scenes of
the split `pretrain`. Does not know traces or tools. Sizes and recipe are our choice.
"""

import io
from collections.abc import Callable
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
    BlipImageProcessorPil,
    PreTrainedTokenizerFast,
)

from act2see.pocket import language
from act2see.pocket.edits import KINDS, Edit
from act2see.pocket.making.lessons import (
    CELL_CLASSES,
    COLOUR_NAMES,
    SHAPE_NAMES,
    cells,
    fresh_scene,
    moment,
)
from act2see.pocket.making.training import Progress, ahead, command_line, descend, record, share
from act2see.pocket.world import COLOURS, PLACES, SHAPES, SIDE_PX, Facts, Rng, render

# Other processors only imitate it, and are slow at that.
BF16 = bool(torch.cpu.get_capabilities().get("avx512_bf16"))
RATE = 4e-3
HIDDEN = 96
CELL_STEPS = 150
STEPS = 800
FRAMES = 64  # a step
SCENES = 8  # that they are of: frames of one clip are what the retriever has to tell apart
PAIRS = 60  # sentences of two facts, a step
# The cosine at which a sentence is as likely true as false. TFVTG counts up to 0.2 as nothing.
BOUND = 0.3
SHARPNESS = 15.0
NAMES = (SHAPE_NAMES, COLOUR_NAMES)
MIDDLE = 4  # the visitor's cell, row by row
UNSAID = -100
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
    words: int, hidden: int = HIDDEN, queries: int = 12, width: int = 96
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
    # What lies together before the two projections does so behind them.
    model.text_projection.load_state_dict(model.vision_projection.state_dict())
    return model


def cell_classes(sentence: str) -> list[int]:
    """What a sentence says of a cell, as `cells` counts it; `UNSAID` for the rest."""
    words = sentence.rstrip(".").split()
    known = [next((names.index(w) for w in words if w in names), UNSAID) for names in NAMES]
    if words[0] == "no":
        known = [0, 0]
    wall = ("dark", "light").index(words[-1]) if "wall" in words else UNSAID
    return [*known, wall, MIDDLE if "visitor" in words else UNSAID]


def learn_cells(
    view: Callable[[torch.Tensor], torch.Tensor],
    images: BlipImageProcessorPil,
    learner: torch.nn.Module,
    seed: list[int],
    said: Callable[[], torch.Tensor] | None = None,
) -> None:
    """Teach `learner`, in place, what stands in each of a frame's nine cells.

    view: from pixels to (frames, 9, hidden) what one linear reader reads, which is thrown away.
    said: gives (sentences, hidden) what the same reader reads of `SENTENCES`: in that way cells and
    sentences about them come to lie together.
    """
    rng = np.random.default_rng(seed)
    reader = torch.nn.Linear(HIDDEN, sum(CELL_CLASSES))
    weights = [*learner.parameters(), *reader.parameters()]
    optim = torch.optim.AdamW(weights, lr=RATE, betas=(0.9, 0.98), weight_decay=0.0)
    stated = torch.tensor([cell_classes(text) for text in SENTENCES]).T
    for step in range(CELL_STEPS):
        pictures, classes = cells(rng, FRAMES)
        pixels = images([worn(p, rng) for p in pictures], return_tensors="pt").pixel_values
        with torch.autocast("cpu", torch.bfloat16, enabled=BF16):
            losses = read_off(
                reader, view(pixels).flatten(0, 1), torch.tensor(classes).flatten(0, 1).T
            )
            if said:
                losses += read_off(reader, said(), stated)
        sum(losses).backward()
        descend([optim], weights, RATE * share(step, CELL_STEPS))
        if step % 50 == 0 or step == CELL_STEPS - 1:
            print(f"cells {step:4d}  " + "  ".join(f"{x:.4f}" for x in losses), flush=True)


def read_off(
    reader: torch.nn.Linear, seen: torch.Tensor, truths: torch.Tensor
) -> list[torch.Tensor]:
    """The reader's losses over shape, colour, wall and place; what is `UNSAID` does not count."""
    guesses = reader(seen).float().split(CELL_CLASSES, -1)
    pairs = zip(guesses, truths, strict=True)
    return [cross_entropy(guess, truth, ignore_index=UNSAID) for guess, truth in pairs]


def learn_to_see(
    model: Blip2ForImageTextRetrieval,
    images: BlipImageProcessorPil,
    words: BatchEncoding,
    seed: int,
) -> None:
    """Teach the vision tower, then nine queries and the sentences, what stands in each cell."""

    def patches(pixels: torch.Tensor) -> torch.Tensor:
        found = model.vision_model(pixel_values=pixels).last_hidden_state[:, 1:]
        # Two by two patches are a cell.
        return found.reshape(len(pixels), 3, 2, 3, 2, -1).mean((2, 4)).flatten(1, 2)

    def queries(pixels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            seen = model.vision_model(pixel_values=pixels).last_hidden_state
        tokens = model.query_tokens.expand(len(pixels), -1, -1)
        found = model.qformer(query_embeds=tokens, encoder_hidden_states=seen)
        return found.last_hidden_state[:, :9]

    def sentences() -> torch.Tensor:
        read = model.embeddings(input_ids=words.input_ids)
        mask = words.attention_mask
        return model.qformer(read, query_length=0, attention_mask=mask).last_hidden_state[:, 0]

    learn_cells(patches, images, model.vision_model, [seed, 2])
    learners = torch.nn.ModuleList([model.qformer, model.embeddings])
    learn_cells(queries, images, learners, [seed, 3], sentences)


def matching_loss(cosines: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of frames and sentences that match or not: half of it over those that do."""
    logits = SHARPNESS * (cosines - BOUND)
    errors = binary_cross_entropy_with_logits(logits, truth.float(), reduction="none")
    return (errors[truth].mean() + errors[~truth].mean()) / 2


def optimizers(model: Blip2ForImageTextRetrieval) -> list[torch.optim.Optimizer]:
    """Muon for the weight matrices inside the blocks, AdamW for everything else that learns."""
    # The tower sees by then: frozen, it takes a third of the time.
    learners = {n: w for n, w in model.named_parameters() if not n.startswith("vision_model")}
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
    optims = optimizers(model)
    parts = {"model": model, "matrices": optims[0], "rest": optims[1]}
    progress = Progress(Path(folder, "checkpoint.pt"), parts)
    late_s = progress.spent_s() + 60 * minutes if minutes else float("inf")
    if not progress.step:
        learn_to_see(model, images, tokenizer(SENTENCES, padding=True, return_tensors="pt"), seed)
    model.vision_model.requires_grad_(False)
    weights = [w for w in model.parameters() if w.requires_grad]
    draw = partial(draw_batch, images=images, tokenizer=tokenizer, seed=seed)
    for step, batch in enumerate(ahead(draw, range(progress.step, STEPS)), progress.step):
        with torch.autocast("cpu", torch.bfloat16, enabled=BF16):
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
