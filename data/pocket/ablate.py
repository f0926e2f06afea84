"""The ablation grid of the pocket world: `python data/pocket/ablate.py FOLDER` (`make ablations`).

A cell is a student, trained on some choice of traces, asked fresh questions in some way. All
students see the same number of traces while they train, however few there are, and the shipped
base is the same. FOLDER keeps traces, adapters, dialogues and the table as far as it goes: run it
again after an interruption, and no finished cell is repeated. The profile is `imagine`, the recipe
that of `pocket`: in its larger steps `imagine` needs several times as many traces to learn both
tools. Our choice; the paper has the first two grids, at its own size.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from act2see import statistics
from act2see.checkpoints import load_processor, load_student
from act2see.faithfulness import SWAPS, SwappedToolbox
from act2see.finetune import finetune
from act2see.interleave import Reply, collect
from act2see.parts import equip
from act2see.pocket.questions import FAMILIES, pocket_questions
from act2see.policies.oracle import OraclePolicy
from act2see.policies.qwen import QwenPolicy
from act2see.profiles import BOTH, PROFILES, load_profile
from act2see.similarity import THRESHOLD, keep, load_embedder, similarity
from act2see.trace import Question, Step, Trace, read_traces, write_traces
from act2see.video import read_frames

TOOLS = {"both": BOTH, "retrieval": BOTH[:1], "generation": BOTH[1:], "none": ()}
COLUMNS = ["grid", "cell", "seed", "family", "n", "accuracy", "low", "high", "calls_per_question"]
LOOKING = FAMILIES[1:]


@dataclass(frozen=True)
class Cell:
    """One cell: which traces a student learns from, and how it is asked. No `traces`: the base."""

    grid: str
    cell: str
    seed: int = 0  # of the adapter, the order of the traces and the test questions
    traces: str = "human"  # the filter's reference, or what stands in its place
    threshold: float = THRESHOLD
    size: int = 0  # most traces; 0: all of the small set
    tools: str = "both"
    calls: int = 4
    swap: str = ""
    overview: int = 0  # frames; 0: the profile's

    def student(self) -> str:
        """Names the adapter: cells that differ only in how they ask share one."""
        if not self.traces:
            return ""
        words = self.traces.replace(" ", "_")
        return f"{words}-{self.threshold:.2f}-{self.size}-{self.tools}-{self.seed}"

    def asking(self) -> str:
        """Names the file of answers: cells of one student that is asked the same way share it."""
        student = self.student() or f"base-{self.seed}"
        return f"{student}-{self.calls}-{self.swap}-{self.overview}.jsonl"


def grid(seeds: int) -> Iterator[Cell]:
    """All cells, the headline first, with `seeds` seeds; the rest with one."""
    for seed in range(seeds):
        yield Cell("tools", "base", seed, traces="", tools="none")
        yield from (Cell("tools", tools, seed, tools=tools) for tools in TOOLS)
    for swap in SWAPS:
        yield Cell("evidence", swap, swap=swap)
    yield from (Cell("calls", str(calls), calls=calls) for calls in (0, 1, 2, 4, 8))
    yield Cell("frames", "base, as many frames", traces="", tools="none", overview=12)
    for frames in ("oracle", "retriever"):
        yield Cell("inference only", f"key frames by {frames}", traces="", swap=frames)
    for reference in ("human", "model", "none", "random", "human and right"):
        yield Cell("reference", reference, traces=reference)
    for threshold in (0.6, 0.7, 0.8, 0.9):  # at 0.95 hardly any trace is kept
        yield Cell("threshold", f"{threshold:.2f}", threshold=threshold)
    yield from (Cell("traces", str(size), size=size) for size in (50, 200, 800, 3200))


class Grid:
    """What all cells share: profile, embedder, questions, folder."""

    def __init__(self, folder: Path, asked: int, tested: int, passes: int):
        self.folder, self.asked, self.tested, self.passes = folder, asked, tested, passes
        self.profile = equip(load_profile("imagine"))
        self.processor = load_processor(self.profile.student)
        self.scored = {}

    def teach(self, tools: str, asked: int, seed: int = 0) -> list[Trace]:
        """The teacher's traces of the first `asked` training questions, with their similarity."""
        key = tools, asked, seed
        if key not in self.scored:
            questions = pocket_questions("train", 0, asked, self.folder / "clips", FAMILIES)
            toolbox = replace(self.profile.toolbox, tools=TOOLS[tools])
            file = self.folder / f"traces-{tools}-{seed}.jsonl"
            teacher = OraclePolicy(seed=seed)
            traces = collect(file, questions, teacher, toolbox, self.profile.budget)
            self.scored[key] = self.score(traces, f"{tools}-{seed}")
        return self.scored[key]

    def score(self, traces: list[Trace], name: str) -> list[Trace]:
        """The traces with similarity, which is kept in a file: embedding takes its time."""
        file = self.folder / f"similarity-{name}.json"
        known = json.loads(file.read_text()) if file.exists() else {}
        if new := [t for t in traces if t.question.id not in known]:
            done = similarity(new, load_embedder(self.profile.embedder))
            known |= {t.question.id: t.similarity for t in done}
            write(file, json.dumps(known))
        return [t.model_copy(update={"similarity": known[t.question.id]}) for t in traces]

    def training(self, cell: Cell) -> list[Trace]:
        """The traces that this cell's student learns from."""
        asked = self.asked
        while True:  # more questions until enough traces are kept
            traces = self.choose(cell, asked)
            if len(traces) >= cell.size:
                break
            asked = int(1.1 * asked * cell.size / max(len(traces), 1)) + 50
        traces = traces[: cell.size or None]
        return [blind(t) for t in traces] if cell.tools == "none" else traces

    def choose(self, cell: Cell, asked: int) -> list[Trace]:
        traces = self.teach("both" if cell.tools == "none" else cell.tools, asked)
        rng = np.random.default_rng(cell.seed)
        kept = keep(traces, cell.threshold)
        if cell.traces == "none":
            return traces
        if cell.traces == "random":
            return [traces[i] for i in sorted(rng.permutation(len(traces))[: len(kept)])]
        if cell.traces == "model":  # another run of the teacher, mistakes and all
            others = {t.question.id: t for t in self.teach(cell.tools, asked, seed=1)}
            told = [others[t.question.id].reasoning() for t in traces]
            pairs = zip(traces, told, strict=True)
            asked_so = [t.model_copy(update={"question": reasoned(t, text)}) for t, text in pairs]
            return keep(self.score(asked_so, "model"), cell.threshold)
        return [t for t in kept if t.correct()] if cell.traces == "human and right" else kept

    def student(self, cell: Cell) -> Path:
        return self.folder / "students" / cell.student()

    def lesson(self, cell: Cell) -> Path:
        return self.folder / "lessons" / f"{cell.student()}.jsonl"

    def lay_out(self, cell: Cell) -> None:
        """Write down what this cell's student learns from, unless it has learnt."""
        if not (self.student(cell) / "done.json").exists():
            self.lesson(cell).unlink(missing_ok=True)
            write_traces(self.lesson(cell), self.training(cell))

    def train(self, cell: Cell) -> None:
        """Train the cell's student, unless it is there."""
        folder = self.student(cell)
        if (folder / "done.json").exists():
            return
        traces = read_traces(self.lesson(cell))
        epochs = self.passes / len(traces)
        recipe = replace(PROFILES["pocket"].recipe, epochs=epochs, seed=cell.seed)
        outcome = finetune(traces, [], self.profile.student, folder, recipe)
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        told = {"traces": len(traces), "epochs": epochs, "minutes": outcome.minutes}
        write(folder / "done.json", json.dumps(told | asdict(cell)))

    def questions(self, cell: Cell) -> list[Question]:
        split, seed = "test", 100 + cell.seed
        return pocket_questions(split, seed, self.tested, self.folder / "clips", FAMILIES)

    def answer(self, cell: Cell) -> list[Trace]:
        """The cell's dialogues about its test questions; cells that ask the same share them."""
        questions = self.questions(cell)
        adapter = self.student(cell) / "adapter" if cell.traces else ""
        policy = QwenPolicy(load_student(self.profile.student, adapter), self.processor, "student")
        toolbox = replace(self.profile.toolbox, tools=TOOLS[cell.tools])
        budget = replace(self.profile.budget, max_calls=cell.calls)
        budget = replace(budget, overview_frames=cell.overview or budget.overview_frames)
        if cell.swap in SWAPS:
            toolbox = SwappedToolbox(**vars(toolbox), swap=cell.swap, others=tuple(questions))
        elif cell.swap:
            policy = KeyFrames(policy, cell.swap)
        return collect(self.folder / "answers" / cell.asking(), questions, policy, toolbox, budget)


