"""What was exported, read back: the same tokens, the same labels, the same words."""

import importlib.util
import json
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from datasets import load_dataset
from safetensors import SafetensorError

from act2see.dialects.dialect import Segment
from act2see.dialects.tags import TAGS
from act2see.encoding import encode
from act2see.export import export_adapter, export_merged, export_traces, messages, reads_alike
from act2see.policies.qwen import QwenPolicy
from act2see.profiles import PROFILES
from act2see.statistics import COLUMNS
from act2see.student import load_processor, load_student

POCKET = PROFILES["pocket"]
SYSTEM = "Answer the question about a video."


@pytest.fixture
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def exported(traces, processor, tmp_path, no_cache):
    """The traces' folder, and what `datasets` reads of it."""
    marked = [t.model_copy(update={"similarity": 0.9}) for t in traces]
    assert export_traces(marked, tmp_path / "set", processor, SYSTEM) == len(traces)
    return tmp_path / "set", load_dataset(str(tmp_path / "set"), split="train")


def collated(row, processor, template):
    """Ids and labels as a trainer's collator makes them of a row, by the processor alone."""
    images = iter(row["images"])
    for message in row["messages"]:
        for part in message["content"]:
            if part["type"] == "image":
                part["image"] = next(images)
    out = processor.apply_chat_template(
        [row["messages"]],
        chat_template=template,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        return_assistant_tokens_mask=True,
    )
    labels = out["input_ids"].masked_fill(torch.as_tensor(out["assistant_masks"]) == 0, -100)
    return out["input_ids"][0].tolist(), labels[0].tolist()


def test_a_row_gives_the_tokens_and_the_labels_of_training(traces, processor, exported):
    folder, rows = exported
    template = (folder / "chat_template.jinja").read_text()
    for trace, row in zip(traces, rows, strict=True):
        trained = encode(trace, processor, system=SYSTEM)
        assert collated(row, processor, template) == (trained.ids, trained.labels)
        pairs = zip(row["images"], trained.images, strict=True)
        assert all(one.tobytes() == other.tobytes() for one, other in pairs)


@pytest.mark.skipif(not importlib.util.find_spec("trl"), reason="TRL is not installed")
def test_trls_collator_gives_the_tokens_and_the_labels_of_training(traces, processor, exported):
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    folder, rows = exported
    template = (folder / "chat_template.jinja").read_text()
    collator = DataCollatorForVisionLanguageModeling(
        processor, assistant_only_loss=True, chat_template=template
    )
    for trace, row in zip(traces, rows, strict=True):
        trained = encode(trace, processor, system=SYSTEM)
        out = collator([row])
        assert out["input_ids"][0].tolist() == trained.ids
        assert out["labels"][0].tolist() == trained.labels


