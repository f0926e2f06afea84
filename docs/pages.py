"""The web site: `python docs/pages.py EXECUTED FOLDER` (`make site`). It opens from disk.

Works on README, docs, executed notebooks and docstrings, with nbconvert, which JupyterLab brings;
needs no network. A notebook that was not executed is shown as it is committed. Knows nothing of
models. A link to a file of the repository takes that file along; one that leads nowhere ends it.
"""

import ast
import posixpath
import re
import shutil
import sys
from collections import defaultdict
from html import escape, unescape
from itertools import zip_longest
from pathlib import Path

from nbconvert import HTMLExporter
from nbconvert.filters.markdown import markdown2html

from act2see.store import read_traces
from act2see.trace import Trace
from act2see.viewer import save_page

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "Start",
    "docs/running.md": "Running it",
    "docs/results.md": "Results",
    "docs/speed.md": "Speed",
    "docs/cluster.md": "More machines",
    "docs/safety.md": "Safety",
    "docs/cards.md": "Cards",
    "docs/package.md": "Package",
    "docs/glossary.md": "Glossary",
    "CHANGELOG.md": "Changes",
    "CONTRIBUTING.md": "Contributing",
}
OTHERS = {"api.html": "API", "traces.html": "Traces"}
NAVIGATION = """
nav{font:14px system-ui,sans-serif;padding:.6em 1em;border-bottom:1px solid #ccc;background:white}
nav a{margin-right:1em;white-space:nowrap}
"""
STYLE = f"""{NAVIGATION}
body{{font:16px/1.5 system-ui,sans-serif;max-width:60em;margin:0 auto;padding:1em;color:#222}}
main img,main svg{{max-width:100%}} pre{{white-space:pre-wrap;background:#f6f6f6}}
pre{{padding:.6em;font-size:14px}}
table{{border-collapse:collapse;display:block;overflow:auto}}
td,th{{border-bottom:1px solid #ddd;padding:.2em .8em .2em 0;text-align:left;vertical-align:top}}
.anchor-link{{visibility:hidden}}
"""
LINK = re.compile(r"""(href|src)=("|')(?![a-z][a-z+.-]*:|//|#)([^"'#]+)(#[^"']*)?\2""")
HEADING = re.compile(r"<(h\d)[^>]*>(.*?)</\1>", re.DOTALL)


def place(source: str) -> str:
    """Where a file of the repository lies in the site."""
    if source == "README.md":
        return "index.html"
    if source in PAGES:
        return posixpath.basename(source).replace(".md", ".html").lower()
    if (ROOT / source).is_dir():
        return place(min(p.relative_to(ROOT).as_posix() for p in (ROOT / source).iterdir()))
    return re.sub(r"\.ipynb$", ".html", source)


def moved(html: str, source: str, site: Path) -> str:
    """A page with its relative links changed to where things lie in the site."""
    here = posixpath.dirname(place(source))

    def change(found: re.Match) -> str:
        name, quote, link, anchor = found.groups()
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
        file = ROOT / target
        if not file.exists():
            raise ValueError(f"{source} links to {link}, which is not there; mend the link")
        there = place(target)
        if there == target and file.is_file():
            (site / there).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, site / there)
        return f"{name}={quote}{posixpath.relpath(there, here or '.')}{anchor or ''}{quote}"

    return LINK.sub(change, html)


def navigation(here: str) -> str:
    """Links to every page and notebook, from the folder `here` of the site."""
    names = {place(source): title for source, title in PAGES.items()} | OTHERS
    names |= {
        f"notebooks/{p.stem}.html": p.stem[:2] for p in lessons() if p.parent.name != "solutions"
    }
    links = (f"<a href='{posixpath.relpath(to, here or '.')}'>{t}</a>" for to, t in names.items())
    return f"<nav>{' '.join(links)}</nav>"


def lessons() -> list[Path]:
    """The notebooks and their solutions."""
    return sorted((ROOT / "notebooks").rglob("[0-9]*.ipynb"))


