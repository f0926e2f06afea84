"""What a profile names, loaded: its teacher, its questions, its toolbox.

Works on names and files. Knows nothing of what is done with them. A published source is split by
video: each is in one split only. Our choice.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path
from zlib import crc32

from pandas import DataFrame

from act2see.benchmarks import choices, egonormia, vcr_bench, video_mme, videoespresso, vitib
from act2see.figures import WORLD
from act2see.generator import load_generator
from act2see.interleave import Policy
from act2see.pocket.questions import FOUNDATION, pocket_questions
from act2see.policies.oracle import MISTAKES, OraclePolicy
from act2see.profiles import Profile
from act2see.ranker import load_ranker
from act2see.sources import causalvqa, minerva, social_genome
from act2see.sources.records import Loaded
from act2see.trace import Question, Trace

TENTHS = {"validation": {0}, "test": {1}, "train": set(range(2, 10))}  # of a source's videos
SOURCES = {  # what titles call it, what reads it, what scores it
    "minerva": ("MINERVA", minerva.load, choices.scores),
    "causalvqa": ("CausalVQA", causalvqa.load, causalvqa.paired_scores),
    "social_genome": ("Social Genome", social_genome.load, choices.scores),
}
BENCHMARKS = {
    "video_mme": ("Video-MME", video_mme.load, video_mme.scores),
    "videoespresso": ("VideoEspresso", videoespresso.load, choices.scores),
    "vitib": ("ViTIB", vitib.load, vitib.scores),
    "egonormia": ("EgoNormia", egonormia.load, egonormia.scores),
    "vcr_bench": ("VCR-Bench", vcr_bench.load, vcr_bench.scores),
}
WORLDS = {"pocket": (WORLD, None, choices.scores)} | SOURCES | BENCHMARKS


def load_teacher(
    name: str, base_url: str = "", seed: int = 0, mistakes: float = 0.0, **account: float
) -> Policy:
    """The teacher of this name: `oracle`, a Gemini model, or one of an OpenAI-compatible server.

    base_url: of the server, "" for the maker's own; with one, any model is asked in OpenAI's way.
    seed, mistakes: of the oracle. account: fields of `Account`, `budget_usd` 0 for no limit.
    Raises ValueError where a key is needed and neither environment nor Colab's store has one.
    """
    if name == "oracle":
        told = f"oracle, seed {seed}, mistakes {mistakes:g}"
        return OraclePolicy(seed=seed, name=told, **dict.fromkeys(MISTAKES[1:], mistakes))
    from act2see.policies.remote import Account

    spending = Account(**account | {"budget_usd": account.get("budget_usd") or inf})
    if name.startswith("gemini") and not base_url:
        from act2see.policies.gemini import gemini_teacher

        return gemini_teacher(name, account=spending)
    from act2see.policies.openai import openai_teacher

    return openai_teacher(name, base_url, account=spending)


def load_questions(
    source: str,
    split: str,
    seed: int,
    count: int,
    place: str | Path,
    may_train: bool = False,
    families: Sequence[str] = FOUNDATION,
) -> Loaded:
    """At most `count` questions of a split, drawn with `seed`, and the videos that are missing.

    place: where clips of the pocket world are drawn, or else the file of published records, videos
    beside it. may_train: your right to train on CausalVQA. families: of the pocket world. Raises
    ValueError for no questions, an unknown source, a benchmark to train on or records for the
    pocket world, FileNotFoundError where there are none for another.
    """
    place = Path(place)
    if source == "pocket":
        return Loaded(pocket_questions(split, seed, count, place, families), {})
    if source not in WORLDS or (source in BENCHMARKS and split != "test"):
        known = [*WORLDS] if split == "test" else ["pocket", *SOURCES]
        raise ValueError(f"source of {split} is {source!r}; it must be one of: {', '.join(known)}")
    if not place.is_file():
        raise FileNotFoundError(f"{place} is no file with the records of {title(source)}")
    more = {}
    if source == "causalvqa":
        more = {"training": split != "test", "may_train": may_train}
    elif source == "social_genome":
        more = {"trims": place.with_name("trims.json")}
    questions, missing = WORLDS[source][1](place, folder=place.parent, **more)
    if source in SOURCES:
        questions = [q for q in questions if tenth(q) in TENTHS[split]]
    item = {q.id: q.id.rpartition("/")[0] or q.id for q in questions}  # one asked twice stays whole
    drawn = sorted(questions, key=lambda q: crc32(f"{seed} {item[q.id]}".encode()))
    return Loaded(drawn[:count], missing)


def tenth(question: Question) -> int:
    """Which tenth of its source's videos the question's is in, whatever folder they lie in."""
    return crc32(Path(question.video).name.encode()) % 10


def title(source: str) -> str:
    """What a figure calls the world that its numbers are from."""
    return WORLDS[source][0]


def official_scores(
    source: str, judge: Callable[[str], str] | None = None
) -> Callable[[str, Sequence[Trace], str], DataFrame]:
    """The benchmark's own metric: (system, traces, protocol) -> table.

    judge: prompt -> reply, who reads texts. Raises ValueError where VCR-Bench has none.
    """
    if source == "vcr_bench" and judge is None:
        raise ValueError("VCR-Bench is scored by a judge: name a judge_model, and its judge_url")
    return partial(vcr_bench.scores, ask=judge) if source == "vcr_bench" else WORLDS[source][2]


def follow_ups(traces: Sequence[Trace]) -> list[Question]:
    """What is asked after these: EgoNormia's second and third question, of the others nothing."""
    first = [t for t in traces if t.question.source == "egonormia"]
    after = [(egonormia.justification(t), egonormia.sensible(t.question)) for t in first]
    return [question for pair in after for question in pair]


def equip(profile: Profile) -> Profile:
    """The profile with the models that its tools need, loaded into its toolbox."""
    generator = load_generator(profile.generator, profile.generator_options)
    models = {"ranker": load_ranker(profile.ranker), "generator": generator}
    return replace(profile, toolbox=replace(profile.toolbox, **models))
