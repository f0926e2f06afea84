"""QLoRA on traces: a 4-bit base, a low-rank adapter, loss on what the assistant says.

Works on traces and a checkpoint. Knows nothing of where traces come from. Supervised fine-tuning
with LoRA is the paper's; rank, rates and the 4-bit base are our choice.
"""

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from torch.nn.utils.rnn import pad_sequence
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from act2see.checkpoints import compute_dtype, fingerprint, load_processor, load_student, unwrapped
from act2see.encoding import (
    Encoding,
    alike,
    assistant_labels,
    encode,
    frames_of,
    hidden_states,
    positions,
    see,
)
from act2see.trace import Trace, digest

LANGUAGE_LAYERS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


@dataclass(frozen=True)
class Recipe:
    """How to fine-tune. `rank` is the adapter's; its alpha is twice that."""

    rank: int = 16
    learning_rate: float = 1e-4
    epochs: float = 3.0
    batch_size: int = 8  # traces a step
    fed_tokens: int = 16_384  # of a step's traces at a time, pads included; one trace at the least
    recompute: bool = False  # gradient checkpointing: activations again instead of memory
    features_gb: float = 20.0  # as much of the frozen vision tower's output is kept, on disk
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """What a run left: the adapter, the log, peak memory before and after training, time."""

    adapter: Path
    log: list[dict]
    before_gb: float
    peak_gb: float
    minutes: float
    trained_tokens: int
    trainable_parameters: int


def example(encoding: Encoding, features: list, tokenizer, model) -> dict:
    """A trace to train on: ids, labels, positions, and its frames or what was seen in them."""
    return {
        "input_ids": encoding.ids,
        "labels": assistant_labels(encoding.ids, tokenizer),
        "positions": positions(encoding, model),
        "frames": features or encoding.images,
    }


def collate(examples: list[dict], pad_token_id: int, fed_tokens: int) -> list[dict]:
    """A step's traces in parts of about one length, none over `fed_tokens` but for a single trace.

    Their gradients add up to those of the whole, so that the traces of a step can be any.
    """
    ordered = sorted(examples, key=lambda e: len(e["input_ids"]))
    ranges = alike([len(e["input_ids"]) for e in ordered], fed_tokens)
    parts = [pad(ordered[first:last], pad_token_id) for first, last in ranges]
    trained = sum(int((part["labels"][:, 1:] != -100).sum()) for part in parts)
    return [part | {"of": trained} for part in parts]


def pad(examples: list[dict], pad_token_id: int) -> dict:
    """Right-padded rows. No mask: causal attention never looks right, where the pads are."""
    ids, labels = ([torch.tensor(e[k]) for e in examples] for k in ("input_ids", "labels"))
    positions = [e["positions"].T for e in examples]
    return {
        "input_ids": pad_sequence(ids, True, pad_token_id),
        "labels": pad_sequence(labels, True, -100),
        "position_ids": pad_sequence(positions, True).permute(2, 0, 1),
        "frames": [frame for e in examples for frame in e["frames"]],
    }


