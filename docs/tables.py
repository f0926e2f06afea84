"""Tables and badges of README, pages and notebooks, written from data: `python docs/tables.py`.

Works on files of this repository. A block `<!-- table: NAME -->` … `<!-- /table -->` of a page is
filled by the function NAME below, so a number there is never typed. Knows nothing of models.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pandas as pd

from act2see import statistics

ROOT = Path(__file__).parents[1]
REPOSITORY = "OWNER/act2see"  # on GitHub: name yours, then `make tables` writes every badge
BRANCH = "main"
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- /table -->)", re.DOTALL)
BADGE = re.compile(r"\[!\[Open in Colab\][^\n]*")
SYSTEMS = {
    "base": "base: no training, no tool",
    "none": "trained on the same traces, no tool",
    "generation": "trained, may generate frames",
    "retrieval": "trained, may retrieve frames",
    "both": "trained, may do both",
}
FORMS = {
    "windows": "windows of several frames, up to 4 calls (ours)",
    "one frame by text": "one frame by a text, 1 call (as in `paper_pocket`)",
    "frames by text": "frames by a text, up to 4 calls",
    "base": "base, no call",
}
GRIDS = {
    "evidence": "other frames shown as evidence",
    "calls": "calls allowed",
    "frames": "base with more frames",
    "inference only": "base handed key frames",
    "reference": "traces kept by",
    "threshold": "similarity threshold",
    "traces": "traces to learn from",
    "recipe": "learning rate",
}
LESSONS = {
    "00_start_here": "one question, base and student; change one thing",
    "01_trace_distillation": "a teacher answers with tools and leaves traces",
    "02_similarity_filtering": "keeps traces whose reasoning is close to a person's",
    "03_qlora_finetuning": "trains an adapter on them, over a 4-bit model",
    "04_interleaved_inference": "asks the student and shows every frame that it saw",
    "05_evaluation": "scores all systems with intervals; does the student look?",
    "06_ablations": "draws what each part is worth",
    "07_reinforcement": "goes on from the adapter by trial and reward",
    "08_published_benchmarks": "asks Video-MME and others, or a table of yours",
}


def rows(head: list[str], body: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"|{' | '.join(line)}|\n" for line in lines)


def colab(stem: str) -> str:
    """The badge that opens a notebook in Colab."""
    image = "https://colab.research.google.com/assets/colab-badge.svg"
    place = f"{REPOSITORY}/blob/{BRANCH}/notebooks/{stem}.ipynb"
    return f"[![Open in Colab]({image})](https://colab.research.google.com/github/{place})"


def interval(row: object) -> str:
    """Accuracy with its 95 % interval, in percent."""
    return f"{100 * row.accuracy:.1f} % ({100 * row.low:.1f} to {100 * row.high:.1f})"


def ablations() -> pd.DataFrame:
    """The committed table of the ablations."""
    return pd.read_csv(ROOT / "data/pocket/ablations.csv", dtype={"cell": str, "seed": str})


def clone() -> str:
    """From nothing to the first look."""
    return f"    git clone https://github.com/{REPOSITORY} && cd act2see\n    make look\n"


def badges() -> str:
    """Colab, Binder, licence and paper."""
    binder = (
        f"https://mybinder.org/v2/gh/{REPOSITORY}/{BRANCH}?labpath=notebooks/00_start_here.ipynb"
    )
    paper = "https://img.shields.io/badge/arXiv-2605.01657-b31b1b"
    return (
        f"{colab('00_start_here')}\n[![Binder](https://mybinder.org/badge_logo.svg)]({binder})\n"
        f"[![Paper]({paper})](https://arxiv.org/abs/2605.01657)\n"
    )


def notebooks() -> str:
    """A row a notebook that is there."""
    names = [path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    body = [[f"[{n}](notebooks/{n}.ipynb)", LESSONS[n], colab(n)] for n in names]
    return rows(["notebook", "what it does", ""], body)


def tools() -> str:
    """The result of README: systems by all questions, and by those that need a look."""
    table = ablations()
    table = statistics.pooled(table[table.grid == "tools"], ["cell", "family"])
    table = table.set_index(["cell", "family"])
    counts = [table.n["both", family] for family in ("all", "need a look")]
    head = ["system", f"right, n = {counts[0]}", f"where a look is needed, n = {counts[1]}"]
    cells = [[interval(table.loc[name, f]) for f in ("all", "need a look")] for name in SYSTEMS]
    return rows(head, [[SYSTEMS[n], *c] for n, c in zip(SYSTEMS, cells, strict=True)])


def gains() -> str:
    """By how much both tools beat each other system, paired by question."""
    table = ablations()
    table = table[table.grid == "gain of both"]
    body = [
        [SYSTEMS[r.cell], f"{100 * r.accuracy:.1f} ({100 * r.low:.1f} to {100 * r.high:.1f})"]
        for r in table.itertuples()
    ]
    return rows(["both tools, compared with", f"points (95 % interval), n = {table.n.max()}"], body)


def form() -> str:
    """The forms of a call, on the families that need a look, with their cost."""
    table = ablations()
    table = table[(table.grid == "form") & (table.family == "need a look")]
    shares = statistics.pooled(table, ["cell"]).set_index("cell")
    costs = ["calls_per_question", "frames_per_question", "tokens_per_question"]
    means = table.groupby("cell")[costs].mean()
    body = []
    for name, words in FORMS.items():
        calls, frames, tokens = means.loc[name].fillna(0)
        cost = [f"{calls:.1f}", f"{frames:.1f}", f"{tokens:.0f}"]
        body.append([words, interval(shares.loc[name]), *cost])
    count = shares.n.max()
    return rows(["form", f"right, n = {count}", "calls", "frames", "tokens a question"], body)


def cells() -> str:
    """Every other cell of the ablations: one seed, the questions that need a look."""
    table = ablations()
    table = table[(table.family == "need a look") & table.grid.isin(GRIDS)]
    body = [[GRIDS[r.grid], r.cell, str(r.n), interval(r)] for r in table.itertuples()]
    return rows(["what differs", "cell", "n", "right (95 % interval)"], body)


def trials() -> pd.DataFrame:
    """The committed table of reinforcement's trials, all seeds pooled."""
    table = pd.read_csv(ROOT / "data/pocket/reinforcement.csv", dtype={"seed": str})
    return table[table.seed == "all"].set_index(["system", "family"])


