"""Data sets: their questions, splits, rights and official scores, in one dict.

Works on files of published records, folders of clips, and traces. Does not know policies, tools or
profiles: a profile names a data set, and a caller looks it up in `DATASETS`. The published sets are
the paper's; the pocket world, the splits and the draw are our choice.

One entry is all that the notebooks need, and an entry may come from outside. A set of your own:

    class Record(BaseModel):
        clip: str
        ask: str
        options: list[str]
        right: int

    def load(path, folder):
        questions = []
        for row, record in read_records(path, Record):
            questions.append(Question(text=record.ask, video=record.clip, options=record.options,
                                      answer=record.right, source="mine", truth=row))
        return find_videos(questions, folder)

    DATASETS["mine"] = Dataset("My questions", load)
    questions, missing = load_questions("mine", "test", seed=0, count=200, place="data/mine.json")
    table = DATASETS["mine"].scorer()("act2see", traces, "8 frames")

The key is the `source` of its questions. Where a set differs from this one, a field of `Dataset`
says how: callers read the fields and compare no names.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any
from zlib import crc32

from pandas import DataFrame

from act2see.datasets import (
    causalvqa,
    choices,
    egonormia,
    minerva,
    own,
    social_genome,
    vcr_bench,
    video_mme,
    videoespresso,
    vitib,
)
from act2see.datasets.choices import Judge
from act2see.datasets.records import Loaded, Wanted, find_videos, item, read_records
from act2see.pocket.questions import FAMILIES, pocket_questions
from act2see.trace import Question, Trace

__all__ = [
    "DATASETS",
    "Dataset",
    "Judge",
    "Loaded",
    "Wanted",
    "check_rights",
    "check_source",
    "find_videos",
    "load_questions",
    "read_records",
]

RECORDS = (".json", ".jsonl", ".csv", ".parquet")  # endings of files of them
# By video, so that no clip of the test was seen in training.
TENTHS = {"validation": {0}, "test": {1}, "train": set(range(2, 10))}


@dataclass(frozen=True)
class Dataset:
    """One data set, as functions and facts. It has `load` or `draw`.

    load: (file of records, folder of videos, **options) -> `Loaded`, with every question; one that
        takes `wanted` and hands it to `read_records` and `find_videos` opens fewer files.
    draw: (split, seed, count, folder, families=…) -> questions about clips that it simulates and
        writes into the folder. Their letters are balanced, and `truth` knows the scene.
    score: (system, traces, protocol) -> table like that of `choices.scores`, by the official
        metric; its last row is the official figure.
    judged: `score` takes a `judge` as well, who reads texts; `scorer` hands it over.
    score_steps: (traces, judge) -> means over the steps of the reasoning, n among them.
    follow_up: traces -> the questions that come after them, about what was answered.
    trains: it has a training split, for notebooks 01 to 03; a benchmark is for testing only.
    terms: why training on it needs `may_train`; "" where anybody may. Whoever does not state the
        right has no training split to keep apart: the test is the whole set.
    families: names that `draw` takes as `families`; published records are as they are.
    controls: families that the overview answers, where a call is waste.
    """

    title: str
    load: Callable[..., Loaded] | None = None
    draw: Callable[..., list[Question]] | None = None
    score: Callable[..., DataFrame] = choices.scores
    judged: bool = False
    score_steps: Callable[[Sequence[Trace], Judge], dict[str, float]] | None = None
    follow_up: Callable[[Sequence[Trace]], list[Question]] = lambda traces: []
    trains: bool = False
    terms: str = ""
    families: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.load is None) == (self.draw is None):
            raise ValueError(
                f"{self.title}: load is {self.load}, draw is {self.draw}; one of them must be given"
            )

    @property
    def simulated(self) -> bool:
        """Whether it is a world that draws its own clips, rather than published records."""
        return self.draw is not None

    def scorer(self, judge: Judge | None = None) -> Callable[..., DataFrame]:
        """The official metric: (system, traces, protocol) -> table.

        Raises ValueError where a judge is needed and there is none.
        """
        if not self.judged:
            return self.score
        # Here and not when it scores: by then hours of answers have been paid for.
        if judge is None:
            raise ValueError(
                f"judge is None; it must be a function for {self.title}: "
                "name a judge_model, and its judge_url"
            )
        return partial(self.score, judge=judge)


DATASETS: dict[str, Dataset] = {
    "pocket": Dataset(
        "pocket world",
        draw=pocket_questions,
        trains=True,
        families=FAMILIES,
        controls=("static",),
    ),
    "minerva": Dataset("MINERVA", minerva.load, trains=True),
    "causalvqa": Dataset(
        "CausalVQA",
        causalvqa.load,
        score=causalvqa.scores,
        trains=True,
        terms=causalvqa.TERMS,
    ),
    "social_genome": Dataset(
        "Social Genome",
        social_genome.load,
        trains=True,
        terms=social_genome.TERMS,
    ),
    "video_mme": Dataset("Video-MME", video_mme.load, score=video_mme.scores),
    "videoespresso": Dataset("VideoEspresso", videoespresso.load),
    "vitib": Dataset("ViTIB", vitib.load, score=vitib.scores),
    "egonormia": Dataset(
        "EgoNormia",
        egonormia.load,
        score=egonormia.scores,
        follow_up=egonormia.follow_up,
    ),
    "vcr_bench": Dataset(
        "VCR-Bench",
        vcr_bench.load,
        score=vcr_bench.scores,
        judged=True,
        score_steps=vcr_bench.step_scores,
    ),
    "own": Dataset("own videos", own.load, trains=True),
    # The same table for whoever does not train on it: of few videos a tenth may be none.
    "own_test": Dataset("own videos", partial(own.load, source="own_test")),
}


def load_questions(
    source: str,
    split: str,
    seed: int,
    count: int,
    place: str | Path,
    may_train: bool = False,
    families: Sequence[str] = (),
    videos: str | Path = "",
    leave_out: bool = False,
    **options: Any,
) -> Loaded:
    """At most `count` questions of a split, drawn with `seed`, and the videos that are missing.

    place: the file of published records, or a folder that holds one such file; or the folder that a
    simulated world draws its clips into. may_train: your statement that you hold the right to train
    on a set whose terms do not give it to everybody. families: of a set that can be asked for some;
    () for its default. videos: their folder, "" for that of `place`. leave_out: a
    wrong record does not end the load; it is listed among what is missing. options: of its `load`
    or `draw`; those that are "" are left out.

    A larger `count` only adds to the questions. Raises ValueError for an unknown source, split or
    family, for a benchmark to train on or a right that is not stated, and FileNotFoundError where
    there are no records.
    """
    dataset = check_source(source, split, place, may_train)
    options = {name: value for name, value in options.items() if value != ""}
    # A profile's families are those of its world, and published records go without.
    if families and dataset.families:
        if unknown := [family for family in families if family not in dataset.families]:
            known = ", ".join(dataset.families)
            raise ValueError(f"family is {unknown[0]!r}; it must be one of: {known}")
        options["families"] = families
    if dataset.draw:
        return Loaded(dataset.draw(split, seed, count, Path(place), **options), {})
    tenths = TENTHS[split] if dataset.trains and (may_train or not dataset.terms) else range(10)

    def order(questions: list[Question]) -> list[Question]:
        asked = [q for q in questions if tenth(q) in tenths]
        # By hash, not by shuffle: where a missing video turns up, the others stay in order.
        return sorted(asked, key=lambda q: crc32(f"{seed} {item(q)}".encode()))

    # Drawn first, opened then: there are 900 videos for eight questions.
    if "wanted" in signature(dataset.load).parameters:
        options["wanted"] = Wanted(order, count, {} if leave_out else None)
    file = _records_file(Path(place), dataset.title)
    folder = Path(videos or (place if Path(place).is_dir() else file.parent))
    questions, missing = dataset.load(file, folder, **options)
    return Loaded(order(questions)[:count], missing)


def check_source(
    source: str, split: str, place: str | Path = "", may_train: bool = False
) -> Dataset:
    """The data set, if this split of it may be asked and its records are there.

    A notebook calls it before it does anything: raises as `load_questions`, without reading.
    """
    dataset = _dataset(source, split, may_train)
    if dataset.load:
        _records_file(Path(place), dataset.title)
    return dataset


def check_rights(traces: Iterable[Trace], may_train: bool) -> None:
    """Raise ValueError for traces of a set whose terms need `may_train`, your statement that you
    hold the right to train on it.
    """
    sources = {trace.question.source for trace in traces}
    terms = [DATASETS[name].terms for name in sorted(sources & DATASETS.keys())]
    if refused := [text for text in terms if text and not may_train]:
        raise ValueError(f"may_train is False; {refused[0]}: state it, if you hold the right")


def _records_file(place: Path, title: str) -> Path:
    """The file of records: the place itself, or the only one that the folder holds."""
    if place.is_file():
        return place
    inside = sorted(path for path in place.rglob("*") if path.suffix in RECORDS)
    if len(inside) == 1:
        return inside[0]
    found = f"; {len(inside)} are in it: {', '.join(p.name for p in inside[:5])}" if inside else ""
    raise FileNotFoundError(f"{place} is not a file; it must hold the records of {title}{found}")


def tenth(question: Question) -> int:
    """Which tenth of its data set's videos the question's is in, whatever folder they lie in."""
    return crc32(Path(question.video).name.encode()) % 10


def _dataset(source: str, split: str, may_train: bool) -> Dataset:
    """The data set, if this split of it may be asked. Raises ValueError saying what may."""
    if split not in TENTHS:
        raise ValueError(f"split is {split!r}; it must be one of: {', '.join(TENTHS)}")
    testing = split == "test"
    known = [name for name, dataset in DATASETS.items() if testing or dataset.trains]
    if source not in known:
        raise ValueError(f"source of {split} is {source!r}; it must be one of: {', '.join(known)}")
    dataset = DATASETS[source]
    if dataset.terms and not testing and not may_train:
        raise ValueError(
            f"may_train is False; {dataset.terms}, so it must be True to load {split} questions: "
            "set may_train=True if you hold the right and what it takes"
        )
    return dataset