class KeyFrames:
    """Inference-only interleaving in ViTCoT's manner: thoughts, then key frames, then the answer.

    `oracle`: the frames that matter, for a hypothetical the generated one. `retriever`: the 2 s in
    which the picture changes most.
    """

    def __init__(self, inner: QwenPolicy, by: str):
        self.inner, self.by, self.name = inner, by, f"key frames by {by}"

    def reply(self, traces: list[Trace]) -> list[Reply | None]:
        replies = self.inner.reply(traces)
        for trace, reply in zip(traces, replies, strict=True):
            if reply and not trace.calls() and (calls := self.frames(trace.question)):
                reply.calls, reply.answer, reply.truncated = calls, "", False
        return replies

    def force(self, traces: list[Trace]) -> list[str]:
        return self.inner.force(traces)

    def frames(self, question: Question) -> list[Step]:
        truth, windows = question.truth, question.truth["windows"]
        if self.by == "retriever":
            times_s = np.arange(0, question.duration_s - 0.5, 0.5)
            pictures = np.stack(read_frames(question.video, times_s)[0]).astype(float)
            change = np.abs(np.diff(pictures, axis=0)).mean((1, 2, 3))
            start_s = min(float(times_s[change.argmax()]), question.duration_s - 2)
            windows = [[start_s, start_s + 2]]
        elif "prompt" in truth:
            wish = {"prompt": truth["prompt"], "time_s": truth["time_s"]}
            return [Step(kind="call", tool="generate_frame", arguments=wish)]
        spans = [dict(zip(("start_s", "end_s"), window, strict=True)) for window in windows]
        return [Step(kind="call", tool="retrieve_frames", arguments=span) for span in spans]