def reinforcement() -> str:
    """An arm a row: right answers, calls, and right answers with the evidence swapped."""
    table = trials()
    body = []
    for name in dict.fromkeys(name for name, _ in table.index if not name.endswith(": gain")):
        looked = table.loc[name, "need a look"]
        other = (name, "another time shown")
        swapped = f"{100 * table.accuracy[other]:.1f} %" if other in table.index else ""
        body.append([name, interval(looked), f"{looked.calls_per_question:.2f}", swapped])
    counts = sorted({int(table.n[key]) for key in table.index if key[1] == "need a look"})
    head = f"right where a look is needed, n = {' or '.join(map(str, counts))}"
    return rows(["arm", head, "calls a question", "evidence of another time"], body)


def reinforcement_gains() -> str:
    """What reinforcement changed over an arm's start, paired by question, by family."""
    table = trials()
    table = table[table.index.get_level_values("system").str.endswith(": gain")]
    body = []
    for (name, family), row in table.iterrows():
        points = f"{100 * row.accuracy:+.1f}"
        # Where no answer changed there is no interval.
        points += "" if pd.isna(row.low) else f" ({100 * row.low:+.1f} to {100 * row.high:+.1f})"
        more = f"{row.calls_per_question:+.2f}"
        body.append([name.removesuffix(": gain"), family, str(int(row.n)), points, more])
    head = ["arm", "questions", "n", "points (95 % interval)", "more calls a question"]
    return rows(head, body)


def gpu() -> dict[str, pd.DataFrame]:
    """By GPU, the committed measurements on it: ours and the reference by case, the newest each."""
    table = pd.read_csv(ROOT / "data/gpu.csv").drop_duplicates(["device", "case"], keep="last")
    devices = table.groupby("device", sort=False)
    return {" ".join(name.split()[1:2]): rows.set_index("case") for name, rows in devices}


def gpu_steps() -> str:
    """A QLoRA step on a GPU: time, memory, and what `memory_plan` said."""
    body = []
    for device, table in gpu().items():
        for name in [c for c in table.index if c.startswith("QLoRA") and c.endswith(STEP)]:
            stem = name.removesuffix(STEP)
            time_s, memory = table.loc[name], table.loc[f"{stem}memory to stock loss"]
            plan = table.loc[f"{stem}memory used to planned"]
            numbers = [f"{time_s.ours:.2f}, {time_s.reference:.2f} s"]
            numbers += [f"{memory.ours:.1f}, {memory.reference:.1f} GB", f"{plan.reference:.1f} GB"]
            body.append([device, stem.removeprefix("QLoRA step, ").rstrip(", "), *numbers])
    head = ["GPU", "a trace of", "time: ours, the model's own loss", "peak memory"]
    return rows([*head, "`memory_plan`"], body)


def gpu_dialogues() -> str:
    """Dialogues of three calls on a GPU: speed, memory, and what `memory_plan` said."""
    body = []
    for device, table in gpu().items():
        for name in [c for c in table.index if c.endswith("calls, to sending all again")]:
            stem = name.removesuffix("to sending all again")
            again, cache = table.loc[name], table.loc[f"{stem}to one cache at batch 1"]
            peak, plan = (table.loc[f"{stem}{word}"] for word in MEMORY)
            numbers = [f"{again.ours:.0f}", f"{cache.reference:.0f}", f"{again.reference:.0f}"]
            numbers += [f"{peak.ours:.1f} GB", f"{plan.reference:.1f} GB"]
            body.append([device, stem.split()[0], *numbers])
    head = [
        "GPU",
        "dialogues at a time",
        "tokens a second",
        "one cache, one at a time",
        "sending all again",
    ]
    return rows([*head, "peak memory", "`memory_plan`"], body)


