import json

import numpy as np
import pytest

from act2see import ablations
from act2see.ablations import (
    COLUMNS,
    Study,
    blind,
    diary,
    gains,
    keep_to,
    main,
    rows,
    scored,
    selection,
)
from act2see.faithfulness import SWAPS
from act2see.pocket.grid import KEY_FRAMES, TOOLS, Cell, grid
from act2see.profiles import IMAGINE
from act2see.similarity import keep
from act2see.store import read_traces
from act2see.trace import LETTERS

CELLS = list(grid(2))
SHAPING = (
    "reference",
    "threshold",
    "size",
    "tools",
    "seed",
    "form",
    "rate",
)  # what a student learns from
ASKING = ("calls", "evidence", "overview")


def values(cell, names):
    return tuple(getattr(cell, name) for name in names)


@pytest.fixture
def similar(traces, monkeypatch):
    """The teacher's traces with similarities from 0.5 to 0.95, in the place of a new run."""
    scores = np.linspace(0.5, 0.95, len(traces))
    pairs = zip(traces, scores, strict=True)
    similar = [t.model_copy(update={"similarity": float(score)}) for t, score in pairs]
    monkeypatch.setattr(ablations, "teacher_traces", lambda *words, seed=0: similar)
    return similar


def wrong(trace):
    letter = LETTERS[(trace.question.answer + 1) % 4]
    answer = trace.steps[-1].model_copy(update={"text": f"Answer: {letter}"})
    return trace.model_copy(update={"steps": [*trace.steps[:-1], answer]})


def test_every_cell_stands_once_in_the_table():
    names = [(cell.grid, cell.cell, cell.seed) for cell in CELLS]
    assert len(set(names)) == len(names) > 30


def test_students_share_a_folder_if_and_only_if_they_learn_the_same():
    trained = [cell for cell in CELLS if cell.reference]
    folders = {cell.student() for cell in trained}
    assert len(folders) == len({values(cell, SHAPING) for cell in trained})
    assert len({(cell.student(), values(cell, SHAPING)) for cell in trained}) == len(folders)


def test_cells_share_answers_if_and_only_if_the_same_is_asked_of_the_same():
    # What its tools are, a base is told in the prompt alone, and its file does not say.
    cells = [cell for cell in CELLS if cell.reference]
    ways = {values(cell, SHAPING + ASKING) for cell in cells}
    assert len(ways) == len({cell.answers() for cell in cells})
    bases = [cell for cell in CELLS if not cell.reference]
    assert len({cell.answers() for cell in bases}) == len(bases)


def test_a_cell_names_only_what_there_is():
    assert {cell.tools for cell in CELLS} == set(TOOLS)
    assert {cell.evidence for cell in CELLS} == {"", *SWAPS, *KEY_FRAMES}
    assert TOOLS["both"] == TOOLS["retrieval"] + TOOLS["generation"] == IMAGINE.tools


def test_the_reference_chooses_the_traces(similar, tmp_path):
    chosen = {
        name: selection(tmp_path, Cell("reference", name, reference=name), 10)
        for name in ("human", "none", "random")
    }
    assert chosen["human"] == keep(similar, 0.8) and 0 < len(chosen["human"]) < len(similar)
    assert chosen["none"] == similar
    assert len(chosen["random"]) == len(chosen["human"])
    ids = [t.question.id for t in similar]
    places = [ids.index(t.question.id) for t in chosen["random"]]
    assert places == sorted(set(places))


def test_an_answer_key_on_top_of_the_filter_drops_wrong_answers(similar, tmp_path):
    similar[-1] = wrong(similar[-1])
    cell = Cell("reference", "human and right", reference="human and right")
    assert selection(tmp_path, cell, 10) == keep(similar, 0.8)[:-1]


def test_a_models_reasoning_takes_the_humans_place(similar, tmp_path, monkeypatch):
    monkeypatch.setattr(ablations, "load_embedder", lambda name: lambda texts: np.eye(len(texts)))
    cell = Cell("reference", "model", reference="model")
    chosen = selection(tmp_path, cell, 10)
    assert [t.question.reasoning for t in chosen] == [t.reasoning() for t in similar]
    assert {t.question.reasoning for t in similar}.isdisjoint(t.reasoning() for t in similar)


