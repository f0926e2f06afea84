"""README and pages: short, their tables current, their links alive, their output true."""

import importlib.util
import re
from pathlib import Path

import pytest

from act2see.store import read_traces

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "notebooks").rglob("*.ipynb")]
LINK = re.compile(r"\]\(\s*([^)\s]+)\s*\)")


@pytest.fixture(scope="module")
def tables():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_is_read_in_a_minute():
    assert len(README.split()) <= 900


def test_tables_and_badges_are_current(tables):
    old = [p.name for p, text in tables.pages() if text != p.read_text(encoding="utf-8")]
    assert old == [], "run `make tables`"


def test_a_block_without_a_function_is_an_error(tables):
    with pytest.raises(KeyError):
        tables.filled("<!-- table: nothing -->\n<!-- /table -->")


def test_the_table_of_notebooks_names_every_one(tables):
    rows = tables.notebooks().splitlines()[2:]
    assert [r.split("]")[0][2:] for r in rows] == [
        p.stem for p in sorted((ROOT / "notebooks").glob("*.ipynb"))
    ]


def test_the_readmes_numbers_are_those_of_the_committed_table(tables):
    """By hand: 421 of the 450 questions of three seeds are right with both tools."""
    assert "|trained, may do both | 93.6 % (90.9 to 95.5) | 91.9 % (88.7 to 94.3)|" in README
    table = tables.ablations()
    both = table[(table.grid == "tools") & (table.cell == "both") & (table.family == "all")]
    assert round((both.accuracy * both.n).sum()) == 421 and both.n.sum() == 450


def test_the_readmes_output_is_the_trace_in_its_picture():
    (trace,) = read_traces(ROOT / "figures" / "trace.jsonl")
    # `ask` does not know the right answer.
    trace.question = trace.question.model_copy(update={"answer": -1})
    assert f"```\n{trace}\n```\n" in README


def anchors(text: str) -> set[str]:
    """What a page's headings are called in a link."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken(path: Path) -> list[str]:
    """Relative links of a file that lead nowhere."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    wrong = []
    for link in LINK.findall(text):
        place, _, anchor = link.partition("#")
        target = path.parent / place if place else path
        outside = re.match(r"[a-z]+:", link)
        known = outside or target.exists()
        if known and anchor and target.suffix == ".md" and not outside:
            known = anchor in anchors(target.read_text(encoding="utf-8"))
        wrong += [] if known else [link]
    return wrong


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_relative_link_leads_somewhere(path):
    assert broken(path) == []


def test_a_broken_link_and_a_missing_heading_are_found(tmp_path):
    page = tmp_path / "a.md"
    page.write_text("# My Part\n[x](b.md) [y](#my-part) [z](#none) [w](https://example.org/none)")
    assert broken(page) == ["b.md", "#none"]


def test_pictures_have_words_for_those_who_do_not_see_them():
    for path in PAGES:
        assert "![](" not in path.read_text(encoding="utf-8"), path.name
