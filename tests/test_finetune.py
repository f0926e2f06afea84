import json
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

from act2see import finetune as finetuning
from act2see.encoding import encode, frames_of, hidden_states, pixels, see
from act2see.features import see_once
from act2see.finetune import (
    TraceTrainer,
    adapted,
    collate,
    description,
    example,
    finetune,
    held_out_split,
    pad,
    peak_memory_gb,
    prepare_folder,
)
from act2see.interleave import Budget, interleave
from act2see.policies.qwen import QwenPolicy
from act2see.profiles import PROFILES
from act2see.recipe import Recipe
from act2see.store import write_traces
from act2see.student import check_adapter, compute_dtype, fingerprint, load_student, unwrapped
from act2see.trace import Step

BASE = PROFILES["pocket"].student
BARE = object.__new__(TraceTrainer)  # a loss needs no set-up
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
    return [example(e, see(e.images, model, processor), model) for e in encodings]


def test_training_and_inference_build_the_same_tokens(traces, processor, base):
    examples = examples_of(traces, processor, base)
    batch = pad(examples, processor.tokenizer.pad_token_id)
    for row, trace in enumerate(traces):
        encoding = encode(trace, processor)
        end = len(encoding.ids)
        assert batch["input_ids"][row, :end].tolist() == encoding.ids
        assert batch["labels"][row, :end].tolist() == encoding.labels
        assert (batch["labels"][row, end:] == -100).all()


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
        ours = BARE.compute_loss(base, batch | {"of": of})
    torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("as_video", [False, True])
