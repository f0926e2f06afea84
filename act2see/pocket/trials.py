"""Reinforcement in the pocket world: `python -m act2see.pocket.trials FOLDER`.

An arm is a start, a way to ask, and a reward; each is run with several seeds and then asks fresh
questions. FOLDER keeps lessons, students, dialogues and two tables: run it again after an
interruption, and nothing finished is repeated. Works on the profile `pocket`, its base unquantized:
sampling takes a third less time so. Knows nothing of figures. FrameMind and ReWatch-R1 are in it as
far as they are public (`rewards`, `policies.last_evidence`, `pocket.observations`); their sizes,
rungs and weights here, and all else, are our choice.
"""

import argparse
import json
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from act2see.ablations import diary, keep_to, settle
from act2see.faithfulness import swapped
from act2see.finetune import finetune
from act2see.interleave import Budget, collect, open_trace
from act2see.pocket import trial_tables
from act2see.pocket.observations import RIGHT, observed, reasoned, with_chain
from act2see.pocket.oracle import OraclePolicy
from act2see.pocket.questions import pocket_questions
from act2see.policies.last_evidence import LastEvidence
from act2see.policies.qwen import QwenPolicy
from act2see.profiles import MEASURED, POCKET
from act2see.reinforce import Groups, Task, reinforce
from act2see.rewards import ChainReward, LookReward, Reward, framemind, naive
from act2see.similarity import keep, load_embedder, similarity
from act2see.store import read_traces, write_text, write_traces
from act2see.student import load_processor, load_student, merged
from act2see.tools.moments import FrameAt, VideoClip
from act2see.tools.tool import Tool
from act2see.trace import Question, Trace

SEED = 1700  # of the questions; a run's own seed decides what is drawn in training and sampling
# What the command line may change: its default and what it counts.
NUMBERS = {
    "seeds": (3, "of every arm"),
    "lessons": (600, "questions of the teacher, before filtering"),
    "passes": (600, "traces seen in fine-tuning"),
    "asked": (240, "questions to reinforce on"),
    "steps": (20, "of reinforcement"),
    "tested": (300, "fresh questions"),
}


@dataclass(frozen=True)
class Way:
    """How questions are asked."""

    tools: tuple[Tool, ...]
    budgets: tuple[Budget, ...]  # in training; the last is that of the test
    forgets: bool = False


LOOKS = Way(POCKET.tools, (POCKET.budget,))
# Rungs of frames and of their size; nobody has published FrameMind's.
RUNGS = [(4, 48), (6, 0), (8, 48), (8, 0)]
MINDS = Way(
    (FrameAt(), VideoClip(frames_per_call=5, rate_hz=2.0)),
    tuple(replace(POCKET.budget, overview_frames=n, max_side_px=side) for n, side in RUNGS),
    forgets=True,
)
# Without tools all has to be in the overview: a frame a second, so that no event lies between two.
CHAINS = Way((), (Budget(overview_frames=40),))


@dataclass(frozen=True)
class Arm:
    """A start (`base`, `half`, `shipped` or `chains`), a way, and a reward, "" for the start.

    kl: weight of the distance from the start. share: of the steps.
    """

    name: str
    start: str
    reward: str = ""
    way: Way = LOOKS
    kl: float = 0.01
    share: float = 1.0


ARMS = (
    Arm("base", "base"),
    Arm("SFT", "half"),
    Arm("SFT, then RL", "half", "naive"),
    Arm("SFT, then RL, shaped", "half", "look"),
    Arm("SFT, then RL, no KL", "half", "naive", kl=0.0),
    Arm("more SFT", "shipped"),
    Arm("more SFT, then RL", "shipped", "naive"),
    Arm("RL from the base", "base", "naive"),
    Arm("RL from the base, shaped", "base", "look"),
    Arm("FrameMind", "base", "framemind", MINDS),
    Arm("ReWatch-R1, before RL", "chains", "", CHAINS),
    # A step on forty frames and no tool takes three times as long.
    Arm("ReWatch-R1", "chains", "chain", CHAINS, share=0.4),
)


