"""The prose of notebooks, pages, docstrings and errors: plain English, each word for one thing."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from tests.test_sources import notes

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# A pattern, and the way out.
BANNED = {
    r"(?<!\bthere )\b(is|are|was|were) no (?!longer\b|more\b|t\b)": "say `is not a`",
    r"\bof no \w+": "say what it is instead",
    r"\bshall\b": "say `must` or `will`",
    r"\bbeside\b": "say `next to`",
    r"\breckon(ed|s)?\b": "say `computed` or `counted`",
    r"\bat hand\b": "say `available`",
    r"\bof (its|their|one's) own\b": "say `separate` or `own` before the noun",
    r"\bas many\b": "say `the same number of`",
    r"\bappetite\b": "say the quantity",
    r"\bmakes? no sense\b": "say `is malformed` or `was refused`",
    r"\bmade sense\b": "say `were valid`",
}
# Of a page or a notebook; a docstring may say "What a frame shows." as its title.
CLAUSE = {
    r"(^|[.!?] +)(What|Whoever|Who|Those (who|that))\b[^?]*?[.:]( |$)": "name the actor first"
}
# Comparisons and errors of code may have these.
SPARED = (r"\bas many\b", r"\bof no \w+", next(iter(BANNED)))
BLOCK = re.compile(r"```.*?```|<!-- table: .*?<!-- /table -->", re.DOTALL)
CODE = re.compile(r"```.*?```|`[^`\n]*`|^(    ).*$|<[^>]*>|\]\([^)]*\)", re.DOTALL | re.MULTILINE)


def faults(text: str, rules: dict[str, str] = BANNED | CLAUSE) -> list[str]:
    """The phrases of a passage that the rules ban, each with the way out."""
    words = " ".join(CODE.sub(" x ", text).split())
    found = [(re.search(pattern, words, re.IGNORECASE), hint) for pattern, hint in rules.items()]
    return [f"{match[0].strip()!r}: {hint}" for match, hint in found if match]


def lessons() -> Iterator[tuple[str, str]]:
    """(where, paragraph) of notebooks and pages."""
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                yield from ((f"{path.stem}, {cell.id}", p) for p in cell.source.split("\n\n"))
    for path in PAGES:
        text = BLOCK.sub("", path.read_text(encoding="utf-8"))
        yield from ((path.name, paragraph) for paragraph in text.split("\n\n"))


def remarks() -> Iterator[tuple[str, str]]:
    """(where, text) of the package's docstrings, comments and errors."""
    for path in sorted((ROOT / "act2see").rglob("*.py")):
        yield from ((path.name, text) for text in notes(path))
        tree = ast.parse(path.read_text(encoding="utf-8"))
        raised = [n for n in ast.walk(tree) if isinstance(n, ast.Raise)]
        texts = [n.value for r in raised for n in ast.walk(r) if isinstance(n, ast.Constant)]
        yield from ((path.name, text) for text in texts if isinstance(text, str))


def test_notebooks_and_pages_are_in_plain_english():
    assert [f"{where}: {fault}" for where, text in lessons() for fault in faults(text)] == []


def test_docstrings_comments_and_errors_are_in_plain_english():
    rules = {pattern: hint for pattern, hint in BANNED.items() if pattern not in SPARED}
    found = [f"{where}: {fault}" for where, text in remarks() for fault in faults(text, rules)]
    assert found == []


@pytest.mark.parametrize(
    ("text", "count"),
    [("It is no use.", 1), ("There is no GPU.", 0), ("A call is no longer open.", 0),
     ("It shall stand beside it.", 2), ("What Colab lacks, it installs.", 1),
     ("What does it cost? Ten dollars.", 0), ("`is no` and [x](beside.md) are code.", 0),
     ("Besides, a marshall comes.", 0), ("It has a file of its own.", 1)],
)  # fmt: skip
def test_the_search_finds_such_phrases_and_no_others(text, count):
    assert len(faults(text)) == count


VERBS = {"told", "said", "shown", "asked", "given", "spoken"}


def verbs(code: str) -> list[str]:
    """Variables that are bare verbs, where a noun is wanted."""
    tree = ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", code, flags=re.MULTILINE))
    stored = (n for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
    return [node.id for node in stored if node.id in VERBS]


def test_variables_of_notebooks_are_nouns():
    cells = [c.source for path in NOTEBOOKS for c in nbformat.read(path, as_version=4).cells
             if c.cell_type == "code"]  # fmt: skip
    assert [name for cell in cells for name in verbs(cell)] == []
