"""Every notebook runs through papermill, tiny, on what the one before it wrote: the user's way."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import papermill
import pytest

from act2see.checkpoints import check_adapter
from act2see.pocket.questions import FAMILIES, FOUNDATION
from act2see.profiles import DATA, load_profile
from act2see.statistics import COLUMNS
from act2see.trace import read_traces

sys.path.insert(0, str(DATA / "pocket"))
import ablate

ROOT = Path(__file__).parents[1]
SEED = 5
QUESTIONS = 48


def run(stem: str, out: Path, **parameters) -> Path:
    """Execute notebooks/`stem`.ipynb into `out`, which is returned; raises what a cell raises."""
    papermill.execute_notebook(
        ROOT / "notebooks" / f"{stem}.ipynb",
        out / f"{stem}.ipynb",
        {"seed": SEED, "output": str(out), **parameters},
        kernel_name="python3",
        cwd=ROOT,
        progress_bar=False,
    )
    return out


@pytest.fixture(scope="module")
def distilled(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        out = tmp_path_factory.mktemp("outputs")
        yield run("01_trace_distillation", out, questions=QUESTIONS)


@pytest.fixture(scope="module")
def filtered(distilled):
    return run("02_similarity_filtering", distilled)


@pytest.fixture(scope="module")
def tuned(filtered):
    """Two epochs, as the first step of a warm-up has rate 0 and 16 traces make one step."""
    return run("03_qlora_finetuning", filtered, epochs=2, held_out=4, max_traces=16)


@pytest.fixture(scope="module")
def answered(tuned):
    return run("04_interleaved_inference", tuned, questions=8)


@pytest.fixture(scope="module")
def scored(tuned):
    return run("05_benchmarks_and_ablations", tuned, questions=16)


def test_01_writes_a_trace_of_every_question(distilled):
    traces = read_traces(distilled / "traces.jsonl")
    table = pd.read_csv(distilled / "traces.csv")
    assert len(traces) == QUESTIONS
    assert all(t.letter() for t in traces)
    assert {t.question.id: t.correct() for t in traces} == dict(
        zip(table.id, table.right, strict=True)
    )
    assert all((f.folder / f.file).exists() for t in traces for f in t.frames())
    assert len(list((distilled / "clips").glob("*.mp4"))) >= QUESTIONS


def test_02_keeps_what_is_similar_enough(filtered):
    table = pd.read_csv(filtered / "similarity.csv", index_col="id")
    kept = read_traces(filtered / "kept.jsonl")
    assert len(table) == QUESTIONS
    assert 0 < len(kept) < QUESTIONS
    assert {t.question.id for t in kept} == set(table.index[table.similarity >= 0.8])
    assert table.right[table.kept].mean() >= table.right.mean()


def test_02_writes_the_statistics_of_what_was_kept(filtered):
    table = pd.read_csv(filtered / "filter_statistics.csv", index_col=["by", "group"])
    assert set(table.index.levels[0]) == {"family", "source", "filter", "mistake", "calls"}
    assert table.kept["family", "all"] == len(read_traces(filtered / "kept.jsonl"))
    assert table.correct["filter", "right answer"] == 1


def test_03_writes_an_adapter_for_the_shipped_base(tuned):
    check_adapter(tuned / "finetune" / "adapter", load_profile("pocket").student)
    assert (tuned / "finetune" / "adapter" / "adapter_model.safetensors").stat().st_size > 1e5


def test_03_writes_how_it_went(tuned):
    made, outcome, log = (
        json.loads((tuned / "finetune" / f"{name}.json").read_text())
        for name in ("run", "outcome", "log")
    )
    held = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    assert (made["training"], made["held_out"], made["recipe"]["seed"]) == (16, 4, SEED)
    assert len(held) == 2 and np.isfinite(held).all()
    assert outcome["peak_gb"] >= outcome["before_gb"] > 0
    assert outcome["trainable_parameters"] > outcome["trained_tokens"] > 16


def test_04_writes_the_answered_traces(answered):
    files = set(answered.rglob("*.jsonl")) - {answered / f"{n}.jsonl" for n in ("traces", "kept")}
    traces = [trace for file in sorted(files) for trace in read_traces(file)]
    assert len({t.policy for t in traces}) >= 2
    assert all(t.steps[-1].kind == "answer" for t in traces)


def test_05_writes_a_row_for_every_system_and_family(scored):
    results = pd.read_csv(scored / "results.csv")
    trivial = {"always_a", "always_b", "always_c", "always_d", "shortest", "longest"}
    assert set(COLUMNS) <= set(results.columns)
    assert {"base", "base_dense", "act2see"} | trivial <= set(results.system)
    assert results.accuracy.dropna().between(0, 1).all()
    by_family = results[results.system == "act2see"].set_index("family")
    assert (by_family.n[[*FOUNDATION]] == 4).all()


def test_06_draws_every_grid_of_a_table(tmp_path):
    rows = []
    for cell in ablate.grid(2):
        for family in (*FAMILIES, "all", "need a look"):
            rows.append((cell.grid, cell.cell, cell.seed, family, 50, 0.5, 0.37, 0.63, 1.0))
    gains = [
        ("gain of both", name, "all", "all", 100, 0.1, 0.02, 0.18, None) for name in ablate.TOOLS
    ]
    pd.DataFrame(rows + gains, columns=ablate.COLUMNS).to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "t.json").write_text("{}")
    run("06_ablations", tmp_path, table=str(tmp_path / "t.csv"), figures_folder=str(tmp_path / "f"))
    drawn = {path.stem.removeprefix("ablation_") for path in (tmp_path / "f").glob("*.pdf")}
    assert drawn == {"tools", "evidence", "calls", "untrained", "reference", "threshold", "traces"}