def test_a_picture_is_looked_at_once_for_all_epochs(
    traces, processor, base, tmp_path, monkeypatch, as_video
):
    form = {"overview_as_video": as_video}
    encodings = [encode(t.model_copy(update=form), processor) for t in [*traces, *traces]]
    counts = []
    eye = base.model.visual.forward
    monkeypatch.setattr(
        base.model.visual,
        "forward",
        lambda *a, **k: counts.append(len(k["grid_thw"])) or eye(*a, **k),
    )
    stored = see_once(encodings, base, processor, tmp_path / "features.bin", 1.0)
    pictures = {tuple(f.tobytes() for f in frames_of(i)) for e in encodings for i in e.images}
    assert sum(counts) == len(pictures)
    for encoding, features in zip(encodings, stored, strict=True):
        with torch.no_grad():
            again = see(encoding.images, base, processor)
        for one, other in zip(features, again, strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_features_too_large_to_keep_are_made_when_needed(traces, processor, base, tmp_path):
    encodings = [encode(t, processor) for t in traces]
    stored = see_once(encodings, base, processor, tmp_path / "features.bin", 1e-9)
    assert stored == [[]] * len(traces)
    once = finetune(traces, [], BASE, tmp_path / "once", TINY)
    anew = finetune(traces, [], BASE, tmp_path / "anew", replace(TINY, features_gb=0.0))
    assert anew.log[-1]["train_loss"] == pytest.approx(once.log[-1]["train_loss"], abs=2e-3)


def test_activations_made_again_give_the_same_loss(traces, tmp_path):
    plain = finetune(traces, [], BASE, tmp_path / "plain", TINY)
    again = finetune(traces, [], BASE, tmp_path / "again", replace(TINY, recompute=True))
    assert again.log[-1]["train_loss"] == pytest.approx(plain.log[-1]["train_loss"], abs=1e-4)


def test_parts_side_by_side_learn_what_they_learn_one_by_one(traces, tmp_path, monkeypatch):
    threads = torch.get_num_threads()
    logs = []
    for workers in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=workers: n)
        logs.append(finetune(traces, traces[:2], BASE, tmp_path / str(workers), TINY).log)
    torch.set_num_threads(threads)
    for one, other in zip(*logs, strict=True):
        for name in ("loss", "grad_norm", "eval_loss", "train_loss"):
            assert other.get(name, 0) == pytest.approx(one.get(name, 0), rel=1e-4), name


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
            BARE.compute_loss(model, part).backward()
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
from act2see.student import load_processor, load_student
from act2see.policies.qwen import QwenPolicy
from act2see.store import read_traces
base, adapter, file = sys.argv[1:]
policy = QwenPolicy(load_student(base, adapter), load_processor(base), max_new_tokens=40)
print(json.dumps([r.thinking + r.answer for r in policy.reply(read_traces(Path(file)))]))
"""


def test_a_reloaded_adapter_answers_as_before_in_a_new_process(
    outcome, questions, processor, tmp_path
):
    model = load_student(BASE, outcome.adapter)
    policy = QwenPolicy(model, processor, max_new_tokens=40)
    traces = list(interleave(questions[:3], policy, PROFILES["pocket"].tools, Budget()))
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
    shutil.rmtree(last)
    (tmp_path / "cut" / "outcome.json").unlink()
    resumed = finetune(traces, [], BASE, tmp_path / "cut", TINY)
    from safetensors.torch import load_file

    one = load_file(whole.adapter / "adapter_model.safetensors")
    other = load_file(resumed.adapter / "adapter_model.safetensors")
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=1e-5, rtol=1e-3)


def test_no_traces_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="0 traces"):
        finetune([], [], BASE, tmp_path, TINY)


@pytest.mark.parametrize(
    ("gpu", "native", "dtype"),
    [(False, False, torch.float32), (True, False, torch.float16), (True, True, torch.bfloat16)],
)
def test_the_machine_decides_what_is_computed_in(monkeypatch, gpu, native, dtype):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert compute_dtype() == dtype


def about(video: str) -> SimpleNamespace:
    """As much of a trace as decides on which side of a split it stands."""
    return SimpleNamespace(question=SimpleNamespace(video=video))


def test_traces_are_held_out_in_an_order_drawn_with_the_seed():
    traces = [about(video) for video in "abcdefgh"]
    order = [traces[i] for i in np.random.default_rng(5).permutation(8)]
    assert held_out_split(traces, 3, seed=5) == (order[3:], order[:3])
    assert held_out_split(traces, 0, seed=5) == (order, [])
    for count in (8, -1):
        with pytest.raises(ValueError, match=f"held_out is {count}; .* number of traces, 8"):
            held_out_split(traces, count, seed=5)


@pytest.mark.parametrize("held_out", [4, 5])
def test_a_video_s_traces_stand_on_one_side_of_the_split(held_out):
    """Or the loss of the held-out ones would be of videos that were trained on."""
    pairs = [about(video) for video in "abcdefgh" * 2]
    training, held = held_out_split(pairs, held_out, seed=5)
    assert len(held) == held_out and len(training) == 16 - held_out
    both = {t.question.video for t in training} & {t.question.video for t in held}
    assert len(both) == held_out % 2


def test_a_finished_run_is_not_trained_again(outcome, traces, monkeypatch):
    monkeypatch.setattr(finetuning, "load_student", None)
    again = finetune(traces, traces[:2], BASE, outcome.adapter.parent, TINY)
    assert again == outcome and again.trained_tokens > len(traces)


def test_a_lost_adapter_is_written_again_and_the_numbers_stay(traces, tmp_path):
    before = finetune(traces[:4], [], BASE, tmp_path / "run", TINY)
    weights = (before.adapter / "adapter_model.safetensors").read_bytes()
    shutil.rmtree(before.adapter)
    after = finetune(traces[:4], [], BASE, tmp_path / "run", TINY)
    assert (after.adapter / "adapter_model.safetensors").read_bytes() == weights
    assert (after.minutes, after.trained_tokens) == (before.minutes, before.trained_tokens)


def test_an_adapter_names_its_base_and_no_place(outcome):
    config = json.loads((outcome.adapter / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("base", fingerprint(BASE))
    # PEFT's card would be an empty form; `export` writes one.
    assert not (outcome.adapter / "README.md").exists()
    check_adapter(outcome.adapter, BASE)


@pytest.mark.parametrize(
    "changed",
    [
        {"recipe": replace(TINY, rank=5)},
        {"system": "Be brief."},
        {"four_bit": False},
        {"held_out": []},
        {"checkpoint": "owner/other"},
    ],
)
def test_a_folder_starts_anew_where_anything_that_shapes_the_adapter_differs(
    traces, tmp_path, changed
):
    folder = tmp_path / "run"
    facts = {"traces": traces[2:], "held_out": traces[:2], "checkpoint": BASE, "recipe": TINY}
    facts |= {"four_bit": True, "system": ""}
    prepare_folder(folder, description(**facts))
    (folder / "checkpoint-1").mkdir()
    scored = [trace.model_copy(update={"similarity": 0.9}) for trace in traces[2:]]
    prepare_folder(folder, description(**facts | {"traces": scored}))
    assert (folder / "checkpoint-1").exists()
    prepare_folder(folder, description(**facts | changed))
    assert [path.name for path in folder.iterdir()] == ["run.json"]


def test_a_run_says_where_refused_calls_are_not_learnt(traces):
    """Earlier versions learnt them; a run without any is the same as ever."""
    refusal = Step(kind="evidence", text="start_s is 9; it must be less than end_s, 5.")
    refused = traces[0].model_copy(update={"steps": [refusal, *traces[0].steps]})
    rest = traces[1:], BASE, TINY, True, ""
    assert description([refused], *rest)["refused_calls"] == "not learnt"
    assert "refused_calls" not in description(traces[:1], *rest)


def test_a_mistyped_base_deletes_nothing(outcome, traces):
    run = outcome.adapter.parent
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        finetune(traces, [], "./mistyped", run, TINY)
    assert finetune(traces, traces[:2], BASE, run, TINY) == outcome


def test_a_folder_of_another_kind_is_refused_and_stays(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="not the folder of a training"):
        prepare_folder(tmp_path, {"digest": "a"})
    (tmp_path / "run.json").write_text('{"mine": 1}')
    with pytest.raises(ValueError, match="move it away, or name another"):
        prepare_folder(tmp_path, {"digest": "a"})
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_windows_is_asked_for_its_own_peak(monkeypatch):
    status = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=3e9))
    assert 0.1 < peak_memory_gb() < 100
    monkeypatch.setattr(psutil, "Process", lambda: status)
    monkeypatch.setattr(sys, "platform", "win32")
    assert peak_memory_gb() == 3


def test_a_recipe_comes_without_pytorch():
    command = "import sys, act2see.recipe; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", command], check=True)
