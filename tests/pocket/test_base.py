"""The shipped base: what its lessons show, and whether it sees."""

import numpy as np
import torch

from act2see.encoding import encode, pixels, positions
from act2see.pocket import language
from act2see.pocket.making import base as recipe
from act2see.pocket.making.lessons import SHAPE_NAMES, cells
from act2see.pocket.questions import scene_seed
from act2see.pocket.world import sample_scene, write_clip
from act2see.trace import Frame, Question, Step, Trace
from act2see.video import read_frames


def test_no_lesson_shows_the_tools_or_a_trace():
    rng = np.random.default_rng(0)
    for _ in range(400):
        for make in recipe.STAGES[170]:
            lesson = make(rng)
            assert "retrieve_frames" not in lesson.text and "generate_frame" not in lesson.text
            assert not ("<tool_call>" in lesson.text and lesson.times_s)
            assert "i look between" not in lesson.text
            # Nor the paper's tags, nor what they would ask for.
            tags = ("<retrieve>", "<generate>", "<frame>", "<answer>", "i search", "i imagine")
            assert not any(tag in lesson.text for tag in tags)
            for scene, _ in lesson.frames:
                assert 10**12 <= scene.seed < 2 * 10**12  # only the pretrain split's


def test_a_lesson_is_learned_where_the_assistant_speaks(processor):
    rng = np.random.default_rng(0)
    lessons = [make(rng) for make in recipe.STAGES[170]]
    batch = recipe.collate(lessons, processor)
    for lesson, ids, labels in zip(lessons, batch["input_ids"], batch["labels"], strict=True):
        turns = lesson.text.split("<|im_start|>assistant\n<think>\n")[1:]
        spoken = [turn.split("<|im_end|>")[0] + "<|im_end|>" for turn in turns]
        assert processor.tokenizer.decode(ids[labels != -100]) == "".join(spoken)
    frames = sum(len(lesson.frames) for lesson in lessons)
    assert len(batch["image_grid_thw"]) == frames
    assert (batch["input_ids"] == processor.image_token_id).sum() == 9 * frames


def test_the_tokenizer_comes_out_of_its_corpus_as_it_ships(processor):
    tokenizer = recipe.build_processor(recipe.corpus(seed=0)).tokenizer
    assert tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    assert recipe.build_processor([""]).chat_template == processor.chat_template


def test_cells_are_named_as_the_scene_has_them():
    frames, classes = cells(np.random.default_rng(3), 12)
    rng = np.random.default_rng(3)
    scenes = [sample_scene(10**12 + int(rng.integers(10**12))) for _ in range(12)]
    assert frames.shape == (12, 96, 96, 3) and classes.shape == (12, 9, 4)
    for scene, grid in zip(scenes, classes, strict=True):
        outer = {SHAPE_NAMES[shape] for shape in np.delete(grid[:, 0], 4)} - {""}
        assert outer == {thing.shape for thing in scene.things}
        assert len(set(grid[:, 2])) == 1


def described(scene, time_s: float, image, processor, model) -> tuple[int, int]:
    """(description tokens predicted right, description tokens) for one decoded frame."""
    trace = Trace(
        question=Question(text="describe the frame.", video=""),
        overview=[Frame(time_s=time_s, pixels=image)],
        steps=[
            Step(kind="think", text="i look at the frame."),
            Step(kind="answer", text=language.description(scene.facts(time_s))),
        ],
    )
    encoding = encode(trace, processor)
    with torch.inference_mode():
        logits = model(
            input_ids=torch.tensor([encoding.ids]),
            position_ids=positions(encoding, model)[:, None],
            use_cache=False,
            **pixels(encoding.images, processor),
        ).logits[0, :-1]
    labels = torch.tensor(encoding.labels)[1:]
    # Only the description: what stands behind </think> and an empty line.
    end = encoding.ids.index(processor.tokenizer.convert_tokens_to_ids("</think>"))
    labels[: end + 2] = -100
    trained = labels != -100
    return int((logits.argmax(-1) == labels)[trained].sum()), int(trained.sum())


def test_the_base_describes_fresh_decoded_frames(processor, base, tmp_path):
    hits = 0
    tokens = 0
    rng = np.random.default_rng(1)
    for index in range(25):
        scene = sample_scene(scene_seed("test", 4242, index))
        path = write_clip(scene, tmp_path / f"{index}.mp4")
        times = [float(rng.uniform(0, scene.duration_s - 0.2)) for _ in range(6)]
        times += [e.start_s + 0.25 for e in scene.events[:2]]
        images, times_s = read_frames(path, times)
        for image, time_s in zip(images, times_s.tolist(), strict=True):
            right, count = described(scene, time_s, image, processor, base)
            hits += right
            tokens += count
    print(f"{hits} of {tokens} description tokens right: {hits / tokens:.4f}")
    assert hits / tokens >= 0.97
