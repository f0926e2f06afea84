"""What the repository promises about itself: sizes, order, notebooks, a lock that covers."""

import ast
import io
import re
import shutil
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import nbformat
import pytest
import yaml
from IPython.core.inputtransformer2 import TransformerManager
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def dotted(path: Path) -> str:
    """The name that a file of the package is imported by."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


PACKAGE = sorted((ROOT / "act2see").rglob("*.py"))
MODULES = {dotted(path): path.read_text(encoding="utf-8") for path in PACKAGE}
WRITTEN = [name for name, text in MODULES.items() if ast.parse(text).body[1:]]


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stripped(path):
    touched = [c.source for c in code_cells(path) if c.outputs or c.execution_count is not None]
    assert not touched, "run .venv/bin/nbstripout --keep-id on it"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_has_one_parameters_cell(path):
    assert sum("parameters" in c.metadata.get("tags", []) for c in code_cells(path)) == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_code_cells_are_short(path):
    # A line a parameter: those of a cell that holds nothing else may be a few more.
    limits = [24 if "parameters" in c.metadata.get("tags", []) else 20 for c in code_cells(path)]
    pairs = zip(code_cells(path), limits, strict=True)
    assert not [c.source for c, limit in pairs if len(c.source.splitlines()) > limit]


def test_make_runs_every_numbered_notebook():
    makefile = (ROOT / "Makefile").read_text()
    forgotten = [p.stem for p in NOTEBOOKS if p.stem[:2] != "00" and p.stem not in makefile]
    assert not forgotten


COLAB_HAS = {"torch": "2.11", "transformers": "5.15"}  # in August 2026


def test_the_first_cell_installs_the_package_on_colab_and_nothing_else():
    cells = {code_cells(path)[0].source for path in NOTEBOOKS}
    command = TransformerManager().transform_cell(cells.pop()).partition("install -q ")[2]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert not cells, "the first code cells differ"
    assert (
        re.findall(r'"(.*?)"', command) == [".[api]"] and "api" in project["optional-dependencies"]
    )
    bounds = {r.name: r for r in map(Requirement, project["dependencies"])}
    # pip leaves alone what meets the bounds.
    assert all(version in bounds[name].specifier for name, version in COLAB_HAS.items())
    assert not {"jupyterlab", "papermill", "ipywidgets", "ipykernel"} & bounds.keys()


MAX_STATEMENTS = 8750
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def statements(tree: ast.AST) -> int:
    """Statements inside a module, class or function; a text that stands alone is not one."""
    inside = [n for n in ast.walk(tree) if isinstance(n, ast.stmt) and n is not tree]
    return sum(not (isinstance(n, ast.Expr) and is_text(n.value)) for n in inside)


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def own_line_comments(text: str) -> int:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(t.type == tokenize.COMMENT and not t.line[: t.start[1]].strip() for t in tokens)


def tuple_assignments(text: str) -> int:
    """Lines like `a, b = x, y`; `a, b = pair()` is not one."""
    found = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Assign)]
    return sum(
        isinstance(n.targets[0], ast.Tuple) and isinstance(n.value, ast.Tuple) for n in found
    )


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.stmt]]:
    """Classes, functions and methods whose names do not start with an underscore."""
    for node in body:
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{node.name}.")


def unfinished(text: str) -> list[str]:
    """What a reader of the public names misses: docstrings and types."""
    missing = []
    for name, node in public(ast.parse(text).body):
        if not ast.get_docstring(node):
            missing.append(f"{name}: docstring")
        if isinstance(node, FUNCTIONS):
            arguments = [n for n in ast.walk(node.args) if isinstance(n, ast.arg)]
            bare = [n.arg for n in arguments if not n.annotation and n.arg not in ("self", "cls")]
            missing += [f"{name}: type of {argument}" for argument in bare]
            missing += [] if node.returns else [f"{name}: type of the result"]
    return missing


def test_statements_are_counted_without_texts_and_inner_ones_with_the_outer():
    tree = ast.parse('"""Doc."""\ndef f():\n    """Doc."""\n    if x:\n        a = 1; b = 2\n')
    assert statements(tree) == 4
    assert statements(tree.body[1]) == 3


def test_comments_and_tuple_assignments_are_counted():
    text = '# one\na, b = 1, 2  # behind\nc = """\n# text\n"""\nif c:\n    # two\n    d, e = f()\n'
    assert own_line_comments(text) == 2
    assert tuple_assignments(text) == 1


def test_unfinished_names_what_is_missing_of_public_things_only():
    text = (
        "class A:\n    'Doc.'\n    def m(self, x, *, y: int): 'Doc.'\n    def _n(z): ...\n"
        "def f(*a: int, **k) -> None:\n    def inner(q): ...\nclass _B: ...\n"
    )
    gaps = ["A.m: type of x", "A.m: type of the result", "f: docstring", "f: type of k"]
    assert unfinished(text) == gaps


def test_no_module_is_long():
    sizes = {name: statements(ast.parse(text)) for name, text in MODULES.items()}
    assert {name: size for name, size in sizes.items() if size > 200} == {}


