"""Where the time of `make reproduce` goes: by notebook and cell, and a training step by operator.

`python -m tests.perf.reproduce [FOLDER]` reads the executed notebooks in FOLDER, by default
outputs/pocket/notebooks, and profiles twelve steps of the pocket recipe. ATEN_CPU_CAPABILITY=avx2
stands in for a processor without AVX-512.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from act2see.finetune import adapted
from act2see.profiles import POCKET
from act2see.student import load_processor, load_student
from tests.perf.crowd import lessons
from tests.perf.report import record
from tests.perf.training import epoch_of

LONG_S = 5  # of a cell that has a row


def notebooks(folder: Path) -> None:
    """A row a notebook, and one for each of its long cells."""
    for file in sorted(folder.glob("*.ipynb")):
        whole_s = 0.0
        for cell in json.loads(file.read_text())["cells"]:
            seconds = cell["metadata"].get("papermill", {}).get("duration") or 0.0
            whole_s += seconds
            if seconds > LONG_S:
                first = "".join(cell["source"]).strip().splitlines()[0]
                record("reproduce", f"{file.stem}, cell {cell['id']}: {first[:40]}", "", seconds)
        record("reproduce", file.stem, "", whole_s)


def operators(folder: Path) -> None:
    """The share of a training step that each operator takes itself."""
    processor = load_processor(POCKET.student)
    model = adapted(load_student(POCKET.student, unpack=True), POCKET.recipe)
    encodings = lessons(folder, processor, 12 * POCKET.recipe.batch_size)
    steps, trainer = epoch_of(model, processor, encodings, [[] for _ in encodings], folder)
    for step in [*steps][:2]:
        trainer.training_step(model, step)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for step in steps:
            trainer.training_step(model, step)
    rows = sorted(seen.key_averages(), key=lambda row: -row.self_cpu_time_total)
    total = sum(row.self_cpu_time_total for row in rows)
    kind = os.environ.get("ATEN_CPU_CAPABILITY", torch.backends.cpu.get_cpu_capability())
    for row in rows[:10]:
        share = 100 * row.self_cpu_time_total / total
        record("reproduce", f"training step, {kind}: {row.key}", "", share, unit="%")


if __name__ == "__main__":
    notebooks(Path(sys.argv[1] if sys.argv[1:] else "outputs/pocket/notebooks"))
    with tempfile.TemporaryDirectory() as place:
        operators(Path(place))
