"""The stages of a run, small, each in a process of its own that may be killed at any moment.

A stage is a function of a folder. Its process is a fork: the libraries are there at once, so that a
kill hits the work and not the imports.
"""

import json
import multiprocessing
import os
import resource
import signal
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

from act2see.interleave import Budget, collect
from act2see.pocket.oracle import OraclePolicy
from act2see.pocket.questions import pocket_questions
from act2see.profiles import PROFILES
from act2see.recipe import Recipe
from act2see.similarity import similarity
from act2see.store import read_traces, replace_traces, write_text

POCKET = PROFILES["pocket"]
BASE = POCKET.student
RECIPE = Recipe(rank=2, epochs=2, batch_size=2)
# Times differ from run to run.
TIMES = ("outcome.json",)


@cache
def questions() -> list:
    """Eight questions with their clips, drawn once."""
    clips = Path(mkdtemp(prefix="act2see-chaos-"))
    return pocket_questions("validation", 7, 8, clips, PROFILES["imagine"].families[:4])


@cache
def base() -> tuple:
    """The shipped base and its processor; with them the libraries that take seconds."""
    from act2see.student import load_processor, load_student

    return load_student(BASE, four_bit=False), load_processor(BASE)


def distillation(folder: Path) -> None:
    """The oracle's traces."""
    collect(folder / "traces.jsonl", questions(), OraclePolicy(), POCKET.tools)


def filtering(folder: Path) -> None:
    """What is kept of them, and a table, as notebook 02 writes both."""
    distillation(folder)

    def embed(texts):
        return np.array([[text.count(letter) for letter in "aeiost"] for text in texts], float)

    traces = {trace.question.id: trace for trace in read_traces(folder / "traces.jsonl")}
    scored = similarity([traces[question.id] for question in questions()], embed)
    replace_traces(folder / "kept.jsonl", [t for t in scored if t.similarity > 0.8])
    rows = "".join(f"{t.question.id},{t.similarity}\n" for t in scored)
    write_text(folder / "similarity.csv", rows)


def training(folder: Path) -> None:
    """An adapter of two epochs of two steps, with held-out loss."""
    from act2see.finetune import finetune

    distillation(folder)
    by_id = {trace.question.id: trace for trace in read_traces(folder / "traces.jsonl")}
    traces = [by_id[question.id] for question in questions()[:5]]
    finetune(traces[:4], traces[4:], BASE, folder / "finetune", RECIPE, four_bit=False)


def evaluation(folder: Path) -> None:
    """The bare base's answers."""
    from act2see.evaluation import answer
    from act2see.policies.qwen import QwenPolicy

    model, processor = base()
    policy = QwenPolicy(model, processor, "base", max_new_tokens=30)
    budget = Budget(max_calls=1, open_dialogues=2, overview_frames=4)
    answer(policy, questions()[:6], POCKET.tools, budget, folder / "evaluation", 0, [BASE])


def export(folder: Path) -> None:
    """The traces as a `datasets` folder, the shipped adapter with its card, and both merged."""
    from act2see.export import export_adapter, export_merged, export_traces

    distillation(folder)
    by_id = {trace.question.id: trace for trace in read_traces(folder / "traces.jsonl")}
    traces = [by_id[question.id] for question in questions()]
    export_traces(traces, folder / "set", base()[1])
    export_adapter(Path(BASE).parent / "adapter", folder / "adapter")
    export_merged(Path(BASE).parent / "adapter", BASE, folder / "merged")


STAGES = (distillation, filtering, training, evaluation, export)


@dataclass(frozen=True)
class Ended:
    """How a stage's process ended: its exit code, below 0 for a signal, and what it said."""

    code: int
    words: str


def run(
    stage: Callable[[Path], None],
    folder: Path,
    kill_after_s: float | None = None,
    most_bytes: int | None = None,
) -> Ended:
    """Run a stage in a fork. kill_after_s: when it is killed. most_bytes: of any file it writes."""
    return end(start(stage, folder, most_bytes), kill_after_s)


def start(stage: Callable[[Path], None], folder: Path, most_bytes: int | None = None) -> tuple:
    """A fork that runs a stage, and the end of a pipe from which its words come."""
    folder.mkdir(parents=True, exist_ok=True)
    fork = multiprocessing.get_context("fork")
    words, write = fork.Pipe(duplex=False)
    process = fork.Process(target=_child, args=(stage, folder, write, most_bytes))
    process.start()
    write.close()
    return process, words


def end(started: tuple, kill_after_s: float | None = None) -> Ended:
    """How a fork ended."""
    process, words = started
    process.join(kill_after_s)
    if process.is_alive() and kill_after_s is not None:
        os.kill(process.pid, signal.SIGKILL)
    try:
        told = words.recv()
    except EOFError:
        told = ""
    process.join(300)
    return Ended(process.exitcode, told)


def _child(stage, folder, write, most_bytes) -> None:
    # What a stage prints is not what is looked at here.
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    if most_bytes is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    said = []
    code = 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            stage(folder)
        except (OSError, ValueError) as error:
            said.append(f"{type(error).__name__}: {error}")
            code = 3
        # Of the libraries' own warnings none is about a file of ours.
        said += [str(w.message) for w in caught if str(folder) in str(w.message)]
    write.send("\n".join(said))
    os._exit(code)


def contents(folder: Path) -> dict[str, object]:
    """By name, what a stage left: bytes, but lines of traces in any order, and no times."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file():
            continue
        if path.name in TIMES:
            found[name] = sorted(json.loads(path.read_text()))
        elif "checkpoint-" in name:
            # Their archives hold no order of their own: it counts which are there.
            found[name] = "a part of a checkpoint"
        elif path.suffix == ".jsonl":
            found[name] = sorted(path.read_bytes().splitlines())
        else:
            found[name] = path.read_bytes()
    return found
