"""The shipped base: what it was taught, and whether it sees."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from act2see.encoding import assistant_labels, encode_messages, pixels, positions
from act2see.pocket import language
from act2see.pocket.questions import scene_seed
from act2see.pocket.world import sample_scene, write_clip
from act2see.trace import Frame
from act2see.video import read_frames

RECIPE = Path(__file__).parents[2] / "data" / "pocket"


@pytest.fixture(scope="module")
def lessons():
    sys.path.insert(0, str(RECIPE))
    import lessons

    yield lessons
    sys.path.remove(str(RECIPE))


def test_no_lesson_shows_the_tools_or_a_trace(lessons):
    rng = np.random.default_rng(0)
    makers = (
        lessons.descriptions,
        lessons.single_frame,
        lessons.montage,
        lessons.overview_frames,
        lessons.several_frames,
        lessons.frames_in_turns,
        lessons.words_only,
    )
    for _ in range(400):
        for make in makers:
            lesson = make(rng)
            assert "retrieve_frames" not in lesson.text and "generate_frame" not in lesson.text
            assert not ("<tool_call>" in lesson.text and lesson.times_s)
            assert "i look between" not in lesson.text
            for scene, _ in lesson.frames:
                assert 10**12 <= scene.seed < 2 * 10**12  # the pretrain split's own


def test_cells_are_named_as_the_scene_has_them(lessons):
    frames, named = lessons.cells(np.random.default_rng(3), 12)
    scenes = np.random.default_rng(3)
    drawn = [sample_scene(10**12 + int(scenes.integers(10**12))) for _ in range(12)]
    assert frames.shape == (12, 96, 96, 3) and named.shape == (12, 9, 4)
    for scene, cells in zip(drawn, named, strict=True):
        outer = {lessons.SHAPE_NAMES[shape] for shape in np.delete(cells[:, 0], 4)} - {""}
        assert outer == {thing.shape for thing in scene.things}
        assert len(set(cells[:, 2])) == 1


def described(scene, time_s: float, image, processor, model) -> tuple[int, int]:
    """(description tokens predicted right, description tokens) for one decoded frame."""
    frame = Frame(time_s=time_s, pixels=image)
    asked = [
        {"type": "text", "text": frame.label()},
        {"type": "image", "image": image},
        {"type": "text", "text": "describe the frame."},
    ]
    told = {
        "role": "assistant",
        "reasoning_content": "i look at the frame.",
        "content": language.description(scene.facts(time_s)),
    }
    encoding = encode_messages([{"role": "user", "content": asked}, told], [], processor)
    ids = torch.tensor([encoding.ids])
    with torch.inference_mode():
        logits = model(
            input_ids=ids,
            position_ids=positions(encoding, model)[:, None],
            use_cache=False,
            **pixels(encoding.images, processor),
        ).logits[0, :-1]
    labels = torch.tensor(assistant_labels(encoding.ids, processor.tokenizer))[1:]
    closed = encoding.ids.index(processor.tokenizer.convert_tokens_to_ids("</think>"))
    labels[: closed + 2] = -100
    trained = labels != -100
    return int((logits.argmax(-1) == labels)[trained].sum()), int(trained.sum())


def test_the_base_describes_fresh_decoded_frames(processor, base, tmp_path):
    hits = tokens = 0
    rng = np.random.default_rng(1)
    for index in range(25):
        scene = sample_scene(scene_seed("test", 4242, index))
        path = write_clip(scene, tmp_path / f"{index}.mp4")
        times = [float(rng.uniform(0, scene.duration_s - 0.2)) for _ in range(6)]
        times += [e.start_s + 0.25 for e in scene.events[:2]]
        images, shown = read_frames(path, times)
        for image, time_s in zip(images, shown.tolist(), strict=True):
            right, count = described(scene, time_s, image, processor, base)
            hits, tokens = hits + right, tokens + count
    print(f"{hits} of {tokens} description tokens right: {hits / tokens:.4f}")
    assert hits / tokens >= 0.97
