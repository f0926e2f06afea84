"""Search by text: segments against a slow reference, the retriever against its own model, tools."""

import json
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    Blip2ForImageTextRetrieval,
    Blip2Processor,
    BlipImageProcessorPil,
)

from act2see.pocket.world import sample_scene, write_clip
from act2see.profiles import PROFILES
from act2see.tools import retriever as retriever_module
from act2see.tools.retriever import load_retriever
from act2see.tools.search import ImagineFrame, SearchFrame
from act2see.tools.segments import Segment, best_frame, segments
from act2see.tools.tool import run_call
from act2see.trace import Frame, Question, Step, Trace
from act2see.video import read_frames
from tests import tiny

# Segments


def slow_segments(scores, floor, stride, longest) -> list[Segment]:
    """The same by loops over everything."""
    n = len(scores)
    counted = [s if s > floor else 0.0 for s in scores]
    spans = {}
    lengths = [k for k in range(stride, longest + 1, stride) if k < n] if n > stride else [n]
    for length in lengths:
        for start in range(n - length + 1):
            inside = counted[start : start + length]
            outside = counted[:start] + counted[start + length :]
            mean = sum(outside) / len(outside) if outside else 0.0
            spans[start, start + length] = sum(inside) / length - mean
    ends = [counted[0], *counted, counted[-1]]
    smoothed = [sum(ends[i : i + 3]) / 3 for i in range(n)]
    rise = [0.0] + [b - a for a, b in pairwise(smoothed)]
    found = []
    while len(found) < 10 and spans:
        (start, end), static = max(spans.items(), key=lambda span: span[1])
        if static <= 0:
            break
        before = range(max(0, 2 * start - end), start + 1)
        steepest = max(before, key=lambda i: rise[i])
        if rise[steepest] > 0:
            found.append(Segment(steepest, end, static, rise[steepest]))
        else:
            found.append(Segment(start, end, static, 0.0))
        for low, high in list(spans):
            shared = max(0, min(high, end) - max(low, start))
            if (low, high) == (start, end) or shared > 0.3 * (high - low + end - start - shared):
                del spans[low, high]
    return found


@pytest.mark.parametrize("seed", range(20))
def test_segments_are_those_of_the_slow_reference(seed):
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0, 0.5, int(rng.integers(1, 40)))
    limits = float(rng.choice([0, 0.2, 0.4])), int(rng.integers(1, 4)), int(rng.integers(4, 12))
    fast, slow = segments(scores, *limits), slow_segments(scores.tolist(), *limits)
    assert [(s.start, s.end) for s in fast] == [(s.start, s.end) for s in slow]
    np.testing.assert_allclose([s.static for s in fast], [s.static for s in slow], atol=1e-9)
    np.testing.assert_allclose([s.dynamic for s in fast], [s.dynamic for s in slow], atol=1e-9)


def test_an_hour_takes_well_under_a_second():
    scores = np.random.default_rng(0).uniform(0, 0.5, 10_800)
    began = time.process_time()
    best_frame(scores)
    assert time.process_time() - began < 0.5


def test_a_rise_before_a_segment_starts_it_earlier():
    scores = np.array([0, 0, 0, 0, 0.3, 0.5, 0.9, 0.9, 0, 0, 0])
    (found, *_) = segments(scores)
    assert (found.start, found.end) == (5, 8) and found.dynamic == pytest.approx(0.9 / 3)


def test_two_frames_that_agree_are_better_than_one_alone():
    assert best_frame(np.array([0, 0, 0.7, 0, 0, 0.5, 0.6, 0])) == 6


def test_what_is_barred_is_never_returned():
    scores = np.array([0.1, 0.5, 0.6, 0.1, 0.1, 0.3, 0.4, 0.1])
    barred = np.zeros(8, bool)
    order = []
    for _ in scores:
        order.append(best_frame(scores, barred))
        barred[order[-1]] = True
    assert order[:4] == [2, 1, 6, 5] and sorted(order) == list(range(8))
    with pytest.raises(ValueError, match="all of 8 frames are barred"):
        best_frame(scores, barred)


def test_where_nothing_counts_the_best_score_decides():
    scores = np.array([0.1, 0.19, -0.5])
    assert segments(scores) == [] and best_frame(scores) == 1
    assert best_frame(np.array([-0.2])) == 0 and best_frame(np.array([0.1, 0.2])) == 1


def test_scores_that_are_no_row_and_a_stride_below_one_are_refused():
    for scores in ([[0.1]], [np.nan, 0.2], []):
        with pytest.raises(ValueError, match="row of finite numbers"):
            segments(np.array(scores))
    with pytest.raises(ValueError, match="stride is 0"):
        segments(np.zeros(3), stride=0)


# Tools


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return str(write_clip(sample_scene(31), tmp_path_factory.mktemp("clip") / "c.mp4"))


