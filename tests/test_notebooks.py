"""Every notebook runs through papermill, tiny, on what the one before it wrote: the user's way."""

import json
import re
import shutil
from pathlib import Path
from statistics import median

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest

from act2see import ablations
from act2see.datasets import load_questions, tenth
from act2see.pocket.example import example_video
from act2see.pocket.grid import TOOLS, grid
from act2see.pocket.questions import FOUNDATION
from act2see.pocket.world import sample_scene, write_clip
from act2see.profiles import IMAGINE, load_profile
from act2see.statistics import COLUMNS
from act2see.store import read_traces, write_traces
from act2see.student import ADAPTER, check_adapter
from act2see.trace import Question
from tests.datasets.test_causalvqa import ROWS as CAUSAL
from tests.datasets.test_egonormia import RECORD as NORM
from tests.datasets.test_vcr_bench import RECORDS as VCR
from tests.datasets.test_vcr_bench import SEEN
from tests.policies.conftest import KEY, server
from tests.policies.test_openai import completion

ROOT = Path(__file__).parents[1]
SEED = 5
QUESTIONS = 48


def run(stem: str, out: Path, **parameters) -> Path:
    """Execute notebooks/`stem`.ipynb into `out`, which is returned; raises what a cell raises."""
    papermill.execute_notebook(
        ROOT / "notebooks" / f"{stem}.ipynb",
        out / f"{stem.replace('/', '_')}.ipynb",
        {"seed": SEED, "output": str(out), **parameters},
        kernel_name="python3",
        cwd=ROOT,
        progress_bar=False,
    )
    return out


LESSONS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("stem", LESSONS)
def test_a_lesson_is_short_and_shows_a_picture_by_its_third_cell(stem):
    cells = nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4).cells
    assert len(cells) <= 60
    words = [len(cell.source.split()) for cell in cells if cell.cell_type == "markdown"]
    assert median(words) <= 25
    # Of a `Diagram`, which a notebook shows where a cell ends with it.
    assert cells[2].cell_type == "code" and "flow(\n" in cells[2].source
    assert (ROOT / "notebooks" / "solutions" / f"{stem}.ipynb").exists()
    exercises = next(i for i, cell in enumerate(cells) if "## Exercises" in cell.source)
    assert f"(solutions/{stem}.ipynb)" in cells[exercises].source
    assert cells[exercises + 1].source.startswith("# Check yourself")


def defaults(cell: nbformat.NotebookNode) -> list[str]:
    return [line for line in cell.source.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("stem", LESSONS)
def test_at_most_six_parameters_are_in_sight_and_papermill_knows_all(stem):
    """Where there are more, their cell is folded; papermill puts its values where the six are."""
    cells = nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4).cells
    tags = [(cell.metadata.get("tags") or [""])[0] for cell in cells]
    whole = cells[tags.index("parameters")]
    seen = whole
    if whole.metadata.get("jupyter", {}).get("source_hidden"):
        seen = cells[tags.index("parameters") + 1]
        assert seen.metadata.tags == ["injected-parameters"]
        assert set(defaults(seen)) < set(defaults(whole))
    assert len(defaults(seen)) <= 6


def test_papermill_sets_a_parameter_that_is_folded_and_one_that_is_in_sight(tmp_path, caplog):
    file = ROOT / "notebooks" / "01_trace_distillation.ipynb"
    values = {"shards": 3, "questions": 20}
    papermill.execute_notebook(file, tmp_path / "01.ipynb", values, prepare_only=True)
    cells = nbformat.read(tmp_path / "01.ipynb", as_version=4).cells
    code = [c.source for c in cells if c.metadata.get("tags")]
    outcome = {}
    exec("\n".join(code), outcome)
    assert (outcome["shards"], outcome["questions"], outcome["mistakes"]) == (3, 20, 0.08)
    assert "unknown parameter" not in caplog.text


def test_00_looks_again_and_is_right(tmp_path):
    out = run("00_start_here", tmp_path)
    cells = nbformat.read(out / "00_start_here.ipynb", as_version=4).cells
    outputs = [o for cell in cells if cell.cell_type == "code" for o in cell.outputs]
    assert any("image/svg+xml" in o.get("data", {}) for o in outputs)
    assert any("<video" in o.get("data", {}).get("text/html", "") for o in outputs)
    printed = "".join(o.text for o in outputs if o.get("name") == "stdout")
    assert re.search(r"base     Answer: B  ✗ right is A\n", printed)
    assert re.search(r"student  Answer: A  ✓ right  retrieve_frames", printed)


def test_00_asks_another_question_with_other_frames_and_without_a_call(tmp_path):
    words = {"question": "where is the square?", "options": "left|top|bottom|right"}
    run("00_start_here", tmp_path, **words, swap="grey", max_calls=0)


