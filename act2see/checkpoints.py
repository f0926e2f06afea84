"""Checkpoints that are whole: sealed once all of their files are written, and found by their seal.

Works on folders of a training, and writes its adapter there. Knows nothing of data. Trainers write
a checkpoint file by file; one that a kill or a full disk cut short has no seal, and one that was
changed since does not fit its own. Our choice.
"""

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from peft import PeftModel
from safetensors import SafetensorError
from transformers import Trainer

from act2see.files import saving, write_text
from act2see.student import unwrapped

SEAL = "whole.json"
RUN = "run.json"  # of a folder: which training it is of
# What a training leaves in its folder: nothing else may be deleted with it.
OWN = re.compile(
    r"checkpoint-\d+|adapter|features\.bin|log\.json|outcome\.json|run\.json|README\.md|.+\.partial"
)


@contextmanager
def sealing(checkpoint: Path) -> Iterator[None]:
    """A context in which a checkpoint is written, and sealed at its end.

    Raises OSError, naming it and the one to go on from, where it cannot be written; it is removed.
    """
    try:
        yield
        run = read_json(checkpoint.parent / RUN).get("digest", "")
        facts = {"run": run, "files": _digests(checkpoint)}
        write_text(checkpoint / SEAL, json.dumps(facts, indent=1))
    # On a full disk PyTorch raises RuntimeError, safetensors its own error.
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(checkpoint, ignore_errors=True)
        before = last_whole(checkpoint.parent)
        rule = f"make room and run again: it goes on from {before.name if before else 'the start'}"
        raise OSError(f"{checkpoint} could not be written ({error}); {rule}") from error


def last_whole(folder: Path) -> Path | None:
    """The newest checkpoint that is whole, None for none; broken ones are named and removed."""
    found = [path for path in folder.glob("checkpoint-*") if path.name[11:].isdigit()]
    for checkpoint in sorted(found, key=lambda path: int(path.name[11:]), reverse=True):
        fault = _fault(checkpoint)
        if not fault:
            return checkpoint
        message = f"{checkpoint} is not whole ({fault}); it is removed, the one before it is taken"
        warnings.warn(message, stacklevel=2)
        shutil.rmtree(checkpoint)
    return None


def go_on(trainer: Trainer) -> None:
    """Train from the last whole checkpoint of the trainer's folder, or else from the start.

    Raises ValueError for a checkpoint that holds code: nothing of it is run.
    """
    # The first process removes what is broken before the others look.
    with trainer.accelerator.main_process_first():
        last = last_whole(Path(trainer.args.output_dir))
    try:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    except UnpicklingError as error:
        reason = str(error).splitlines()[0]
        rule = "nothing of it was run: delete it, and run again"
        raise ValueError(f"{last} holds more than numbers ({reason}); {rule}") from error


def _fault(checkpoint: Path) -> str:
    """What is wrong with a checkpoint, "" for nothing."""
    sealed = read_json(checkpoint / SEAL).get("files")
    if not sealed:
        return f"it has no {SEAL}: the run ended while it was written"
    now = _digests(checkpoint)
    wrong = sorted(name for name in {*sealed, *now} if sealed.get(name) != now.get(name))
    return f"{wrong[0]} is {'damaged' if wrong[0] in now else 'missing'}" if wrong else ""


def _digests(checkpoint: Path) -> dict[str, str]:
    digests = {}
    for file in sorted(checkpoint.iterdir()):
        if file.name != SEAL and file.is_file():
            with file.open("rb") as content:
                digests[file.name] = hashlib.file_digest(content, "sha256").hexdigest()
    return digests


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; {} where it is missing, empty, cut off or anything else."""
    try:
        fields = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return fields if isinstance(fields, dict) else {}


def run_of(folder: Path) -> str:
    """The digest of the training that a folder is of, "" where it is of none.

    Where `run.json` was lost, the seals of the checkpoints tell. A folder of a training without
    either is of an unknown one, "?". Raises ValueError for a folder that holds anything else.
    """
    mark = read_json(folder / RUN)
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    if "digest" in mark or not names:
        return mark.get("digest", "")
    # Whole JSON without a digest is somebody else's.
    strange = [RUN] if mark else [name for name in names if not OWN.fullmatch(name)]
    if strange:
        raise ValueError(
            f"{folder} holds {strange[0]} and is not the folder of a training (no digest in "
            f"{RUN}): move it away, or name another"
        )
    seals = {read_json(seal).get("run", "?") for seal in folder.glob(f"checkpoint-*/{SEAL}")}
    return seals.pop() if len(seals) == 1 else "?"


def reserve(path: Path, size: int) -> None:
    """A file of so many bytes, its room on the disk taken: without, a mapped file that finds the
    disk full ends the process without a word. Raises OSError where there is no room.
    """
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            for start in range(0, size, 1 << 20):
                file.write(bytes(min(1 << 20, size - start)))


def steady(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A Trainer's log without times, and with the mean loss of all steps: the same for a run that
    was interrupted, of which the Trainer only knows what came after.
    """
    rows = [{k: v for k, v in row.items() if not k.endswith(("time", "_second"))} for row in log]
    total = 0.0
    step = 0
    for row in rows:
        if "loss" in row:
            total += row["loss"] * (row["step"] - step)
            step = row["step"]
        if "train_loss" in row:
            row["train_loss"] = total / max(step, 1)
    return rows


def save_adapter(model: PeftModel, folder: Path) -> None:
    """Write the adapter whole or not at all. It names its base's folder, not where that lies."""
    base = unwrapped(model)
    name = base.name_or_path
    if Path(name).is_dir():
        name = Path(name).resolve().name
    # The model card takes it from the first two, the adapter's config from the third.
    base.name_or_path = base.config.name_or_path = name
    model.active_peft_config.base_model_name_or_path = name
    # Left to itself, peft looks on the hub for a base of that name.
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with saving(folder, "the last checkpoint"):
        try:
            model.save_pretrained(partial, save_embedding_layers=False)
            # A form that nobody has filled in: `export` writes a card.
            (partial / "README.md").unlink(missing_ok=True)
        except SafetensorError as error:
            raise OSError(str(error)) from error
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
