import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from act2see.datasets import (
    DATASETS,
    TENTHS,
    Dataset,
    check_source,
    choices,
    egonormia,
    lengths,
    load_questions,
    tenth,
    vcr_bench,
    vitib,
)
from act2see.pocket.world import sample_scene, write_clip
from act2see.statistics import trivial_traces
from act2see.trace import Question
from act2see.video import probe
from tests.datasets import outside
from tests.datasets.test_causalvqa import folder as causal_folder  # noqa: F401
from tests.datasets.test_egonormia import RECORD as NORM
from tests.datasets.test_minerva import RECORD
from tests.datasets.test_social_genome import RECORDS as SOCIAL
from tests.datasets.test_social_genome import folder as social_folder  # noqa: F401
from tests.datasets.test_video_mme import RECORDS as MME

NAMES = [f"abcdefghi{i:02}" for i in range(12)]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """MINERVA, Video-MME and a set of somebody's own, on twelve videos; the last is missing."""
    folder = tmp_path_factory.mktemp("published")
    write_clip(sample_scene(5), folder / f"{NAMES[0]}.mp4")
    for name in NAMES[1:-1]:
        (folder / f"{name}.mp4").symlink_to(folder / f"{NAMES[0]}.mp4")
    rows = [RECORD | {"key": f"{n}:{i}", "video_id": n} for n in NAMES for i in (1, 2)]
    (folder / "minerva.json").write_text(json.dumps(rows))
    rows = [MME[0] | {"question_id": n, "videoID": n} for n in NAMES]
    (folder / "video_mme.json").write_text(json.dumps(rows))
    rows = [{"video": n, "text": "What falls?", "options": ["a", "b"], "answer": 1} for n in NAMES]
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_a_set_from_outside_goes_the_same_way(records, monkeypatch):
    assert len(Path(outside.__file__).read_text().splitlines()) <= 25
    monkeypatch.setitem(DATASETS, "mine", outside.MINE)
    path = records / "mine.jsonl"
    splits = {s: load_questions("mine", s, 0, 99, path).questions for s in TENTHS}
    assert sorted(len(questions) for questions in splits.values()) == [1, 1, 9]
    dataset = DATASETS["mine"]
    assert not dataset.simulated and not dataset.judged and dataset.score_steps is None
    traces = trivial_traces(splits["train"])["always_b"]
    assert dataset.scorer()("b", traces, "p").accuracy.tolist() == [1, 1]
    assert [q.id for q in dataset.follow_up(traces)] == [f"{q.id}/sure" for q in splits["train"]]


def test_a_world_from_outside_draws_what_it_is_asked_for(tmp_path, monkeypatch):
    def draw(split, seed, count, folder, families=("left",)):
        return [Question(video=f"{folder}/{i}", text="?", family=families[0]) for i in range(count)]

    world = Dataset("maze", draw=draw, families=("left", "right"))
    monkeypatch.setitem(DATASETS, "maze", world)
    families = [
        load_questions("maze", "test", 0, 1, tmp_path, families=f).questions[0].family
        for f in ((), ("right",))
    ]
    assert families == ["left", "right"] and world.simulated
    with pytest.raises(ValueError, match="family is 'static'; it must be one of: left, right"):
        load_questions("maze", "test", 0, 1, tmp_path, families=("static",))


def test_a_set_has_records_or_draws_its_own():
    for functions in ({}, {"load": print, "draw": print}):
        with pytest.raises(
            ValueError, match=r"My questions: load is .*; one of them must be given"
        ):
            Dataset("My questions", **functions)


@pytest.mark.parametrize("name", DATASETS)
def test_every_entry_can_be_scored_and_shown(name):
    dataset = DATASETS[name]
    assert dataset.title and callable(dataset.scorer(judge=str))
    assert dataset.simulated == (dataset.load is None)
    assert set(dataset.controls) <= set(dataset.families)
    assert dataset.judged or dataset.score_steps is None


