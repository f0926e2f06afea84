import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from act2see.checkpoints import compute_dtype, load_student, unwrapped
from act2see.encoding import (
    assistant_labels,
    encode,
    frames_of,
    hidden_states,
    pixels,
    see,
)
from act2see.finetune import (
    Recipe,
    TraceTrainer,
    adapted,
    collate,
    example,
    finetune,
    pad,
    see_once,
)
from act2see.interleave import Budget, interleave
from act2see.policies.qwen import QwenPolicy
from act2see.profiles import PROFILES
from act2see.trace import write_traces

BASE = PROFILES["pocket"].student
TOOLBOX = PROFILES["pocket"].toolbox
TINY = Recipe(rank=4, learning_rate=5e-3, epochs=2, batch_size=4)


@pytest.fixture(scope="module")
def outcome(traces, tmp_path_factory):
    return finetune(traces, traces[:2], BASE, tmp_path_factory.mktemp("run"), TINY)


def test_loss_falls_on_both_sets_and_the_numbers_are_there(outcome):
    train = [row["loss"] for row in outcome.log if "loss" in row]
    held = [row["eval_loss"] for row in outcome.log if "eval_loss" in row]
    assert len(held) == 2 and held[1] < held[0]
    assert train or outcome.log[-1]["train_loss"] > 0
    assert outcome.peak_gb >= outcome.before_gb > 0
    assert outcome.trainable_parameters == 4 * 5 * (4 * (192 + 192) + 3 * (192 + 576))


def test_base_is_four_bit_where_it_should_be_and_the_eye_is_not():
    model = load_student(BASE)
    kinds = {name: type(m).__name__ for name, m in model.named_modules()}
    assert kinds["model.language_model.layers.0.mlp.up_proj"] == "Linear4bit"
    assert kinds["model.visual.blocks.0.attn.qkv"] == "Linear"


def test_only_the_adapter_learns():
    model = adapted(load_student(BASE), TINY)
    learning = [name for name, w in model.named_parameters() if w.requires_grad]
    assert learning and all("lora_" in name and "language_model" in name for name in learning)


def examples_of(traces, processor, model):
    encodings = [encode(t, processor) for t in traces]
    return [
        example(e, see(e.images, model, processor), processor.tokenizer, model) for e in encodings
    ]


def test_training_and_inference_build_the_same_tokens(traces, processor, base):
    examples = examples_of(traces, processor, base)
    batch = pad(examples, processor.tokenizer.pad_token_id)
    for row, trace in enumerate(traces):
        ids = encode(trace, processor).ids
        assert batch["input_ids"][row, : len(ids)].tolist() == ids
        labels = assistant_labels(ids, processor.tokenizer)
        assert batch["labels"][row, : len(ids)].tolist() == labels
        assert (batch["labels"][row, len(ids) :] == -100).all()


def test_loss_equals_that_of_the_whole_vocabulary_at_every_place(traces, processor, base, tmp_path):
    examples = examples_of(traces[:3], processor, base)
    batch = pad(examples, processor.tokenizer.pad_token_id)
    images = [image for t in traces[:3] for image in encode(t, processor).images]
    with torch.no_grad():
        logits = base(
            input_ids=batch["input_ids"],
            position_ids=batch["position_ids"],
            use_cache=False,
            **pixels(images, processor),
        ).logits[:, :-1]
        wanted = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=-100
        )
        of = int((batch["labels"][:, 1:] != -100).sum())
        ours = TraceTrainer.compute_loss(None, base, batch | {"of": of})
    torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("as_video", [False, True])
