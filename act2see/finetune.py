"""QLoRA on traces: a 4-bit base, a low-rank adapter, loss on what the assistant says.

Works on traces and a checkpoint. Knows nothing of where traces come from. Supervised fine-tuning
with LoRA is the paper's, and so is the loss: on all that the assistant says, queries included, not
on the frames supplied (as reported in a third party's note on it). The adapter's rank, the 4-bit
base, and that a turn is not learnt whose call was refused, are our choice.
"""

import argparse
import hashlib
import json
import shutil
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError, safe_open
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, TrainingArguments

from act2see.checkpoints import RUN, go_on, read_json, run_of, save_adapter, steady
from act2see.distributed import SharedTrainer, join
from act2see.encoding import Encoding, alike, encode, hidden_states, positions, see
from act2see.features import see_once
from act2see.files import alone, write_text
from act2see.plain import printable
from act2see.progress import Progress
from act2see.recipe import Recipe
from act2see.student import (
    ADAPTER,
    compute_dtype,
    fingerprint,
    load_processor,
    load_student,
    unwrapped,
)
from act2see.trace import Trace

LANGUAGE_LAYERS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


@dataclass(frozen=True)
class Outcome:
    """What a run left: the adapter, the log, peak memory before and after training, time."""

    adapter: Path
    log: list[dict]
    before_gb: float
    peak_gb: float
    minutes: float
    trained_tokens: int  # in one epoch
    trainable_parameters: int


def held_out_split(
    traces: Sequence[Trace], held_out: int, seed: int
) -> tuple[list[Trace], list[Trace]]:
    """The traces to train on and those kept apart, both in an order drawn with `seed`.

    held_out: how many are kept apart; one video at most has traces in both parts. Raises ValueError
    where none is left to train on.
    """
    if not 0 <= held_out < len(traces):
        raise ValueError(
            f"held_out is {held_out}; it must be 0 or more, and less than the number of traces, "
            f"{len(traces)}"
        )
    videos = [*dict.fromkeys(trace.question.video for trace in traces)]
    order = np.random.default_rng(seed).permutation(len(videos))
    place = {videos[i]: n for n, i in enumerate(order)}
    shuffled = sorted(traces, key=lambda trace: place[trace.question.video])
    return shuffled[held_out:], shuffled[:held_out]


def example(encoding: Encoding, features: list, model: PreTrainedModel) -> dict:
    """A trace to train on: ids, labels, positions, and its frames or their features."""
    return {
        "input_ids": encoding.ids,
        "labels": encoding.labels,
        "positions": positions(encoding, model),
        "frames": features or encoding.images,
    }


def collate(
    examples: list[dict],
    pad_token_id: int,
    fed_tokens: int,
    process: int = 0,
    processes: int = 1,
    workers: int = 1,
) -> list[dict]:
    """A process's share of a step's traces, in parts of about one length, the longest first, none
    over `fed_tokens`, or over what each of `workers` has to do, but for a single trace.

    The gradients of all add up to those of the whole, so that the traces of a step can be any.
    """
    ordered = sorted(examples, key=lambda e: len(e["input_ids"]))
    # Every part divides by the tokens of the whole step: a mean of means would favour short ones.
    total = sum(label != -100 for e in examples for label in e["labels"][1:])
    share = ordered[process::processes]
    lengths = [len(e["input_ids"]) for e in share]
    # Twice as many parts as workers, or more: who is done takes another one.
    most = sum(lengths) // (2 * workers) if workers > 1 else fed_tokens
    ranges = alike(lengths, min(fed_tokens, most))
    parts = [pad(share[first:last], pad_token_id) | {"of": total} for first, last in ranges]
    return parts[::-1]


def pad(examples: list[dict], pad_token_id: int) -> dict:
    """Right-padded rows. No mask: causal attention never looks right, where the pads are."""
    ids = [torch.tensor(e["input_ids"]) for e in examples]
    targets = [torch.tensor(e["labels"]) for e in examples]
    places = [e["positions"].T for e in examples]
    return {
        "input_ids": pad_sequence(ids, True, pad_token_id),
        "labels": pad_sequence(targets, True, -100),
        "position_ids": pad_sequence(places, True).permute(2, 0, 1),
        "frames": [frame for e in examples for frame in e["frames"]],
    }


