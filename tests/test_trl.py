"""TRL's GRPOTrainer on our dialogues, by examples/trl_grpo.py; without TRL there is nothing to run.

TRL's own places are named by function: trl/chat_template_utils.py and trl/trainer/grpo_trainer.py.
"""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("trl", minversion="1.16")
sys.path.append(str(Path(__file__).parents[1] / "examples"))

import trl_grpo
from transformers.utils import get_json_schema
from trl.chat_template_utils import (
    add_response_schema,
    get_training_chat_template,
    is_chat_template_prefix_preserving,
    parse_response,
    qwen3_chat_template,
    qwen3_template,
)

from act2see.encoding import encode
from act2see.interleave import open_trace, take_turn
from act2see.pocket.oracle import OraclePolicy
from act2see.pocket.questions import pocket_questions
from act2see.profiles import POCKET
from act2see.reinforce import Groups, GroupTrainer, Task, settings, starting_model
from act2see.rewards import naive
from act2see.student import load_processor
from act2see.trace import Reply, Step

QUESTIONS = 4  # one of each family
SIZE = 4
PLAIN = {"bf16": False, "gradient_checkpointing": False, "use_cpu": True, "report_to": "none"}
GROUPS = Groups(questions=QUESTIONS, size=SIZE, steps=1, clip=(0.2, 0.28), temperature=0.4)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="module")
def trainer(clips, tmp_path_factory):
    batch = {"per_device_train_batch_size": QUESTIONS * SIZE, "num_generations": SIZE}
    output = str(tmp_path_factory.mktemp("trl"))
    made = trl_grpo.trainer(clips, output, QUESTIONS, max_completion_length=1024, **batch, **PLAIN)
    # As `train` does before its first step.
    made.current_gradient_accumulation_steps = 1
    assert (made.loss_type, made.beta, made.scale_rewards) == ("dapo", 0.0, "group")
    assert (made.epsilon_low, made.epsilon_high) == GROUPS.clip
    return made


