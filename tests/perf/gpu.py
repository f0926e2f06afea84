"""Qwen3-VL-8B of random weights on one GPU: memory and time of training, and of answering.

`python -m tests.perf.gpu` builds the model at its published sizes, in NF4, on the GPU. It needs
some 40 GB there and nine minutes; `--tiny` runs the same on any machine with tiny models, to see
that the script works. Weights do not change what a step costs. What counts most comes first, every
row is kept as soon as it is measured, and after `--minutes` no measurement is begun.
"""

import argparse
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from accelerate import init_empty_weights
from peft import PeftModel
from PIL import Image
from transformers import (
    Blip2Config,
    Blip2ForImageTextRetrieval,
    BlipImageProcessorPil,
    ProcessorMixin,
)

from act2see.encoding import encode, pixels, see
from act2see.finetune import TraceTrainer, adapted, example, pad
from act2see.gpu_memory import memory_plan
from act2see.interleave import Budget, interleave
from act2see.policies.qwen import QwenPolicy
from act2see.profiles import PROFILES
from act2see.recipe import Recipe
from act2see.student import unwrapped
from act2see.tools.retrieve import RetrieveFrames
from act2see.tools.retriever import Retriever
from act2see.trace import Frame, Question, Step, Trace
from tests.eight_b import EYE, SIDE_PX, TEXT, TINY_EYE, TINY_TEXT, build, filled
from tests.perf import report
from tests.perf.frames import write
from tests.perf.references import Continued
from tests.perf.report import NAN, record
from tests.policies.naive import Naive, Scripted

__all__ = ["EYE", "TEXT", "TINY_EYE", "TINY_TEXT"]  # tests/test_gpu_memory.py takes them from here
FRAMES = (8, 16, 32)
DIALOGUES = (1, 4, 16, 32)
CALLS = 3
LOOK = RetrieveFrames(frames_per_call=4)
RECIPE = Recipe(rank=16, batch_size=1, recompute=True)
# What a measurement may die of without taking the rest along: memory, kernels, another version.
FAULTS = (RuntimeError, ImportError, LookupError, TypeError, ValueError, AttributeError)