def write(site: Path, name: str, title: str, body: str) -> None:
    """One page of the site."""
    path = site / name
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{escape(title)}</title>"
    head += "<meta name='viewport' content='width=device-width'>"
    look = f"<style>{STYLE}</style>"
    here = posixpath.dirname(name)
    path.write_text(f"{head}{look}{navigation(here)}<main>{body}</main></html>", encoding="utf-8")


def named(found: re.Match) -> str:
    """A heading with the name that GitHub gives it, for links."""
    words = unescape(re.sub(r"<[^>]*>|¶", "", found[2])).strip().lower()
    anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
    return f"<{found[1]} id='{anchor}'>{found[2]}</{found[1]}>"


def notebook(path: Path, executed: Path, site: Path) -> None:
    """A notebook as a page: the executed one, where there is one."""
    source = path.relative_to(ROOT).as_posix()
    run = executed / path.relative_to(ROOT / "notebooks")
    exporter = HTMLExporter(template_name="lab", embed_images=False)
    html, _ = exporter.from_filename(str(run if run.exists() else path))
    # The page works without them: they are for formulas and for widgets with a kernel.
    html = re.sub(r"<script[^>]*src=[^>]*>\s*</script>", "", html)
    here = posixpath.dirname(place(source))
    bar = f"<style>{NAVIGATION}</style>{navigation(here)}"
    html = moved(html, source, site)
    html = re.sub(r"(<body[^>]*>)", lambda found: found[1] + bar, html, count=1)
    (site / place(source)).parent.mkdir(parents=True, exist_ok=True)
    (site / place(source)).write_text(html, encoding="utf-8")


def reference() -> str:
    """Every public name of the package with its docstring, read off the source."""
    parts = []
    for path in sorted((ROOT / "act2see").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if text := ast.get_docstring(tree):
            parts.append(f"<h2 id='{name}'>{name}</h2><pre>{escape(text)}</pre>")
            parts += members(tree.body)
    return "".join(parts)


def members(body: list[ast.stmt]) -> list[str]:
    """The public functions and classes of a module or class, with signature and docstring."""
    parts = []
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        signature = f"class {node.name}"
        if isinstance(node, ast.FunctionDef):
            returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
            signature = f"{node.name}({ast.unparse(node.args)}){returns}"
        text = escape(ast.get_docstring(node) or "")
        parts.append(f"<h4><code>{escape(signature)}</code></h4><pre>{text}</pre>")
        parts += members(node.body) if isinstance(node, ast.ClassDef) else []
    return parts


def dozen(run: Path) -> tuple[list[Trace], list[Trace]]:
    """Twelve traces of the student, the families in turn, and the base's about the same questions.

    Of a run's evaluation, or else of its inference; where it has neither, the README's trace.
    """
    for folder in ("evaluation", "inference"):
        traces = {}
        for system in ("act2see", "base"):
            files = sorted((run / folder).glob(f"pocket-{system}-[0-9]*frames-*.jsonl"))
            traces[system] = {t.question.id: t for file in files for t in read_traces(file)}
        families = defaultdict(list)
        for name in sorted(traces["act2see"].keys() & traces["base"].keys()):
            families[traces["act2see"][name].question.family].append(name)
        names = [name for turn in zip_longest(*families.values()) for name in turn if name][:12]
        # First what only the student got right.
        base, tuned = traces["base"], traces["act2see"]
        names.sort(key=lambda name: base[name].correct() - tuned[name].correct())
        if names:
            return tuple([answers[name] for name in names] for answers in traces.values())
    return list(read_traces(ROOT / "figures" / "trace.jsonl")), []


def build(executed: Path, site: Path) -> None:
    """All pages, into the folder `site`, which is made anew."""
    shutil.rmtree(site, ignore_errors=True)
    for source, title in PAGES.items():
        text = re.sub(r"<!--.*?-->\n?", "", (ROOT / source).read_text(encoding="utf-8"))
        html = HEADING.sub(named, str(markdown2html(text)))
        write(site, place(source), title, moved(html, source, site))
    for path in lessons():
        notebook(path, executed, site)
    write(site, "api.html", "API", reference())
    save_page(site / "traces.html", *dozen(executed.parent))


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]))