def blind(trace: Trace) -> Trace:
    """The trace with calls and evidence taken out, its thoughts as one."""
    steps = [Step(kind="think", text=trace.reasoning()), trace.steps[-1]]
    return trace.model_copy(update={"steps": steps, "tools": []})


def reasoned(trace: Trace, text: str) -> Question:
    return trace.question.model_copy(update={"reasoning": text})


def rows(cell: Cell, traces: list[Trace]) -> pd.DataFrame:
    """A row a family, one of all, and one of those that need a look."""
    whole = statistics.summary(cell.cell, traces, FAMILIES)
    looks = statistics.summary(cell.cell, traces, LOOKING).tail(1).assign(family="need a look")
    table = pd.concat([whole, looks]).assign(grid=cell.grid, cell=cell.cell, seed=cell.seed)
    return table[COLUMNS].round(4)


def gains(answered: dict[Cell, list[Trace]]) -> pd.DataFrame:
    """By how much both tools beat each, over the seeds: `accuracy` is the paired gain."""
    told = []
    by_name: dict[str, list[Trace]] = {}
    for cell, traces in answered.items():
        by_name.setdefault(cell.cell, []).extend(traces)
    for name in ("retrieval", "generation", "none", "base"):
        gain = statistics.compare(by_name[name], by_name["both"], FAMILIES)
        numbers = gain["n"], *(round(gain[k], 4) for k in ("gain", "low", "high"))
        told.append(("gain of both", name, "all", "all", *numbers, np.nan))
    return pd.DataFrame(told, columns=COLUMNS)


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)