def test_benchmarks_have_the_titles_of_the_published_table():
    published = Path(__file__).parents[2] / "data" / "paper" / "tables.csv"
    titles = {line.split(",")[1] for line in published.read_text().splitlines()[1:]}
    tested = {n: d.title for n, d in DATASETS.items() if not d.trains and n != "own_test"}
    assert titles == {*tested.values()}


def test_splits_of_a_source_share_no_video_and_cover_it(records):
    path = records / "minerva.json"
    splits = {s: load_questions("minerva", s, 0, 99, path) for s in TENTHS}
    videos = {s: {q.video for q in loaded.questions} for s, loaded in splits.items()}
    assert sum(map(len, videos.values())) == len(set().union(*videos.values())) == 11
    assert sum(len(loaded.questions) for loaded in splits.values()) == 22
    assert all(list(loaded.missing) == ["abcdefghi11.mp4"] for loaded in splits.values())
    assert set().union(*TENTHS.values()) == set(range(10))
    assert all(tenth(q) in TENTHS["train"] for q in splits["train"].questions)


def test_a_seed_draws_questions_and_a_larger_count_only_adds(records):
    path = records / "minerva.json"
    few, many, again, other = (
        [q.id for q in load_questions("minerva", "train", seed, count, path).questions]
        for seed, count in ((0, 3), (0, 9), (0, 9), (1, 9))
    )
    assert many[:3] == few and again == many and other != many


def test_the_draw_is_the_one_that_earlier_runs_were_made_with(records):
    questions = load_questions("video_mme", "test", 7, 4, records / "video_mme.json").questions
    assert [q.id for q in questions] == [NAMES[i] for i in (1, 5, 9, 10)]
    questions = load_questions("minerva", "train", 7, 5, records / "minerva.json").questions
    assert [q.id for q in questions] == [f"{NAMES[i]}:2" for i in (9, 6, 7, 4, 0)]


def test_a_benchmark_is_for_testing_only(records):
    path = records / "video_mme.json"
    assert len(load_questions("video_mme", "test", 0, 99, path).questions) == 11
    with pytest.raises(ValueError, match=r"source of train is 'video_mme'; .*: pocket, minerva"):
        load_questions("video_mme", "train", 0, 99, path)
    with pytest.raises(ValueError, match=r"source of test is 'mine'; .* social_genome, video_mme"):
        load_questions("mine", "test", 0, 99, path)
    with pytest.raises(ValueError, match=r"split is 'dev'; it must be one of: validation, test,"):
        load_questions("minerva", "dev", 0, 99, path)
    with pytest.raises(FileNotFoundError, match=r"is not a file; .* the records of Video-MME"):
        load_questions("video_mme", "test", 0, 99, records)


def test_options_and_families_reach_only_the_set_that_has_them(records):
    path = records / "video_mme.json"
    (records / f"{NAMES[3]}.srt").write_text("1\n00:00:01,500 --> 00:00:02,000\nLook\n")
    options = {"subtitles": records, "families": ("static",)}
    questions = load_questions("video_mme", "test", 0, 99, path, **options).questions
    assert [q.truth["videoID"] for q in questions if q.truth["spoken"]] == [NAMES[3]]
    with pytest.raises(TypeError, match="subtitles"):
        load_questions("minerva", "test", 0, 9, records / "minerva.json", subtitles=records)


def test_pocket_questions_are_drawn_into_the_folder(tmp_path):
    questions, missing = load_questions("pocket", "test", 3, 4, tmp_path)
    assert [q.source for q in questions] == ["pocket"] * 4 and not missing
    assert [q.family for q in questions] == ["static", "moment", "search", "order"]
    assert len(list(tmp_path.glob("*.mp4"))) == 4
    (other,) = load_questions("pocket", "test", 3, 1, tmp_path, families=["order"]).questions
    assert other.family == "order"


