"""What other machines need: files for a forge and a container, no import of one system."""

import ast
import json
import re
from pathlib import Path

import pytest
import yaml

from tests.test_house import COLAB_HAS, MODULES

ROOT = Path(__file__).parents[1]
WORKFLOWS = {path.stem: path for path in (ROOT / ".github" / "workflows").glob("*.yml")}
# In the standard library of some systems only.
POSIX = {"fcntl", "grp", "pwd", "resource", "termios"} | {"msvcrt", "winreg"}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_is_whole_and_writes_no_code(name):
    workflow = yaml.safe_load(WORKFLOWS[name].read_text())
    assert workflow["permissions"]["contents"] == "read" and workflow[True]
    for job in workflow["jobs"].values():
        assert job.get("timeout-minutes", 0) <= 120 and all(
            "uses" in s or "run" in s for s in job["steps"]
        )


def test_the_tests_run_on_three_systems_and_both_ends_of_python():
    matrix = yaml.safe_load(WORKFLOWS["tests"].read_text())["jobs"]["test"]["strategy"]["matrix"]
    systems = " ".join(matrix["system"])
    assert all(name in systems for name in ("ubuntu", "arm", "macos", "windows"))
    assert matrix["python"] == ["3.11", "3.13"]


def test_colabs_versions_are_those_that_the_bounds_are_tested_with():
    pinned = dict(re.findall(r"(\w+)==([\d.]+)\.\*", WORKFLOWS["colab"].read_text()))
    assert COLAB_HAS.items() <= pinned.items()


def test_the_container_installs_the_lock():
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "-r requirements.lock" in dockerfile and "--no-deps -e ." in dockerfile
    python = re.search(r"FROM python:(\S+?)-", dockerfile)[1]
    assert python in (ROOT / "requirements.lock").read_text().splitlines()[0]
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert container["build"]["dockerfile"] == "../Dockerfile"
    assert container["remoteUser"] in dockerfile and container["workspaceFolder"] in dockerfile


@pytest.mark.parametrize("name", MODULES)
def test_no_module_needs_one_system_to_be_imported(name):
    for node in ast.parse(MODULES[name]).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not POSIX & set(names) and "decord" not in names
