"""The notebooks on the profiles `t4` and `paper`: tiny local models, a local server, no net.

Every class is the real one: Qwen3-VL in NF4, XLM-RoBERTa as BGE-M3, SigLIP, BLIP-2,
InstructPix2Pix, FLUX.2-klein and Stable Diffusion 3.5, records in their published form, OpenAI's
protocol and Gemini's. What the models say and draw is nonsense.
"""

import inspect
import json

import pandas as pd
import pytest
import torch
from diffusers.quantizers.bitsandbytes import BnB4BitDiffusersQuantizer
from PIL import Image

from act2see.dialects import TAGS
from act2see.pocket.world import sample_scene, write_clip
from act2see.profiles import POCKET_GENERATOR, PROFILES, load_profile
from act2see.store import read_traces
from act2see.tools.generator import load_generator
from tests import tiny
from tests.datasets.test_minerva import RECORD
from tests.datasets.test_video_mme import RECORDS as MME
from tests.policies import test_gemini as gemini
from tests.policies.conftest import KEY, server
from tests.policies.test_openai import by_turn, completion
from tests.test_notebooks import run

NAMES = [f"abcdefghi{i:02}" for i in range(10)]
LOOK = {"start_s": 1, "end_s": 9, "query": "the red disc"}
DRAW = {"time_s": 3, "prompt": "without the disc"}
OPTIONS = PROFILES["large"].tools[1].options
REFUSED = "Which cup is not to be spoken of?"


