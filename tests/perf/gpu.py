"""Qwen3-VL-8B of random weights on one GPU: memory and time of training, and of answering.

`python -m tests.perf.gpu` builds the model at its published sizes, in NF4. It needs a GPU, 35 GB of
disk and some ten minutes; `--tiny` runs the same on any machine with a tiny model, to see
that the script works. Weights do not change what a step costs. Rows go into `outputs/perf.csv`.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from act2see.encoding import encode, pixels, see
from act2see.finetune import TraceTrainer, adapted, example, pad
from act2see.interleave import Budget
from act2see.policies.qwen import QwenPolicy
from act2see.profiles import PROFILES
from act2see.recipe import Recipe
from act2see.student import load_processor, load_student, unwrapped
from act2see.tools.retrieve import RetrieveFrames
from act2see.trace import Frame, Question, Step, Trace
from tests.perf.frames import write
from tests.perf.interleaving import run
from tests.perf.report import record
from tests.policies.naive import Naive

CAP_GB = 15.0
SIDE_PX = 448  # 196 tokens a frame
TEXT = {
    "vocab_size": 151_936, "hidden_size": 4096, "intermediate_size": 12_288, "head_dim": 128,
    "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8,
    "max_position_embeddings": 262_144,
    "rope_parameters": {
        "rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20],
        "mrope_interleaved": True,
    },
}  # fmt: skip
EYE = {
    "depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "patch_size": 16,
    "out_hidden_size": 4096, "deepstack_visual_indexes": [8, 16, 24],
    "num_position_embeddings": 2304,
}  # fmt: skip
TINY_TEXT = TEXT | {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 4}
TINY_TEXT |= {"num_attention_heads": 2, "num_key_value_heads": 1}
TINY_EYE = EYE | {"depth": 4, "hidden_size": 64, "intermediate_size": 64, "num_heads": 2}
TINY_EYE |= {"out_hidden_size": 256, "deepstack_visual_indexes": [0, 1, 2]}


def build(folder: Path, tiny: bool):
    """The model in NF4, and the pocket's processor with the large one's pictures."""
    processor = load_processor(PROFILES["pocket"].student)
    eye = processor.image_processor
    eye.patch_size, eye.size = 16, {"shortest_edge": SIDE_PX**2, "longest_edge": SIDE_PX**2}
    token = processor.tokenizer.convert_tokens_to_ids
    config = Qwen3VLConfig(
        text_config=TINY_TEXT if tiny else TEXT,
        vision_config=TINY_EYE if tiny else EYE,
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        dtype="bfloat16",
    )
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = Qwen3VLForConditionalGeneration(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    del model
    return load_student(folder), processor


def trace_of(frames: int) -> Trace:
    """A dialogue with so many frames and some 400 words said."""
    rng = np.random.default_rng(frames)
    drawn = [rng.integers(0, 255, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8) for _ in range(frames)]
    shown = [Frame(time_s=float(i), pixels=Image.fromarray(d)) for i, d in enumerate(drawn)]
    asked = Question(
        id="0", source="", family="", video="", duration_s=99.0, text="which?", options=["a", "b"]
    )
    words = "the disc is red and then it turns green. " * 40
    said = [Step(kind="think", text=words), Step(kind="answer", text="Answer: A")]
    return Trace(question=asked, overview=shown, steps=said)


def seconds(work, times: int = 5) -> float:
    """The median of a few runs after one to warm up."""
    taken = []
    for _ in range(times + 1):
        began = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return median(taken[1:])


def training(folder: Path, processor) -> None:
    """A QLoRA step, ours against the model's own loss; nan where it does not fit."""
    model = adapted(load_student(folder), Recipe(rank=16))
    inner = unwrapped(model)
    inner.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    for frames in (8, 16, 32):
        encoding = encode(trace_of(frames), processor)
        with torch.no_grad():
            features = see(encoding.images, inner, processor)
        one = pad([example(encoding, features, inner)], 0)
        device = inner.device
        given = {k: v.to(device) for k, v in one.items() if k != "frames"}
        seen = {k: v.to(device) for k, v in pixels(encoding.images, processor).items()}

        def ours(given=given, features=features):
            batch = given | {"frames": features, "of": int((given["labels"] != -100).sum())}
            TraceTrainer.compute_loss(None, model, batch).backward()

        def stock(given=given, seen=seen):
            inner(**given, **seen, use_cache=False).loss.backward()

        cost = [cost_of(ours), cost_of(stock)]
        for unit, limit, pair in zip(
            ("s", "GB"), ("<= 0.8", "<= 1"), zip(*cost, strict=True), strict=True
        ):
            record("gpu", f"QLoRA step, {frames} frames, {unit}", limit, *pair, unit)


def cost_of(step) -> tuple[float, float]:
    """Seconds and peak GB of a step, nan twice where the cap does not allow it."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        taken = seconds(step)
    except torch.cuda.OutOfMemoryError:
        return float("nan"), float("nan")
    return taken, torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 1.0


def answering(model, processor, film: Path) -> None:
    """Dialogues with 1 to 6 calls, 1 to 16 at a time, against `generate` anew at every turn."""
    asked = Question(id="", source="", family="", video=str(film), duration_s=40.0, text="which?")
    for calls in (1, 3, 6):
        for count in (1, 4, 16):
            questions = [asked.model_copy(update={"id": str(i)}) for i in range(count)]
            budget = Budget(overview_frames=8, max_calls=calls, open_dialogues=count)
            setting = questions, (RetrieveFrames(frames_per_call=4),), budget, calls

            def ours(setting=setting):
                run(QwenPolicy(model, processor, max_new_tokens=64, cache_gb=30), *setting)

            def naive(setting=setting):
                run(Naive(model, processor, 64), *setting)

            pair = seconds(ours, 3), seconds(naive, 1)
            record("gpu", f"{count} dialogues, {calls} calls", ">= 3", *pair)


def bandwidth(model, processor) -> None:
    """Time of a decoded token against that of reading the language model's weights once."""
    weights = sum(w.nbytes for w in model.model.language_model.layers.parameters())
    big = torch.empty(2**28 if torch.cuda.is_available() else 2**24, device=model.device)
    per_byte = seconds(lambda: big.add_(1), 20) / (2 * big.nbytes)
    opened = trace_of(8).model_copy(update={"steps": []})
    times = []
    for tokens in (16, 80):
        policy = [QwenPolicy(model, processor, max_new_tokens=tokens)]
        policy[0].end = -1  # never ends by itself

        def turn(policy=policy, tokens=tokens):
            policy[0].cache.owners.clear()
            policy[0].reply([opened.model_copy()])

        times.append(seconds(turn, 3))
    token_s = (times[1] - times[0]) / 64
    record("gpu", "token to one reading of the weights", "<= 3", token_s, weights * per_byte)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a tiny model, on any machine")
    tiny = parser.parse_args().tiny
    if not torch.cuda.is_available() and not tiny:
        print("gpu: no GPU here: not measured")
        raise SystemExit
    with tempfile.TemporaryDirectory() as place:
        model, processor = build(Path(place) / "model", tiny)
        if torch.cuda.is_available():
            whole = torch.cuda.get_device_properties(0).total_memory
            print(torch.cuda.get_device_name(0), time.strftime("%Y-%m-%d"))
        answering(model, processor, write(Path(place) / "film.mp4", 40, SIDE_PX, 50))
        bandwidth(model, processor)
        del model
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction(min(1.0, CAP_GB * 1e9 / whole))
        training(Path(place) / "model", processor)