@torch.no_grad()
def see_once(encodings: Sequence[Encoding], model, processor, path: Path, limit_gb: float) -> list:
    """Per dialogue its frames' features, every picture put through the vision tower once.

    They lie in the file `path`, mapped into memory, for all epochs. Where they take more than
    `limit_gb` the dialogues get empty lists, and frames are looked at whenever they are needed.
    """
    eye, named, pictures = model.model.visual, [], {}
    for encoding in encodings:
        named.append([digest(*frames_of(image)) for image in encoding.images])
        pairs = zip(encoding.images, encoding.grids, strict=True)
        pictures |= dict(zip(named[-1], pairs, strict=True))
    layers, width = 1 + len(eye.deepstack_visual_indexes), eye.config.out_hidden_size
    patches = [rows * columns for _, (_, rows, columns) in pictures.values()]
    sizes = [layers * width * count // eye.spatial_merge_size**2 for count in patches]
    if not 0 < sum(sizes) * eye.dtype.itemsize < limit_gb * 1e9:
        return [[] for _ in encodings]
    path.parent.mkdir(parents=True, exist_ok=True)
    store = torch.from_file(str(path), shared=True, size=sum(sizes), dtype=eye.dtype)
    places, images = store.split(sizes), [image for image, _ in pictures.values()]
    for first in range(0, len(images), 64):
        seen = see(images[first : first + 64], model, processor)
        for place, features in zip(places[first:], seen, strict=False):
            place.copy_(features.flatten())
    kept = dict(zip(pictures, (place.view(layers, -1, width) for place in places), strict=True))
    return [[kept[name] for name in names] for names in named]


class TraceTrainer(Trainer):
    """A Trainer that computes logits only where a label is, and takes frames that were seen."""

    def training_step(self, model, inputs, num_items_in_batch=None):
        """The step's loss; only one part's activations are held at a time."""
        return sum(super(TraceTrainer, self).training_step(model, part) for part in inputs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels, frames = inputs.pop("labels")[:, 1:], inputs.pop("frames")
        inner = unwrapped(model)
        if frames and not isinstance(frames[0], torch.Tensor):
            with torch.no_grad():
                frames = see(frames, inner, self.processor)
        ids, spots = inputs["input_ids"], inputs["position_ids"]
        hidden = hidden_states(inner, ids, frames, position_ids=spots, use_cache=False)[:, :-1]
        logits = inner.lm_head(hidden[labels != -100]).float()
        wanted = labels[labels != -100]
        loss = torch.nn.functional.cross_entropy(logits, wanted, reduction="sum") / inputs["of"]
        return (loss, {"loss": loss}) if return_outputs else loss

    def compute_loss_context_manager(self):
        """Matrices in bfloat16 where a processor is fast at it."""
        return torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bf16())

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        with torch.no_grad(), self.compute_loss_context_manager():
            losses = [self.compute_loss(model, self._prepare_inputs(part)) for part in inputs]
        return sum(losses), None, None


def finetune(
    traces: list[Trace],
    held_out: list[Trace],
    checkpoint: str | Path,
    folder: Path,
    recipe: Recipe = Recipe(),
    four_bit: bool = True,
    system: str = "",
) -> Outcome:
    """Train an adapter on `traces` into `folder`/adapter, with the loss on `held_out` beside it.

    An interrupted run goes on from its last checkpoint. Raises ValueError for no traces.
    """
    if not traces:
        raise ValueError("there are 0 traces to train on; at least 1 is needed")
    processor = load_processor(checkpoint)
    model = adapted(load_student(checkpoint, four_bit=four_bit), recipe)
    before_gb, began = peak_memory_gb(), time.time()
    inner, tokenizer = unwrapped(model), processor.tokenizer
    encodings = [encode(t, processor, system=system) for t in [*traces, *held_out]]
    seen = see_once(encodings, inner, processor, folder / "features.bin", recipe.features_gb)
    pairs = zip(encodings, seen, strict=True)
    examples = [example(e, features, tokenizer, inner) for e, features in pairs]
    training, evaluation = examples[: len(traces)], examples[len(traces) :]
    trainer = TraceTrainer(
        model=model,
        args=arguments(folder, recipe, bool(held_out)),
        train_dataset=training,
        eval_dataset=evaluation or None,
        data_collator=lambda e: collate(e, tokenizer.pad_token_id, recipe.fed_tokens),
    )
    trainer.processor = processor
    trainer.train(resume_from_checkpoint=get_last_checkpoint(folder) if folder.exists() else None)
    model.save_pretrained(folder / "adapter")
    (folder / "features.bin").unlink(missing_ok=True)
    return Outcome(
        adapter=folder / "adapter",
        log=trainer.state.log_history,
        before_gb=before_gb,
        peak_gb=peak_memory_gb(),
        minutes=(time.time() - began) / 60,
        trained_tokens=sum(sum(x != -100 for x in e["labels"]) for e in training),
        trainable_parameters=model.num_parameters(only_trainable=True),
    )


def adapted(model, recipe: Recipe):
    """The base, frozen, with a trainable low-rank adapter on every language layer's matrices."""
    torch.manual_seed(recipe.seed)
    model.requires_grad_(False)
    base = model.name_or_path
    lora = LoraConfig(
        r=recipe.rank,
        lora_alpha=2 * recipe.rank,
        target_modules=LANGUAGE_LAYERS,
        task_type="CAUSAL_LM",
        revision=fingerprint(base) if Path(base).is_dir() else None,
    )
    return get_peft_model(model, lora)


def arguments(folder: Path, recipe: Recipe, evaluate: bool) -> TrainingArguments:
    """The Trainer's settings for a recipe."""
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=1,
        learning_rate=recipe.learning_rate,
        num_train_epochs=recipe.epochs,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        fp16=compute_dtype() == torch.float16,  # scales the loss, which fp16 needs
        gradient_checkpointing=recipe.recompute,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        eval_strategy="epoch" if evaluate else "no",
        save_strategy="epoch",
        save_total_limit=2,
        logging_steps=10,
        remove_unused_columns=False,
        seed=recipe.seed,
    )


def multiplies_bf16() -> bool:
    """Whether this is a processor that multiplies bfloat16: half the time of float32.

    A GPU computes in what the student was loaded in.
    """
    able = torch.cpu.get_capabilities()
    return not torch.cuda.is_available() and bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def peak_memory_gb() -> float:
    """The most GB held so far: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