def peaks(video, query, rate_hz):
    """A retriever for tests: likes the moment that the query names, and 3 s later a little less."""
    times_s = np.arange(0, 24, 1 / rate_hz)
    wanted_s = float(query)
    scores = np.exp(-abs(times_s - wanted_s)) + 0.5 * np.exp(-abs(times_s - wanted_s - 3))
    return times_s, scores


SEARCH = SearchFrame(retriever=peaks, rate_hz=4.0)


def search(clip, query, frames=(), tool=SEARCH) -> Step:
    question = Question(video=clip, text="?", duration_s=24)
    call = Step(kind="call", tool=tool.name, arguments={"query": query})
    return run_call((tool,), Trace(question=question, overview=list(frames)), call)


def test_one_real_frame_comes_back(clip):
    (frame,) = search(clip, " 7.5\n").frames
    (image,), _ = read_frames(clip, [7.5])
    assert (frame.time_s, frame.made) == (7.5, "real")
    assert frame.image().tobytes() == image.tobytes()


def test_no_frame_is_shown_twice_and_after_the_last_there_is_none(clip):
    coarse = replace(SEARCH, rate_hz=0.5)
    frames = []
    for _ in range(12):
        frames += search(clip, "8", frames, coarse).frames
    assert sorted(frame.time_s for frame in frames) == list(range(0, 24, 2))
    assert frames[0].time_s == 8.0
    none = search(clip, "8", frames, coarse)
    assert "all 12 frames that are searched were shown already" in none.text and not none.frames


def test_a_frame_made_of_a_moment_does_not_show_the_moment(clip):
    generated = Frame(time_s=7.5, made="generated")
    assert search(clip, "7.5", [generated]).frames[0].time_s == 7.5
    assert search(clip, "7.5", [Frame(time_s=7.5)]).frames[0].time_s != 7.5


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"query": ""}, "query has 0 characters; it must have 1 to 300."),
        ({"query": " \n\t"}, "query has 0 characters; it must have 1 to 300."),
        ({"query": "x" * 10_000}, "query has 10000 characters; it must have 1 to 300."),
        ({"query": 7}, "query is 7; it must be a text."),
        ({"query": None}, "query is None; it must be a text."),
        ({"query": ["a"]}, "query is ['a']; it must be a text."),
        ({}, "needs query."),
        ({"query": "7", "time_s": 3}, "knows no 'time_s'; it takes query."),
    ],
)
def test_a_senseless_query_is_answered_in_words(clip, arguments, reason):
    trace = Trace(question=Question(video=clip, text="?", duration_s=24))
    imagine = ImagineFrame(generator=lambda frame, query: frame, retriever=peaks)
    for tool in (SEARCH, imagine):
        evidence = run_call((tool,), trace, Step(kind="call", tool=tool.name, arguments=arguments))
        assert reason in evidence.text and not evidence.frames


def test_an_imagined_frame_is_made_of_the_best_one_shown_or_not(clip):
    calls = []

    def generator(frame, prompt):
        calls.append((frame, prompt))
        return frame.rotate(90)

    tool = ImagineFrame(generator=generator, retriever=peaks, rate_hz=4.0)
    (frame,) = search(clip, " 7.5 ", [Frame(time_s=7.5)], tool).frames
    (image,), _ = read_frames(clip, [7.5])
    assert (frame.time_s, frame.made, frame.prompt) == (7.5, "generated", "7.5")
    assert calls[0][0].tobytes() == image.tobytes() and calls[0][1] == "7.5"
    assert frame.image().tobytes() == image.rotate(90).tobytes()
    small = search(clip, "7.5", tool=replace(tool, max_side_px=48)).frames[0]
    assert small.image().size == (48, 48)


def test_tools_without_their_models_in_memory_are_the_users_mistake(clip):
    for tool in (SearchFrame(), SearchFrame("a/b"), ImagineFrame(retriever=peaks)):
        with pytest.raises(ValueError, match="call loaded"):
            search(clip, "7.5", tool=tool)
    for tool in (SearchFrame, ImagineFrame):
        with pytest.raises(ValueError, match="rate_hz is 0; it must be above 0"):
            tool(rate_hz=0)
    assert SearchFrame().loaded() == SearchFrame()


def test_schemas_name_one_text():
    for tool in (SEARCH, ImagineFrame()):
        parameters = tool.schema()["function"]["parameters"]
        assert parameters["properties"] == {"query": {"type": "string"}}
        assert parameters["required"] == ["query"]


# The retriever


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny.blip2(tmp_path_factory.mktemp("blip2"))


@pytest.fixture
def retriever(checkpoint):
    retriever_module._load.cache_clear()
    return load_retriever(checkpoint)