# Few questions: the asserts of the solutions hold for any number.
SOLUTIONS = {"01": 32, "02": 48, "03": 16, "04": 4, "05": 4}


@pytest.mark.parametrize("stem", LESSONS)
def test_a_solution_runs(stem, tmp_path):
    run(f"solutions/{stem}", tmp_path, questions=SOLUTIONS.get(stem[:2], 4))


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
    """Two epochs, as the first step of a warm-up has rate 0."""
    return run("03_qlora_finetuning", filtered, epochs=2, held_out=4, max_traces=16)


@pytest.fixture(scope="module")
def answered(tuned):
    return run("04_interleaved_inference", tuned, questions=8)


@pytest.fixture(scope="module")
def scored(tuned):
    return run("05_evaluation", tuned, questions=16)


def test_01_writes_a_trace_of_every_question(distilled):
    traces = read_traces(distilled / "traces.jsonl")
    table = pd.read_csv(distilled / "traces.csv")
    assert len(traces) == QUESTIONS
    assert all(t.letter() for t in traces)
    assert {t.question.id: t.correct() for t in traces} == dict(
        zip(table.id, table.right, strict=True)
    )
    assert all((f.folder / f.file).exists() for t in traces for f in t.frames())
    clips = len(list((distilled / "clips").glob("*.mp4")))
    assert clips >= QUESTIONS / load_profile("pocket").per_clip


@pytest.mark.parametrize(
    ("stem", "split", "count", "place"),
    [("01_trace_distillation", "train", 5, 1), ("04_interleaved_inference", "test", 3, 2)],
)
def test_a_damaged_example_is_named_and_another_one_is_shown(stem, split, count, place, tmp_path):
    """The video opens and lasts as it did; the middle of its frames is gone."""
    drawn = "pocket", split, SEED, count, tmp_path / "clips"
    pocket = load_profile("pocket")
    lessons = {"families": pocket.lessons, "per_clip": pocket.per_clip}
    sample, _ = load_questions(*drawn, **(lessons if split == "train" else {}))
    damaged = Path(sample[place].video)
    content = bytearray(damaged.read_bytes())
    start, end = int(0.45 * len(content)), int(0.6 * len(content))
    content[start:end] = bytes(end - start)
    damaged.write_bytes(content)
    shipped = {"adapter": pocket.adapter} if split == "test" else {}
    run(stem, tmp_path, questions=count, **shipped)
    cells = nbformat.read(tmp_path / f"{stem}.ipynb", as_version=4).cells
    told = "".join(o.get("text", "") for c in cells for o in c.get("outputs", []))
    assert re.search(rf"{damaged.name}: .*; another question is looked at", told)


def test_02_takes_the_traces_of_01_and_not_those_of_another_setting(distilled, tmp_path):
    """An exercise distils with other frames a call into the same file."""
    shutil.copytree(distilled, tmp_path / "run")
    path = tmp_path / "run" / "traces.jsonl"
    traces = read_traces(path)
    for trace in traces:
        trace.key = ""
        trace.setting = "another"
        trace.steps = trace.steps[-1:]
    write_traces(path, traces)
    out = run("02_similarity_filtering", tmp_path / "run")
    assert "another" not in {trace.setting for trace in read_traces(out / "kept.jsonl")}


def test_02_keeps_what_is_similar_enough(filtered):
    table = pd.read_csv(filtered / "similarity.csv", index_col="id")
    kept = read_traces(filtered / "kept.jsonl")
    # A call that is cut off cannot be read, and fails the check of the form.
    formed = [t for t in read_traces(filtered / "traces.jsonl") if t.well_formed()]
    assert len(table) == len(formed) >= QUESTIONS - 4
    assert 0 < len(kept) < len(formed)
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
    run, outcome, log = (
        json.loads((tuned / "finetune" / f"{name}.json").read_text())
        for name in ("run", "outcome", "log")
    )
    held = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    assert (run["training"], run["held_out"], run["recipe"]["seed"]) == (16, 4, SEED)
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


def official(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "official.csv").set_index(["system", "family"])


def test_08_writes_a_table_of_ones_own_and_asks_it(tuned, tmp_path):
    adapter = str(tuned / "finetune" / "adapter")
    out = run("08_published_benchmarks", tmp_path, adapter=adapter, questions=8)
    own = pd.read_csv(out / "own" / "questions.csv")
    assert list(own.columns) == ["video", "question", "options", "answer", "reasoning"]
    assert len(own) == 8 and set(own.answer) <= {*"ABCD"}
    table = official(out / "own_test")
    assert (table.loc[["act2see", "base", "base_shuffled"]].n == 8).all()
    drawn = {path.name for path in (out / "own_test" / "figures").glob("*.pdf")}
    assert drawn == {"accuracy_by_family.pdf", "beside_the_paper.pdf", "paper_gains.pdf"}