def test_no_function_is_long():
    sizes = {
        f"{name}.{node.name}": statements(node)
        for name, text in MODULES.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, FUNCTIONS)
    }
    assert {name: size for name, size in sizes.items() if size > 30} == {}


def test_the_package_is_thin():
    assert sum(statements(ast.parse(text)) for text in MODULES.values()) <= MAX_STATEMENTS


def test_comments_say_why_and_a_line_does_one_thing():
    lines = sum(len(text.splitlines()) for text in MODULES.values())
    assert sum(map(own_line_comments, MODULES.values())) >= 20 * lines / 1000
    assert sum(map(tuple_assignments, MODULES.values())) <= 6 * lines / 1000


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_public_is_typed_and_documented(name):
    assert unfinished(MODULES[name]) == []


@pytest.mark.parametrize("name", WRITTEN)
def test_a_module_says_what_it_works_on_and_what_it_does_not_know(name):
    docstring = " ".join((ast.get_docstring(ast.parse(MODULES[name])) or "").split())
    assert re.search(r"\bWorks on\b", docstring)
    assert re.search(r"\b([Kk]nows? no(t|thing)?|not know)\b", docstring)


# Lowest first. A module may import what lies in a lower layer, and its own neighbours: the modules
# that the same name here covers. Two names of one layer do not know each other.
LAYERS = (
    ("style", "fonts", "video", "recipe", "student", "content", "pictures", "plain", "progress"),
    ("trace", "files"),
    (
        "pocket",
        "tools",
        "letters",
        "statistics",
        "similarity",
        "trace_figure",
        "diagram",
        "rewards",
    ),
    ("checkpoints", "store", "dialects", "datasets", "faithfulness", "figures", "findings"),
    ("encoding", "interleave", "viewer", "shards", "distributed"),
    ("features",),
    ("policies", "profiles", "distillation", "finetune", "evaluation", "cluster"),
    ("turns", "export", "face", "gpu_memory", "pocket.key_frames", "pocket.environment"),
    ("pocket.grid", "teachers", "reinforce"),
    ("ablations", "pocket.making", "pocket.trial_tables", "__main__"),
    ("pocket.trials",),
)


def place(module: str) -> tuple[int, str]:
    """The layer of a module, and the name there that covers it: the longest one that does."""
    names = {f"act2see.{name}": i for i, layer in enumerate(LAYERS) for name in layer}
    names["act2see"] = -1  # loads the others by their names, when they are first needed
    name = max((name for name in names if f"{module}.".startswith(f"{name}.")), key=len)
    assert name != "act2see" or module == "act2see", f"{module} is not in LAYERS; give it a place"
    return names[name], name