def dialogue(question, number):
    """A finished dialogue: the oracle's, one with a bad call first, and two that end wrongly."""
    trace = open_trace(question, OraclePolicy(), POCKET.tools, POCKET.budget)
    windows = [{"start_s": 9, "end_s": 5}, {"start_s": 1.0, "end_s": 3.0}]
    for window in windows[: number % 3]:
        call = Step(kind="call", tool="retrieve_frames", arguments=window)
        take_turn(trace, Reply("i look again.", [call]), POCKET.tools, POCKET.budget)
    letter = "ABCD"[(question.answer + number // 2) % 4]
    reply = Reply("it may be so.", [], f"Answer: {letter}")
    take_turn(trace, reply, POCKET.tools, POCKET.budget)
    return trace


@pytest.fixture(scope="module")
def groups(clips):
    """Groups of dialogues: one to three turns, calls that bring frames and calls that do not."""
    questions = pocket_questions("train", 0, QUESTIONS, clips)
    return [[dialogue(question, number) for number in range(SIZE)] for question in questions]


def played(trainer, groups, monkeypatch):
    """What TRL makes of these dialogues: it calls tools and writes responses, they say the words.

    What is said in a dialogue is what is labelled behind the tokens that TRL has so far.
    """
    encodings = [encode(t, trl_grpo.load_processor(POCKET.student)) for g in groups for t in g]

    def say(prompts, *others, **more):
        free = list(range(len(encodings)))
        words = []
        for prompt in prompts:
            known = len(prompt)
            number = next(i for i in free if encodings[i].ids[:known] == list(prompt))
            free = [i for i in free if i > number]
            rest = encodings[number]
            end = next((i for i in range(known, len(rest.ids)) if rest.labels[i] == -100), None)
            words.append(rest.ids[known:end])
        return words, None

    monkeypatch.setattr(trainer, "_generate_single_turn", say)
    prompt = [{"role": "user", "content": ""}]
    rows = [{"prompt": prompt, "seed": seed} for seed in range(QUESTIONS) for _ in range(SIZE)]
    trainer.model.train()
    return trainer._generate_and_score_completions(rows), encodings


def test_the_tokens_of_a_dialogue_and_what_is_learned_of_them_are_ours(
    trainer, groups, monkeypatch
):
    batch, encodings = played(trainer, groups, monkeypatch)
    assert len(encodings) == QUESTIONS * SIZE
    for row, encoding in enumerate(encodings):
        ids = []
        for part in ("prompt", "completion"):
            ids += batch[f"{part}_ids"][row][batch[f"{part}_mask"][row].bool()].tolist()
        end = max(i for i, label in enumerate(encoding.labels) if label != -100) + 1
        assert ids == encoding.ids[:end]
        learned = (batch["completion_mask"] * batch["tool_mask"])[row].bool()
        spoken = [label for label in encoding.labels if label != -100]
        assert batch["completion_ids"][row][learned].tolist() == spoken
    assert sum(batch["num_images"]) == sum(len(encoding.images) for encoding in encodings)


def test_the_gradient_of_a_step_is_ours(trainer, groups, monkeypatch, tmp_path):
    batch, _ = played(trainer, groups, monkeypatch)
    flat = [trace for group in groups for trace in group]
    task = Task([t.question for t in flat], POCKET.tools, (POCKET.budget,), naive)
    model = starting_model(POCKET.student, POCKET.adapter, POCKET.recipe, four_bit=False)
    args = replace(settings(tmp_path, POCKET.recipe, GROUPS), use_cpu=True)
    processor = load_processor(POCKET.student)
    ours = GroupTrainer(task, GROUPS, POCKET.recipe, processor, model=model, args=args)
    ours.create_optimizer_and_scheduler(1)
    ours.current_gradient_accumulation_steps = 1
    monkeypatch.setattr(ours, "rollouts", lambda number: groups)
    loss = ours.training_step(ours.model, [0])
    mine = {name: w.grad for name, w in ours.model.named_parameters() if w.grad is not None}

    # TRL adds 1e-4 to a group's standard deviation, and nothing else differs.
    rewards = torch.tensor([[naive(trace) for trace in group] for group in groups])
    spread = rewards.std(1, keepdim=True)
    scale = (spread + 1e-4) / spread.clamp(min=1e-6)
    batch["advantages"] = (batch["advantages"].view(QUESTIONS, SIZE) * scale).flatten()
    trainer.model.zero_grad()
    theirs = trainer._compute_loss(trainer.model, batch)
    theirs.backward()
    other = {n: w.grad for n, w in trainer.model.named_parameters() if w.requires_grad}

    assert mine.keys() == other.keys()
    largest = max(float(grad.abs().max()) for grad in mine.values())
    apart = max(float((mine[name] - other[name]).abs().max()) for name in mine)
    assert loss.item() == pytest.approx(theirs.item(), abs=1e-5)
    assert largest > 1e-3 and apart < 1e-5


def test_trl_earns_what_our_reward_says(trainer, groups, monkeypatch):
    played(trainer, groups, monkeypatch)
    earned = list(trainer._logs["rewards"]["earned"])[-QUESTIONS * SIZE :]
    assert earned == [naive(trace) for group in groups for trace in group]


def test_a_step_on_dialogues_that_trl_samples(clips, tmp_path):
    few = {"max_steps": 1, "per_device_train_batch_size": 2, "num_generations": 2}
    made = trl_grpo.trainer(clips, str(tmp_path), 1, max_completion_length=300, **few, **PLAIN)
    made.train()
    (step,) = [entry for entry in made.state.log_history if "reward" in entry]
    assert 0 <= step["reward"] <= 1.5


def test_trl_knows_no_template_of_a_qwen3_vl_that_thinks(processor):
    """`add_response_schema` compares texts: of Qwen3-VL it has the Instruct one alone."""
    with pytest.raises(ValueError, match="Unrecognized chat template"):
        add_response_schema(processor)


def test_a_template_that_thinks_does_not_keep_its_prefix(processor):
    """An assistant's last turn has an empty thought, the same turn before a tool's has none.

    `_get_tool_suffix_ids` would raise; the trainer looks for another template first, and has none.
    The line is that of the published templates of Qwen3, and TRL's own of Qwen3 lacks it.
    """
    assert not is_chat_template_prefix_preserving(processor)
    with pytest.raises(ValueError, match="not training-compatible"):
        get_training_chat_template(processing_class=processor)
    assert "loop.last or (not loop.last and reasoning_content)" in qwen3_chat_template


def test_with_one_condition_less_it_does(processor):
    text = processor.chat_template.replace("(loop.last or thought)", "true")
    assert text != processor.chat_template
    changed = load_processor(POCKET.student)
    changed.chat_template = text
    assert is_chat_template_prefix_preserving(changed)


def test_a_call_that_is_not_json_is_no_call_for_trl():
    """`parse_response` takes the turn for an answer, where our loop says what is wrong with it."""
    tokenizer = load_processor(POCKET.student).tokenizer
    tokenizer.response_template = qwen3_template
    prefix = tokenizer.encode("<|im_start|>assistant\n<think>\n")
    call = '{"name": "retrieve_frames", "arguments": {"start_s": 1, '
    ids = tokenizer.encode(f"i look again.\n</think>\n\n<tool_call>\n{call}\n</tool_call>")
    assert "tool_calls" not in parse_response(tokenizer, ids, prefix=prefix)


def test_a_tool_that_trl_reads_off_a_method_is_told_in_other_words():
    """`_tokenize_prompts` hands methods to the template: every argument needs words of its own."""

    def retrieve_frames(start_s: float, end_s: float, query: str = "") -> list:
        """Frames.

        Args:
            start_s: from
            end_s: to
            query: what for
        """

    (tool,) = POCKET.tools
    theirs = get_json_schema(retrieve_frames)["function"]["parameters"]["properties"]
    ours = tool.schema()["function"]["parameters"]["properties"]
    assert theirs["start_s"]["description"] and "description" not in ours["start_s"]


def test_without_tensors_a_round_whose_calls_bring_no_frames_stops_trl(
    trainer, groups, monkeypatch
):
    """`_tool_call_loop` splits the prompts' pixels as tensors; an image processor of PIL's has
    arrays, unless `chat_template_kwargs` asks for tensors.
    """
    failing = [[group[1]] * SIZE for group in groups]
    assert not any(trace.steps[2].frames for group in failing for trace in group)
    monkeypatch.setattr(trainer, "chat_template_kwargs", {})
    with pytest.raises(AttributeError, match="prod"):
        played(trainer, failing, monkeypatch)
