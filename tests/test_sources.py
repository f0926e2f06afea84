"""Nothing that the paper states is called unstated, and its numbers stand with a source."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
PAPER = ROOT / "data" / "paper"
UNSTATED = re.compile(
    r"\b(does|do|did|can) ?not (say|state|name|give|tell|report|publish)\b"
    r"|\bnot (stated|said|found|known)\b|\bnames? no\b|\bunknown\b|\bis silent\b",
    re.IGNORECASE,
)
# What stands true: data/paper/sources.json lists what was not found.
ALLOWED = (
    "the paper is silent and we choose",  # CONTRIBUTING: a rule, not a claim
    "which one the paper shows is not known",
    "Not found of the paper: its prompts, the adapter's rank and targets",
    "mistakes, 0 to 0.25 (paper: unknown)",
    "The adapter's rank is not known",
    "rank and targets of its adapter are not known",
    "its strength and its steps are not known",
    "Our choice; the paper's own form is another dialect",
)
SOURCES = re.compile(r"sources\.json|arxiv|as reported|party's note|its abstract", re.IGNORECASE)
NAMES = re.compile(r"\bGemini 2\.5 Pro\b|\bTables? [\d, and]+")
NUMBER = re.compile(r"(?<![\w.-])\d[\d.,]*(e-\d+)?(?![\w-])")
POINTER = re.compile(r"#[^#]*\(paper: ([\d.,]*\d(?:e-\d+)?)[^)]*\)")
KNOWN = set(re.findall(r"[\d.,]*\d(?:e-\d+)?", (PAPER / "sources.json").read_text()))


def notes(path: Path) -> Iterator[str]:
    """The docstrings and the comments of a module, each as one line."""
    text = path.read_text(encoding="utf-8")
    nodes = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, nodes):
            yield ast.get_docstring(node) or ""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    yield from (token.string for token in tokens if token.type == tokenize.COMMENT)


def passages() -> Iterator[tuple[str, str]]:
    """(where, text) of docstrings, comments, cells and paragraphs."""
    for path in sorted((ROOT / "act2see").rglob("*.py")):
        yield from ((path.name, text) for text in notes(path))
    for path in sorted((ROOT / "notebooks").rglob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            lines = cell.source.splitlines() if cell.cell_type == "code" else [cell.source]
            yield from ((f"{path.stem}, {cell.id}", line) for line in lines)
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        paragraphs = page.read_text(encoding="utf-8").split("\n\n")
        yield from ((page.name, paragraph) for paragraph in paragraphs)


def sentences(text: str) -> list[str]:
    """A passage's sentences, list items and rows of a table, each on one line."""
    ends = r"(?<=[.!?])\s+(?=[A-Z`*])|\n\s*(?=- |\|)"
    return [" ".join(sentence.split()) for sentence in re.split(ends, text)]


def about_the_paper(sentence: str) -> bool:
    """Whether a sentence speaks of the paper, and not of the profile `paper` or of a file."""
    return bool(re.search(r"(?<!`)\bpaper\b(?!`|\")", sentence, re.IGNORECASE))


PASSAGES = list(passages())


def unstated(text: str) -> list[str]:
    """Sentences of a passage on the paper by which something is not to be had from it."""
    if not about_the_paper(text):
        return []
    return [
        sentence
        for sentence in sentences(text)
        if UNSTATED.search(sentence) and not any(known in sentence for known in ALLOWED)
        if about_the_paper(sentence)
    ]


def test_nothing_that_the_paper_states_is_called_unstated():
    found = [f"{where}: {sentence}" for where, text in PASSAGES for sentence in unstated(text)]
    assert found == [], "look it up in data/paper/sources.json; if it is true, add it to ALLOWED"


@pytest.mark.parametrize(
    ("text", "count"),
    [("The paper does not say which.", 1), ("The paper trains LoRA and names no rate.", 1),
     ("epochs = 0.0  # (paper: not said)", 1), ("A file of `paper` is not found.", 0),
     ("A loss that is not said.", 0), ("The paper is new. The clip's length is not known.", 0)],
)  # fmt: skip
def test_the_search_finds_such_sentences_and_no_others(text, count):
    assert len(unstated(text)) == count


def without_source(text: str) -> list[str]:
    """Sentences of a passage with a number of the paper, where the passage names no source.

    A pointer such as `(paper: 0.80)` needs none, if the tables or the sources hold its number.
    """
    if SOURCES.search(text) or any(known in text for known in ALLOWED):
        return []
    text = POINTER.sub(lambda found: "" if found[1] in KNOWN else found[0], NAMES.sub("", text))
    return [s for s in sentences(text) if about_the_paper(s) and NUMBER.search(s)]


def test_a_number_of_the_paper_has_its_source_in_the_same_passage():
    told = [(where, text) for where, text in PASSAGES if not where.endswith(".py")]
    found = [f"{where}: {sentence}" for where, text in told for sentence in without_source(text)]
    assert found == [], "name data/paper/sources.json there"


@pytest.mark.parametrize(
    ("text", "count"),
    [("The paper keeps 47.67 %.", 1), ("The paper keeps 47.67 % (data/paper/sources.json).", 0),
     ("rate = 0.0  # 1e-3 in pocket (paper: 2.5e-6)", 0), ("rank = 0  # 16 (paper: 17)", 1),
     ("Gemini 2.5 Pro is the paper's, and so is BGE-M3.", 0), ("Of 99 traces 8 are kept.", 0)],
)  # fmt: skip
def test_a_number_without_a_source_is_found(text, count):
    assert len(without_source(text)) == count
