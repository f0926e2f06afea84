from dataclasses import replace
from types import MethodType, SimpleNamespace

import pytest
import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from act2see.finetune import TraceTrainer, adapted
from act2see.gpu_memory import layer_bytes, memory_plan, most_frames, weights
from act2see.interleave import Budget
from act2see.profiles import PROFILES
from act2see.recipe import Recipe
from act2see.student import load_processor, load_student, unwrapped
from act2see.tools.retrieve import RetrieveFrames
from tests.perf.gpu import EYE, TEXT, TINY_EYE, TINY_TEXT

FOUR_B = (
    TEXT | {"hidden_size": 2560, "intermediate_size": 9728},
    EYE | {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "out_hidden_size": 2560}
    | {"deepstack_visual_indexes": [5, 11, 17]},
)  # fmt: skip


def write(folder, text: dict, eye: dict, tied: bool = False):
    """The config of a Qwen3-VL, and the published limits of its pictures; no weights."""
    config = Qwen3VLConfig(text_config=text, vision_config=eye, tie_word_embeddings=tied)
    config.save_pretrained(folder)
    processor = load_processor(PROFILES["pocket"].student).image_processor
    processor.patch_size, processor.size = 16, {"shortest_edge": 2**16, "longest_edge": 2**24}
    processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def eight_b(tmp_path_factory):
    return write(tmp_path_factory.mktemp("8b"), TEXT, EYE)


@pytest.fixture(scope="module")
def four_b(tmp_path_factory):
    return write(tmp_path_factory.mktemp("4b"), *FOUR_B, tied=True)


def test_weights_of_the_published_sizes(eight_b, four_b):
    """8.77 and 4.44 billion weights; the 8B's embedding and head take 1.24 GB each."""
    assert weights(eight_b, 16, four_bit=False)[0] == pytest.approx(17.53e9, rel=0.005)
    assert weights(four_b, 16, four_bit=False)[0] == pytest.approx(8.88e9, rel=0.005)
    assert 6e9 < weights(eight_b, 16, four_bit=True)[0] < 7.5e9
    assert weights(eight_b, 16, True)[1] == 36 * 16 * (2 * 8192 + 2 * 5120 + 3 * (4096 + 12288))


def test_weights_of_the_pocket_student_are_those_it_loads():
    student = PROFILES["pocket"].student
    model = adapted(load_student(student), Recipe(rank=16))
    base = unwrapped(model)
    four_bit = [p for n, p in base.named_parameters() if type(p).__name__ == "Params4bit"]
    stored = [p for n, p in base.named_parameters() if "lora_" not in n]
    others = sum(p.numel() for p in stored if not any(p is q for q in four_bit))
    scales = sum(p.quant_state.absmax.nbytes + p.quant_state.state2.absmax.nbytes for p in four_bit)
    expected, adapter = weights(student, 16, four_bit=True)
    assert expected == pytest.approx(
        sum(p.nbytes for p in four_bit) + scales + 2 * others, rel=0.01
    )
    assert adapter == model.num_parameters(only_trainable=True)


def kept_bytes(layers: int, recompute: bool = False) -> int:
    """Bytes that autograd holds for a backward pass over 300 tokens, the weights left out."""
    text = TINY_TEXT | {"num_hidden_layers": layers, "vocab_size": 500, "intermediate_size": 384}
    ends = {"image_token_id": 5, "video_token_id": 6}
    ends |= {"vision_start_token_id": 7, "vision_end_token_id": 8, "tie_word_embeddings": True}
    config = Qwen3VLConfig(text_config=text, vision_config=TINY_EYE, **ends)
    model = adapted(Qwen3VLForConditionalGeneration(config).bfloat16(), Recipe(rank=2))
    if recompute:
        unwrapped(model).gradient_checkpointing_enable({"use_reentrant": False})
    own, held = {p.untyped_storage().data_ptr() for p in model.parameters()}, {}

    def note(tensor):
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    ids = torch.randint(10, 500, (1, 300), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "labels": ids.clone(), "frames": [], "of": 300}
    batch["position_ids"] = torch.arange(300)[None, None].expand(3, 1, -1)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        trainer = SimpleNamespace(model=model.train(), processor=None)
        trainer.spoken = MethodType(TraceTrainer.spoken, trainer)
        TraceTrainer.compute_loss(trainer, trainer.model, batch)
    return sum(storage.nbytes() for place, storage in held.items() if place not in own)


