"""Pipelines of several families as generators: tiny ones of random weights, or none at all.

What the shipped one paints is judged in tests/pocket/test_generator.py.
"""

import inspect
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers.quantizers.bitsandbytes import BnB4BitDiffusersQuantizer
from PIL import Image

from act2see.profiles import POCKET_GENERATOR
from act2see.tools import generator
from act2see.tools.generate import GenerateFrame
from act2see.tools.generator import load_generator
from act2see.tools.tool import run_call
from act2see.trace import Step, Trace
from tests import tiny

OPTIONS = {"num_inference_steps": 4, "guidance_scale": 3.5, "strength": 0.7}
FRAME = Image.effect_noise((150, 86), 80).convert("RGB")


@pytest.fixture(scope="module")
def sd3(tmp_path_factory):
    return tiny.sd3(tmp_path_factory.mktemp("sd3"))


def pipeline(generate):
    return inspect.getclosurevars(generate).nonlocals["pipe"]


def test_stable_diffusion_3_from_text_is_loaded_as_its_sibling_that_takes_a_picture(sd3):
    index = json.loads(Path(sd3, "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusion3Pipeline"
    assert (
        type(pipeline(load_generator(sd3, OPTIONS))).__name__ == "StableDiffusion3Img2ImgPipeline"
    )


def test_it_changes_a_frame_of_any_shape_as_its_prompt_says_and_again_the_same(sd3):
    generate = load_generator(sd3, OPTIONS)
    one, same, other = (generate(FRAME, f"disc is {colour}") for colour in ("red", "red", "blue"))
    assert one.size == FRAME.size and one.mode == "RGB"
    assert one.tobytes() == same.tobytes() != other.tobytes()


def test_strength_says_how_far_it_leaves_the_frame(sd3):
    pictures = [
        np.asarray(load_generator(sd3, OPTIONS | {"strength": strength})(FRAME, "red"), float)
        for strength in (0.25, 0.5, 1.0)
    ]
    far, near = (np.abs(pictures[0] - picture).mean() for picture in pictures[:0:-1])
    assert far > near > 0


def test_on_a_small_gpu_its_painter_and_its_largest_reader_are_in_nf4(sd3, monkeypatch):
    """Loaded only: diffusers refuses to do it without a GPU, so its check is taken out."""
    monkeypatch.setattr(BnB4BitDiffusersQuantizer, "validate_environment", lambda *a, **k: None)
    monkeypatch.setattr(
        BnB4BitDiffusersQuantizer, "update_device_map", lambda *a: {"": torch.device("cpu")}
    )
    pipe = pipeline(load_generator(sd3, OPTIONS, four_bit=True))
    kinds = {
        name: {type(module).__name__ for module in getattr(pipe, name).modules()}
        for name in ("transformer", "text_encoder", "text_encoder_2", "text_encoder_3")
    }
    assert ["Linear4bit" in found for found in kinds.values()] == [True, False, False, True]


def test_an_option_that_the_pipeline_does_not_take_is_named(sd3):
    with pytest.raises(ValueError, match="Img2ImgPipeline, which takes no image_guidance_scale"):
        load_generator(sd3, {"image_guidance_scale": 1.5})
    with pytest.raises(ValueError, match="InstructPix2PixPipeline, which takes no strength"):
        load_generator(POCKET_GENERATOR.generator, {"strength": 0.5})


class Mirror:
    """A pipeline that paints what it is given, if its sides are multiples of 16, as FLUX's are."""

    vae_scale_factor = 8
    transformer = None
    blackened = None

    def __call__(self, prompt=None, image=None, generator=None, width=1024, height=1024):
        assert image.size == (width, height) and not width % 16 and not height % 16
        return SimpleNamespace(images=[image], nsfw_content_detected=self.blackened)

    def set_progress_bar_config(self, disable):
        pass


@pytest.fixture
def mirror(monkeypatch):
    pipe = Mirror()
    monkeypatch.setattr(generator, "_pipeline", lambda place, four_bit: (pipe, False))
    return pipe, load_generator(POCKET_GENERATOR.generator)


@pytest.mark.parametrize("size", [(448, 252), (448, 256), (150, 86), (3, 17), (1, 1)])
def test_what_is_painted_lies_where_it_lay(mirror, size):
    """To the pixel and up to the border: nothing is cropped, stretched or shifted."""
    frame = Image.effect_noise(size, 90).convert("RGB")
    frame.paste((200, 30, 30), (0, size[1] - 1, *size))
    assert mirror[1](frame, "as it is").tobytes() == frame.tobytes()


def test_the_pad_repeats_the_border():
    frame = Image.new("RGB", (448, 252), (10, 20, 30))
    padded = generator._padded(frame, 16)
    assert padded.size == (448, 256)
    assert padded.getcolors() == [(448 * 256, (10, 20, 30))]


def test_a_picture_that_a_checker_blackened_is_not_evidence(mirror, questions):
    pipe, generate = mirror
    pipe.blackened = [True]
    call = Step(kind="call", tool="generate_frame", arguments={"time_s": 4.0, "prompt": "a cross"})
    trace = Trace(question=questions[0])
    evidence = run_call([GenerateFrame(generator=generate)], trace, call)
    assert not evidence.frames and "safety checker withheld the picture" in evidence.text
    pipe.blackened = [False]
    assert run_call([GenerateFrame(generator=generate)], trace, call).frames
