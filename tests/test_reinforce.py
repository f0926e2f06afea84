import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from act2see.encoding import encode, pixels
from act2see.interleave import Budget
from act2see.profiles import PROFILES
from act2see.recipe import Recipe
from act2see.reinforce import (
    Groups,
    GroupTrainer,
    Task,
    advantages,
    reinforce,
    settings,
    starting_model,
    token_loss,
)
from act2see.rewards import naive
from act2see.trace import Step
from tests.conftest import written

BASE = PROFILES["pocket"].student
RECIPE = Recipe(rank=4, learning_rate=5e-3)
GROUPS = Groups(questions=2, size=3, steps=4, temperature=0.7)


@pytest.fixture
def groups_of_traces(traces):
    """Two groups of three dialogues, some right, some wrong, as a round would leave them."""
    wrong = [t.model_copy(update={"steps": [*t.steps[:-1], Step(kind="answer", text="Answer: "
             + "ABCD"[(t.question.answer + 1) % 4])]}) for t in traces[:2]]  # fmt: skip
    right = [t for t in traces if t.correct()][:4]
    return [[right[0], wrong[0], right[1]], [wrong[1], right[2], right[3]]]


def trainer_of(tmp_path, processor, traces, groups, adapter=""):
    task = Task([t.question for t in traces], (), (Budget(),), naive)
    model = starting_model(BASE, adapter, RECIPE, four_bit=False)
    args = settings(tmp_path, RECIPE, groups)
    trainer = GroupTrainer(task, groups, RECIPE, processor, model=model, args=args)
    # As `train` does before its first step.
    trainer.create_optimizer_and_scheduler(groups.steps)
    trainer.current_gradient_accumulation_steps = 1
    return trainer


def disturb(trainer, seed):
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in trainer.trained():
            weight.add_(0.02 * torch.randn_like(weight))


def gradients(trainer):
    return [weight.grad.clone() for weight in trainer.trained()]


def textbook_likelihoods(model, trace, processor, temperature):
    """One dialogue, all logits, the model's own forward pass on pixels and positions."""
    encoding = encode(trace, processor)
    inputs = pixels(encoding.images, processor) | {"input_ids": torch.tensor([encoding.ids])}
    kinds = (inputs["input_ids"] == model.config.image_token_id).int()
    logits = model(**inputs, mm_token_type_ids=kinds).logits[0, :-1].float() / temperature
    labels = torch.tensor(encoding.labels[1:])
    places = (labels != -100).nonzero()[:, 0]
    return torch.stack([logits[i].log_softmax(-1)[labels[i]] for i in places.tolist()])


@pytest.mark.parametrize("kl", [0.0, 0.3])
def test_a_step_has_the_gradient_of_the_textbook(
    tmp_path, processor, groups_of_traces, kl, monkeypatch
):
    groups = replace(GROUPS, updates=2, kl=kl)
    flat = [trace for group in groups_of_traces for trace in group]
    trainer = trainer_of(tmp_path, processor, flat, groups)
    monkeypatch.setattr(trainer, "rollouts", lambda number: groups_of_traces)
    trainer.policy.said = {id(trace): written(trace, processor) for trace in flat}
    base = trainer.model.get_base_model()
    temperature = groups.temperature

    def every():
        return [textbook_likelihoods(base, trace, processor, temperature) for trace in flat]

    with torch.no_grad():
        start = every()
    disturb(trainer, 1)
    with torch.no_grad():
        old = every()
    trainer.training_step(trainer.model, [0])
    disturb(trainer, 2)
    trainer.state.global_step = 1
    trainer.model.zero_grad()
    trainer.training_step(trainer.model, [0])
    fast = gradients(trainer)

    trainer.model.zero_grad()
    earned = [[naive(trace) for trace in group] for group in groups_of_traces]
    weights = []
    for group in earned:
        mean = sum(group) / 3
        spread = (sum((r - mean) ** 2 for r in group) / 2) ** 0.5
        weights += [(r - mean) / spread if spread else 0.0 for r in group]
    losses = []
    low, high = groups.clip
    for now, before, first, weight in zip(every(), old, start, weights, strict=True):
        for n, o, f in zip(now, before, first, strict=True):
            ratio = torch.exp(n - o)
            clipped = min(max(float(ratio.detach()), 1 - low), 1 + high)
            keeps = ratio * weight < clipped * weight or float(ratio.detach()) == clipped
            gain = ratio * weight if keeps else torch.tensor(clipped * weight)
            losses.append(kl * (torch.exp(f - n) - (f - n) - 1) - gain)
    (sum(losses) / len(losses)).backward()
    slow = gradients(trainer)
    assert max(float(g.abs().max()) for g in slow) > 1e-3
    for one, other in zip(fast, slow, strict=True):
        assert torch.allclose(one, other, atol=1e-5, rtol=1e-3)