def test_what_was_embedded_once_is_not_embedded_again(traces, tmp_path, monkeypatch):
    counts = []

    def embed(texts):
        counts.append(len(texts))
        return np.eye(len(texts))

    monkeypatch.setattr(ablations, "load_embedder", lambda name: embed)
    first = scored(traces[:4], tmp_path / "similarity.json")
    assert scored(traces[:4], tmp_path / "similarity.json") == first
    scored(traces[:5], tmp_path / "similarity.json")
    assert counts == [8, 2]


def test_more_is_asked_until_enough_is_kept(traces, tmp_path, monkeypatch):
    counts = []

    def teacher_traces(folder, tools, count):
        counts.append(count)
        return [t.model_copy(update={"similarity": 0.9}) for t in traces[:count]]

    monkeypatch.setattr(ablations, "teacher_traces", teacher_traces)
    study = Study(tmp_path, questions=2, test_questions=5, passes=10)
    cell = Cell("traces", "4", size=4)
    assert [t.question.id for t in study.training(cell)] == [t.question.id for t in traces[:4]]
    assert counts[0] == 2 and len(counts) == 2


def test_a_lesson_without_tools_has_neither_calls_nor_frames(similar, tmp_path):
    study = Study(tmp_path, questions=10, test_questions=5, passes=10)
    lesson = study.lay_out(Cell("tools", "none", tools="none"))
    again = study.lay_out(Cell("tools", "none", tools="none"))
    assert lesson == again and len(read_traces(lesson)) == len(keep(similar, 0.8))
    assert all(not t.tools and not t.calls() for t in read_traces(lesson))


def test_a_blind_trace_thinks_all_at_once_and_answers(traces):
    for trace in traces:
        changed = blind(trace)
        assert [step.kind for step in changed.steps] == ["think", "answer"]
        assert changed.reasoning() == trace.reasoning()
        assert changed.answer() == trace.answer()
        assert changed.frames() == trace.overview and changed.tools == []


def test_a_cell_has_a_row_a_family_and_two_of_several(traces):
    table = rows(Cell("calls", "2", seed=1, calls=2), traces)
    assert list(table.columns) == COLUMNS
    assert list(table.family) == [*IMAGINE.families, "all", "need a look"]
    assert list(table.n) == [2] * 5 + [10, 8]
    assert set(table.cell) == {"2"} and set(table.grid) == {"calls"} and set(table.seed) == {1}


def test_gains_are_paired_over_all_seeds(traces):
    half = [wrong(t) if i % 2 else t for i, t in enumerate(traces)]
    answers = {"both": traces, "retrieval": half, "generation": traces, "none": half, "base": half}
    table = gains(answers).set_index("cell")
    assert list(gains(answers).columns) == COLUMNS
    assert list(table.index) == ["retrieval", "generation", "none", "base"]
    assert table.accuracy["base"] == 0.5 and table.accuracy["generation"] == 0
    assert table.low["base"] < 0.5 < table.high["base"] and np.isnan(table.low["generation"])
    assert (table.n == 10).all() and set(table.seed) == {"all"}


def test_a_folder_keeps_to_its_settings(tmp_path):
    keep_to(tmp_path / "settings.json", {"asked": 24})
    keep_to(tmp_path / "settings.json", {"asked": 24})
    with pytest.raises(ValueError, match=r"was made with .* 24}, not .* 25}"):
        keep_to(tmp_path / "settings.json", {"asked": 25})
    assert json.loads((tmp_path / "settings.json").read_text()) == {"asked": 24}


def test_the_command_refuses_a_folder_of_other_settings(tmp_path):
    keep_to(tmp_path / "settings.json", {"asked": 24, "tested": 5, "passes": 24})
    with pytest.raises(ValueError, match="'tested': 150"):
        main([str(tmp_path), "--asked", "24", "--passes", "24"])
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


def test_minutes_add_up_over_runs(tmp_path, capsys):
    file = tmp_path / "ablations.json"
    file.write_text('{"minutes": 71.9}')
    diary(file, {"command": "x"})("student a")
    assert json.loads(file.read_text()) == {"command": "x", "minutes": 71.9}
    assert capsys.readouterr().out == " 71.9 min  student a\n"