@pytest.fixture(scope="module", params=["t4", "paper"])
def profile(request):
    return request.param


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """MINERVA, two questions a video, the last of them refused; Video-MME, one a video."""
    folder = tmp_path_factory.mktemp("published")
    write_clip(sample_scene(5), folder / f"{NAMES[0]}.mp4")
    for name in NAMES[1:]:
        (folder / f"{name}.mp4").symlink_to(folder / f"{NAMES[0]}.mp4")
    rows = [RECORD | {"key": f"{name}:{i}", "video_id": name} for name in NAMES for i in (1, 2)]
    rows[-1]["question"] = REFUSED
    rows.append(RECORD | {"key": "k", "video_id": "not-there-0"})
    (folder / "minerva.json").write_text(json.dumps(rows))
    rows = [MME[i % 2] | {"question_id": name, "videoID": name} for i, name in enumerate(NAMES)]
    (folder / "video_mme.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture(scope="module")
def flux(tmp_path_factory):
    return tiny.flux2_klein(tmp_path_factory.mktemp("flux"))


@pytest.fixture(scope="module")
def models(profile, tmp_path_factory):
    """The pocket models serve as student and as generator of t4: their classes are real ones."""
    student = {"student_model": PROFILES["pocket"].student}
    if profile == "paper":
        generator = tiny.sd3(tmp_path_factory.mktemp("sd3"))
        retriever = tiny.blip2(tmp_path_factory.mktemp("blip2"))
        return student | {"retriever_model": retriever, "generator_model": generator}
    ranker = tiny.siglip(tmp_path_factory.mktemp("siglip"))
    return student | {"ranker_model": ranker, "generator_model": POCKET_GENERATOR.generator}


@pytest.fixture(scope="module")
def distilled(profile, published, models, tmp_path_factory):
    think = {"reasoning_content": "at 0:03 the blue cup falls, and at 0:05 the red cup falls."}
    calls = [("retrieve_frames", json.dumps(LOOK)), ("generate_frame", json.dumps(DRAW))]
    turn = by_turn(completion(calls=calls, **think), completion("Answer: C", **think))
    if profile == "paper":
        query = "at 0:03 the blue cup falls. <retrieve> the red cup falls"
        turn = by_turn(completion(query), completion("it falls at 0:05. <answer> C"))

    def script(body, number):
        if REFUSED in str(body["messages"][1]):
            return completion(finish="content_filter")
        return turn(body, number)

    out = tmp_path_factory.mktemp(profile)
    with pytest.MonkeyPatch.context() as patch, server(script) as (url, bodies):
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("OPENAI_API_KEY", KEY)
        parameters = {"base_url": url, "teacher_model": "local", "budget_usd": 9.0}
        parameters |= {"data": str(published / "minerva.json")}
        parameters |= {name: model for name, model in models.items() if name != "student_model"}
        run("01_trace_distillation", out, profile=profile, **parameters)
        yield out, bodies


@pytest.fixture(scope="module")
def tuned(profile, published, models, distilled, tmp_path_factory):
    out, _ = distilled
    embedder = tiny.bge_m3(tmp_path_factory.mktemp("bge-m3"))
    run("02_similarity_filtering", out, profile=profile, embedder_model=embedder)
    sizes = {"reply_tokens": 24, "held_out": 2, "epochs": 2.0, "max_traces": 6}
    parameters = models | sizes | {"data": str(published / "minerva.json")}
    return run("03_qlora_finetuning", out, profile=profile, **parameters)


def test_the_teacher_saw_frames_was_offered_both_tools_and_refused_once(profile, distilled):
    out, bodies = distilled
    traces = read_traces(out / "traces.jsonl")
    table = pd.read_csv(out / "traces.csv", keep_default_na=False)
    refused = [t for t in traces if t.failed]
    (why,) = {t.failed for t in refused}
    assert why == "refused: content_filter [paid: it may answer when it is asked again]"
    assert {t.question.text for t in refused} <= {REFUSED}
    assert set(table.failed[table.failed != ""]) == {t.failed for t in refused}
    assert set(table.mistake) == {"unknown"}
    offered = [tool["function"]["name"] for tool in bodies[0].get("tools", [])]
    first = next(t for t in traces if not t.failed)
    if profile == "paper":
        # Tags are text: a server learns of them from the instruction, and stops at them.
        assert offered == [] and bodies[0]["stop"] == list(TAGS.stops)
        assert [c.words() for c in first.calls()] == ["retrieve(query='the red cup falls')"]
        assert [len(s.frames) for s in first.steps if s.kind == "evidence"] == [1]
        assert len(first.overview) == round(first.question.duration_s)
    else:
        assert offered == ["retrieve_frames", "generate_frame"]
        assert [c.tool for c in first.calls()] == offered
        assert 1 <= len(first.steps[3].frames) <= 8
    assert not any(KEY in path.read_text() for path in out.glob("*.*"))


def test_what_failed_is_left_out_of_the_filter(tuned, distilled):
    table = pd.read_csv(tuned / "similarity.csv", index_col="id")
    answered = {t.question.id for t in read_traces(tuned / "traces.jsonl") if not t.failed}
    assert set(table.index) == answered and table.similarity.between(-1, 1.001).all()
    assert {t.question.id for t in read_traces(tuned / "kept.jsonl")} <= answered


def test_the_recipe_is_the_profiles(tuned, profile):
    recipe = json.loads((tuned / "finetune" / "run.json").read_text())["recipe"]
    assert recipe["recompute"] and recipe["fed_tokens"] == load_profile(profile).recipe.fed_tokens
    assert (tuned / "finetune" / "adapter" / "adapter_model.safetensors").exists()


def test_the_student_answers_and_is_scored_on_a_published_benchmark(
    tuned, profile, published, models
):
    parameters = models | {"data": str(published / "video_mme.json"), "reply_tokens": 24}
    run("04_interleaved_inference", tuned, profile=profile, questions=2, **parameters)
    out = run("08_published_benchmarks", tuned, profile=profile, questions=4, **parameters)
    out /= "video_mme"
    results = pd.read_csv(out / "results.csv").set_index(["system", "family"])
    assert results.n["act2see", "all"] == 4
    assert results.protocol["act2see", "all"].startswith("Video-MME, ")
    official = pd.read_csv(out / "official.csv").set_index(["system", "family"])
    assert official.protocol["act2see", "all"].endswith("without subtitles")
    for system in ("act2see", "base"):
        assert official.n[f"{system}_shuffled", "all"] == 4
        assert "option order shuffled with seed 1" in official.protocol[f"{system}_shuffled", "all"]
    assert {"lenient", "truncated"} <= set(official.columns)
    assert (out / "figures" / "beside_the_paper.pdf").stat().st_size > 1000


def test_flux_changes_a_frame_of_any_shape_as_its_prompt_says(flux):
    generate = load_generator(flux, OPTIONS)
    frame = Image.effect_noise((150, 86), 80).convert("RGB")
    one, same, other = (generate(frame, f"paint it {colour}") for colour in ("red", "red", "blue"))
    assert one.size == frame.size and one.mode == "RGB"
    assert one.tobytes() == same.tobytes() != other.tobytes()


def test_flux_on_a_small_gpu_is_in_nf4(flux, monkeypatch):
    """Loaded only: diffusers refuses to do it without a GPU, so its check is taken out."""
    monkeypatch.setattr(BnB4BitDiffusersQuantizer, "validate_environment", lambda *a, **k: None)
    monkeypatch.setattr(
        BnB4BitDiffusersQuantizer, "update_device_map", lambda *a: {"": torch.device("cpu")}
    )
    plain, small = (load_generator(flux, OPTIONS, four_bit=four_bit) for four_bit in (False, True))
    pipe = inspect.getclosurevars(small).nonlocals["pipe"]
    for part in (pipe.transformer, pipe.text_encoder):
        assert "Linear4bit" in {type(module).__name__ for module in part.modules()}
    assert small.__name__ == f"{plain.__name__} in NF4"


def test_dialogues_with_geminis_own_server_become_traces(published, flux, tmp_path_factory):
    calls = [("retrieve_frames", LOOK), ("generate_frame", DRAW)]
    parts = [
        {"functionCall": {"name": name, "args": args, "id": name}, "thoughtSignature": "c2lnbmVk"}
        for name, args in calls
    ]
    turn = gemini.by_turn(gemini.response(gemini.THOUGHT, *parts), gemini.ANSWER)

    def script(body, number):
        refused = REFUSED in str(body["contents"][0])
        return gemini.response(finish="PROHIBITED_CONTENT") if refused else turn(body, number)

    out = tmp_path_factory.mktemp("gemini")
    ranker = tiny.siglip(tmp_path_factory.mktemp("siglip"))
    parameters = {"data": str(published / "minerva.json"), "budget_usd": 9.0, "questions": 6}
    parameters |= {"ranker_model": ranker, "generator_model": flux}
    with pytest.MonkeyPatch.context() as patch, server(script) as (url, bodies):
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("GEMINI_API_KEY", KEY)
        patch.setenv("GOOGLE_GEMINI_BASE_URL", url)
        run("01_trace_distillation", out, profile="large", **parameters)
    traces = read_traces(out / "traces.jsonl")
    good = [t for t in traces if not t.failed]
    assert {t.policy for t in traces} == {PROFILES["large"].teacher} and len(good) >= 4
    assert {t.failed for t in traces if t.failed} <= {"refused: PROHIBITED_CONTENT"}
    for trace in good:
        assert [c.tool for c in trace.calls()] == [name for name, _ in calls]
        assert trace.steps[3].frames and trace.steps[4].frames[0].made == "generated"
        assert trace.letter() == "A" and trace.reasoning() == "it is red. it is red."
    declared = {f["name"] for f in bodies[0]["tools"][0]["functionDeclarations"]}
    assert declared == {"retrieve_frames", "generate_frame"}
    assert not any(KEY in path.read_text() for path in out.glob("*.*"))
