import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GenerationConfig, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from act2see import student
from act2see.profiles import PROFILES
from act2see.student import (
    check_adapter,
    find_adapter,
    fingerprint,
    load_processor,
    load_student,
    locate,
    merged,
)
from tests.perf.gpu import TINY_EYE, TINY_TEXT

BASE = PROFILES["pocket"].student
ADAPTER = PROFILES["pocket"].adapter


def test_a_pipelines_weights_lie_in_folders_of_its_own_and_count(tmp_path):
    marks = set()
    for place, weights in (("model", b"a"), ("unet/model", b"a"), ("unet/model", b"b")):
        file = tmp_path / f"{place}.safetensors"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(weights)
        marks.add(fingerprint(tmp_path))
    assert len(marks) == 3 and fingerprint("a hub/name") == "a hub/name"


def test_the_last_byte_of_large_weights_counts_and_a_base_is_read_once(tmp_path, monkeypatch):
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(5 << 20))
    before, status = fingerprint(tmp_path), file.stat()
    with monkeypatch.context() as patched:
        patched.setattr(student.hashlib, "file_digest", None)
        assert fingerprint(tmp_path) == before
    with file.open("r+b") as content:
        content.seek(-1, os.SEEK_END)
        content.write(b"a")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert fingerprint(tmp_path) != before


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A working folder with `models/mine`, whose hub cannot be reached; its requests."""
    (tmp_path / "models" / "mine").mkdir(parents=True)
    (tmp_path / "models" / "mine" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    requests = []

    def unreachable(name: str, file: str) -> str:
        requests.append(name)
        raise OSError("We couldn't connect to the hub.\nCheck your connection.")

    monkeypatch.setattr(student, "cached_file", unreachable)
    return requests


@pytest.mark.parametrize("name", ["models/mine", "./models/mine", "~/models/mine"])
def test_a_folder_with_a_checkpoint_is_found(home, tmp_path, name):
    assert (tmp_path / locate(name)).samefile(tmp_path / "models" / "mine")
    assert not home


@pytest.mark.parametrize("name", ["models/none", "./none", "~/none", "/none", "outputs/run/none"])
def test_what_has_the_form_of_a_path_is_not_sought_on_the_hub(home, tmp_path, name):
    with pytest.raises(FileNotFoundError, match=f"^{name}: there is no such folder"):
        load_processor(name)
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        locate(tmp_path / "none")
    assert not home


def test_a_folder_without_a_checkpoint_says_so(home):
    with pytest.raises(FileNotFoundError, match=r"models is here, .* \(no config\.json\)"):
        locate("models")
    with pytest.raises(FileNotFoundError, match=r"\(no model_index\.json\)"):
        locate("models/mine", "model_index.json")


def test_what_may_be_a_folder_or_a_hub_name_is_neither(home):
    with pytest.raises(FileNotFoundError, match=r"neither a folder here nor .*\(We couldn't.*\)$"):
        load_processor("outputs/none")
    assert home == ["outputs/none"]
    with pytest.raises(FileNotFoundError, match="a name: it is neither a folder here nor a model"):
        locate("a name")


def test_a_cached_model_needs_no_hub(home, monkeypatch):
    monkeypatch.setattr(student, "try_to_load_from_cache", lambda name, file: "config.json")
    assert locate("owner/name") == "owner/name" and not home


def write_adapter(folder, base: str, revision: str | None):
    folder.mkdir(parents=True)
    fields = {"base_model_name_or_path": base, "revision": revision}
    (folder / "adapter_config.json").write_text(json.dumps(fields))
    return folder


def test_the_adapter_is_the_one_named_or_else_of_the_first_run_that_has_one(tmp_path):
    runs = [tmp_path / "mine", tmp_path / "pocket"]
    second = write_adapter(runs[1] / "finetune" / "adapter", "owner/base", None)
    assert find_adapter("", *runs) == second
    first = write_adapter(runs[0] / "finetune" / "adapter", "owner/base", None)
    assert find_adapter("", *runs) == first
    assert find_adapter(str(second), *runs) == second
    with pytest.raises(FileNotFoundError, match=r"none \(no .*run notebook 03, or set `adapter`"):
        find_adapter(str(tmp_path / "none"), *runs)
    with pytest.raises(FileNotFoundError, match=r"no adapter in \S+adapter or \S+adapter \("):
        find_adapter("", tmp_path / "a", tmp_path / "b", tmp_path / "a")


def test_an_adapter_of_a_hub_base_is_for_that_name_only(tmp_path):
    adapter = write_adapter(tmp_path / "adapter", "owner/base", None)
    check_adapter(adapter, "owner/base")
    with pytest.raises(ValueError, match=r"for owner/base .*; owner/other .* is another base"):
        check_adapter(adapter, "owner/other")


def changed_adapter(folder, change) -> str:
    """The shipped adapter, its weights as `change` makes them out of name -> tensor."""
    shutil.copytree(ADAPTER, folder)
    file = folder / "adapter_model.safetensors"
    save_file(change(load_file(file)), file)
    return str(folder)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            lambda w: {k.replace("lora_B", "lora_C"): v for k, v in w.items()},
            r"no \S+lora_B\S+ \(35 ",
        ),
        (lambda w: dict([*w.items()][1:]), r"no \S+ \(1 weights"),
        (lambda w: w | {"more.lora_A.weight": torch.ones(2)}, "what the model does not: more"),
        (lambda w: {k: v / 0 for k, v in w.items()}, r"not finite: \S+ \(70 "),
        (lambda w: {k: v * ("lora_A" in k) for k, v in w.items()}, "changes nothing"),
    ],
)
def test_an_adapter_that_is_not_there_is_refused(tmp_path, change, fault):
    folder = changed_adapter(tmp_path / "adapter", change)
    with pytest.raises(ValueError, match=rf"adapter/adapter_model.safetensors.*{fault}"):
        load_student(BASE, folder, four_bit=False)


def test_weights_that_are_cut_or_gone_are_named(tmp_path):
    folder = tmp_path / "adapter"
    shutil.copytree(ADAPTER, folder)
    file = folder / "adapter_model.safetensors"
    os.truncate(file, 100_000)
    with pytest.raises(ValueError, match=r"adapter_model.safetensors is damaged .*train it again"):
        load_student(BASE, folder, four_bit=False)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"adapter holds no weights"):
        load_student(BASE, folder, four_bit=False)


@pytest.fixture
def checkpoint(tmp_path):
    """The shipped base without its weights."""
    shutil.copytree(BASE, tmp_path / "base", ignore=shutil.ignore_patterns("*.safetensors"))
    return tmp_path / "base"


def test_a_template_in_a_json_file_is_read(checkpoint, processor):
    file = checkpoint / "chat_template.jinja"
    file.with_suffix(".json").write_text(json.dumps({"chat_template": file.read_text()}))
    file.unlink()
    assert load_processor(checkpoint).chat_template == processor.chat_template
    file.with_suffix(".json").unlink()
    with pytest.raises(ValueError, match="base has no chat template"):
        load_processor(checkpoint)


def test_a_checkpoint_that_opens_no_thought_is_refused_by_name(checkpoint):
    file = checkpoint / "chat_template.jinja"
    file.write_text(file.read_text().replace("assistant\\n<think>\\n' -}}", "assistant\\n' -}}"))
    with pytest.raises(ValueError, match=r"base: its chat template .* says Thinking"):
        load_processor(checkpoint)


def test_the_shipped_base_says_where_to_stop(processor):
    """For servers: what ends a turn, and what ends all."""
    ends = GenerationConfig.from_pretrained(BASE).eos_token_id
    assert processor.tokenizer.convert_ids_to_tokens(ends) == ["<|im_end|>", "<|endoftext|>"]


def test_repeated_keys_say_what_grouped_ones_say(monkeypatch):
    """Of two queries a key, as on a T4; rows with and without a mask."""
    torch.manual_seed(0)
    ends = dict.fromkeys(("vision_start_token_id", "vision_end_token_id"), 7)
    config = Qwen3VLConfig(
        text_config=TINY_TEXT | {"vocab_size": 99}, vision_config=TINY_EYE,
        image_token_id=5, video_token_id=6, **ends,
    )  # fmt: skip
    ids = torch.arange(10, 60).reshape(2, 25)
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    logits = []
    for name in ("sdpa", student.REPEATED):
        model = Qwen3VLForConditionalGeneration(config).eval()
        model.load_state_dict(logits[0][0] if logits else model.state_dict())
        model.set_attn_implementation(name)
        with torch.no_grad():
            said = [model(input_ids=ids).logits, model(input_ids=ids, attention_mask=mask).logits]
        logits.append((model.state_dict(), *said))
    torch.testing.assert_close(logits[0][1:], logits[1][1:])


def test_keys_are_repeated_where_no_kernel_takes_them_grouped(monkeypatch):
    assert student.attention() == "sdpa"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for capability, name in (((7, 5), student.REPEATED), ((8, 0), "sdpa"), ((9, 0), "sdpa")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda c=capability: c)
        assert student.attention() == name


def test_answering_leaves_the_base_as_it_was(monkeypatch):
    # bitsandbytes packs matrices anew where the processor has AVX-512 bf16, and rounds their
    # scales: here every processor has.
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)
    model = load_student(BASE)
    matrix = model.model.language_model.layers[0].mlp.up_proj
    before = matrix.weight.data.clone(), matrix.weight.quant_state.absmax.clone()
    with torch.no_grad():
        model(input_ids=torch.tensor([[1, 2, 3]]))
    after = matrix.weight.data, matrix.weight.quant_state.absmax
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("four_bit", [False, True])
def test_a_merged_adapter_says_the_same_and_leaves_the_base_to_the_bit(four_bit):
    model = load_student(BASE, ADAPTER, four_bit)
    names = {n: w.detach().clone() for n, w in model.named_parameters()}
    ids = torch.arange(40)[None]
    with torch.no_grad():
        apart = model(input_ids=ids).logits
        with merged(model):
            together = model(input_ids=ids).logits
            changed = [n for n, w in model.named_parameters() if not torch.equal(w, names[n])]
    assert torch.allclose(apart, together, atol=1e-4)
    assert bool(changed) != four_bit
    assert all(torch.equal(w, names[n]) for n, w in model.named_parameters())


def test_an_unpacked_student_says_the_same(monkeypatch):
    ids = torch.arange(40)[None]
    for adapter in ("", ADAPTER):
        packed, unpacked = (load_student(BASE, adapter, unpack=u) for u in (False, True))
        assert {w.dtype for w in unpacked.parameters()} == {torch.float32}
        assert not any("lora" in name for name, _ in unpacked.named_parameters())
        with torch.no_grad():
            logits = [model(input_ids=ids).logits for model in (packed, unpacked)]
        torch.testing.assert_close(*logits, atol=1e-4, rtol=0)
    # Where there is no room, it stays as it was stored.
    monkeypatch.setattr(student, "UNPACKED_BYTES", 0)
    weights = load_student(BASE, ADAPTER, unpack=True).parameters()
    assert torch.uint8 in {w.dtype for w in weights}
