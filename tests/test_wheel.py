"""The wheel: what it carries, and that it works where the repository is not."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.test_house import MODULES

ROOT = Path(__file__).parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
# What only the extras bring, and the modules that are for those who have them.
EXTRAS = "google.genai IPython ipykernel ipywidgets jupyterlab openai papermill torchvision".split()
NEED_EXTRAS = {"act2see.policies.gemini", "act2see.policies.openai"}
IMPORTS = """
import importlib, sys
extras, core, others = map(str.split, sys.argv[1:])
sys.modules.update(dict.fromkeys(extras))  # to import one of them is an ImportError now
for name in core:
    importlib.import_module(name)
for name in extras:
    del sys.modules[name]
for name in others:
    importlib.import_module(name)
import act2see
print(act2see.__version__, act2see.__file__)
"""


def pip(*words: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
    subprocess.run(list(map(str, command)), check=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy: setuptools leaves folders behind, and puts them into its next wheel."""
    source = tmp_path_factory.mktemp("source")
    for name in ("act2see", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, source)
    folder = tmp_path_factory.mktemp("wheel")
    offline = ("--no-deps", "--no-build-isolation", "--no-index")
    pip("wheel", *offline, "--wheel-dir", folder, source)
    return folder / f"act2see-{VERSION}-py3-none-any.whl"


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    """A folder to import the installed wheel from."""
    folder = tmp_path_factory.mktemp("site")
    pip("install", "--no-deps", "--no-index", "--no-compile", "--target", folder, wheel)
    return folder


def test_the_wheel_carries_the_package_and_nothing_else(wheel):
    names = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = [path for path in (ROOT / "act2see").rglob("*") if path.is_file()]
    files = [path for path in files if "__pycache__" not in path.parts]
    assert names == {path.relative_to(ROOT).as_posix() for path in files}


def test_the_wheel_carries_the_models_and_an_example_clip(wheel):
    names = [Path(name) for name in ZipFile(wheel).namelist()]
    pocket = Path("act2see/pocket")
    assert pocket / "models" / "base" / "model.safetensors" in names
    assert pocket / "models" / "base" / "chat_template.jinja" in names
    assert pocket / "models" / "generator" / "model_index.json" in names
    assert [name for name in names if name.parent == pocket and name.suffix == ".mp4"]


def test_every_module_imports_from_the_wheel_and_nearly_all_without_an_extra(site):
    core = sorted(MODULES.keys() - NEED_EXTRAS)
    words = [" ".join(names) for names in (EXTRAS, core, sorted(NEED_EXTRAS))]
    command = [sys.executable, "-W", "ignore", "-c", IMPORTS, *words]
    environment = os.environ | {"PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, cwd=site, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [VERSION, str(site / "act2see" / "__init__.py")]


ASK = """
import act2see
question = act2see.example_question()
trace = act2see.ask(act2see.example_video(), question.text, question.options)
print(trace.letter() == "ABCD"[question.answer], len(trace.calls()), trace.question.video)
"""


def test_the_wheel_alone_looks_again_and_answers_rightly(site):
    command = [sys.executable, "-W", "ignore", "-c", ASK]
    environment = os.environ | {"PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=site, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    right, calls, video = done.stdout.split()
    assert right == "True" and int(calls) >= 1 and video.startswith(str(site))
