"""The pocket world's ablations: `python -m act2see.ablations FOLDER` (`make ablations`).

A cell is a student, trained on some choice of traces, and a way to ask it fresh questions. All
students see the same number of traces while they train, however few there are, and the base is the
shipped one. FOLDER keeps traces, adapters, dialogues and the table as far as it goes: run it again
after an interruption, and no finished cell is repeated. Works on the profile `imagine` with the
recipe of `pocket`: in its larger steps `imagine` needs several times as many traces to learn both
tools. Where forms of the call compete, `paper_pocket` has the paper's. Knows nothing of figures.
The paper has the grids `tools`, `reference` and `inference only`, at its size; the others, and how
all are run, are our choice.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from act2see import statistics
from act2see.distillation import RETRIES, distil
from act2see.evaluation import mean_cost
from act2see.faithfulness import SWAPS, swapped
from act2see.finetune import finetune
from act2see.interleave import collect
from act2see.pocket.grid import KEY_FRAMES, Cell, grid
from act2see.pocket.oracle import OraclePolicy
from act2see.pocket.questions import pocket_questions
from act2see.policies.key_frames import KeyFrames
from act2see.policies.qwen import QwenPolicy
from act2see.profiles import IMAGINE, MEASURED, equip
from act2see.similarity import keep, load_embedder, similarity
from act2see.store import read_traces, replace_traces, write_text
from act2see.student import load_processor, load_student
from act2see.trace import Question, Step, Trace

COSTS = ["calls_per_question", "frames_per_question", "tokens_per_question"]
COLUMNS = ["grid", "cell", "seed", "family", "n", "accuracy", "low", "high", *COSTS]
# What the command line may change: its default and what it counts.
NUMBERS = {
    "seeds": (3, "of the first grid"),
    "asked": (800, "training questions, before filtering"),
    "tested": (150, "test questions a seed"),
    "passes": (1200, "traces seen in a training"),
    "upto": (800, "largest set of traces"),
}


@dataclass(frozen=True)
class Study:
    """What all cells share: the folder, and how much is asked and trained.

    questions: for training, before filtering. test_questions: of a seed. passes: traces that a
    training sees, each as often as it takes.
    """

    folder: Path
    questions: int
    test_questions: int
    passes: int

    def student(self, cell: Cell) -> Path:
        """The folder of the cell's student."""
        return self.folder / "students" / cell.student()

    def tests(self, cell: Cell) -> list[Question]:
        """Fresh questions, others for every seed."""
        # Notebooks count their seeds from 0: these are not theirs.
        numbers = "test", 100 + cell.seed, self.test_questions
        return pocket_questions(*numbers, self.folder / "clips", cell.profile().families)

    def lay_out(self, cell: Cell) -> Path:
        """The file of what the cell's student learns from, written anew."""
        lesson = self.folder / "lessons" / f"{cell.student()}.jsonl"
        replace_traces(lesson, self.training(cell))
        return lesson

    def training(self, cell: Cell) -> list[Trace]:
        """The traces that the cell's student learns from."""
        count = self.questions
        while len(traces := selection(self.folder, cell, count)) < cell.size:
            # A tenth more than in proportion: fewer of the next ones may be kept.
            count = int(1.1 * count * cell.size / max(len(traces), 1)) + 50
        traces = traces[: cell.size or None]
        return [blind(t) for t in traces] if cell.tools == "none" else traces

    def train(self, cell: Cell, lesson: Path) -> None:
        """Train the cell's student, and leave no checkpoints."""
        traces = read_traces(lesson)
        recipe = replace(MEASURED, epochs=self.passes / len(traces), seed=cell.seed)
        if cell.rate:
            recipe = replace(recipe, learning_rate=cell.rate, batch_size=1)
        finetune(traces, [], IMAGINE.student, self.student(cell), recipe)
        for checkpoint in self.student(cell).glob("checkpoint-*"):
            shutil.rmtree(checkpoint)

    def answer(self, cell: Cell) -> None:
        """Ask the cell's student what has not been asked yet."""
        questions = self.tests(cell)
        profile = cell.profile()
        adapter = self.student(cell) / "adapter" if cell.reference else ""
        model = load_student(IMAGINE.student, adapter, unpack=True)
        policy = QwenPolicy(model, load_processor(IMAGINE.student), "student")
        tools = equip(profile).tools
        if cell.evidence in SWAPS:
            tools = swapped(tools, cell.evidence, questions)
        elif cell.evidence:
            choose = KEY_FRAMES[cell.evidence]
            policy = KeyFrames(policy, choose, f"key frames by {cell.evidence}")
        models = [IMAGINE.student, *filter(None, [adapter])]
        collect(
            self.folder / cell.answers(), questions, policy, tools, profile.budget, models=models
        )


