import json
import math

import pytest

from act2see.benchmarks import egonormia, vitib
from act2see.checkpoints import fingerprint
from act2see.parts import (
    TENTHS,
    equip,
    follow_ups,
    load_questions,
    load_teacher,
    official_scores,
    tenth,
    title,
)
from act2see.policies.gemini import gemini_teacher
from act2see.policies.oracle import OraclePolicy
from act2see.policies.remote import Teacher
from act2see.profiles import load_profile
from tests import tiny
from tests.benchmarks.test_egonormia import RECORD as NORM
from tests.benchmarks.test_video_mme import RECORDS as MME
from tests.sources.test_causalvqa import folder as causal_folder  # noqa: F401
from tests.sources.test_minerva import RECORD
from tests.sources.test_social_genome import folder as social_folder  # noqa: F401


@pytest.fixture(scope="module")
def records(tmp_path_factory, questions):
    """MINERVA and Video-MME, two questions on each of twelve videos but the last, which lacks."""
    folder = tmp_path_factory.mktemp("published")
    names = [f"abcdefghi{i:02}" for i in range(12)]
    for name in names[:-1]:
        (folder / f"{name}.mp4").symlink_to(questions[0].video)
    asked = [RECORD | {"key": f"{n}:{i}", "video_id": n} for n in names for i in (1, 2)]
    (folder / "minerva.json").write_text(json.dumps(asked))
    asked = [MME[0] | {"question_id": n, "videoID": n} for n in names]
    (folder / "video_mme.json").write_text(json.dumps(asked))
    return folder


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


def test_a_benchmark_is_for_testing_only(records):
    path = records / "video_mme.json"
    assert len(load_questions("video_mme", "test", 0, 99, path).questions) == 11
    with pytest.raises(ValueError, match=r"source of train is 'video_mme'; .*: pocket, minerva"):
        load_questions("video_mme", "train", 0, 99, path)
    with pytest.raises(ValueError, match=r"source of test is 'mine'; .* social_genome, video_mme"):
        load_questions("mine", "test", 0, 99, path)
    with pytest.raises(FileNotFoundError, match="is no file with the records of Video-MME"):
        load_questions("video_mme", "test", 0, 99, records)


def test_pocket_questions_are_drawn_into_the_folder(tmp_path):
    asked, missing = load_questions("pocket", "test", 3, 4, tmp_path)
    assert [q.source for q in asked] == ["pocket"] * 4 and not missing
    assert len(list(tmp_path.glob("*.mp4"))) == 4


def test_the_pocket_world_reads_no_records_and_some_questions_are_needed(tmp_path):
    with pytest.raises(ValueError, match=r"reads no records, .*minerva\.json"):
        load_questions("pocket", "train", 0, 3, tmp_path / "minerva.json")
    with pytest.raises(ValueError, match="0 questions are asked for"):
        load_questions("pocket", "train", 0, 0, tmp_path)
    assert not [*tmp_path.iterdir()]


def test_causalvqa_asks_for_the_right_to_train(causal_folder):  # noqa: F811
    path = causal_folder / "debug.csv"
    with pytest.raises(ValueError, match="may_train=True"):
        load_questions("causalvqa", "train", 0, 9, path)
    counts = [len(load_questions("causalvqa", s, 0, 9, path, True).questions) for s in TENTHS]
    assert sorted(counts) == [0, 0, 8]
    split = ("validation", "test", "train")[counts.index(8)]
    drawn = load_questions("causalvqa", split, 4, 4, path, True).questions
    assert sorted(q.id[-1] for q in drawn) == ["1", "1", "2", "2"]
    assert len({q.id[:-2] for q in drawn}) == 2


def test_social_genome_takes_its_trims_from_beside_its_records(social_folder):  # noqa: F811
    path = social_folder / "qa_test.json"
    found = [q for s in TENTHS for q in load_questions("social_genome", s, 0, 9, path).questions]
    assert [q.truth["start_s"] for q in found] == [12.5]


def test_the_oracle_is_named_after_seed_and_rates():
    teacher = load_teacher("oracle", seed=3, mistakes=0.1)
    assert teacher == OraclePolicy(3, 0.1, 0.1, 0.1, 0.1, "oracle, seed 3, mistakes 0.1")


def test_a_name_and_an_address_say_which_api_is_spoken(monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "k1")
    monkeypatch.setenv("OPENAI_API_KEY", "k2")
    gemini, own, theirs = (
        load_teacher(*given, budget_usd=0, input_usd=1, output_usd=2)
        for given in (("gemini-2.5-pro",), ("gemini-2.5-pro", "http://127.0.0.1:9"), ("gpt-5",))
    )
    assert [t.key_name for t in (gemini, own, theirs)] == ["GEMINI_API_KEY"] + [
        "OPENAI_API_KEY"
    ] * 2
    assert (gemini.name, gemini.account.budget_usd) == ("gemini-2.5-pro", math.inf)
    assert gemini.connect is gemini_teacher("gemini-2.5-pro").connect is not own.connect
    spending = load_teacher("gpt-5", budget_usd=5, input_usd=1, output_usd=2).account
    assert (spending.budget_usd, spending.usd(10**6, 10**6)) == (5, 3)


def test_without_a_key_the_makers_server_is_not_asked(monkeypatch):
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="GEMINI_API_KEY is neither in the environment"):
        load_teacher("gemini-2.5-pro")
    assert isinstance(load_teacher("own", "http://127.0.0.1:9"), Teacher)


def test_titles_and_metrics_are_the_benchmarks_own():
    assert (title("pocket"), title("video_mme")) == ("pocket world", "Video-MME")
    assert official_scores("vitib") is vitib.scores
    assert official_scores("egonormia") is egonormia.scores


def test_vcr_bench_needs_a_judge():
    with pytest.raises(ValueError, match="name a judge_model"):
        official_scores("vcr_bench")
    assert official_scores("vcr_bench", str).keywords == {"ask": str}


def test_egonormia_asks_on_and_the_others_do_not(traces):
    assert follow_ups(traces) == []
    asked = traces[0].question.model_copy(update={"source": "egonormia", "truth": NORM})
    asked = asked.model_copy(update={"options": [*"vwxyz"], "family": "action"})
    more = follow_ups([traces[0].model_copy(update={"question": asked})])
    assert [q.family for q in more] == ["justification", "sensible"]


def test_a_profile_is_equipped_with_its_models(tmp_path):
    own = {"ranker": tiny.siglip(tmp_path), "generator": load_profile("pocket").generator}
    toolbox = equip(load_profile("t4", **own)).toolbox
    assert toolbox.ranker.__name__ == f"ranked by {fingerprint(tmp_path)}"
    told = toolbox.generator.__name__
    assert fingerprint(own["generator"]) in told and "'num_inference_steps': 20" in told
    pocket = equip(load_profile("pocket")).toolbox
    assert pocket.ranker is None and callable(pocket.generator)