@dataclass(frozen=True)
class Trials:
    """What all arms share: the folder, and how much is taught, reinforced and asked."""

    folder: Path
    lessons: int
    passes: int
    asked: int
    steps: int
    tested: int

    def questions(self, split: str, seed: int, count: int) -> list[Question]:
        """Questions of the split; no two seeds share one."""
        return pocket_questions(split, SEED + seed, count, self.folder / "clips")

    def name(self, arm: Arm, seed: int) -> str:
        """An arm's run as the name of a file."""
        return f"{arm.name} {seed}".replace(",", "").replace(" ", "_")

    def student(self, arm: Arm, seed: int) -> Path:
        """The folder of what an arm's reinforcement leaves."""
        return self.folder / "students" / self.name(arm, seed)

    def start(self, arm: Arm, seed: int) -> str | Path:
        """The adapter that an arm starts from, "" for the base alone."""
        if arm.start in ("half", "chains"):
            return self.folder / "starts" / f"{arm.start}-{seed}" / "adapter"
        return POCKET.adapter if arm.start == "shipped" else ""

    def adapter(self, arm: Arm, seed: int) -> str | Path:
        """The adapter that an arm is tested with."""
        return self.student(arm, seed) / "adapter" if arm.reward else self.start(arm, seed)

    def lesson(self, start: str) -> list[Trace]:
        """What a start is fine-tuned on: the teacher's traces that the filter keeps, or chains."""
        file = self.folder / "lessons" / f"{start}.jsonl"
        questions = self.questions("train", 0, self.lessons)
        if start == "chains":
            traces = [open_trace(q, RIGHT, CHAINS.tools, CHAINS.budgets[0]) for q in questions]
            return [with_chain(trace) for trace in traces]
        traces = collect(file, questions, OraclePolicy(), LOOKS.tools, LOOKS.budgets[0])
        return keep(similarity(traces, load_embedder(POCKET.embedder)))

    def imitate(self, start: str, seed: int) -> None:
        """Fine-tune a start."""
        folder = self.folder / "starts" / f"{start}-{seed}"
        if (folder / "outcome.json").exists():
            return
        traces = read_traces(self.folder / "lessons" / f"{start}-kept.jsonl")
        recipe = replace(MEASURED, epochs=self.passes / len(traces), seed=seed)
        finetune(traces, [], POCKET.student, folder, recipe, four_bit=False)

    def reinforce(self, arm: Arm, seed: int) -> None:
        """Reinforce an arm from its start."""
        # What the overview shows is answered alike in every dialogue, and teaches nothing.
        drawn = self.questions("train", 1, self.asked)
        questions = [question for question in drawn if question.truth["windows"]]
        way = arm.way
        task = Task(questions, way.tools, way.budgets, reward(arm, questions), way.forgets)
        # Colder than 1: the base has never read some words of its tools' names, and as their rows
        # of its head are small, they are seldom drawn, however long one trains.
        steps = max(1, round(arm.share * self.steps))
        groups = Groups(questions=8, size=8, steps=steps, temperature=0.3, kl=arm.kl)
        recipe = replace(MEASURED, learning_rate=3e-4, seed=seed)
        folder = self.student(arm, seed)
        adapter = self.start(arm, seed)
        reinforce(task, POCKET.student, folder, recipe, groups, adapter, four_bit=False)

    def answer(self, arm: Arm, seed: int, swap: str = "") -> list[Trace]:
        """The arm's answers to fresh questions; with a swap, those of a third of them."""
        file = self.folder / f"answers{swap}" / f"{self.name(arm, seed)}.jsonl"
        questions = self.questions("test", 0, self.tested // 3 if swap else self.tested)
        tools = swapped(arm.way.tools, swap, questions) if swap else arm.way.tools
        model = load_student(POCKET.student, self.adapter(arm, seed), four_bit=False)
        policy = QwenPolicy(model, load_processor(POCKET.student), arm.name)
        policy = LastEvidence(policy) if arm.way.forgets else policy
        with merged(model):
            return collect(file, questions, policy, tools, arm.way.budgets[-1])

    def log(self, arm: Arm, seed: int) -> list[dict]:
        """What an arm's reinforcement wrote about its steps."""
        return json.loads((self.student(arm, seed) / "log.json").read_text())

    def run(self, arm: Arm, seed: int) -> str:
        """Reinforce an arm where it has a reward, and ask it."""
        settle()
        if arm.reward:
            self.reinforce(arm, seed)
        self.answer(arm, seed)
        if arm.way.tools:
            self.answer(arm, seed, "time")
        return f"{arm.name}, seed {seed}"


def reward(arm: Arm, questions: Sequence[Question]) -> Reward:
    """The arm's reward. The world knows what a question gains by a look; elsewhere measure it."""
    match arm.reward:
        case "look":
            return LookReward({q.id: float(bool(q.truth["windows"])) for q in questions})
        case "framemind":
            return framemind
        case "chain":
            return ChainReward(observed, reasoned)
    return naive


def runs(arm: Arm, seeds: int) -> range:
    """The seeds that an arm is run with: of a start that ships there is one student."""
    return range(1 if arm.start in ("base", "shipped") and not arm.reward else seeds)


def main(words: list[str] | None = None) -> None:
    """Run the arms that `words`, or else the command line, name."""
    parser = argparse.ArgumentParser(
        prog="python -m act2see.pocket.trials", description=__doc__.splitlines()[0]
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--arms", nargs="*", default=[], help="only these")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="one core each")
    for name, (default, meaning) in NUMBERS.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{meaning} ({default})")
    options = parser.parse_args(words)
    numbers = {name: getattr(options, name) for name in NUMBERS}
    keep_to(options.folder / "settings.json", {n: v for n, v in numbers.items() if n != "seeds"})
    flags = " ".join(f"--{name} {number}" for name, number in numbers.items())
    machine = f"{options.workers} runs at a time, a core each"
    facts = {"command": f"python -m act2see.pocket.trials FOLDER {flags}", "machine": machine}
    note = diary(options.folder / "reinforcement.json", facts | {"torch": torch.__version__})
    arms = [arm for arm in ARMS if not options.arms or arm.name in options.arms]
    trials = Trials(options.folder, *[numbers[name] for name in list(NUMBERS)[1:]])
    settle()
    # Spawned: a forked process may hang on a lock of torch's threads, which stay in its parent.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, context, initializer=settle) as pool:
        run_all(trials, arms, options.seeds, pool, note)


def run_all(
    trials: Trials,
    arms: Sequence[Arm],
    seeds: int,
    pool: ProcessPoolExecutor,
    note: Callable[[str], None],
) -> None:
    """Fine-tune what arms start from, run them, and write the tables."""
    starts = {arm.start for arm in arms} & {"half", "chains"}
    for start in sorted(starts):
        file = trials.folder / "lessons" / f"{start}-kept.jsonl"
        if not file.exists():
            partial_file = file.with_suffix(".partial")
            partial_file.unlink(missing_ok=True)
            write_traces(partial_file, trials.lesson(start))
            partial_file.rename(file)
    note("lessons")
    # The clips are drawn before two processes want the same ones.
    trials.questions("train", 1, trials.asked)
    trials.questions("test", 0, trials.tested)
    pairs = [(start, seed) for start in sorted(starts) for seed in range(seeds)]
    taught = {pool.submit(trials.imitate, *pair): pair for pair in pairs}
    jobs = [(arm, seed) for arm in arms for seed in runs(arm, seeds)]
    ready = [pool.submit(trials.run, *pair) for pair in jobs if pair[0].start not in starts]
    for done in as_completed(taught):
        done.result()
        note(f"start {taught[done]}")
        following = [(a, s) for a, s in jobs if (a.start, s) == taught[done]]
        ready += [pool.submit(trials.run, *pair) for pair in following]
    for job in as_completed(ready):
        note(job.result())
    answers = {pair: trials.answer(*pair) for pair in jobs}
    swaps = {pair: trials.answer(*pair, "time") for pair in jobs if pair[0].way.tools}
    logs = {pair: trials.log(*pair) for pair in jobs if pair[0].reward}
    for name, table in (
        ("reinforcement.csv", trial_tables.results(answers, swaps)),
        ("reinforcement_curves.csv", trial_tables.curves(logs)),
    ):
        write_text(trials.folder / name, table.to_csv(index=False))
    note("tables")


if __name__ == "__main__":
    main()