def test_the_pocket_world_reads_no_records_and_some_questions_are_needed(tmp_path):
    with pytest.raises(ValueError, match=r"minerva\.json"):
        load_questions("pocket", "train", 0, 3, tmp_path / "minerva.json")
    with pytest.raises(ValueError, match="must be 1 or more"):
        load_questions("pocket", "train", 0, 0, tmp_path)
    assert not [*tmp_path.iterdir()]


def test_causalvqa_asks_for_the_right_to_train(causal_folder):  # noqa: F811
    path = causal_folder / "debug.csv"
    with pytest.raises(ValueError, match=r"may_train is False; .*evaluation only.*may_train=True"):
        load_questions("causalvqa", "train", 0, 9, path)
    assert load_questions("causalvqa", "test", 0, 9, path).missing == {}
    counts = [len(load_questions("causalvqa", s, 0, 9, path, True).questions) for s in TENTHS]
    assert sorted(counts) == [0, 0, 8]
    split = ("validation", "test", "train")[counts.index(8)]
    questions = load_questions("causalvqa", split, 4, 4, path, True).questions
    assert sorted(q.id[-1] for q in questions) == ["1", "1", "2", "2"]
    assert len({q.id[:-2] for q in questions}) == 2


def test_social_genome_takes_its_trims_from_the_folder_of_its_records(social_folder):  # noqa: F811
    path = social_folder / "qa_test.json"
    loaded = [load_questions("social_genome", split, 0, 9, path, True) for split in TENTHS]
    starts_s = [q.truth["start_s"] for questions, _ in loaded for q in questions]
    assert starts_s == [12.5]


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """The names of the videos that are opened for their length."""
    names = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(lengths, "probe", lambda path: names.append(path.name) or probe(path))
    return names


def test_eight_questions_open_eight_videos_and_then_none(tmp_path, opened):
    names = [f"abcdefgh{i:03}" for i in range(300)]
    clip = write_clip(sample_scene(5), tmp_path / "clip.mp4")
    for name in names[5:]:
        os.link(clip, tmp_path / f"{name}.mp4")
    (tmp_path / f"{names[7]}.mp4").unlink()
    (tmp_path / f"{names[7]}.mp4").write_text("no video")
    rows = [MME[0] | {"question_id": f"{n}-{i}", "videoID": n} for n in names for i in range(3)]
    (tmp_path / "video_mme.json").write_text(json.dumps(rows))
    few, missing = load_questions("video_mme", "test", 3, 8, tmp_path / "video_mme.json")
    assert len(few) == 8 >= len(opened) and all(q.duration_s == 32 for q in few)
    assert [*missing] == [f"{name}.mp4" for name in names[:5]]
    opened.clear()
    assert load_questions("video_mme", "test", 3, 8, tmp_path / "video_mme.json").questions == few
    assert not opened
    every, missing = load_questions("video_mme", "test", 3, 9999, tmp_path / "video_mme.json")
    assert every[:8] == few and len(every) == 294 * 3 and len(missing) == 6


def test_a_set_for_evaluation_only_is_tested_whole(causal_folder, social_folder, tmp_path):  # noqa: F811
    clip = social_folder / "-bcdefghijk.mp4"
    rows = [SOCIAL[0] | {"qid": n, "vid_name": n} for n in NAMES]
    for name in NAMES:
        (tmp_path / f"{name}.mp4").symlink_to(clip)
    (tmp_path / "qa_test.json").write_text(json.dumps(rows))
    (tmp_path / "trims.json").write_text("{}")
    path = tmp_path / "qa_test.json"
    assert len(load_questions("social_genome", "test", 0, 99, path).questions) == len(NAMES)
    with pytest.raises(ValueError, match=r"may_train is False; .*Social Genome.* evaluation only"):
        load_questions("social_genome", "train", 0, 99, path)
    assert (
        len(load_questions("causalvqa", "test", 0, 99, causal_folder / "debug.csv").questions) == 8
    )


