"""What the trainings share: learning rate, batches, checkpoints, a record of how it was made.

Works on torch modules and optimizers. Does not know what is learned. Our choice.
"""

import json
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from act2see.store import write_text


class Progress:
    """How far a training is, kept in the file `path` to go on from.

    parts: name -> module or optimizer, as they are at the start; they take over what the file has.
    """

    def __init__(self, path: Path, parts: dict[str, Any]):
        self.path = path
        self.parts = parts
        self.step = 0
        self.start = time.time()
        if path.exists():
            state = torch.load(path, weights_only=True)
            self.step = state["step"]
            # As if begun so much earlier: the time between the runs does not count.
            self.start -= state["spent_s"]
            for name, part in parts.items():
                part.load_state_dict(state[name])

    def spent_s(self) -> float:
        """Seconds of training so far, those of interrupted runs too."""
        return time.time() - self.start

    def save(self, step: int) -> None:
        """Write a checkpoint to go on from with `step`."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        state = {name: part.state_dict() for name, part in self.parts.items()}
        # Written under another name first: who is interrupted here goes on from the one before.
        partial = self.path.with_suffix(".partial")
        torch.save(state | {"step": step, "spent_s": self.spent_s()}, partial)
        partial.replace(self.path)


def command_line(doc: str, *words: str, **numbers: int) -> dict[str, Any]:
    """What stands on the command line: these words in order, and numbers with their defaults."""
    parser = ArgumentParser(description=doc)
    for name in words:
        parser.add_argument(name)
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    return vars(parser.parse_args())


def ahead(batch: Callable[[int], Any], steps: range) -> Iterable[Any]:
    """`batch` of each step in turn, made by another process while the model learns."""
    options = {"num_workers": 1, "prefetch_factor": 3}
    return DataLoader(steps, batch_size=None, collate_fn=batch, **options)


def share(step: int, steps: int, least: float = 0.05) -> float:
    """Share of the learning rate: up in 50 steps, constant, and down over the last 40 %."""
    return min((step + 1) / 50, 1.0, max((steps - step) / (0.4 * steps), least))


def descend(optims: list[torch.optim.Optimizer], weights: list, rate: float) -> float:
    """One step along the gradients, clipped to a length of one; returns the length before."""
    length = torch.nn.utils.clip_grad_norm_(weights, 1.0)
    for optim in optims:
        for group in optim.param_groups:
            group["lr"] = rate
        optim.step()
        optim.zero_grad()
    return float(length)


def record(folder: Path, command: str, seed: int, spent_s: float, **more: Any) -> None:
    """Write next to a model how it was made: `made.json` in `folder`."""
    facts = {
        "command": f"python -m act2see.pocket.making.{command} --seed {seed}",
        "seed": seed,
        "minutes": round(spent_s / 60, 1),
        "machine": f"{torch.get_num_threads()} CPU threads",
        "torch": torch.__version__,
    }
    write_text(folder / "made.json", json.dumps(facts | more, indent=1) + "\n")