@cache
def teacher_traces(folder: Path, cell: Cell, count: int, seed: int = 0) -> list[Trace]:
    """The teacher's traces of the first `count` training questions, with their similarity.

    Where forms of the call compete, wrong answers are asked again, as in the paper.
    """
    profile = equip(cell.profile())
    name = f"{cell.form or cell.tools}-{seed}".replace(" ", "_")
    questions = pocket_questions("train", 0, count, folder / "clips", profile.families)
    policy = OraclePolicy(seed=seed, searches=profile.budget.max_calls)
    retries = RETRIES if cell.form else 0
    file = folder / f"traces-{name}.jsonl"
    traces = distil(file, questions, policy, profile.tools, profile.budget, retries)
    return scored(traces, folder / f"similarity-{name}.json")


def teaching(cell: Cell) -> Cell:
    """The cell whose teacher the cell's student learns from, whatever it does with the traces."""
    # A student without tools reads the thoughts of a teacher that has both.
    tools = "both" if cell.tools == "none" else cell.tools
    return Cell("", "", tools=tools, form=cell.form, calls=cell.calls if cell.form else 4)


def scored(traces: list[Trace], file: Path) -> list[Trace]:
    """The traces with similarity, which `file` keeps by question."""
    known = json.loads(file.read_text()) if file.exists() else {}
    # Embedding takes a core an eighth of a second a trace, and every larger draw asks again.
    if new := [t for t in traces if t.question.id not in known]:
        compared = similarity(new, load_embedder(IMAGINE.embedder))
        known |= {t.question.id: t.similarity for t in compared}
        write_text(file, json.dumps(known))
    return [t.model_copy(update={"similarity": known[t.question.id]}) for t in traces]


def selection(folder: Path, cell: Cell, count: int) -> list[Trace]:
    """Those of the teacher's first `count` traces that the cell's reference and threshold keep."""
    traces = teacher_traces(folder, teaching(cell), count)
    kept = keep(traces, cell.threshold)
    if cell.form:
        return [trace for trace in kept if trace.correct() and trace.well_formed()]
    match cell.reference:
        case "none":
            return traces
        case "random":
            order = np.random.default_rng(cell.seed).permutation(len(traces))
            return [traces[i] for i in sorted(order[: len(kept)])]
        case "model":
            # Another run of the teacher, mistakes and all, stands for a model's reasoning.
            others = teacher_traces(folder, teaching(cell), count, seed=1)
            pairs = zip(traces, others, strict=True)
            traces = [with_reasoning(trace, other.reasoning()) for trace, other in pairs]
            return keep(scored(traces, folder / "similarity-model.json"), cell.threshold)
        case "human and right":
            return [t for t in kept if t.correct()]
    return kept


def with_reasoning(trace: Trace, reasoning: str) -> Trace:
    """The trace, as if a human had reasoned so about its question."""
    question = trace.question.model_copy(update={"reasoning": reasoning})
    return trace.model_copy(update={"question": question})


def blind(trace: Trace) -> Trace:
    """The trace with calls and evidence taken out, its thoughts as one."""
    steps = [Step(kind="think", text=trace.reasoning()), trace.steps[-1]]
    return trace.model_copy(update={"steps": steps, "tools": []})


def rows(cell: Cell, traces: list[Trace]) -> pd.DataFrame:
    """A row a family, one of all, and one of those that need a look: all but `static`."""
    families = cell.profile().families
    whole = statistics.summary(cell.cell, traces, families)
    looks = statistics.summary(cell.cell, traces, families[1:]).tail(1)
    table = pd.concat([whole, looks.assign(family="need a look")])
    table = table.assign(grid=cell.grid, cell=cell.cell, seed=cell.seed)
    groups = [[family] for family in families] + [families, families[1:]]
    processor = load_processor(IMAGINE.student)
    table[COSTS[1:]] = [
        mean_cost([t for t in traces if t.question.family in group], processor) for group in groups
    ]
    return table[COLUMNS].round(4)


def gains(answers: dict[str, list[Trace]]) -> pd.DataFrame:
    """By how much both tools beat each cell of `tools`: `accuracy` is the paired gain.

    answers: by cell, those of all seeds.
    """
    others = ["retrieval", "generation", "none", "base"]
    pairs = [
        statistics.compare(answers[cell], answers["both"], IMAGINE.families) for cell in others
    ]
    table = pd.DataFrame(pairs).round(4).rename(columns={"gain": "accuracy"})
    names = {"grid": "gain of both", "cell": others, "seed": "all", "family": "all"}
    return table.assign(**names).reindex(columns=COLUMNS)


