"""Reinforcement on the loop: dialogues are sampled in groups, and what does better grows likelier.

Works on questions, tools, a reward and a checkpoint. Knows nothing of where questions come from.
Group-relative policy optimization (GRPO): an advantage is how much more a dialogue earns than the
others about its question; the clipped loss falls on what the assistant said, as in fine-tuning, and
a token weighs the same in a long dialogue as in a short one. The paper trains by imitation alone;
all here is our choice.
"""

import hashlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, TrainingArguments

from act2see.checkpoints import go_on, save_adapter
from act2see.encoding import alike
from act2see.features import see_once
from act2see.files import alone
from act2see.finetune import (
    Outcome,
    TraceTrainer,
    adapted,
    arguments,
    example,
    pad,
    peak_memory_gb,
    prepare_folder,
    read_outcome,
)
from act2see.interleave import Budget, interleave
from act2see.policies.last_evidence import LastEvidence
from act2see.policies.qwen import QwenPolicy
from act2see.recipe import Recipe
from act2see.rewards import Reward, facts
from act2see.store import write_text, write_traces
from act2see.student import ADAPTER, fingerprint, load_processor, load_student, merged, unwrapped
from act2see.tools.tool import Tool
from act2see.trace import Question, Trace
from act2see.turns import Recorder, turns


@dataclass(frozen=True)
class Groups:
    """How dialogues are grouped and weighed. clip: how far a token's likelihood may move, down, up.

    updates: steps taken on the same dialogues. kl: weight of the distance from the start.
    """

    questions: int = 8  # a step
    size: int = 8  # dialogues about each of them
    steps: int = 40
    updates: int = 1
    clip: tuple[float, float] = (0.2, 0.28)
    kl: float = 0.0
    temperature: float = 1.0
    save_every: int = 5  # of `updates` steps each


@dataclass(frozen=True)
class Task:
    """What is asked, with which tools, and what a dialogue earns.

    budgets: dialogue j of a group has the j-th, over and over (FrameMind's rungs).
    forgets: only the newest evidence stays in sight (FrameMind's too).
    """

    questions: Sequence[Question]
    tools: Sequence[Tool]
    budgets: Sequence[Budget]
    reward: Reward
    forgets: bool = False
    system: str = ""
    reply_tokens: int = 256


def advantages(rewards: torch.Tensor) -> torch.Tensor:
    """(questions, size) advantages: rewards less their group's mean, over its standard deviation.

    0 all over a group whose dialogues earn the same.

    >>> advantages(torch.tensor([[1.0, 0.0], [1.0, 1.0]])).round(decimals=2)
    tensor([[ 0.7100, -0.7100],
            [ 0.0000,  0.0000]])
    """
    apart = rewards - rewards.mean(1, keepdim=True)
    spread = rewards.std(1, keepdim=True)
    return torch.where(spread > 1e-6, apart / spread.clamp(min=1e-6), 0.0)


def token_loss(
    now: torch.Tensor, old: torch.Tensor, advantage: torch.Tensor, clip: tuple[float, float]
) -> torch.Tensor:
    """Each token's clipped loss. now, old: its log-likelihood, and that when it was said."""
    ratio = (now - old).exp()
    within = ratio.clamp(1 - clip[0], 1 + clip[1])
    return -torch.minimum(ratio * advantage, within * advantage)


