"""The site: every page there, links that lead somewhere, nothing fetched to show a page."""

import importlib.util
import json
import posixpath
import re
from pathlib import Path

import nbformat
import pytest

from act2see.store import read_traces, write_traces

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pages():
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(pages, tmp_path_factory):
    """The site of one executed notebook and those that are committed, and of a run's traces."""
    executed = tmp_path_factory.mktemp("run") / "notebooks"
    evaluation = executed.parent / "evaluation"
    (example,) = read_traces(ROOT / "figures" / "trace.jsonl")
    for system, count in (("act2see", 20), ("act2see-grey", 20), ("base", 18)):
        traces = [example.model_copy(deep=True) for _ in range(count)]
        for i, trace in enumerate(traces):
            trace.question.id = f"pocket-{i:02}"
            trace.question.family = "moment" if i < 10 else "order"
            trace.policy = system
            trace.key = ""
        write_traces(evaluation / f"pocket-{system}-8frames-seed0-x.jsonl", traces)
    executed.mkdir()
    run = nbformat.read(ROOT / "notebooks" / "06_ablations.ipynb", as_version=4)
    run.cells[-1].source += "\n\nThis one was executed."
    nbformat.write(run, executed / "06_ablations.ipynb")
    folder = tmp_path_factory.mktemp("site")
    pages.build(executed, folder)
    return folder


def test_every_page_and_notebook_is_there_and_an_executed_one_goes_first(site):
    for path in (ROOT / "notebooks").rglob("[0-9]*.ipynb"):
        assert (site / path.relative_to(ROOT).with_suffix(".html")).exists()
    assert "This one was executed." in (site / "notebooks" / "06_ablations.html").read_text()
    names = ("index", "running", "results", "speed", "cards", "package", "glossary", "traces")
    assert all((site / f"{name}.html").stat().st_size > 1000 for name in names)


def test_a_dozen_traces_of_the_run_and_of_its_base_can_be_looked_at(site):
    text = (site / "traces.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert len(data["views"]) == 12 and all(len(view) == 2 for view in data["views"])
    assert "href='traces.html'" in (site / "index.html").read_text()


def test_both_families_are_among_them_and_a_clone_without_a_run_shows_the_readmes(pages, tmp_path):
    (example,) = read_traces(ROOT / "figures" / "trace.jsonl")
    assert pages.dozen(tmp_path) == ([example], [])
    families = ["moment"] * 10 + ["order"] * 3
    for system in ("act2see", "base"):
        traces = [example.model_copy(deep=True) for _ in families]
        for i, (trace, family) in enumerate(zip(traces, families, strict=True)):
            trace.question.id = f"pocket-{i:02}"
            trace.question.family = family
        write_traces(tmp_path / "inference" / f"pocket-{system}-8frames-seed0-x.jsonl", traces)
    student, base = pages.dozen(tmp_path)
    assert [t.question.family for t in student] == ["moment", "order"] * 3 + ["moment"] * 6
    assert [t.question.id for t in student] == [t.question.id for t in base]


def test_links_of_an_executed_notebook_lead_to_the_sites_pages(site):
    text = (site / "notebooks" / "06_ablations.html").read_text()
    assert 'href="../glossary.html#pocket-world"' in text and "../docs/" not in text


def test_links_of_the_site_lead_somewhere(site):
    wrong = []
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r"<(?:a|img)[^>]* (?:href|src)=[\"']([^\"'#:]+)(?=[\"'#])", text):
            target = page.parent / posixpath.normpath(link)
            wrong += [] if target.exists() else [f"{page.name}: {link}"]
    assert wrong == []


def test_the_glossarys_terms_can_be_linked_to(site):
    text = (site / "glossary.html").read_text()
    assert all(f"id='{term}'" in text for term in ("pocket-world", "qlora", "mcnemars-test"))


def test_the_reference_holds_public_names_with_their_docstrings(site):
    text = (site / "api.html").read_text()
    assert "<h2 id='act2see.face'>" in text and "ask(video: str | Path, question: str" in text
    assert "The student&#x27;s trace about a video" in text and ">_policy(" not in text


def test_no_page_loads_a_script_from_elsewhere(site):
    for page in site.rglob("*.html"):
        assert not re.search(r"<script[^>]* src=", page.read_text(encoding="utf-8")), page.name


def test_a_link_that_leads_nowhere_ends_it(pages, tmp_path):
    with pytest.raises(ValueError, match=r"docs/cards.md links to none.md, which is not there"):
        pages.moved('<a href="none.md">x</a>', "docs/cards.md", tmp_path)
