"""A headless Chromium, a JupyterLab, and a viewer in each: as a page from disk and as a widget."""

import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from act2see.viewer import save_page
from tests.browser import traces

sync_api = pytest.importorskip("playwright.sync_api", reason="run `make browser`")

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "outputs" / "browser"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# What is shown: the expression that the notebook shows, and the same as arguments of a page.
SHOWN = {
    "one": ("frame_viewer([student(), base()])", lambda: ([traces.student(), traces.base()],)),
    "two": ("side_by_side(base(), student())", lambda: ([traces.student()], [traces.base()])),
    "paper": ("frame_viewer([paper()])", lambda: ([traces.paper()],)),
    "marked": ("side_by_side(marked(), marked())", lambda: ([traces.marked()], [traces.marked()])),
    "html": ("marked()", None),
    "core": (
        "viewer.find_spec = lambda name: None\nframe_viewer([student()])",
        lambda: ([traces.student()],),
    ),
    "scripts": ("frame_viewer([scripts()])", lambda: ([traces.scripts()],)),
}
VIEWPORT = {"width": 1100, "height": 900}
MOST_MS = 120_000  # for a JupyterLab on a busy machine
SETUP = f"""import sys
sys.path.insert(0, {str(ROOT)!r})
from act2see import viewer
from act2see.viewer import frame_viewer, side_by_side
from tests.browser.traces import *
"""


@pytest.fixture(scope="session")
def browser():
    """Chromium or Chrome where one is installed, else the one that playwright brought."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_api.sync_playwright() as playwright:
        options = {"executable_path": path, "args": ["--no-sandbox"]}
        browser = playwright.chromium.launch(**options)
        yield browser
        browser.close()


def notebook(name: str) -> nbformat.NotebookNode:
    cell = nbformat.v4.new_code_cell(SETUP + SHOWN[name][0])
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel})


@pytest.fixture(scope="session")
def jupyterlab(tmp_path_factory):
    """The address of a JupyterLab whose folder holds a notebook for each of `SHOWN`."""
    folder = tmp_path_factory.mktemp("lab")
    for name in SHOWN:
        nbformat.write(notebook(name), folder / f"{name}.ipynb")
    stored = notebook("one")
    NotebookClient(stored, timeout=120).execute()
    nbformat.write(stored, folder / "stored.ipynb")
    # Trust goes by the content, so this one's must differ.
    stored.metadata["title"] = "trusted"
    nbformat.write(stored, folder / "trusted.ipynb")
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    options = ["--no-browser", "--allow-root", f"--port={port}", "--IdentityProvider.token="]
    options += [f"--ServerApp.root_dir={folder}", "--LabApp.news_url=None"]
    home = {name: str(folder / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR")}
    overrides = folder / "JUPYTER_CONFIG_DIR" / "labconfig" / "default_setting_overrides.json"
    overrides.parent.mkdir(parents=True)
    # Or it would lay a question about news over the viewer.
    overrides.write_text('{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}')
    trust = [sys.executable, "-m", "jupyter", "trust", str(folder / "trusted.ipynb")]
    subprocess.run(trust, env=os.environ | home, check=True, stdout=subprocess.DEVNULL)
    command = [sys.executable, "-m", "jupyterlab", *options]
    server = subprocess.Popen(
        command, env=os.environ | home, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    # It says in its log when it is ready; read on, so that the pipe never fills.
    next(line for line in server.stderr if "is running at" in line)
    threading.Thread(target=server.stderr.read, daemon=True).start()
    yield f"http://localhost:{port}/doc/tree"
    server.terminate()
    server.wait(30)


@pytest.fixture
def tab(browser):
    """An empty tab; an error of a script in it fails the test."""
    tab = browser.new_page(viewport=VIEWPORT)
    errors = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    yield tab
    tab.close()
    assert errors == []


def open_page(tab, tmp_path: Path, name: str):
    """The viewer in a page from disk, and the words `page NAME`."""
    save_page(tmp_path / f"{name}.html", *SHOWN[name][1]())
    tab.goto((tmp_path / f"{name}.html").as_uri())
    tab.locator(".act2see").focus()
    return tab.locator(".act2see")


def open_notebook(tab, address: str, name: str, run: bool = True):
    """The viewer in a notebook in JupyterLab, whose one cell is run."""
    tab.goto(f"{address}/{name}.ipynb", timeout=MOST_MS)
    tab.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=MOST_MS)
    if run:
        tab.get_by_text("(ipykernel) | Idle").wait_for(timeout=MOST_MS)
        tab.locator(".jp-CodeCell .cm-content").first.click()
        tab.keyboard.press("Control+Enter")
    return tab.locator(".act2see")


@pytest.fixture(scope="session")
def notebooks(browser, jupyterlab):
    """The viewer of a notebook, in a tab that stays open: a kernel takes its time."""
    opened = {}

    def viewer(name):
        if name not in opened:
            tab = browser.new_page(viewport=VIEWPORT)
            opened[name] = open_notebook(tab, jupyterlab, name)
        return opened[name]

    return viewer


@pytest.fixture(params=["page", "jupyterlab"])
def show(request, tmp_path):
    """Shows what `SHOWN` names and returns the viewer, at its first stop, focused."""

    def shown(name):
        if request.param == "page":
            viewer = open_page(request.getfixturevalue("tab"), tmp_path, name)
        else:
            viewer = request.getfixturevalue("notebooks")(name)
        viewer.locator(".card").first.wait_for(timeout=MOST_MS)
        if viewer.locator("select").count():
            viewer.locator("select").select_option("0")
        viewer.scroll_into_view_if_needed()
        viewer.focus()
        viewer.page.keyboard.press("Home")
        return viewer

    return shown


@pytest.fixture
def shoot(request):
    """Keeps a picture of the viewer, named after the test, for people to look at."""

    def kept(viewer, name):
        SHOTS.mkdir(parents=True, exist_ok=True)
        case = request.node.callspec.id if hasattr(request.node, "callspec") else "page"
        viewer.screenshot(path=SHOTS / f"{name}-{case}.png")

    return kept