def test_records_may_lie_in_one_folder_and_videos_in_another(tmp_path):
    (tmp_path / "videomme").mkdir()
    (tmp_path / "data").mkdir()
    rows = [MME[0] | {"question_id": n, "videoID": n} for n in NAMES[:3]]
    pd.DataFrame(rows).to_parquet(tmp_path / "videomme" / "test-00000-of-00001.parquet")
    for name in NAMES[:3]:
        write_clip(sample_scene(5), tmp_path / "data" / f"{name}.mp4")
    whole = load_questions("video_mme", "test", 0, 9, tmp_path).questions
    file = next((tmp_path / "videomme").iterdir())
    options = {"videos": tmp_path / "data", "subtitles": ""}
    assert whole == load_questions("video_mme", "test", 0, 9, file, **options).questions
    assert len(whole) == 3
    (tmp_path / "other.json").touch()
    with pytest.raises(
        FileNotFoundError, match=r"records of Video-MME; 2 are in it: other.json, t"
    ):
        load_questions("video_mme", "test", 0, 9, tmp_path)


def test_a_wrong_record_may_be_left_out_with_its_reason(records):
    rows = json.loads((records / "video_mme.json").read_text())
    rows[1] |= {"answer": "E"}
    rows[2] = 7
    rows[3]["question_id"] = rows[0]["question_id"]
    file = records / "some_wrong.json"
    file.write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=r"record 1 \(.*\): answer: "):
        load_questions("video_mme", "test", 0, 99, file)
    questions, missing = load_questions("video_mme", "test", 0, 99, file, leave_out=True)
    assert len(questions) == 8
    assert [*missing] == ["record 1", "record 2", "record 3", f"{NAMES[11]}.mp4"]
    assert "answer: " in missing["record 1"] and "an earlier record" in missing["record 3"]
    file.write_text(json.dumps(rows[1:3]))
    with pytest.raises(ValueError, match=r"record 0 \(.*\): answer: "):
        load_questions("video_mme", "test", 0, 99, file, leave_out=True)
    file.unlink()


def test_a_source_is_checked_before_anything_is_read(records, tmp_path):
    assert check_source("pocket", "train").title == "pocket world"
    assert check_source("minerva", "train", records / "minerva.json").trains
    with pytest.raises(
        FileNotFoundError, match="is not a file; it must hold the records of MINERVA"
    ):
        check_source("minerva", "validation", tmp_path / "clips")
    with pytest.raises(ValueError, match="source of train is 'vitib'"):
        check_source("vitib", "train", tmp_path)


def test_metrics_are_the_benchmarks_own():
    assert DATASETS["minerva"].scorer() is choices.scores
    assert DATASETS["vitib"].scorer() is vitib.scores
    assert DATASETS["egonormia"].scorer(judge=str) is egonormia.scores


def test_vcr_bench_needs_a_judge():
    with pytest.raises(ValueError, match=r"judge is None; .* VCR-Bench: name a judge_model"):
        DATASETS["vcr_bench"].scorer()
    score = DATASETS["vcr_bench"].scorer(judge=str)
    assert score.func is vcr_bench.scores and score.keywords == {"judge": str}


def test_egonormia_asks_on_and_the_others_do_not():
    question = Question(
        video="v", text="?", options=[*"vwxyz"], answer=2, family="action", truth=NORM
    )
    traces = trivial_traces([question])["always_b"]
    questions = DATASETS["egonormia"].follow_up(traces)
    assert [q.family for q in questions] == ["justification", "sensible"]
    later = trivial_traces(questions[:1])["always_b"]
    assert DATASETS["egonormia"].follow_up(later) == []
    others = [d for name, d in DATASETS.items() if name != "egonormia"]
    assert all(d.follow_up(traces) == [] for d in others)


def test_data_sets_load_no_model_library():
    code = "import sys, act2see.datasets; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert not {"torch", "transformers", "matplotlib"} & set(modules.decode().split())