def test_advantages_are_zero_where_all_earn_the_same_and_sum_to_zero():
    weights = advantages(torch.tensor([[1.5, 1.5, 1.5], [0.0, 1.0, 2.0]]))
    assert weights[0].tolist() == [0, 0, 0]
    assert weights[1].tolist() == pytest.approx([-1, 0, 1])


def test_a_ratio_is_clipped_only_where_it_would_pay_to_go_further():
    old = torch.zeros(4)
    now = torch.tensor([2.0, 0.5, 2.0, 0.5]).log()
    losses = token_loss(now, old, torch.tensor([1.0, 1.0, -1.0, -1.0]), (0.2, 0.28))
    assert losses.tolist() == pytest.approx([-1.28, -0.5, 2.0, 0.8])


def test_equal_dialogues_teach_nothing_and_count_in_the_mean(tmp_path, processor, traces):
    trainer = trainer_of(tmp_path, processor, traces, GROUPS)
    right = [t for t in traces if t.correct()][:3]
    trainer.policy.said = {id(trace): written(trace, processor) for trace in right}
    examples = trainer.examples([right], torch.zeros(1, 3))
    assert trainer.lay_out(examples) == []
    examples[0]["advantage"] = 1.0
    (part,) = trainer.lay_out(examples)
    assert part["of"] == sum(e["count"] for e in examples)


def test_no_questions_and_groups_of_one_are_refused(tmp_path):
    task = Task([], (), (Budget(),), naive)
    with pytest.raises(ValueError, match="0 questions in groups of 8"):
        reinforce(task, BASE, tmp_path, RECIPE)


RUN = """
import sys
from pathlib import Path
from act2see.pocket.questions import pocket_questions
from act2see.profiles import PROFILES
from act2see.recipe import Recipe
from act2see.reinforce import Groups, Task, reinforce
from act2see.rewards import naive

folder = Path(sys.argv[1])
pocket = PROFILES["pocket"]
questions = pocket_questions("train", 77, 4, folder.parent / "clips")
task = Task(questions, pocket.tools, (pocket.budget,), naive, reply_tokens=60)
groups = Groups(questions=2, size=2, steps=4, temperature=0.4, save_every=1)
recipe = Recipe(learning_rate=1e-3)
reinforce(task, pocket.student, folder, recipe, groups, pocket.adapter, four_bit=False)
"""


def test_a_killed_run_goes_on_to_the_same_adapter(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", RUN]
    whole = tmp_path / "whole"
    subprocess.run([*command, str(whole)], check=True, capture_output=True)
    cut = tmp_path / "cut"
    run = subprocess.Popen(
        [*command, str(cut)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while run.poll() is None and not (cut / "checkpoint-2").exists():
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert not (cut / "adapter").exists()
    subprocess.run([*command, str(cut)], check=True, capture_output=True)
    weights = "adapter/adapter_model.safetensors"
    assert (cut / weights).read_bytes() == (whole / weights).read_bytes()
    logs = [json.loads((f / "log.json").read_text()) for f in (cut, whole)]
    steps = [[e["reward"] for e in log if "reward" in e] for log in logs]
    assert steps[0] == steps[1] and len(steps[0]) == 4
    # Two processes describe the same run alike: else the second would have begun anew.
    assert (cut / "run.json").read_bytes() == (whole / "run.json").read_bytes()