def test_a_picture_is_looked_at_once_for_all_epochs(
    traces, processor, base, tmp_path, monkeypatch, as_video
):
    told = {"overview_as_video": as_video}
    encodings = [encode(t.model_copy(update=told), processor) for t in [*traces, *traces]]
    looked = []
    eye = base.model.visual.forward
    monkeypatch.setattr(
        base.model.visual,
        "forward",
        lambda *a, **k: looked.append(len(k["grid_thw"])) or eye(*a, **k),
    )
    kept = see_once(encodings, base, processor, tmp_path / "run" / "features.bin", 1.0)
    shown = {tuple(f.tobytes() for f in frames_of(i)) for e in encodings for i in e.images}
    assert sum(looked) == len(shown)
    for encoding, features in zip(encodings, kept, strict=True):
        with torch.no_grad():
            again = see(encoding.images, base, processor)
        for one, other in zip(features, again, strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_features_too_large_to_keep_are_made_when_needed(traces, processor, base, tmp_path):
    encodings = [encode(t, processor) for t in traces]
    assert see_once(encodings, base, processor, tmp_path / "features.bin", 1e-9) == [[]] * len(
        traces
    )
    kept = finetune(traces, [], BASE, tmp_path / "kept", TINY)
    made = finetune(traces, [], BASE, tmp_path / "made", replace(TINY, features_gb=0.0))
    assert made.log[-1]["train_loss"] == pytest.approx(kept.log[-1]["train_loss"], abs=2e-3)


def test_activations_made_again_give_the_same_loss(traces, tmp_path):
    plain = finetune(traces, [], BASE, tmp_path / "plain", TINY)
    again = finetune(traces, [], BASE, tmp_path / "again", replace(TINY, recompute=True))
    assert again.log[-1]["train_loss"] == pytest.approx(plain.log[-1]["train_loss"], abs=1e-4)


@pytest.mark.parametrize("fed_tokens", [1, 1500, 10**9])
def test_parts_of_a_step_add_up_to_the_whole(traces, processor, fed_tokens):
    model = adapted(load_student(BASE, four_bit=False), TINY)
    learning = [w for w in model.parameters() if w.requires_grad]
    for weight in learning:
        torch.nn.init.normal_(weight, std=0.02)
    examples = examples_of(traces, processor, unwrapped(model))
    whole = pad(examples, 0)
    whole["of"] = int((whole["labels"] != -100).sum())
    parts = collate(examples, 0, fed_tokens)
    for part in parts:
        assert len(part["labels"]) == 1 or part["labels"].numel() <= fed_tokens
    assert len(parts) == len(traces) if fed_tokens == 1 else len(parts) < len(traces)
    gradients = []
    for batch in ([whole], parts):
        model.zero_grad()
        for part in batch:
            TraceTrainer.compute_loss(None, model, part).backward()
        gradients.append([w.grad for w in learning])
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)


def test_padding_changes_nothing(traces, processor, base):
    examples = examples_of(traces, processor, base)
    short = pad(examples[:1], processor.tokenizer.pad_token_id)
    padded = pad([examples[0], max(examples, key=lambda e: len(e["input_ids"]))], 0)
    with torch.no_grad():
        one, other = (
            hidden_states(base, b["input_ids"], b["frames"], position_ids=b["position_ids"])[0]
            for b in (short, padded)
        )
        other = other[: len(one)]
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


ASK_AGAIN = """
import json, sys
from pathlib import Path
from act2see.checkpoints import load_processor, load_student
from act2see.policies.qwen import QwenPolicy
from act2see.trace import read_traces
base, adapter, file = sys.argv[1:]
policy = QwenPolicy(load_student(base, adapter), load_processor(base), max_new_tokens=40)
print(json.dumps([r.thinking + r.answer for r in policy.reply(read_traces(Path(file)))]))
"""


def test_a_reloaded_adapter_answers_as_before_in_a_new_process(
    outcome, questions, processor, tmp_path
):
    model = load_student(BASE, outcome.adapter)
    policy = QwenPolicy(model, processor, max_new_tokens=40)
    traces = list(interleave(questions[:3], policy, TOOLBOX, Budget()))
    opened = [t.model_copy(update={"steps": []}) for t in traces]
    write_traces(tmp_path / "opened.jsonl", opened)
    before = [r.thinking + r.answer for r in policy.reply(opened)]
    command = [sys.executable, "-c", ASK_AGAIN, BASE, outcome.adapter, tmp_path / "opened.jsonl"]
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    assert json.loads(run.stdout.splitlines()[-1]) == before


def test_an_adapter_for_another_base_is_refused(outcome, tmp_path):
    other = tmp_path / "other"
    model = unwrapped(load_student(BASE, four_bit=False))
    with torch.no_grad():
        model.lm_head.weight.mul_(1.5)
    model.save_pretrained(other)
    with pytest.raises(ValueError, match="is another base"):
        load_student(other, outcome.adapter)
    with pytest.raises(FileNotFoundError, match="holds no adapter"):
        load_student(BASE, tmp_path)


def test_an_interrupted_run_goes_on_from_its_last_checkpoint(traces, tmp_path):
    whole = finetune(traces, [], BASE, tmp_path / "whole", TINY)
    finetune(traces, [], BASE, tmp_path / "cut", TINY)
    last = sorted((tmp_path / "cut").glob("checkpoint-*"), key=lambda p: int(p.name[11:]))[-1]
    for file in last.iterdir():
        file.unlink()
    last.rmdir()
    resumed = finetune(traces, [], BASE, tmp_path / "cut", TINY)
    from safetensors.torch import load_file

    one = load_file(whole.adapter / "adapter_model.safetensors")
    other = load_file(resumed.adapter / "adapter_model.safetensors")
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=1e-5, rtol=1e-3)


def test_no_traces_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="0 traces"):
        finetune([], [], BASE, tmp_path)


@pytest.mark.parametrize(
    ("gpu", "native", "dtype"),
    [(False, False, torch.float32), (True, False, torch.float16), (True, True, torch.bfloat16)],
)
def test_the_machine_decides_what_is_computed_in(monkeypatch, gpu, native, dtype):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert compute_dtype() == dtype