def train_all(
    study: Study, cells: list[Cell], pool: ProcessPoolExecutor, note: Callable[[str], None]
) -> None:
    """Train the cells' students that are not there, a student on each core."""
    students = {cell.student(): cell for cell in cells if cell.reference}
    # That file is what `finetune` writes last.
    missing = [c for c in students.values() if not (study.student(c) / "outcome.json").exists()]
    # `map` submits at once: the first students train while lessons of the others are laid out.
    jobs = pool.map(study.train, missing, map(study.lay_out, missing))
    note(f"traces for {len(missing)} of {len(students)} students")
    for cell, _ in zip(missing, jobs, strict=True):
        note(f"student {cell.student()}")


def answer_all(
    study: Study, cells: list[Cell], pool: ProcessPoolExecutor, note: Callable[[str], None]
) -> None:
    """Ask all students, one on each core; the table grows with every cell."""
    # The clips are drawn before two processes want the same ones.
    for cell in {(cell.seed, cell.profile().families): cell for cell in cells}.values():
        study.tests(cell)
    ways = {cell.answers(): cell for cell in cells}
    jobs = {file: pool.submit(study.answer, cell) for file, cell in ways.items()}
    table = study.folder / "ablations.csv"
    parts = []
    headline: dict[str, list[Trace]] = {}
    for cell in cells:
        jobs[cell.answers()].result()
        # A question's last line is the one that counts, as in `collect`.
        traces = read_traces(study.folder / cell.answers())
        traces = list({trace.question.id: trace for trace in traces}.values())
        parts.append(rows(cell, traces))
        if cell.grid == "tools":
            headline.setdefault(cell.cell, []).extend(traces)
        write_text(table, pd.concat(parts).to_csv(index=False))
        note(f"{cell.grid}: {cell.cell}, seed {cell.seed}")
    if headline:
        write_text(table, pd.concat([*parts, gains(headline)]).to_csv(index=False))


def settle() -> None:
    """Let this process have one core, and end when its parent ends."""
    torch.set_num_threads(1)
    if parent := multiprocessing.parent_process():
        # A worker of a pool that was killed would wait for work for ever.
        threading.Thread(target=lambda: parent.join() or os._exit(1), daemon=True).start()


def keep_to(file: Path, settings: dict) -> None:
    """Write down the settings of a folder. Raises ValueError where it was made with others."""
    if file.exists() and (before := json.loads(file.read_text())) != settings:
        raise ValueError(f"{file.parent} was made with {before}, not {settings}: name another")
    write_text(file, json.dumps(settings))


def diary(file: Path, facts: dict) -> Callable[[str], None]:
    """A function that prints an event, and writes facts and minutes, of all runs, to `file`."""
    before = json.loads(file.read_text())["minutes"] if file.exists() else 0
    start = time.time() - 60 * before

    def note(event: str) -> None:
        minutes = round((time.time() - start) / 60, 1)
        write_text(file, json.dumps(facts | {"minutes": minutes}, indent=1) + "\n")
        print(f"{minutes:5.1f} min  {event}", flush=True)

    return note


def main(words: list[str] | None = None) -> None:
    """Fill the cells that `words`, or else the command line, name."""
    parser = argparse.ArgumentParser(
        prog="python -m act2see.ablations", description=__doc__.splitlines()[0]
    )
    parser.add_argument("folder", type=Path)
    for name, (default, meaning) in NUMBERS.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{meaning} ({default})")
    parser.add_argument("--grids", nargs="*", default=[], help="only these")
    options = parser.parse_args(words)
    numbers = {name: getattr(options, name) for name in NUMBERS}
    command = ["python -m act2see.ablations FOLDER"]
    command += [f"--{name} {number}" for name, number in numbers.items()]
    if options.grids:
        command += ["--grids", *map(repr, options.grids)]
    settings = {name: numbers[name] for name in ("asked", "tested", "passes")}
    keep_to(options.folder / "settings.json", settings)
    facts = {
        "command": " ".join(command),
        "machine": f"{os.cpu_count()} CPU cores",
        "torch": torch.__version__,
    }
    note = diary(options.folder / "ablations.json", facts)
    grids = options.grids or {cell.grid for cell in grid(1)}
    cells = [c for c in grid(options.seeds) if c.grid in grids and c.size <= options.upto]
    study = Study(options.folder, *settings.values())
    settle()
    # Spawned: a forked process may hang on a lock of torch's threads, which stay in its parent.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), context, initializer=settle) as pool:
        train_all(study, cells, pool, note)
        answer_all(study, cells, pool, note)


if __name__ == "__main__":
    main()
