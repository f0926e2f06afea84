"""A training step against the stock loss, an epoch with frames seen once, and the share of pads."""

import tempfile
from itertools import chain
from pathlib import Path

import torch

from act2see.encoding import encode
from act2see.features import see_once
from act2see.finetune import TraceTrainer, adapted, arguments, collate, example
from act2see.interleave import Budget, interleave
from act2see.pocket.making.models import build_model
from act2see.pocket.oracle import OraclePolicy
from act2see.pocket.questions import pocket_questions
from act2see.profiles import PROFILES
from act2see.student import load_processor, load_student, unwrapped
from tests.perf.report import compare, peak_bytes, record

POCKET = PROFILES["pocket"]


def wide_vocabulary() -> None:
    """4,096 tokens, 400 with loss, 151,936 words; two layers, so that the loss is what costs."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    text = {"vocab_size": 151_936, "hidden_size": 64, "intermediate_size": 128, "head_dim": 32}
    text |= {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    eye = {"depth": 1, "hidden_size": 32, "num_heads": 1, "out_hidden_size": 64}
    eye |= {"intermediate_size": 64, "deepstack_visual_indexes": [0]}
    torch.manual_seed(0)
    model = Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(text_config=text, vision_config=eye, tie_word_embeddings=True)
    )
    ids = torch.randint(0, 150_000, (1, 4096))
    labels = torch.full_like(ids, -100)
    labels[0, torch.randperm(4095)[:400] + 1] = 7
    spots = torch.arange(4096).expand(3, 1, -1)
    gradients = {}

    def ours():
        model.zero_grad()
        batch = {"input_ids": ids, "labels": labels, "position_ids": spots, "frames": [], "of": 400}
        object.__new__(TraceTrainer).compute_loss(model, batch).backward()
        gradients["ours"] = [w.grad for w in model.parameters() if w.grad is not None]

    def stock():
        model.zero_grad()
        model(input_ids=ids, labels=labels, position_ids=spots).loss.backward()
        gradients["stock"] = [w.grad for w in model.parameters() if w.grad is not None]

    compare("training", "step, 151,936 words, time", "<= 0.8", ours, stock)
    for one, other in zip(gradients["ours"], gradients["stock"], strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    gradients.clear()
    peaks = peak_bytes(ours) / 1e6, peak_bytes(stock) / 1e6
    record("training", "step, 151,936 words, peak memory", "<= 0.35", *peaks, "MB")


def epoch_of(model, processor, encodings, features, folder: Path):
    """An epoch's steps as `finetune` takes them, each a list of parts, and their trainer."""
    pairs = zip(encodings, features, strict=True)
    inner, recipe, pad = unwrapped(model), POCKET.recipe, processor.tokenizer.pad_token_id
    workers = torch.get_num_threads()
    trainer = TraceTrainer(
        model=model,
        args=arguments(folder / "run", recipe, False),
        train_dataset=[example(e, seen, inner) for e, seen in pairs],
        data_collator=lambda e: collate(e, pad, recipe.fed_tokens, workers=workers),
    )
    trainer.processor = processor
    trainer.workers = workers
    trainer.current_gradient_accumulation_steps = 1
    return trainer.get_train_dataloader(), trainer


def traces_and_padding(folder: Path) -> None:
    """The pocket's own traces: the share of pads in a batch."""
    processor, model = load_processor(POCKET.student), load_student(POCKET.student, four_bit=False)
    questions = pocket_questions("train", 77, 160, folder)
    done = list(interleave(questions, OraclePolicy(seed=0), POCKET.tools, Budget()))
    encodings = [encode(t, processor) for t in done]
    steps, _ = epoch_of(model, processor, encodings, [[] for _ in done], folder)
    pads = total = 0
    for part in chain.from_iterable(steps):
        pads += int((part["input_ids"] == processor.tokenizer.pad_token_id).sum())
        total += part["input_ids"].numel()
    record("training", "padding to all tokens", "<= 0.1", pads, total, "tokens")


def second_epoch(folder: Path) -> None:
    """An epoch of the Trainer when frames were seen against one with the looking at them.

    The vision tower has nearly as many parameters as the language layers, in Qwen3-VL-2B a third;
    32 overview frames as in the profile `paper`, 9 tokens each.
    """
    processor = load_processor(POCKET.student)
    torch.manual_seed(0)
    model = adapted(build_model(processor, hidden=192, layers=5, vision=160), POCKET.recipe)
    questions = pocket_questions("train", 78, 32, folder)
    budget = Budget(overview_frames=32)
    done = list(interleave(questions, OraclePolicy(seed=0), POCKET.tools, budget))
    encodings = [encode(t, processor) for t in done]

    def look():
        return see_once(encodings, unwrapped(model), processor, folder / "features.bin", 1.0)

    def epoch(seen):
        steps, trainer = epoch_of(model, processor, encodings, seen, folder)
        for step in steps:
            trainer.training_step(model, step)

    seen = look()
    epoch(seen)
    compare(
        "training", "second epoch to first", "<= 0.7", lambda: epoch(seen), lambda: epoch(look())
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        wide_vocabulary()
        traces_and_padding(Path(folder))
        second_epoch(Path(folder))
