"""Training and 32 dialogues with one core kept busy by another process, to the same undisturbed.

`python -m tests.perf.crowd` runs each in a process of its own under three settings of OpenMP; a
process that is given a word does that work and prints its seconds.
"""

import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from act2see.encoding import encode
from act2see.finetune import adapted
from act2see.interleave import Budget, interleave
from act2see.pocket.oracle import OraclePolicy
from act2see.pocket.questions import pocket_questions
from act2see.policies.qwen import QwenPolicy
from act2see.profiles import POCKET
from act2see.student import load_processor, load_student
from tests.perf.report import record
from tests.perf.training import epoch_of

SETTINGS = {
    "as it comes": {},
    "threads that wait asleep": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
TIMES = 3


def dialogues(folder: Path):
    """32 dialogues of the shipped student."""
    questions = pocket_questions("validation", 6, 32, folder)
    model = load_student(POCKET.student, POCKET.adapter, unpack=True)
    processor = load_processor(POCKET.student)

    def work():
        policy = QwenPolicy(model, processor)
        list(interleave(questions, policy, POCKET.tools, POCKET.budget, progress=False))

    return work


def lessons(folder: Path, processor, count: int) -> list:
    """Encodings of the teacher's traces."""
    questions = pocket_questions("train", 79, count, folder)
    done = interleave(questions, OraclePolicy(), POCKET.tools, Budget(), progress=False)
    return [encode(trace, processor) for trace in done]


def training(folder: Path):
    """Four steps of the pocket recipe."""
    processor = load_processor(POCKET.student)
    model = adapted(load_student(POCKET.student, unpack=True), POCKET.recipe)
    encodings = lessons(folder, processor, 4 * POCKET.recipe.batch_size)
    steps, trainer = epoch_of(model, processor, encodings, [[] for _ in encodings], folder)

    def work():
        for step in steps:
            trainer.training_step(model, step)

    return work


WORKS = {"32 dialogues": dialogues, "4 training steps": training}


@contextmanager
def busy():
    """One process that computes all the time."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def seconds(name: str, setting: dict[str, str]) -> float:
    """The median of a few runs, in a process with this setting."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.perf.crowd", name]
    found = subprocess.run(
        command, env=os.environ | setting, stdout=subprocess.PIPE, text=True, check=True
    )
    return float(found.stdout.split()[-1])


def measure(name: str) -> None:
    """Print the median seconds of one work, after a run to warm up."""
    with tempfile.TemporaryDirectory() as folder:
        work = WORKS[name](Path(folder))
        work()
        taken = []
        for _ in range(TIMES):
            began = time.perf_counter()
            work()
            taken.append(time.perf_counter() - began)
    print(median(taken))


if __name__ == "__main__":
    if sys.argv[1:]:
        measure(sys.argv[1])
        sys.exit()
    for name in WORKS:
        for words, setting in SETTINGS.items():
            alone = seconds(name, setting)
            with busy():
                crowded = seconds(name, setting)
            case = f"{name}, {words}: one core busy to undisturbed"
            record("crowd", case, "<= 2.5", crowded, alone, n=TIMES)