STEP = "time to stock loss"
MEMORY = ("most memory to its weights", "memory used to planned")


# Of docs/cluster.md. How many: the benchmark's and the paper's. All else is assumed, and said so.
QUESTIONS = 2700
TRACES = 3373
SAID = 1500  # tokens, a question
REQUESTS = 3  # a trace
READ = 17_000  # tokens, a request: 64 frames and the text
WRITTEN = 600
OPEN = 64  # requests at a time
WAIT_S = 20  # for a reply
DOLLARS = {"reads": 0.75, "writes": 3.75}  # for a million tokens, as in notebook 01


def measured() -> tuple[float, float]:
    """Tokens a second of 32 dialogues, and seconds of a training step, on the H200."""
    table = gpu()["H200"].ours
    step = "QLoRA step, 32 frames, 7019 tokens, time to stock loss"
    return table["32 dialogues of 3 calls, to sending all again"], table[step]


def scale() -> str:
    """How long answering and training take on 1, 8 and 64 GPUs."""
    speed, step_s = measured()
    hours = {
        f"{QUESTIONS:,} questions of Video-MME": QUESTIONS * SAID / speed / 3600,
        f"QLoRA on {TRACES:,} traces, one epoch": TRACES * step_s / 3600,
    }
    body = []
    for name, alone in hours.items():
        times = [alone / count for count in (1, 8, 64)]
        body.append([name, *(f"{t:.1f} h" if t >= 1 else f"{60 * t:.0f} min" for t in times)])
    return rows(["8B student in NF4", "1 GPU", "8 GPUs", "64 GPUs"], body)


def sums() -> str:
    """How `scale` comes about, and what a teacher behind an API costs."""
    speed, step_s = measured()
    asked = TRACES * REQUESTS
    minute = 60 * OPEN / WAIT_S
    said = f"{QUESTIONS:,} questions × {SAID:,} tokens (assumed) ÷ {speed:.0f} tokens a second"
    taught = f"{TRACES:,} traces × {step_s:.2f} s; each of 32 frames, 7,019 tokens"
    sent = f"{TRACES:,} traces × {REQUESTS} turns (assumed), no retry"
    waited = f"{asked:,} ÷ {minute:.0f} a minute: {OPEN} at a time, {WAIT_S} s each (assumed)"
    body = [
        ["answering", said, f"{QUESTIONS * SAID / speed / 3600:.1f} h"],
        ["training", taught, f"{TRACES * step_s / 3600:.1f} h"],
        ["a teacher's requests", sent, f"{asked:,}"],
        ["its time", waited, f"{asked / minute:.0f} min"],
    ]
    for work, tokens in (("reads", READ), ("writes", WRITTEN)):
        million = asked * tokens / 1e6
        text = f"{tokens:,} tokens a request (assumed): {million:.1f} million × ${DOLLARS[work]}"
        body.append([f"what it {work}", text, f"${million * DOLLARS[work]:.0f}"])
    return rows(["", "sum", "result"], body)


def chaos() -> str:
    """What `make chaos` tried, how it ended, and where it was measured."""
    table = pd.read_csv(ROOT / "data/chaos.csv")
    named = table.named.replace("0 of 0", "–")  # nothing was said to be wrong
    counts = [table.what, table.stage, table.tried.astype(str), table.survived.astype(str), named]
    body = pd.concat(counts, axis=1).to_numpy().tolist()
    run = table.iloc[0]
    head = ["attack", "stage", "tried", "ended well", "named"]
    return f"{rows(head, body)}\nSeed {run.seed}; {run.machine}; {run.date}.\n"


def cards() -> str:
    """The models that ship: files, command, seed, time, from the record beside each."""
    body = []
    for path in sorted((ROOT / "act2see/pocket/models").glob("*/made.json")):
        made = json.loads(path.read_text())
        size_mb = sum(f.stat().st_size for f in path.parent.rglob("*") if f.is_file()) / 1e6
        facts = [f"`{made['command']}`", str(made["seed"]), f"{made['minutes']:.0f}"]
        body.append([path.parent.name, f"{size_mb:.1f}", *facts, made["machine"]])
    return rows(["model", "MB", "command", "seed", "minutes", "machine"], body)


def filled(text: str) -> str:
    """A page with every block written anew. Raises KeyError for a block that has no function."""
    return BLOCK.sub(lambda found: found[1] + globals()[found[2]]() + found[3], text)


def pages() -> Iterator[tuple[Path, str]]:
    """(path, text as it has to be) of every page and notebook."""
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        yield path, filled(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        text = path.read_text(encoding="utf-8")
        notebook = nbformat.reads(text, as_version=4)
        notebook.cells[0].source = BADGE.sub(colab(path.stem), notebook.cells[0].source)
        yield path, f"{nbformat.writes(notebook)}\n"


if __name__ == "__main__":
    for path, text in pages():
        path.write_text(text, encoding="utf-8")
