"""What the repository promises about itself: sizes, stripped notebooks, a lock that covers."""

import re
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from IPython.core.inputtransformer2 import TransformerManager
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "act2see").rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def lines(text: str) -> int:
    return len(text.splitlines())


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stripped(path):
    touched = [c.source for c in code_cells(path) if c.outputs or c.execution_count is not None]
    assert not touched, "run .venv/bin/nbstripout on it"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_has_one_parameters_cell(path):
    assert sum("parameters" in c.metadata.get("tags", []) for c in code_cells(path)) == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_code_cells_are_short(path):
    long = [c.source for c in code_cells(path) if lines(c.source) > 20]
    assert not long


def test_make_runs_every_numbered_notebook():
    makefile = (ROOT / "Makefile").read_text()
    forgotten = [p.stem for p in NOTEBOOKS if p.stem[:2] != "00" and p.stem not in makefile]
    assert not forgotten


COLAB_HAS = set(
    "accelerate diffusers httpx ipykernel ipywidgets matplotlib numpy pandas pillow pyarrow "
    "pydantic safetensors scikit-learn scipy tokenizers torch tqdm transformers".split()
)
NOT_ON_COLAB = {"jupyterlab", "papermill"}  # whose work Colab does itself


def test_the_first_cell_installs_on_colab_what_it_lacks_and_no_more():
    cells = {code_cells(path)[0].source for path in NOTEBOOKS}
    command = TransformerManager().transform_cell(cells.pop()).partition("install -q ")[2]
    asked = {r.name: str(r.specifier) for r in map(Requirement, re.findall(r'"(.*?)"', command))}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = [*project["dependencies"], *project["optional-dependencies"]["api"]]
    assert not cells, "the first code cells differ"
    assert asked.items() <= {r.name: str(r.specifier) for r in map(Requirement, bounds)}.items()
    assert {Requirement(bound).name for bound in bounds} - COLAB_HAS - NOT_ON_COLAB == set(asked)


def test_no_module_is_long():
    sizes = {str(p.relative_to(ROOT)): lines(p.read_text()) for p in MODULES}
    assert {name: size for name, size in sizes.items() if size > 300} == {}


APART = {  # what does not belong to the method itself
    "the pocket world": {"pocket", "oracle.py"},
    "adapters": {"sources", "benchmarks", "remote.py", "openai.py", "gemini.py", "parts.py"},
    "large profiles": {"profiles.py", "memory.py", "ranker.py"},
}


def test_the_package_is_thin():
    sizes = dict.fromkeys(["the method", *APART], 0)
    for path in MODULES:
        mine = [part for part, names in APART.items() if names & {path.name, path.parent.name}]
        sizes[mine[0] if mine else "the method"] += lines(path.read_text())
    limits = {"the method": 2500, "the pocket world": 850, "adapters": 1700, "large profiles": 300}
    assert all(sizes[part] <= limit for part, limit in limits.items()), sizes


def test_readme_names_both_commands():
    readme = (ROOT / "README.md").read_text()
    assert "    make reproduce\n" in readme
    assert "    make test\n" in readme


def test_shipped_data_is_small():
    assert sum(p.stat().st_size for p in (ROOT / "data").rglob("*") if p.is_file()) < 24e6


def test_the_lock_pins_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = map(Requirement, project["dependencies"] + project["optional-dependencies"]["dev"])
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "requirements.lock").read_text(), re.M))
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    unmet = [str(r) for r in wanted if pins.get(canonicalize_name(r.name), "0") not in r.specifier]
    assert not unmet


def test_the_conda_environment_is_the_lock_and_what_a_gpu_adds():
    told = yaml.safe_load((ROOT / "environment.yml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "requirements.lock").read_text()
    python, pip, listed = told["dependencies"]
    more = set(listed["pip"]) - {"-r requirements.lock", "-e .[api]"}
    assert pip == "pip" and len(listed["pip"]) == 3 and "torch==2.13.0\n" in lock
    assert more == {"torchvision==0.28.0"}  # made for that torch, and for no other
    assert python.partition("=")[2] in Requirement(f"x{project['requires-python']}").specifier
    assert python.partition("=")[2] in lock.splitlines()[0]
    (bound,) = map(Requirement, project["optional-dependencies"]["gpu"])
    assert more.pop().partition("==")[2] in bound.specifier