def test_08_leaves_a_simulated_world_to_05_and_05_a_published_benchmark_to_08(tuned, tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="notebook 05 scores it"):
        run("08_published_benchmarks", tmp_path, benchmark="pocket")
    with pytest.raises(papermill.PapermillExecutionError, match="notebook 08 scores it"):
        run("05_evaluation", tmp_path, profile="t4")


def test_08_asks_egonormias_three_questions_and_shuffles_its_options(tuned, tmp_path):
    items = [NORM | {"id": f"clip-{i}", "correct": i, "sensibles": [i]} for i in range(4)]
    for item in items:
        folder = tmp_path / "video" / item["id"]
        folder.mkdir(parents=True)
        write_clip(sample_scene(5), folder / "video_prev.mp4")
    (tmp_path / "final_data.json").write_text(json.dumps({item["id"]: item for item in items}))
    parameters = {"adapter": str(tuned / "finetune" / "adapter"), "benchmark": "egonormia"}
    parameters |= {"data": str(tmp_path / "final_data.json"), "reply_tokens": 48, "questions": 4}
    out = run("08_published_benchmarks", tmp_path, **parameters) / "egonormia"
    table = official(out)
    for system in ("act2see", "base", "act2see_shuffled", "base_shuffled"):
        assert list(table.loc[system].index) == ["action", "justification", "sensible", "both"]
        assert (table.loc[system].n == 4).all()
        shuffled = "shuffled with seed 1" in table.protocol[system, "both"]
        assert shuffled == system.endswith("_shuffled")
    assert table.protocol["base", "both"].endswith("3 replies an item, of video_prev.mp4")
    assert table.accuracy["always_a", "both"] == 0.25  # of the four, A is right once
    assert ("always_a", "sensible") not in table.index
    (file,) = (out / "evaluation").glob("egonormia-act2see-*.jsonl")
    families = [t.question.family for t in read_traces(file)]
    assert sorted(families) == ["action"] * 4 + ["justification"] * 4 + ["sensible"] * 4


def test_08_lets_a_judge_score_vcr_bench_and_asks_it_nothing_twice(tuned, tmp_path):
    for name in "01":
        write_clip(sample_scene(5), tmp_path / f"{name}.mp4")
    (tmp_path / "meta.json").write_text(json.dumps(VCR))

    def script(body, number):
        prompt = body["messages"][0]["content"]
        if prompt.startswith("Do two answers"):
            return completion("<think>alike?</think>\nNo.")
        return completion(json.dumps([{"step_type": SEEN, "judgment": "Matched"}]))

    parameters = {"adapter": str(tuned / "finetune" / "adapter"), "benchmark": "vcr_bench"}
    parameters |= {"data": str(tmp_path / "meta.json"), "reply_tokens": 48, "questions": 4}
    with pytest.MonkeyPatch.context() as patch, server(script) as (url, bodies):
        patch.setenv("OPENAI_API_KEY", KEY)
        parameters |= {"judge_model": "local-judge", "judge_url": url}
        out = run("08_published_benchmarks", tmp_path, **parameters) / "vcr_bench"
        requests = len(bodies)
        table = (out / "official.csv").read_bytes()
        run("08_published_benchmarks", tmp_path, **parameters)
        assert len(bodies) == requests > 8
        assert {body["model"] for body in bodies} == {"local-judge"}
    assert (out / "official.csv").read_bytes() == table
    scored, steps = official(out), pd.read_csv(out / "steps.csv", index_col="system")
    assert scored.n["act2see", "all"] == 4 and scored.n["act2see_shuffled", "all"] == 1
    assert scored.protocol.str.endswith("judged by local-judge").all()
    assert steps.protocol.str.endswith("judged by local-judge").all()
    assert (steps.f1 == 1).all() and (steps.n == 4).all() and (steps.unjudged == 0).all()
    assert not any(KEY in path.read_text() for path in out.glob("*.*"))


# Videos of the split for testing, of a set that has one for training as well.
TESTED = [f"{i}.mp4" for i in range(60) if tenth(Question(video=f"{i}.mp4", text="?")) == 1]
MINE = """
from act2see.datasets import DATASETS
from tests.datasets import outside

DATASETS["mine"] = outside.MINE
"""