def test_scores_are_those_of_the_models_own_forward(checkpoint, retriever, clip):
    times_s, scores = retriever(clip, "The red disc is dark", 1.0)
    images = BlipImageProcessorPil.from_pretrained(checkpoint)
    processor = Blip2Processor(images, AutoTokenizer.from_pretrained(checkpoint), 4)
    model = Blip2ForImageTextRetrieval.from_pretrained(checkpoint).eval()
    for time_s, score in zip(times_s.tolist(), scores, strict=True):
        (image,), _ = read_frames(clip, [time_s], 64)
        fed = processor(images=image, text="The red disc is dark", return_tensors="pt")
        with torch.no_grad():
            (slow,) = model(**fed, use_image_text_matching_head=False).logits_per_image
        assert float(slow) == pytest.approx(score, abs=2e-3)
    assert np.ptp(scores) > 0.02
    np.testing.assert_allclose(times_s, np.arange(len(times_s)), atol=1e-6)


def test_a_long_text_is_cut_and_another_text_scores_otherwise(retriever, clip):
    _, scores = retriever(clip, "the red disc " * 400, 1.0)
    assert np.isfinite(scores).all()
    assert not np.allclose(retriever(clip, "a man opens", 1.0)[1], retriever(clip, "cup", 1.0)[1])


def test_a_video_is_embedded_once_and_a_changed_one_again(retriever, tmp_path, monkeypatch):
    counts = []
    embed = retriever.embed_frames
    monkeypatch.setattr(retriever, "embed_frames", lambda p: counts.append(len(p)) or embed(p))
    path = write_clip(sample_scene(5), tmp_path / "c.mp4")
    times_s, first = retriever(str(path), "the disc", 1.0)
    again = retriever(str(path), "the disc", 1.0)[1]
    retriever(str(path), "a man", 1.0)
    assert sum(counts) == len(times_s) and np.array_equal(first, again)
    retriever(str(path), "the disc", 2.0)
    assert sum(counts) == 3 * len(times_s)
    write_clip(sample_scene(6), path)
    other_s, other = retriever(str(path), "the disc", 1.0)
    assert sum(counts) == 3 * len(times_s) + len(other_s)
    assert len(other_s) != len(times_s) or not np.allclose(other, first)


def test_what_is_kept_is_bounded(checkpoint, monkeypatch, tmp_path):
    retriever_module._load.cache_clear()
    monkeypatch.setattr(retriever_module, "KEPT_BYTES", 6_000)
    monkeypatch.setattr(retriever_module, "KEPT_TEXTS", 3)
    retriever = load_retriever(checkpoint)
    clips = [str(write_clip(sample_scene(i), tmp_path / f"{i}.mp4")) for i in range(4)]
    for video in clips * 2:
        for word in ("disc", "cup", "man", "wall"):
            retriever(video, word, 1.0)
    assert 0 < retriever.videos.currsize <= 6_000 and 0 < len(retriever.videos) < 4
    assert len(retriever.texts) == 3
    # Larger than all that may be kept: scored, not kept, and nothing else thrown out for it.
    names = list(retriever.videos)
    times_s, scores = retriever(clips[0], "disc", 8.0)
    assert len(scores) == len(times_s) > 100 and list(retriever.videos) == names


def test_two_tools_share_one_model_and_new_weights_are_loaded_anew(checkpoint, tmp_path):
    one = SearchFrame(retriever=checkpoint).loaded()
    other = ImagineFrame(retriever=checkpoint).loaded()
    assert one.retriever is other.retriever
    assert one.setting == f"3 Hz, 0 px, {one.retriever.__name__}" and one.loaded() == one
    folder = tmp_path / "copy"
    tiny.blip2(folder)
    first = load_retriever(str(folder))
    weights = load_file(folder / "model.safetensors")
    weights["text_projection.bias"] += 1
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert load_retriever(str(folder)) is not first
    assert load_retriever(str(folder)).__name__ != first.__name__


def test_other_models_are_refused(tmp_path, checkpoint):
    with pytest.raises(ValueError, match=r"holds a Qwen3VL.*it must be a Blip2ForImageTextRetr"):
        load_retriever(PROFILES["pocket"].student)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        load_retriever(str(tmp_path / "none"))
    tiny.blip2(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: w for name, w in weights.items() if not name.startswith("vision_projection")}
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="lacks 2 weights of the contrastive head, vision_proj"):
        load_retriever(str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    config["architectures"] = ["Blip2ForConditionalGeneration"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="holds a Blip2ForConditionalGeneration"):
        load_retriever(str(tmp_path))


def test_frames_of_any_size_and_a_video_slower_than_the_rate(retriever, tmp_path):
    wide = Image.fromarray(np.zeros((20, 90, 3), np.uint8))
    assert retriever.embed_frames([wide]).shape == (1, 4, 16)
    path = write_clip(sample_scene(7), tmp_path / "c.mp4")
    times_s, scores = retriever(str(path), "disc", 50.0)
    assert len(times_s) == len(scores) == len(np.unique(times_s))
    with pytest.raises(ValueError, match="rate_hz is 0"):
        retriever(str(path), "disc", 0.0)