def test_what_autograd_keeps_is_as_reckoned():
    text = Qwen3VLConfig(text_config=TINY_TEXT | {"intermediate_size": 384}).text_config
    per_token = (kept_bytes(5) - kept_bytes(3)) / 2 / 300
    assert layer_bytes(text) == pytest.approx(per_token, rel=0.03)
    again = (kept_bytes(5, recompute=True) - kept_bytes(3, recompute=True)) / 2 / 300
    assert again == 2 * text.hidden_size


def test_the_profiles_fit_their_machines(eight_b, four_b):
    for name, student in (("pocket", ""), ("t4", four_b), ("large", eight_b)):
        profile = replace(PROFILES[name], student=student or PROFILES[name].student)
        plan = memory_plan(profile)
        assert (plan.drop("total").sum() - plan.loc["total"]).abs().max() < 1e-9
        assert (plan.loc["total"] < profile.memory_gb).all()
    # On a card of 24 GB the generator is in NF4.
    small = memory_plan(replace(profile, memory_gb=24, tools_gb=1.5 + 2.5))
    assert (small.loc["total"] < 24).all()


def test_what_tools_look_with_counts_while_the_student_answers(eight_b):
    profile = replace(PROFILES["large"], student=eight_b)
    more = memory_plan(replace(profile, tools_gb=profile.tools_gb + 3)) - memory_plan(profile)
    assert more.loc["total"].tolist() == pytest.approx([0, 3])


@pytest.mark.parametrize(
    ("changed", "memory_gb", "message"),
    [
        ({}, 6, r"training takes [\d.]+ GB of memory_gb, 6: the weights alone .* smaller student"),
        ({"recipe": Recipe(batch_size=1)}, 15, "activations, .*; set recompute=True"),
        ({"recipe": Recipe(fed_tokens=90_000, recompute=True)}, 60, "lower fed_tokens, 90000"),
        ({"budget": Budget(200, max_side_px=448)}, 20, "lower overview_frames"),
        ({"budget": Budget(max_side_px=2400), "tools": (RetrieveFrames(1),)}, 20, "max_side_px"),
        ({"reply_tokens": 2**16}, 20, r"answering .* cache, [\d.]+; lower reply_tokens"),
    ],
)
def test_what_does_not_fit_says_which_number_to_lower(eight_b, changed, memory_gb, message):
    small = replace(PROFILES["large"], student=eight_b, budget=Budget(8, max_side_px=448))
    small = replace(small, memory_gb=memory_gb, **changed)
    with pytest.raises(ValueError, match=message):
        memory_plan(small)


def test_frames_cost_what_their_tokens_do(eight_b):
    """14 × 14 tokens of 448 pixels: two frames of a video more are 196 tokens in every layer."""
    profile = replace(PROFILES["large"], student=eight_b, recipe=Recipe(batch_size=1))
    profile = replace(profile, memory_gb=1e3)
    more = replace(profile, budget=replace(profile.budget, overview_frames=34))
    plans = [memory_plan(p).training.activations for p in (profile, more)]
    text = Qwen3VLConfig(text_config=TEXT).text_config
    assert plans[1] - plans[0] == pytest.approx(196 * 36 * layer_bytes(text) / 1e9)


def test_the_tool_that_shows_most_frames_counts():
    imagine = PROFILES["imagine"]
    retrieve, generate = imagine.tools
    counts = [
        most_frames(replace(imagine, tools=tools)) - imagine.budget.overview_frames
        for tools in ((), (generate,), (replace(retrieve, frames_per_call=7), generate))
    ]
    assert counts == [0, imagine.budget.max_calls, 7 * imagine.budget.max_calls]