def test_08_scores_a_data_set_that_a_module_of_ones_own_adds(tuned, tmp_path, monkeypatch):
    (tmp_path / "my_module.py").write_text(MINE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name in TESTED[:3]:
        write_clip(sample_scene(5), tmp_path / name)
    record = {"text": "What moves?", "options": ["a disc", "a square", "a ring"], "answer": 1}
    rows = [record | {"video": name} for name in TESTED[:3]]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    parameters = {"adapter": str(tuned / "finetune" / "adapter"), "data": f"{tmp_path}/mine.jsonl"}
    parameters |= {"plugin": "my_module", "benchmark": "mine", "reply_tokens": 24}
    out = run("08_published_benchmarks", tmp_path, **parameters) / "mine"
    table = official(out)
    # Each of the three is asked, and whether one is sure, as the set's `follow_up` says.
    assert table.n["act2see", "all"] == table.n["base_shuffled", "all"] == 6
    assert table.accuracy["always_b", "all"] == 1
    assert table.protocol["base", "all"].startswith("My questions, 8 overview frames")
    assert json.loads((out / "comparison.json").read_text())["all"]["n"] == 6


@pytest.mark.parametrize(
    ("benchmark", "reason"),
    [("vcr_bench", "judge is None"), ("causalvqa", "8 answers are not known")],
)
def test_08_refuses_what_it_cannot_score_before_it_asks(benchmark, reason, tmp_path):
    for name in ("0.mp4", "1.mp4", TESTED[0]):
        write_clip(sample_scene(5), tmp_path / name)
    (tmp_path / "vcr_bench.json").write_text("\n".join(map(json.dumps, VCR)))
    withheld = {"correct1": "", "correct2": "", "renamed_video": TESTED[0]}
    rows = [row | withheld for row in CAUSAL]
    (tmp_path / "causalvqa.json").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / ADAPTER).touch()
    # Whatever loads a student fails on this one.
    parameters = {"adapter": str(tmp_path), "student_model": str(tmp_path / "none")}
    parameters |= {"benchmark": benchmark, "data": f"{tmp_path}/{benchmark}.json"}
    with pytest.raises(papermill.PapermillExecutionError, match=reason):
        run("08_published_benchmarks", tmp_path, **parameters)
    assert not (tmp_path / benchmark / "evaluation").exists()


def test_06_draws_every_grid_of_a_table(tmp_path):
    rows = []
    for cell in grid(2):
        for family in (*IMAGINE.families, "all", "need a look"):
            numbers = (50, 0.5, 0.37, 0.63, 1.0, 9.0, 300.0)
            rows.append((cell.grid, cell.cell, cell.seed, family, *numbers))
    shares = (100, 0.1, 0.02, 0.18, None, None, None)
    gains = [("gain of both", name, "all", "all", *shares) for name in TOOLS]
    table = pd.DataFrame(rows + gains, columns=ablations.COLUMNS)
    table.to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "t.json").write_text("{}")
    run("06_ablations", tmp_path, table=str(tmp_path / "t.csv"), figures_folder=str(tmp_path / "f"))
    drawn = {path.stem.removeprefix("ablation_") for path in (tmp_path / "f").glob("*.pdf")}
    grids = {"tools", "evidence", "calls", "untrained", "reference", "threshold", "traces", "form"}
    assert drawn == grids


def test_06_draws_the_committed_figures_byte_for_byte(tmp_path):
    run("06_ablations", tmp_path, figures_folder=str(tmp_path / "f"))
    drawn = {path.name: path.read_bytes() for path in (tmp_path / "f").glob("*.*")}
    committed = {path.name: path.read_bytes() for path in (ROOT / "figures").glob("ablation_*")}
    assert len(drawn) == 16 and drawn == committed


def test_07_draws_the_committed_figures_byte_for_byte(tmp_path):
    run("07_reinforcement", tmp_path, steps=1, figures_folder=str(tmp_path / "f"))
    drawn = {path.name: path.read_bytes() for path in (tmp_path / "f").glob("*.*")}
    committed = {p.name: p.read_bytes() for p in (ROOT / "figures").glob("reinforcement*")}
    assert len(drawn) == 6 and drawn == committed
    assert (tmp_path / "reinforcement" / "adapter" / ADAPTER).exists()


@pytest.mark.parametrize(
    ("stem", "parameters", "reason"),
    [
        ("03_qlora_finetuning", {"source": "minerva"}, "must hold the records of MINERVA"),
        ("04_interleaved_inference", {"options": 3}, r"options are \['3'\]"),
    ],
)
def test_what_is_wrong_is_said_before_the_work(stem, parameters, reason, tmp_path):
    own = {"video": str(example_video()), "question": "what?"} if stem.startswith("04") else {}
    with pytest.raises(papermill.PapermillExecutionError, match=reason) as error:
        run(stem, tmp_path, **own | parameters)
    # Of the cells that do something, the first.
    assert error.value.cell_index <= 11 and not (tmp_path / "clips").exists()