def test_conversations_alternate_and_hold_a_place_for_every_image(exported):
    folder, rows = exported
    info = json.loads((folder / "dataset_info.json").read_text())["act2see"]
    assert set(info["columns"].values()) <= set(rows.column_names)
    for row in rows:
        roles = [turn["role"] for turn in row["conversations"]]
        assert roles[0] == "system" and roles[1:] == ["user", "assistant"] * (len(roles) // 2)
        text = "".join(turn["content"] for turn in row["conversations"])
        assert text.count("<image>") == len(row["images"])


def test_the_card_says_sources_licence_filter_and_counts(traces, exported):
    card = (exported[0] / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n") and "{" not in card
    assert f"| pocket | {len(traces)} | drawn and written by act2see, Apache-2.0 |" in card
    assert "similarity to human reasoning 0.90 or more" in card
    assert f"{len(traces)} of {len(traces)}; left out: 0" in card


def test_the_papers_dialect_keeps_supplied_frames_out_of_the_loss(
    processor, traces, tmp_path, no_cache
):
    trace = next(t for t in traces if t.calls()).model_copy(deep=True)
    trace.dialect = "tags"
    for call in trace.calls():
        call.tool, call.arguments = "retrieve", {"query": "a red disc"}
    assert export_traces([trace], tmp_path / "set", processor) == 1
    (row,) = load_dataset(str(tmp_path / "set"), split="train")
    template = (tmp_path / "set" / "chat_template.jinja").read_text()
    ids, labels = collated(row, processor, template)
    words = processor.tokenizer.decode([token for token in labels if token != -100])
    assert processor.tokenizer.decode(ids) == processor.tokenizer.decode(
        encode(trace, processor).ids
    )
    assert "<retrieve> a red disc </retrieve>" in words and words.endswith("</answer><|im_end|>")
    assert "<frame>" not in words and "seconds" not in words


def test_a_trace_whose_tokens_depend_on_its_turns_is_left_out(
    processor, traces, tmp_path, no_cache, monkeypatch
):
    odd = traces[0].model_copy(deep=True)
    # A full stop and what follows the prompt: one token, read whole.
    monkeypatch.setattr(
        TAGS, "render", lambda *_: ([Segment("a.", False), Segment("\n", True)], [])
    )
    odd.dialect = "tags"
    assert not reads_alike(odd, processor) and reads_alike(traces[0], processor)
    assert export_traces([odd, traces[1]], tmp_path / "set", processor) == 1
    assert "1 of 2; left out: 1" in (tmp_path / "set" / "README.md").read_text()


def test_an_overview_that_was_a_video_goes_out_as_images(processor, traces, tmp_path, no_cache):
    video = traces[0].model_copy(update={"overview_as_video": True})
    export_traces([video], tmp_path / "set", processor)
    (row,) = load_dataset(str(tmp_path / "set"), split="train")
    assert len(row["images"]) == len(traces[0].frames())


def test_a_smaller_set_leaves_no_part_of_a_larger_one(
    processor, traces, tmp_path, no_cache, monkeypatch
):
    monkeypatch.setattr("act2see.export.ROWS", 1)
    for count in (3, 2):
        export_traces(traces[:count], tmp_path / "set", processor)
        assert len(load_dataset(str(tmp_path / "set"), split="train")) == count


def test_a_full_disk_is_named_and_what_was_there_is_kept(
    processor, traces, tmp_path, no_cache, monkeypatch
):
    def half(_, place, *args, **options):
        file = place / "model.safetensors" if place.is_dir() else place
        file.write_bytes(b"half")
        raise error

    for folder in ("set", "adapter", "merged"):
        (tmp_path / folder).mkdir()
    export_traces(traces[:1], tmp_path / "set", processor)
    (file,) = (tmp_path / "set/data").iterdir()
    whole = file.read_bytes()
    error = OSError(28, "No space left on device")
    monkeypatch.setattr("datasets.Dataset.to_parquet", half)
    with pytest.raises(OSError, match=r"train-00000.parquet could not be written .* run again"):
        export_traces(traces[:2], tmp_path / "set", processor)
    assert [*file.parent.iterdir()] == [file] and file.read_bytes() == whole
    monkeypatch.setattr("shutil.copy", half)
    with pytest.raises(OSError, match=r"model.safetensors could not be written .* run again"):
        export_adapter(Path(POCKET.adapter), tmp_path / "adapter")
    assert not [*(tmp_path / "adapter").iterdir()]
    error = SafetensorError("No space left on device")
    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", half)
    with pytest.raises(OSError, match=r"merged could not be written .* run again"):
        export_merged(POCKET.adapter, POCKET.student, tmp_path / "merged")


def test_terms_must_be_met_before_traces_go_out(processor, traces, tmp_path):
    bound = traces[0].model_copy(deep=True)
    bound.question.source = "causalvqa"
    with pytest.raises(ValueError, match="may_train is False"):
        export_traces([bound], tmp_path / "set", processor)
    with pytest.raises(ValueError, match="0 traces"):
        export_traces([], tmp_path / "set", processor)


def test_messages_are_cut_at_turns_and_pictures():
    text = "<|im_start|>user\na<|vision_start|><|image_pad|><|vision_end|>b<|im_end|>\n"
    (message,) = messages([Segment(text, False), Segment("\n", False)])
    assert [part["text"] for part in message["content"]] == ["a", None, "b"]


@pytest.fixture
def results(tmp_path):
    rows = [("act2see", "all", 200, 0.91, 0.86, 0.94), ("base", "all", 200, 0.4, 0.3, 0.5)]
    return pd.DataFrame(rows, columns=COLUMNS[:6]).assign(protocol="greedy, NF4")


def test_an_adapter_goes_out_with_a_card(tmp_path, results):
    export_adapter(Path(POCKET.adapter), tmp_path / "out", results)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| all | 200 | 91.0 % | 86.0 to 94.0 | greedy, NF4 |" in card and "0.4" not in card
    assert "for `base` (fingerprint" in card and "1218 kept traces" in card and "rank 16" in card
    assert "More Information" not in card and not re.search(r"(?<![\w:/.])/\w+/", card)
    one, other = (load_student(POCKET.student, a) for a in (POCKET.adapter, tmp_path / "out"))
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in pairs)


def test_a_path_of_this_machine_is_not_in_a_card(tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    for file in Path(POCKET.adapter).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    fields = json.loads((folder / "adapter_config.json").read_text())
    fields["base_model_name_or_path"] = str(tmp_path / "somewhere" / "base")
    (folder / "adapter_config.json").write_text(json.dumps(fields))
    export_adapter(folder, tmp_path / "out")
    files = [(tmp_path / "out") / name for name in ("README.md", "adapter_config.json")]
    texts = [file.read_text() for file in files]
    assert not any(str(tmp_path) in text for text in texts)
    assert "Scores: not measured." in "".join(texts)


def test_a_merged_checkpoint_says_what_base_and_adapter_say(tmp_path, traces, processor):
    export_merged(POCKET.adapter, POCKET.student, tmp_path / "merged")
    ours = load_student(POCKET.student, POCKET.adapter, four_bit=False)
    merged = load_student(tmp_path / "merged", four_bit=False)
    read = load_processor(tmp_path / "merged")
    opened = [t.model_copy(update={"steps": []}) for t in traces[:3]]
    limits = {"max_new_tokens": 60}
    assert encode(traces[0], read) == encode(traces[0], processor)
    said = QwenPolicy(ours, processor, **limits).reply(opened)
    assert QwenPolicy(merged, read, **limits).reply(opened) == said
    files = [p for p in (tmp_path / "merged").iterdir() if p.suffix in (".json", ".jinja")]
    assert not any(str(tmp_path) in p.read_text() for p in files)
    assert "eos_token_id" in (tmp_path / "merged" / "generation_config.json").read_text()