class TraceTrainer(SharedTrainer):
    """A Trainer that computes logits only where a label is, and takes features of frames."""

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        # A mean that had begun before a checkpoint would be lost with a kill after it.
        self.control.should_log = self.control.should_log or self.control.should_save
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """One part's share of the step's loss."""
        logits, targets = self.spoken(model, inputs)
        total = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
        loss = total / inputs["of"]
        return (loss, {"loss": loss}) if return_outputs else loss

    def spoken(self, model: torch.nn.Module, inputs: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """(tokens, vocabulary) logits where a label is, and (tokens,) the labels."""
        targets = inputs["labels"][:, 1:]
        frames = inputs["frames"]
        inner = unwrapped(model)
        if frames and not isinstance(frames[0], torch.Tensor):
            with torch.no_grad():
                frames = see(frames, inner, self.processor)
        places = {"position_ids": inputs["position_ids"], "use_cache": False}
        hidden = hidden_states(inner, inputs["input_ids"], frames, **places)[:, :-1]
        # Logits of a whole dialogue over 150,000 tokens would be the largest thing in memory.
        labelled = targets != -100
        return inner.lm_head(hidden[labelled]).float(), targets[labelled]

    def prediction_step(
        self,
        model: torch.nn.Module,
        inputs: list[dict],
        prediction_loss_only: bool,
        ignore_keys: Any = None,
    ) -> tuple[torch.Tensor, None, None]:
        """A held-out trace's loss."""
        with torch.no_grad():
            losses = [self.compute_loss(model, self._prepare_inputs(part)) for part in inputs]
        return sum(losses), None, None


@alone
def finetune(
    traces: list[Trace],
    held_out: list[Trace],
    checkpoint: str | Path,
    folder: Path,
    recipe: Recipe,
    four_bit: bool = True,
    system: str = "",
) -> Outcome:
    """Train an adapter on `traces` into `folder`/adapter, and watch the loss on `held_out`.

    An interrupted run goes on from its last whole checkpoint, a finished one is not trained again:
    its numbers are in `outcome.json` and `log.json`. Both only where `run.json` says that traces,
    recipe, base and system are the same; where one differs, the folder starts anew.
    Where a launcher started several processes, they share each step, and the first one writes.
    Raises ValueError for no traces, and as `prepare_folder`, `student.locate`, `distributed.join`.
    """
    if not traces:
        raise ValueError("there are 0 traces to train on; at least 1 is needed")
    state = join(recipe.batch_size)
    # First, so that a mistyped base deletes nothing.
    processor = load_processor(checkpoint)
    if state.is_main_process:
        prepare_folder(folder, description(traces, held_out, checkpoint, recipe, four_bit, system))
    state.wait_for_everyone()
    if done := finished(folder):
        return done
    model = adapted(load_student(checkpoint, four_bit=four_bit, unpack=True), recipe)
    before_gb = peak_memory_gb()
    start = time.time()
    encodings = [encode(trace, processor, system=system) for trace in [*traces, *held_out]]
    base = unwrapped(model)
    features = see_once(encodings, base, processor, folder / "features.bin", recipe.features_gb)
    pairs = zip(encodings, features, strict=True)
    examples = [example(*pair, base) for pair in pairs]
    training = examples[: len(traces)]
    # A GPU computes one part after another.
    workers = 1 if torch.cuda.is_available() else min(torch.get_num_threads(), recipe.batch_size)
    limits = {"fed_tokens": recipe.fed_tokens, "workers": workers}
    trainer = TraceTrainer(
        model=model,
        args=arguments(folder, recipe, bool(held_out)),
        train_dataset=training,
        eval_dataset=examples[len(traces) :] or None,
        data_collator=partial(collate, pad_token_id=processor.tokenizer.pad_token_id, **limits),
        callbacks=[Progress()] if state.is_main_process else [],
    )
    trainer.processor = processor
    trainer.workers = workers
    go_on(trainer)
    numbers = {
        "before_gb": before_gb,
        "peak_gb": peak_memory_gb(),
        "minutes": (time.time() - start) / 60,
        "trained_tokens": sum(sum(x != -100 for x in e["labels"]) for e in training),
        "trainable_parameters": model.num_parameters(only_trainable=True),
    }
    if state.is_main_process:
        write_outcome(model, folder, trainer.state.log_history, numbers)
    state.wait_for_everyone()
    return read_outcome(folder)


def write_outcome(model: PeftModel, folder: Path, log: list[dict], numbers: dict) -> None:
    """Leave in the folder what a run ends with, and nothing that only a running one needs."""
    save_adapter(model, folder / "adapter")
    (folder / "features.bin").unlink(missing_ok=True)
    write_text(folder / "log.json", json.dumps(steady(log), indent=1, sort_keys=True))
    # Written once: where only the adapter was lost, this run took no time and trained nothing.
    if not read_json(folder / "outcome.json"):
        write_text(folder / "outcome.json", json.dumps(numbers, indent=1))


def description(
    traces: list[Trace],
    held_out: list[Trace],
    checkpoint: str | Path,
    recipe: Recipe,
    four_bit: bool,
    system: str,
) -> dict:
    """What `run.json` says of a run: its numbers, and a digest of all that shapes the adapter."""
    facts = {
        "base": fingerprint(checkpoint),
        "training": len(traces),
        "held_out": len(held_out),
        "recipe": asdict(recipe),
        "four_bit": four_bit,
        "system": system,
    }
    # Earlier versions learnt such calls: what they trained on them is another adapter.
    if any(trace.failed_calls() for trace in [*traces, *held_out]):
        facts["refused_calls"] = "not learnt"
    # Similarity chose the traces; it is not in what is learned from them.
    # Where a video lies shapes no adapter, and neither does how close the filter found a trace.
    without = {"similarity": True, "key": True, "question": {"video"}}
    texts = [t.model_dump_json(exclude=without) for t in [*traces, *held_out]]
    return {"digest": hashlib.sha256(repr((facts, texts)).encode()).hexdigest()[:16]} | facts


def prepare_folder(folder: Path, run: dict) -> None:
    """Make `folder` ready for a run: as it is for the same one, else empty but for `run.json`.

    run: as `description` gives it. Raises ValueError, and deletes nothing, where the folder holds
    files and no `run.json` of a run.
    """
    before = run_of(folder)
    if before not in ("", run["digest"]):
        if before == "?":
            unknown = f"{folder} does not say which training it is of; it starts anew"
            warnings.warn(unknown, stacklevel=2)
        shutil.rmtree(folder)
    write_text(folder / RUN, json.dumps(run, indent=1))


def finished(folder: Path) -> Outcome | None:
    """What a run left in its folder, None where anything of it is missing or damaged."""
    try:
        with safe_open(folder / "adapter" / SAFETENSORS_WEIGHTS_NAME, "pt"):
            whole = read_json(folder / "adapter" / ADAPTER)
        return read_outcome(folder) if whole else None
    except (OSError, ValueError, TypeError, SafetensorError):
        return None


def read_outcome(folder: Path) -> Outcome:
    """What a finished run left in its folder."""
    log = json.loads((folder / "log.json").read_text())
    numbers = json.loads((folder / "outcome.json").read_text())
    return Outcome(adapter=folder / "adapter", log=log, **numbers)


def adapted(model: PreTrainedModel, recipe: Recipe) -> PeftModel:
    """The base, frozen, with a trainable low-rank adapter on every language layer's matrices."""
    torch.manual_seed(recipe.seed)
    model.requires_grad_(False)
    base = model.name_or_path
    lora = LoraConfig(
        r=recipe.rank,
        lora_alpha=2 * recipe.rank,
        target_modules=LANGUAGE_LAYERS,
        task_type="CAUSAL_LM",
        # A hub name says which base; a folder's name does not, so its fingerprint stands here.
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
        use_cpu=not torch.cuda.is_available(),  # where the student is, and processes meet
    )


def peak_memory_gb() -> float:
    """The most GB held so far: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    if sys.platform == "win32":
        import psutil  # comes with accelerate; elsewhere it does not know the peak

        return psutil.Process().memory_info().peak_wset / 1e9
    import resource  # not there on Windows

    # Kilobytes on Linux, bytes on macOS.
    unit = 1e9 if sys.platform == "darwin" else 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main(words: list[str] | None = None) -> int:
    """Train as notebook 03 does, from the command line's words; 0, or 2 and what is wrong."""
    from act2see.datasets import check_rights
    from act2see.profiles import load_profile
    from act2see.store import read_traces

    parser = argparse.ArgumentParser(prog="python -m act2see.finetune", description=main.__doc__)
    parser.add_argument("kept", type=Path, help="kept.jsonl of notebook 02")
    parser.add_argument("folder", type=Path, help="where to write")
    parser.add_argument("--profile", default="pocket", help="whose student, recipe, system text")
    parser.add_argument("--student", default="", help="folder or hub name; the profile's")
    parser.add_argument("--held-out", type=int, default=40, help="traces kept apart")
    parser.add_argument("--seed", type=int, default=0, help="of split, adapter and order")
    parser.add_argument("--epochs", type=float, default=0.0, help="the profile's unless given")
    parser.add_argument("--may-train", action="store_true", help="you hold the right to the data")
    options = parser.parse_args(words)
    try:
        settings = load_profile(options.profile, student=options.student)
        kept = read_traces(options.kept)
        check_rights(kept, options.may_train)
        recipe = replace(
            settings.recipe,
            seed=options.seed,
            epochs=options.epochs or settings.recipe.epochs,
        )
        finetune(
            *held_out_split(kept, options.held_out, options.seed),
            settings.student,
            options.folder,
            recipe,
            system=settings.system,
        )
    except (ValueError, OSError) as error:
        print(f"act2see: {printable(str(error))}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
