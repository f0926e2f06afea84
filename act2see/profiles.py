"""Profiles: which models, how many frames, which recipe. All notebooks run on any of them.

Works on names and numbers. Knows nothing of how anything is done: what a profile changes is data.
`pocket` is the embedded default and needs no GPU, no key and no download; `imagine` is the same
with hypothetical frames and the questions that need them; `t4` is for one GPU of
16 GB, `paper` for one of 24 GB or more. Student, teacher, embedder and sources of `paper` are the
paper's; it does not name the others, nor any number, which are our choice.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from act2see.finetune import Recipe
from act2see.interleave import Budget
from act2see.pocket.questions import FAMILIES, FOUNDATION
from act2see.similarity import POCKET_EMBEDDER
from act2see.toolbox import Toolbox

DATA = Path(__file__).parent.parent / "data"
BOTH = ("retrieve_frames", "generate_frame")
SYSTEM = (
    "Answer the question about a video. You see some of its frames, each behind its time. Say "
    "which frame shows what. End with a single line: Answer: and the letter of the right option."
)


@dataclass(frozen=True)
class Profile:
    """One way of running the whole method. Models are folders or hub names, "" for none."""

    name: str
    student: str
    teacher: str  # "oracle", or a model behind an API
    embedder: str
    budget: Budget
    toolbox: Toolbox
    recipe: Recipe
    system: str = ""  # what the student is told beside the tools
    ranker: str = ""  # of frames by a query
    generator: str = ""  # of hypothetical frames
    generator_options: Mapping = field(default_factory=dict)  # given to it at every call
    source: str = "pocket"  # of the questions to distil from
    families: tuple[str, ...] = FOUNDATION  # of the pocket world's questions
    questions: int = 1800  # asked of the teacher
    benchmark: str = "pocket"  # of the questions to be scored on
    reply_tokens: int = 256  # of a student's turn, thinking included
    memory_gb: float = 8.0  # to train and answer in


POCKET = Profile(
    name="pocket",
    student=str(DATA / "pocket" / "base"),
    teacher="oracle",
    embedder=POCKET_EMBEDDER,
    budget=Budget(overview_frames=8, max_calls=4, open_dialogues=64),
    toolbox=Toolbox(frames_per_call=5, rate_hz=2.0),
    recipe=Recipe(rank=16, learning_rate=1e-3, epochs=2, batch_size=4),
    generator=str(DATA / "pocket" / "generator"),
    generator_options={"num_inference_steps": 4, "guidance_scale": 1.0},
)
IMAGINE = replace(
    POCKET,
    name="imagine",
    toolbox=replace(POCKET.toolbox, tools=BOTH),
    recipe=Recipe(rank=16, learning_rate=2e-3, epochs=6, batch_size=16),
    families=FAMILIES,
    questions=2500,
)
PROFILES = {
    "pocket": POCKET,
    "imagine": IMAGINE,
    "t4": Profile(
        name="t4",
        student="Qwen/Qwen3-VL-4B-Thinking",
        teacher="gemini-2.5-pro",
        embedder="BAAI/bge-m3",
        budget=Budget(overview_frames=12, max_calls=3, open_dialogues=4, overview_as_video=True),
        toolbox=Toolbox(tools=BOTH, frames_per_call=4, rate_hz=2.0, max_side_px=384),
        recipe=Recipe(batch_size=16, fed_tokens=1, recompute=True),
        system=SYSTEM,
        ranker="google/siglip2-base-patch16-224",
        generator="timbrooks/instruct-pix2pix",
        generator_options={"num_inference_steps": 20, "image_guidance_scale": 1.5},
        source="minerva",
        benchmark="video_mme",
        reply_tokens=2048,
        memory_gb=15.0,
    ),
    "paper": Profile(
        name="paper",
        student="Qwen/Qwen3-VL-8B-Thinking",
        teacher="gemini-2.5-pro",
        embedder="BAAI/bge-m3",
        budget=Budget(overview_frames=32, max_calls=4, open_dialogues=8, overview_as_video=True),
        toolbox=Toolbox(tools=BOTH, frames_per_call=8, rate_hz=2.0, max_side_px=448),
        recipe=Recipe(batch_size=16, fed_tokens=1, recompute=True),
        system=SYSTEM,
        ranker="google/siglip2-base-patch16-224",
        generator="black-forest-labs/FLUX.2-klein-4B",
        generator_options={"num_inference_steps": 4, "guidance_scale": 1.0},
        source="minerva",
        benchmark="video_mme",
        reply_tokens=4096,
        memory_gb=80.0,
    ),
}


def load_profile(name: str, **changed: str) -> Profile:
    """The profile of this name, with fields changed where a text is given, "" leaves them.

    Raises ValueError naming the known profiles, and TypeError for a field that there is not.

    >>> load_profile("t4", student="my/own", teacher="").student
    'my/own'
    """
    if name not in PROFILES:
        raise ValueError(f"profile is {name!r}; it must be one of: {', '.join(PROFILES)}")
    return replace(PROFILES[name], **{field: value for field, value in changed.items() if value})
