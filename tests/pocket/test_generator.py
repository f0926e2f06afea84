"""The shipped generator against the simulator's own hypothetical frames, by pixels alone."""

import numpy as np
import pytest
from PIL import Image

from act2see.pocket.edits import KINDS, edited, sample_edit
from act2see.pocket.questions import scene_seed
from act2see.pocket.world import CELL_PX, RGB, WHITE, render, sample_scene
from act2see.profiles import load_profile
from act2see.tools.generator import load_generator

GENERATE = load_profile("imagine").tools[-1]
PALETTE = {**RGB, "white": WHITE}


@pytest.fixture(scope="module")
def generate():
    return load_generator(GENERATE.generator, GENERATE.options)


def objects(picture: np.ndarray) -> dict[tuple[int, int], tuple[str, np.ndarray]]:
    """Cell -> (colour name, centre in pixels) of what stands there: bright, coloured or white."""
    things = {}
    picture = picture.astype(float)
    for row in range(3):
        for column in range(3):
            corner = np.array([row, column]) * CELL_PX
            cell = picture[corner[0] : corner[0] + CELL_PX, corner[1] : corner[1] + CELL_PX]
            ink = (np.ptp(cell, axis=2) > 70) | (cell.min(2) > 215)
            if ink.sum() >= 40:
                shade = np.median(cell[ink], axis=0)
                name = min(PALETTE, key=lambda c: np.abs(np.subtract(PALETTE[c], shade)).sum())
                things[row, column] = name, np.argwhere(ink).mean(0) + corner
    return things


def agree(picture: np.ndarray, truth: np.ndarray, before: np.ndarray) -> dict[str, list[bool]]:
    """Per cell with an object before or after, whether it is as the simulator draws it."""
    found = objects(picture)
    wanted = objects(truth)
    old = objects(before)
    verdicts: dict[str, list[bool]] = {"edited": [], "untouched": []}
    for cell in wanted.keys() | old.keys():
        same = cell in wanted and cell in old and wanted[cell][0] == old[cell][0]
        same = same and np.abs(wanted[cell][1] - old[cell][1]).max() < 0.5
        right = (cell in found) == (cell in wanted)
        if right and cell in wanted:
            near = np.hypot(*(found[cell][1] - wanted[cell][1])) <= 4
            right = found[cell][0] == wanted[cell][0] and near
        verdicts["untouched" if same else "edited"].append(bool(right))
    return verdicts


def check(generate, seed: int, edits: int) -> dict[str, list[bool]]:
    """Verdicts over fresh edits, the four kinds in turn."""
    verdicts: dict[str, list[bool]] = {"edited": [], "untouched": []}
    for i in range(edits):
        scene = sample_scene(scene_seed("test", seed, i))
        rng = np.random.default_rng([seed, i])
        time_s = float(rng.integers(int(scene.duration_s * 8)) / 8)
        edit = sample_edit(scene, rng, KINDS[i % 4])
        before, after = (
            render(s, np.array([time_s]))[0] for s in (scene, edited(scene, time_s, edit))
        )
        picture = generate(Image.fromarray(before), edit.prompt())
        for kind, judged in agree(np.asarray(picture), after, before).items():
            verdicts[kind] += judged
    return verdicts


def test_pictures_are_what_the_simulator_would_draw(generate):
    verdicts = check(generate, seed=77, edits=80)
    assert np.mean(verdicts["edited"]) >= 0.9
    assert np.mean(verdicts["untouched"]) >= 0.95


def test_the_check_can_fail():
    scene = sample_scene(scene_seed("test", 77, 0))
    edit = sample_edit(scene, np.random.default_rng(0), "paint")
    before, after = (render(s, np.array([1.0]))[0] for s in (scene, edited(scene, 1.0, edit)))
    assert not all(agree(before, after, before)["edited"])
    assert all(all(judged) for judged in agree(after, after, before).values())


def test_the_same_question_gives_the_same_picture(generate):
    frame = Image.fromarray(render(sample_scene(scene_seed("test", 77, 1)), np.array([2.0]))[0])
    one, two = (generate(frame, "paint the disc green") for _ in range(2))
    assert one.tobytes() == two.tobytes() and one.size == frame.size


def test_a_folder_without_an_editing_pipeline_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model_index\.json"):
        load_generator(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no model_index\.json"):
        load_generator(load_profile("pocket").student)


@pytest.mark.parametrize("index", ["{}", '{"_class_name": "NoSuchPipeline"}'])
def test_a_broken_pipeline_is_named(tmp_path, index):
    (tmp_path / "model_index.json").write_text(index)
    with pytest.raises(ValueError, match=f"{tmp_path} is not a whole pipeline"):
        load_generator(str(tmp_path))


def test_a_pipeline_that_takes_no_picture_is_refused(tmp_path, generate):
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    unet = UNet2DModel(
        sample_size=8, block_out_channels=(8,), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
    )  # fmt: skip
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"not a whole pipeline that edits: .*DDPMPipeline"):
        load_generator(str(tmp_path))