def imports(text: str, modules: set[str]) -> tuple[set[str], set[str]]:
    """The modules that a text imports: at once, and in all, inside its functions too."""
    tree = ast.parse(text)
    later = {n for f in ast.walk(tree) if isinstance(f, FUNCTIONS) for n in ast.walk(f)}
    at_once, in_all = set(), set()
    for node in ast.walk(tree):
        names = set()
        if isinstance(node, ast.Import):
            names = {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names = {name if name in modules else node.module for name in inner}
        in_all |= names & modules
        at_once |= names & modules if node not in later else set()
    return at_once, in_all


def upward(modules: dict[str, str]) -> list[str]:
    """Imports that break the order of `LAYERS`; those inside functions may."""
    arrows = [(name, to) for name, t in modules.items() for to in imports(t, {*modules})[0]]
    wrong = []
    for name, to in sorted(arrows):
        layer, owner = place(name)
        other_layer, other = place(to)
        if other != owner and other_layer >= layer:
            wrong.append(f"{name} -> {to}")
    return wrong


def cycle(modules: dict[str, str]) -> list[str]:
    """Modules that import each other in a ring, if any do, inside functions too."""
    graph = {name: imports(text, {*modules})[1] - {name} for name, text in modules.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_imports_are_read_in_every_form():
    modules = {"act2see", "act2see.trace", "act2see.tools", "act2see.tools.tool"}
    text = (
        "import numpy, act2see.trace\nfrom act2see.tools import tool\n"
        "def f():\n    from act2see import __version__\n    from act2see.tools import Tool\n"
    )
    at_once = {"act2see.trace", "act2see.tools.tool"}
    assert imports(text, modules) == (at_once, at_once | {"act2see", "act2see.tools"})


def test_an_import_from_above_and_one_from_the_same_layer_are_upward():
    modules = {
        "act2see.trace": "def f():\n    import act2see.face",
        "act2see.video": "import act2see.trace",
        "act2see.tools": "from act2see.tools.tool import Tool",
        "act2see.tools.tool": "from act2see.encoding import encode",
        "act2see.encoding": "from act2see.trace import Frame",
        "act2see.face": "import act2see.pocket.making.base",
        "act2see.pocket.making.base": "import act2see.face",
    }
    assert upward(modules) == [
        "act2see.face -> act2see.pocket.making.base",
        "act2see.tools.tool -> act2see.encoding",
        "act2see.video -> act2see.trace",
    ]


def test_a_ring_is_found_through_a_function_too():
    ring = {"act2see.a": "import act2see.b", "act2see.b": "def f():\n    import act2see.a"}
    assert {*cycle(ring)} == {*ring}
    assert cycle(ring | {"act2see.b": ""}) == []


def test_no_arrow_runs_upwards():
    assert upward(MODULES) == []


def test_no_modules_import_each_other():
    assert cycle(MODULES) == []


def test_every_layer_has_its_modules():
    names = [f"act2see.{name}" for layer in LAYERS for name in layer]
    assert [name for name in names if name not in MODULES] == []


@pytest.fixture
def workshop(tmp_path):
    """The Makefile, the notebooks and one module, where to run a notebook is to copy it."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("notebooks", "data/pocket"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "act2see" / "pocket" / "models").mkdir(parents=True)
    (tmp_path / "act2see" / "trace.py").touch()
    papermill = tmp_path / ".venv" / "bin" / "papermill"
    papermill.parent.mkdir(parents=True)
    papermill.write_text(f"#!{sys.executable}\nimport shutil, sys\nshutil.copy(*sys.argv[-2:])\n")
    papermill.chmod(0o755)
    (tmp_path / ".venv" / "installed").touch()
    return tmp_path


def make(folder: Path, *words: str) -> list[str]:
    """The numbers of the notebooks that `make` runs, or with -n plans to run."""
    command = ["make", "notebooks", f"PYTHON={sys.executable}", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return re.findall(r"Running notebooks/(\d+)", done.stdout)


def test_make_runs_a_notebook_again_when_its_code_changes_and_not_when_it_is_saved(workshop):
    file = workshop / "notebooks" / "03_qlora_finetuning.ipynb"
    module = workshop / "act2see" / "trace.py"
    everything = [path.stem[:2] for path in NOTEBOOKS if path.stem[:2] != "00"]
    assert make(workshop) == everything
    notebook = nbformat.read(file, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.outputs = [nbformat.v4.new_output("stream", text="seen")]
    nbformat.write(notebook, file)
    module.touch()
    assert make(workshop, "-n") == []
    assert make(workshop, "-n", "SEED=1") == everything
    first.source += "\n1"
    nbformat.write(notebook, file)
    assert make(workshop, "-n") == ["03", "04", "05", "08"]
    assert make(workshop) == ["03", "04", "05", "08"]
    module.write_text("1")
    assert make(workshop, "-n") == everything


def test_make_tells_each_notebook_its_records_and_runs_those_that_suit_the_profile(workshop):
    words = ["PROFILE=t4", "RECORDS=m.json", "BENCHMARK=v.json", "TEACHER_URL=http://t/v1"]
    assert make(workshop, "-n", *words) == ["01", "02", "03", "04", "08"]
    done = subprocess.run(
        ["make", "-n", "notebooks", f"PYTHON={sys.executable}", *words],
        cwd=workshop,
        capture_output=True,
        text=True,
        check=True,
    )
    told = re.findall(r"--cwd \. +(.*?) *\\\n +notebooks/(\d\d)", done.stdout)
    told = {number: " ".join(parameters.split()) for parameters, number in told}
    assert told == {
        "01": "-p profile t4 -p data m.json -p base_url http://t/v1",
        "02": "-p profile t4",
        "03": "-p profile t4 -p data m.json",
        "04": "-p profile t4 -p data v.json",
        "08": "-p profile t4 -p data v.json",
    }


def test_readme_names_both_commands():
    readme = (ROOT / "README.md").read_text()
    assert "    make reproduce\n" in readme
    assert "    make test\n" in readme


def test_shipped_data_is_small():
    folders = (ROOT / "data", ROOT / "act2see" / "pocket" / "models")
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 24e6


def test_data_holds_no_code():
    assert not [*(ROOT / "data").rglob("*.py")]


def test_the_lock_pins_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    apart = {"gpu", "cluster"}  # not on every machine
    extras = {n: b for n, b in project["optional-dependencies"].items() if n not in apart}
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    pins = {canonicalize_name(pin.name): pin for pin in pins}
    for bound in map(Requirement, sum(extras.values(), project["dependencies"])):
        pin = pins[canonicalize_name(bound.name)]
        (version,) = pin.specifier
        assert version.operator == "==" and version.version in bound.specifier
        assert pin.marker == bound.marker, "the lock must install where the bound does"


def test_the_conda_environment_is_the_lock_and_what_a_gpu_adds():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "requirements.lock").read_text()
    python, pip, listed = environment["dependencies"]
    more = set(listed["pip"]) - {"-r requirements.lock", "-e .[notebooks,api,dev]"}
    assert pip == "pip" and len(listed["pip"]) == 3 and "torch==2.13.0\n" in lock
    assert more == {"torchvision==0.28.0"}  # made for that torch, and for no other
    assert python.partition("=")[2] in Requirement(f"x{project['requires-python']}").specifier
    assert python.partition("=")[2] in lock.splitlines()[0]
    (bound,) = map(Requirement, project["optional-dependencies"]["gpu"])
    assert more.pop().partition("==")[2] in bound.specifier