def keep_to(file: Path, settings: dict) -> None:
    """Raise ValueError where what the folder holds was made with other settings."""
    if file.exists() and (before := json.loads(file.read_text())) != settings:
        raise ValueError(f"{file.parent} was begun with {before}, not {settings}: name another")
    write(file, json.dumps(settings))


@cache
def prepared(*told) -> Grid:
    """The grid of this process, which has one core, and ends with its parent."""
    torch.set_num_threads(1)
    if parent := multiprocessing.parent_process():
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    return Grid(*told)


def work(told: tuple, step: str, cell: Cell) -> None:
    """One student, or one cell's answers."""
    getattr(prepared(*told), step)(cell)


def run(
    folder: Path, seeds: int, asked: int, tested: int, passes: int, upto: int, grids: list[str]
) -> None:
    """Go through the grids, a cell on each core; the table in `folder`/ablations.csv grows."""
    began, table, made = time.time(), folder / "ablations.csv", folder / "ablations.json"
    before = json.loads(made.read_text())["minutes"] if made.exists() else 0
    told = f"--seeds {seeds} --asked {asked} --tested {tested} --passes {passes} --upto {upto}"
    told += f" --grids {' '.join(map(repr, grids))}" if grids else ""
    told = {"command": f"python data/pocket/ablate.py FOLDER {told}"}
    told |= {"machine": f"{os.cpu_count()} CPU cores", "torch": torch.__version__}

    def note(what: str) -> None:
        minutes = before + (time.time() - began) / 60
        write(made, json.dumps(told | {"minutes": round(minutes, 1)}, indent=1) + "\n")
        print(f"{minutes:5.1f} min  {what}", flush=True)

    settings = folder, asked, tested, passes
    keep_to(folder / "settings.json", {"asked": asked, "tested": tested, "passes": passes})
    shared = prepared(*settings)
    cells = [c for c in grid(seeds) if c.size <= upto and c.grid in (grids or [c.grid])]
    students = list({cell.student(): cell for cell in cells if cell.traces}.values())
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        trained = []
        for cell in students:
            shared.lay_out(cell)
            trained.append(pool.submit(work, settings, "train", cell))
        for cell in cells:
            shared.questions(cell)  # draws their clips
        note(f"traces for {len(students)} students")
        for cell, training in zip(students, trained, strict=True):
            training.result()
            note(f"student {cell.student()}")
        asked_once = {cell.asking(): cell for cell in cells}
        begun = {k: pool.submit(work, settings, "answer", c) for k, c in asked_once.items()}
        done, answered = [], {}
        for cell in cells:
            begun[cell.asking()].result()
            answered[cell] = shared.answer(cell)  # from its file
            done.append(rows(cell, answered[cell]))
            write(table, pd.concat(done).to_csv(index=False))
            note(f"{cell.grid}: {cell.cell}, seed {cell.seed}")
    if headline := {cell: traces for cell, traces in answered.items() if cell.grid == "tools"}:
        write(table, pd.concat([*done, gains(headline)]).to_csv(index=False))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--asked", type=int, default=800, help="training questions, before filtering"
    )
    parser.add_argument("--tested", type=int, default=150, help="test questions a seed")
    parser.add_argument("--passes", type=int, default=1200, help="traces seen in a training")
    parser.add_argument("--upto", type=int, default=800, help="largest set of traces")
    parser.add_argument("--grids", nargs="*", default=[], help="only these")
    options = parser.parse_args()
    run(**vars(options))