class GroupTrainer(TraceTrainer):
    """A Trainer whose steps are on dialogues that its own model has just held.

    All that a step draws follows from seed and step: a run that goes on draws the same.
    """

    def __init__(self, task: Task, groups: Groups, recipe: Recipe, processor: Any, **rest: Any):
        super().__init__(train_dataset=range(groups.steps), data_collator=list, **rest)
        self.task = task
        self.groups = groups
        self.recipe = recipe
        self.processor = processor
        student = QwenPolicy(
            self.model,
            processor,
            max_new_tokens=task.reply_tokens,
            temperature=groups.temperature,
            system=task.system,
        )
        self.student = student
        self.policy = Recorder(LastEvidence(student) if task.forgets else student)
        self.start = [weight.detach().clone() for weight in self.trained()]
        self.parts: list[dict] = []
        self.old: dict[int, torch.Tensor] = {}
        self.reference: dict[int, torch.Tensor] = {}
        self.sums: dict[str, float] = {}

    def trained(self) -> list[torch.nn.Parameter]:
        """The adapter's weights."""
        return [weight for weight in self.model.parameters() if weight.requires_grad]

    @contextmanager
    def started(self) -> Iterator[None]:
        """The adapter as it was before the first step."""
        now = [weight.detach().clone() for weight in self.trained()]
        try:
            self.load(self.start)
            yield
        finally:
            self.load(now)

    @torch.no_grad()
    def load(self, values: list[torch.Tensor]) -> None:
        """Put values into the adapter's weights."""
        for weight, value in zip(self.trained(), values, strict=True):
            weight.copy_(value)

    def training_step(
        self, model: torch.nn.Module, inputs: list[int], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The step's loss. `inputs` say nothing: the step's number decides what is asked."""
        step = self.state.global_step
        if step % self.groups.updates == 0:
            self.ask(step // self.groups.updates)
        self.sums = {}
        loss = super().training_step(model, self.parts)
        self.log(self.facts | self.sums)
        return loss

    def ask(self, number: int) -> None:
        """Hold the dialogues of a round, and lay out what is to be learned from them."""
        self.model.eval()
        traces = self.rollouts(number)
        rewards = [[self.task.reward(trace) for trace in group] for group in traces]
        weights = advantages(torch.tensor(rewards))
        self.facts = facts(traces, rewards)
        if number % self.groups.save_every == 0:
            file = Path(self.args.output_dir) / "rollouts" / f"{number:04}.jsonl"
            file.unlink(missing_ok=True)
            write_traces(file, [trace for group in traces for trace in group])
        examples = self.examples(traces, weights)
        self.facts["tokens"] = sum(e["count"] for e in examples) / sum(map(len, rewards))
        self.parts = self.lay_out(examples)
        self.old = {}
        if self.groups.kl:
            with self.started(), torch.no_grad():
                self.reference = {p["number"]: self.likelihoods(p)[0] for p in self.parts}

    def rollouts(self, number: int) -> list[list[Trace]]:
        """The dialogues of a round, a group a question."""
        size = self.groups.questions
        asked = [
            self.task.questions[i % len(self.task.questions)]
            for i in range(number * size, (number + 1) * size)
        ]
        # What keys and values of the round before hold was made by other weights.
        self.student.cache.clear()
        self.policy.said.clear()
        self.student.random.manual_seed(1_000_003 * self.recipe.seed + number)
        by_question: dict[str, list[Trace]] = {question.id: [] for question in asked}
        rungs = len(self.task.budgets)
        with merged(self.model):
            for rung, budget in enumerate(self.task.budgets):
                share = len(range(rung, self.groups.size, rungs))
                again = [question for question in asked for _ in range(share)]
                done = interleave(again, self.policy, self.task.tools, budget, progress=False)
                for trace in done:
                    by_question[trace.question.id].append(trace)
        return list(by_question.values())

    def examples(self, traces: list[list[Trace]], weights: torch.Tensor) -> list[dict]:
        """What was said in each dialogue, with its advantage and the number of tokens."""
        how = self.processor, self.task.system, self.task.forgets
        rows = [
            (encoding, weight)
            for group, row in zip(traces, weights.tolist(), strict=True)
            for trace, weight in zip(group, row, strict=True)
            for encoding in turns(trace, self.policy.said[id(trace)], *how)
        ]
        base = unwrapped(self.model)
        file = Path(self.args.output_dir) / "features.bin"
        file.unlink(missing_ok=True)
        encodings = [encoding for encoding, _ in rows]
        features = see_once(encodings, base, self.processor, file, self.recipe.features_gb)
        return [
            example(encoding, seen, base)
            | {"advantage": weight, "count": sum(x != -100 for x in encoding.labels)}
            for (encoding, weight), seen in zip(rows, features, strict=True)
        ]

    def lay_out(self, examples: list[dict]) -> list[dict]:
        """Parts of about one length; dialogues without advantage teach nothing, and only count."""
        total = sum(e["count"] for e in examples)
        kept = [e for e in examples if e["advantage"] or self.groups.kl]
        ordered = sorted(kept, key=lambda e: len(e["input_ids"]))
        ranges = alike([len(e["input_ids"]) for e in ordered], self.recipe.fed_tokens)
        parts = []
        for number, (first, last) in enumerate(ranges):
            rows = ordered[first:last]
            spoken = [[e["advantage"]] * e["count"] for e in rows]
            weights = torch.tensor([weight for row in spoken for weight in row])
            part = pad(rows, self.processor.tokenizer.pad_token_id)
            parts.append(part | {"of": total, "advantages": weights, "number": number})
        return parts

    def likelihoods(self, inputs: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """(tokens,) log-likelihood of each token said, and entropy of what it was drawn from."""
        logits, said = self.spoken(self.model, inputs)
        scores = torch.log_softmax(logits / self.groups.temperature, -1)
        entropy = -(scores.exp() * scores).sum(-1)
        return scores.gather(1, said[:, None])[:, 0], entropy.detach()

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> torch.Tensor:
        """One part's share of the step's loss."""
        now, entropy = self.likelihoods(inputs)
        number = inputs["number"]
        old = self.old.setdefault(number, now.detach())
        losses = token_loss(now, old, inputs["advantages"], self.groups.clip)
        ratio = (now.detach() - old).exp()
        outside = (ratio < 1 - self.groups.clip[0]) | (ratio > 1 + self.groups.clip[1])
        numbers = {"entropy": entropy, "clipped": outside.float()}
        if self.groups.kl:
            # Never below zero, and in the mean the divergence (Schulman's k3).
            apart = self.reference[number] - now
            distance = apart.exp() - apart - 1
            losses = losses + self.groups.kl * distance
            numbers["kl"] = distance.detach()
        for name, values in numbers.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(values.sum()) / inputs["of"]
        return losses.sum() / inputs["of"]


@alone
def reinforce(
    task: Task,
    checkpoint: str | Path,
    folder: Path,
    recipe: Recipe,
    groups: Groups = Groups(),
    adapter: str | Path = "",
    four_bit: bool = True,
) -> Outcome:
    """Train an adapter into `folder`/adapter by what its own dialogues earn, from `adapter` on.

    An interrupted run goes on from its last checkpoint and ends with the same bytes; a finished one
    is not run again. Both only where `run.json` says that nothing differs; else the folder starts
    anew. `recipe` gives rate, rank and seed. `rollouts` holds the dialogues of some rounds.
    Raises ValueError for no questions or groups of one, and as `prepare_folder` and `load_student`.
    """
    if not task.questions or groups.size < 2:
        count = len(task.questions)
        raise ValueError(f"{count} questions in groups of {groups.size}: at least 1 in groups of 2")
    processor = load_processor(checkpoint)
    prepare_folder(folder, description(task, checkpoint, recipe, groups, adapter, four_bit))
    if (folder / "outcome.json").exists() and (folder / "adapter" / ADAPTER).exists():
        return read_outcome(folder)
    model = starting_model(checkpoint, adapter, recipe, four_bit)
    before_gb = peak_memory_gb()
    start = time.time()
    trainer = GroupTrainer(
        task, groups, recipe, processor, model=model, args=settings(folder, recipe, groups)
    )
    go_on(trainer)
    save_adapter(model, folder / "adapter")
    (folder / "features.bin").unlink(missing_ok=True)
    log = trainer.state.log_history
    numbers = {
        "before_gb": before_gb,
        "peak_gb": peak_memory_gb(),
        "minutes": (time.time() - start) / 60,
        "trained_tokens": sum(
            round(entry["tokens"] * groups.questions * groups.size)
            for entry in log
            if "tokens" in entry
        ),
        "trainable_parameters": sum(weight.numel() for weight in trainer.trained()),
    }
    write_text(folder / "log.json", json.dumps(log, indent=1))
    write_text(folder / "outcome.json", json.dumps(numbers, indent=1))
    return read_outcome(folder)


def starting_model(
    checkpoint: str | Path, adapter: str | Path, recipe: Recipe, four_bit: bool
) -> PreTrainedModel:
    """The base with a new adapter, or with the one named, ready to be trained."""
    model = load_student(checkpoint, adapter, four_bit)
    if not adapter:
        return adapted(model, recipe)
    for name, weight in model.named_parameters():
        weight.requires_grad = "lora_" in name
    return model


def settings(folder: Path, recipe: Recipe, groups: Groups) -> TrainingArguments:
    """The Trainer's settings: fine-tuning's, but for an even rate, and steps in place of epochs."""
    changed = {
        "max_steps": groups.steps,
        "per_device_train_batch_size": 1,
        "lr_scheduler_type": "constant_with_warmup",
        "save_strategy": "steps",
        "save_steps": groups.save_every * groups.updates,
        "logging_strategy": "no",
    }
    return replace(arguments(folder, recipe, evaluate=False), **changed)


def description(
    task: Task,
    checkpoint: str | Path,
    recipe: Recipe,
    groups: Groups,
    adapter: str | Path,
    four_bit: bool,
) -> dict:
    """What `run.json` says of a run: its numbers, and a digest of all that shapes the adapter."""
    run = {
        "base": fingerprint(checkpoint),
        "adapter": fingerprint(adapter) if adapter else "",
        "questions": len(task.questions),
        "tools": [f"{tool.name}: {tool.setting}" for tool in task.tools],
        "budgets": [asdict(budget) for budget in task.budgets],
        # A function's address is another one in every process.
        "reward": re.sub(" at 0x[0-9a-f]+", "", repr(task.reward)),
        "recipe": asdict(recipe),
        "groups": asdict(groups),
        "four_bit": four_bit,
        "rest": [task.forgets, task.system, task.reply_tokens],
    }
    texts = [question.model_dump_json(exclude={"video"}) for question in task.questions]
    return {"digest": hashlib.sha256(repr((run, texts)).encode()).hexdigest()[:16]} | run