# Stable Diffusion 3.5, medium and large; BLIP-2 with the eyes of ViT-g.
MEDIUM = {
    "sample_size": 128, "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 24,
    "attention_head_dim": 64, "num_attention_heads": 24, "joint_attention_dim": 4096,
    "caption_projection_dim": 1536, "pooled_projection_dim": 2048, "pos_embed_max_size": 384,
    "dual_attention_layers": tuple(range(13)), "qk_norm": "rms_norm",
}  # fmt: skip
LARGE = MEDIUM | {"num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432}
LARGE |= {"pos_embed_max_size": 192, "dual_attention_layers": ()}
TINY_PAINTER = MEDIUM | {"num_layers": 2, "num_attention_heads": 2, "caption_projection_dim": 128}
TINY_PAINTER |= {"dual_attention_layers": (0,)}
PAINTS = {
    "in_channels": 3, "out_channels": 3, "latent_channels": 16, "layers_per_block": 2,
    "block_out_channels": (128, 256, 512, 512), "sample_size": 1024, "scaling_factor": 1.5305,
    "shift_factor": 0.0609, "use_quant_conv": False, "use_post_quant_conv": False,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip
RANKER = {
    "hidden_size": 1408, "num_hidden_layers": 39, "num_attention_heads": 16, "patch_size": 14,
    "intermediate_size": 6144, "image_size": 224,
}  # fmt: skip
QFORMER = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3072, "encoder_hidden_size": 1408, "vocab_size": 30_523,
    "use_qformer_text_input": True,
}  # fmt: skip


@dataclass
class World:
    """What the measurements share."""

    tiny: bool
    folder: Path
    model: torch.nn.Module = None
    processor: ProcessorMixin = None
    film: str = ""
    # Tokens a second of the two references, measured once: a dialogue costs them the same each.
    speeds: dict[str, float] = field(default_factory=dict)

    @property
    def times(self) -> int:
        """How many runs a figure is the median of, where one is short."""
        return 1 if self.tiny else 3


def cost_of(work: Callable[[], object], times: int = 1, warm: int = 1) -> tuple[float, float]:
    """Median seconds of a few runs after those to warm up, and the most GB allocated on the GPU."""
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    taken = []
    for _ in range(warm + times):
        began = time.perf_counter()
        work()
        if gpu:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return median(taken[warm:]), torch.cuda.max_memory_allocated() / 1e9 if gpu else NAN


def used_gb() -> float:
    """What of the GPU is not free: what PyTorch has reserved, its context and its kernels too."""
    if not torch.cuda.is_available():
        return NAN
    free, whole = torch.cuda.mem_get_info()
    return (whole - free) / 1e9


def plan_gb(world: World, work: str, label_tokens: int = 1500, **budget) -> float:
    """What `memory_plan` says that training or answering takes, from config and processor alone."""
    profile = replace(
        PROFILES["paper"],
        student=str(world.folder),
        budget=Budget(max_side_px=SIDE_PX, **budget),
        tools=(LOOK,),
        recipe=RECIPE,
        reply_tokens=64,
        memory_gb=1e6,
    )
    plan = memory_plan(profile, label_tokens=label_tokens, cache_gb=30)
    return float(plan.loc["total", work])


def building(world: World) -> None:
    """The model in NF4, out of nothing: no file of 16 GB is written or read."""

    def work():
        world.model, world.processor = build(world.tiny)

    taken, peak = cost_of(work, warm=0)
    record("gpu", "model built in NF4, time", "", taken)
    world.model.config.save_pretrained(world.folder)
    world.processor.image_processor.save_pretrained(world.folder)
    held = sum(w.nbytes for w in world.model.parameters()) / 1e9
    record("gpu", "model built in NF4, most memory to its weights", "", peak, held, "GB")


def trace_of(frames: int) -> Trace:
    """A dialogue with so many frames and some 400 words said."""
    rng = np.random.default_rng(frames)
    drawn = [rng.integers(0, 255, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8) for _ in range(frames)]
    shown = [Frame(time_s=float(i), pixels=Image.fromarray(d)) for i, d in enumerate(drawn)]
    question = Question(
        id="0", source="", family="", video="", duration_s=99.0, text="which?", options=["a", "b"]
    )
    words = "the disc is red and then it turns green. " * 40
    said = [Step(kind="think", text=words), Step(kind="answer", text="Answer: A")]
    return Trace(question=question, overview=shown, steps=said)


def trained(world: World) -> PeftModel:
    """The student with an adapter, as `finetune` trains it."""
    if not isinstance(world.model, PeftModel):
        world.model = adapted(world.model, RECIPE)
    unwrapped(world.model).gradient_checkpointing_enable({"use_reentrant": False})
    return world.model.train()


def untrained(world: World) -> torch.nn.Module:
    """The student alone again."""
    if isinstance(world.model, PeftModel):
        world.model.zero_grad()
        world.model = world.model.unload()
    world.model.gradient_checkpointing_disable()
    return world.model.eval()


def training(world: World, frames: int) -> None:
    """A QLoRA step, ours against the model's own loss, and its memory against the plan."""
    model = trained(world)
    inner = unwrapped(model)
    weights = [w for w in model.parameters() if w.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-6)
    encoding = encode(trace_of(frames), world.processor)
    with torch.no_grad():
        features = see(encoding.images, inner, world.processor)
    one = pad([example(encoding, features, inner)], 0)
    given = {k: v.to(inner.device) for k, v in one.items() if k != "frames"}
    labels = int((given["labels"] != -100).sum())
    planned = plan_gb(world, "training", labels, overview_frames=frames, max_calls=0)

    def step(loss):
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def ours():
        batch = given | {"frames": features, "of": labels}
        step(object.__new__(TraceTrainer).compute_loss(model, batch))

    def stock():
        seen = pixels(encoding.images, world.processor)
        seen = {k: v.to(inner.device) for k, v in seen.items()}
        step(inner(**given, **seen, use_cache=False).loss)

    case = f"QLoRA step, {frames} frames, {given['input_ids'].shape[1]} tokens"
    taken, peak = cost_of(ours, world.times)
    record("gpu", f"{case}, memory used to planned", "", used_gb(), planned, "GB")
    reference = NAN, NAN
    note = ""
    try:
        reference = cost_of(stock, world.times)
    except FAULTS as fault:
        note = f"reference: {fault}".splitlines()[0][:200]
    record(
        "gpu",
        f"{case}, time to stock loss",
        "<= 0.8",
        taken,
        reference[0],
        n=world.times,
        note=note,
    )
    record(
        "gpu", f"{case}, memory to stock loss", "<= 1", peak, reference[1], "GB", world.times, note
    )


def dialogues(world: World, policy, count: int) -> None:
    """So many dialogues of four turns, each with a call and frames between."""
    windows = [{"start_s": 3.0 * i + 0.2, "end_s": 3.0 * i + 2.9} for i in range(CALLS)]
    calls = [Step(kind="call", tool=LOOK.name, arguments=window) for window in windows]
    questions = [
        Question(id=str(i), video=world.film, duration_s=40.0, text="which?", options=["a", "b"])
        for i in range(count)
    ]
    budget = Budget(overview_frames=8, max_calls=CALLS, open_dialogues=count)
    scripted = Scripted(policy, {q.id: calls for q in questions})
    scripted.force = lambda traces: ["Answer: A" for _ in traces]
    list(interleave(questions, scripted, (LOOK,), budget))


def answering(world: World, count: int, adapter: bool = False) -> None:
    """Tokens a second of so many dialogues, and their memory against the plan."""
    model = trained(world) if adapter else untrained(world)
    inner = unwrapped(model).eval()
    inner.gradient_checkpointing_disable()
    tokens = 4 if world.tiny else 64

    def speed_of(policy, count: int, warm: int = 0) -> tuple[float, float]:
        taken, peak = cost_of(lambda: dialogues(world, policy(), count), warm=warm)
        return count * (CALLS + 1) * tokens / taken, peak

    def ours():
        return QwenPolicy(inner, world.processor, max_new_tokens=tokens, cache_gb=30)

    case = f"{count} dialogues of {CALLS} calls{', with an adapter' if adapter else ''}"
    # One dialogue warms the kernels for all that follow.
    speed, peak = speed_of(ours, count, warm=count == 1)
    planned = plan_gb(world, "answering", overview_frames=8, max_calls=CALLS, open_dialogues=count)
    record("gpu", f"{case}, memory used to planned", "", used_gb(), planned, "GB")
    record("gpu", f"{case}, most memory to its weights", "", peak, weights_gb(inner), "GB")
    for kind, name in ((Naive, "sending all again"), (Continued, "one cache at batch 1")):
        key = f"{name}{adapter}"
        if key not in world.speeds:
            world.speeds[key], _ = speed_of(
                lambda kind=kind: kind(inner, world.processor, tokens), 1
            )
        note = "reference: one dialogue at a time" if count > 1 else ""
        record("gpu", f"{case}, to {name}", "", speed, world.speeds[key], "tokens/s", note=note)


def weights_gb(model: torch.nn.Module) -> float:
    """What a model's weights take, scales of NF4 left out."""
    return sum(w.nbytes for w in model.parameters()) / 1e9


def bandwidth(world: World) -> None:
    """Time of a decoded token against that of reading the language model's weights once."""
    model = untrained(world)
    weights = sum(w.nbytes for w in model.model.language_model.layers.parameters())
    big = torch.empty(2**28 if torch.cuda.is_available() else 2**24, device=model.device)
    per_byte = cost_of(lambda: big.add_(1), 20)[0] / (2 * big.nbytes)
    record("gpu", "memory read and written", "", 1e-9 / per_byte, unit="GB/s", n=20)
    opened = trace_of(2 if world.tiny else 8).model_copy(update={"steps": []})

    more = 8 if world.tiny else 64

    def turn(tokens: int) -> float:
        policy = QwenPolicy(model, world.processor, max_new_tokens=tokens)
        return cost_of(lambda: policy.reply([opened.model_copy()]), world.times)[0]

    token_s = (turn(16 + more) - turn(16)) / more
    record(
        "gpu",
        "token to one reading of the weights",
        "<= 3",
        token_s,
        weights * per_byte,
        n=world.times,
    )


def painter(sizes: dict, four_bit: bool):
    """A pipeline that edits frames, without the models that read for it: they read once a call."""
    # Only here: a diffusers that does not fit this machine costs this figure and no other.
    from diffusers import (
        AutoencoderKL,
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Img2ImgPipeline,
    )

    with init_empty_weights():
        transformer = SD3Transformer2DModel(**sizes)
        eye = AutoencoderKL(**PAINTS)
    pipe = StableDiffusion3Img2ImgPipeline(
        transformer=filled(transformer, four_bit),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=filled(eye),
        **dict.fromkeys(("text_encoder", "text_encoder_2", "text_encoder_3")),
        **dict.fromkeys(("tokenizer", "tokenizer_2", "tokenizer_3")),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def painting(world: World, name: str, sizes: dict) -> None:
    """Seconds and GB of a frame changed in 28 steps of which 16 are gone through, NF4 to whole."""
    side_px = 64 if world.tiny else SIDE_PX
    frame = trace_of(1).overview[0].image().resize((side_px, side_px))
    costs = []
    for four_bit in (True, False):
        pipe = painter(sizes, four_bit)
        told = {"device": pipe.vae.device, "dtype": pipe.vae.dtype}
        told = {
            "prompt_embeds": torch.randn(1, 333, sizes["joint_attention_dim"], **told),
            "pooled_prompt_embeds": torch.randn(1, sizes["pooled_projection_dim"], **told),
        }
        told |= {f"negative_{key}": torch.zeros_like(value) for key, value in told.items()}

        def work(pipe=pipe, told=told):
            size = {"height": side_px, "width": side_px}  # a pipeline's own is 1024
            return pipe(image=frame, strength=0.6, num_inference_steps=28, **size, **told).images

        before = torch.cuda.memory_allocated() if torch.cuda.is_available() else 0
        own = weights_gb(pipe.transformer) + weights_gb(pipe.vae)
        taken, peak = cost_of(work, world.times)
        costs.append((taken, peak - before / 1e9 + own))
        del pipe, work
    for unit, pair in zip(("s", "GB"), zip(*costs, strict=True), strict=True):
        record(
            "gpu", f"frame generated by {name}, NF4 to whole, {unit}", "", *pair, unit, world.times
        )


def ranking(world: World) -> None:
    """Frames a second through BLIP-2's eyes and query tokens, 32 at a time against one."""
    small = {"num_hidden_layers": 2} if world.tiny else {}
    config = Blip2Config(
        vision_config=RANKER | small,
        qformer_config=QFORMER | small,
        image_text_hidden_size=256,
        num_query_tokens=32,
    )
    with init_empty_weights():
        model = Blip2ForImageTextRetrieval(config)
    size = {"height": 224, "width": 224}
    retriever = Retriever(filled(model), BlipImageProcessorPil(size=size), None, "random")
    pictures = [frame.image() for frame in trace_of(2 if world.tiny else 32).overview]
    many, peak = cost_of(lambda: retriever.embed_frames(pictures), world.times)
    one, _ = cost_of(lambda: retriever.embed_frames(pictures[:1]), world.times)
    record(
        "gpu",
        "frames ranked, 32 at a time to one",
        "",
        len(pictures) / many,
        1 / one,
        "frames/s",
        world.times,
    )
    record("gpu", "ranker, most memory to its weights", "", peak, weights_gb(model), "GB")


def measurements(world: World) -> Iterator[tuple[str, Callable[[], None]]]:
    """Names and functions, what counts most first."""
    yield "build", lambda: building(world)
    for frames in (1, 2) if world.tiny else FRAMES:
        yield f"training, {frames} frames", lambda frames=frames: training(world, frames)
    yield "ranking", lambda: ranking(world)
    sizes = {"SD 3.5 medium": MEDIUM, "SD 3.5 large": LARGE}
    for name, size in ({"a tiny SD 3.5": TINY_PAINTER} if world.tiny else sizes).items():
        yield f"painting, {name}", lambda name=name, size=size: painting(world, name, size)
    # References decode one dialogue at a time: these take minutes.
    for count in (1, 2) if world.tiny else DIALOGUES:
        yield f"answering, {count} dialogues", lambda count=count: answering(world, count)
    yield "bandwidth", lambda: bandwidth(world)
    yield "answering with an adapter", lambda: answering(world, 1, adapter=True)


def measure(world: World, minutes: float, only: tuple[str, ...]) -> None:
    """Every measurement whose name begins with one of `only` and that can begin in time.

    One that fails leaves its reason, and the rest.
    """
    ends = time.monotonic() + 60 * minutes
    for name, work in measurements(world):
        if not name.startswith(only):
            continue
        if time.monotonic() > ends:
            record("gpu", name, "", NAN, note=f"left out: {minutes:g} minutes were over")
            continue
        began = time.monotonic()
        try:
            work()
        except FAULTS as fault:
            traceback.print_exc()
            reason = f"{type(fault).__name__}: {fault}".splitlines()[0][:200]
            record("gpu", name, "", NAN, note=reason)
        print(f"[{name}: {time.monotonic() - began:.0f} s]", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="tiny models, on any machine")
    parser.add_argument("--minutes", type=float, default=8.5, help="begin nothing after so many")
    parser.add_argument("--table", type=Path, default=report.TABLE, help="the CSV file to write")
    parser.add_argument("--only", nargs="*", default=[""], help="what their names begin with")
    given = parser.parse_args()
    if not torch.cuda.is_available() and not given.tiny:
        print("gpu: no GPU here: not measured")
        raise SystemExit
    report.TABLE = given.table
    with tempfile.TemporaryDirectory() as place:
        film = write(Path(place) / "film.mp4", 40, SIDE_PX, 50)
        measure(
            World(given.tiny, Path(place) / "model", film=str(film)),
            given.minutes,
            tuple(given.only),
        )
