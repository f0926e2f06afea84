"""Profiles: which models, how many frames, which recipe. All notebooks run on any of them.

Works on names and numbers. Knows nothing of how anything is done: what a profile changes is data.
`pocket` is the embedded default and needs no GPU, no key and no download; `imagine` is the same
with hypothetical frames and the questions that need them; `paper_pocket` is the paper's protocol in
that world. `t4` is for one GPU of 16 GB, `large` for one of 24 GB or more, both with our dialect.
`paper` is the paper's own protocol: tags, one frame found or drawn by a text, its models and recipe
as reported in a third party's note on it; what the note lacks is our choice, and says so.
"""

from dataclasses import dataclass, replace
from importlib.resources import files

from act2see.dialects.calls import STUDENT
from act2see.dialects.tags import STUDENT as TAGS_STUDENT
from act2see.interleave import Budget
from act2see.recipe import Recipe
from act2see.tools.generate import GenerateFrame
from act2see.tools.retrieve import RetrieveFrames
from act2see.tools.search import ImagineFrame, SearchFrame
from act2see.tools.tool import Tool

MODELS = files("act2see") / "pocket" / "models"
POCKET_GENERATOR = GenerateFrame(
    generator=str(MODELS / "generator"),
    options={"num_inference_steps": 4, "guidance_scale": 1.0},
)


@dataclass(frozen=True)
class Profile:
    """One way of running the whole method. Models are folders or hub names, "" for none."""

    name: str
    student: str
    teacher: str  # "oracle", or a model behind an API
    embedder: str
    budget: Budget
    tools: tuple[Tool, ...]
    recipe: Recipe
    adapter: str = ""  # one that ships, for those who have trained none
    system: str = ""  # what the student is told besides the tools
    source: str = "pocket"  # of the questions to distil from, in `datasets.DATASETS`
    families: tuple[str, ...] = ()  # of the pocket world's questions; (): what real frames answer
    lessons: tuple[str, ...] = ()  # families of the questions to distil from; (): `families`
    questions: int = 1800  # asked of the teacher
    per_clip: int = 1  # of them about each clip, in the pocket world
    slips: float = 0.0  # rate of the oracle's calls in a wrong form, each then mended
    retries: int = 0  # of a question that it answered wrongly (paper: 2)
    benchmark: str = "pocket"  # of the questions to be scored on, in `datasets.DATASETS`
    reply_tokens: int = 512  # of a student's turn, thinking included
    temperature: float = 0.0  # of a student's words; 0: the likeliest
    top_p: float = 1.0
    top_k: int = 0
    memory_gb: float = 8.0  # to train and answer in
    tools_gb: float = 0.0  # of it, what the tools look with while the student answers

    def speech(self, seed: int = 0) -> dict[str, int | float | str]:
        """How the student speaks: what its policy takes, local or served."""
        return {
            "system": self.system,
            "max_new_tokens": self.reply_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "seed": seed,
        }


# Of the tables in data/pocket and of the adapter that ships: with another they would be others.
MEASURED = Recipe(rank=16, learning_rate=1e-3, epochs=2, batch_size=4)
POCKET = Profile(
    name="pocket",
    student=str(MODELS / "base"),
    adapter=str(MODELS / "adapter"),
    teacher="oracle",
    embedder="all-MiniLM-L6-v2",
    budget=Budget(overview_frames=8, max_calls=4, open_dialogues=64),
    tools=(RetrieveFrames(frames_per_call=5, rate_hz=2.0),),
    # Steps of two traces learn from two thirds as many as much as steps of four.
    recipe=Recipe(rank=16, learning_rate=2e-3, epochs=2, batch_size=2),
    # A search that has to look twice is hard, and rare: there are more of them.
    lessons=("static", "moment", "search", "order", "search"),
    questions=1200,
    per_clip=2,
    slips=0.2,
    reply_tokens=320,  # no turn of the teacher takes more than 201
)
IMAGINE = replace(
    POCKET,
    name="imagine",
    adapter=str(MODELS / "imagine"),
    tools=(*POCKET.tools, POCKET_GENERATOR),
    # Two tools take more traces to learn than one.
    recipe=Recipe(rank=16, learning_rate=2e-3, epochs=6, batch_size=16),
    families=("static", "moment", "search", "order", "counterfactual"),
    lessons=(),
    questions=2500,
    per_clip=1,
    slips=0.0,
    reply_tokens=512,
)
POCKET_RETRIEVER = str(MODELS / "retriever")
PAPER_POCKET = replace(
    IMAGINE,
    name="paper_pocket",
    adapter="",
    # Calls of one text are learnt from fewer traces than windows and moments.
    recipe=Recipe(rank=16, learning_rate=1e-3, epochs=3, batch_size=4),
    questions=1800,
    retries=2,
    # The overview is the world's: what is brief happens between its frames.
    budget=replace(IMAGINE.budget, max_calls=1, dialect="tags"),
    tools=(
        SearchFrame(retriever=POCKET_RETRIEVER),
        ImagineFrame(
            generator=POCKET_GENERATOR.generator,
            options=POCKET_GENERATOR.options,
            retriever=POCKET_RETRIEVER,
        ),
    ),
    families=("static", "moment", "search", "order", "counterfactual", "described"),
)
T4 = Profile(
    name="t4",
    student="Qwen/Qwen3-VL-4B-Thinking",
    # Served, and no preview. The paper's, Gemini 2.5 Pro, is shut down on 2026-12-01; requests for
    # it are then answered by this one, without an error.
    teacher="gemini-3.8-flash",
    embedder="BAAI/bge-m3",
    budget=Budget(
        overview_frames=12,
        max_calls=3,
        open_dialogues=4,
        overview_as_video=True,
        max_side_px=384,
    ),
    tools=(
        RetrieveFrames(
            frames_per_call=4,
            rate_hz=2.0,
            max_side_px=384,
            ranker="google/siglip2-base-patch16-224",
        ),
        GenerateFrame(
            generator="timbrooks/instruct-pix2pix",
            options={"num_inference_steps": 20, "image_guidance_scale": 1.5},
            max_side_px=384,
        ),
    ),
    recipe=Recipe(batch_size=16, fed_tokens=1, recompute=True),
    system=STUDENT,
    source="minerva",
    benchmark="video_mme",
    # Greedy, a Thinking student repeats itself; its makers recommend these, and up to 40,960 tokens
    # a turn. As many as fit: a dialogue of four turns, all at their limit, takes 5 GB.
    reply_tokens=8192,
    temperature=0.6,
    top_p=0.95,
    top_k=20,
    memory_gb=15.0,
    # SigLIP 2 in 32 bits; of the pipeline, the part that works, its U-Net in 16.
    tools_gb=1.5 + 1.8,
)
LARGE = replace(
    T4,
    name="large",
    student="Qwen/Qwen3-VL-8B-Thinking",
    budget=Budget(
        overview_frames=32,
        max_calls=4,
        open_dialogues=8,
        overview_as_video=True,
        max_side_px=448,
    ),
    tools=(
        replace(T4.tools[0], frames_per_call=8, max_side_px=448),
        GenerateFrame(
            generator="black-forest-labs/FLUX.2-klein-4B",
            options={"num_inference_steps": 4, "guidance_scale": 1.0},
            max_side_px=448,
        ),
    ),
    memory_gb=80.0,
    # Of FLUX.2-klein, 4 billion weights work at a time; below 40 GB they are in NF4, and take 2.5.
    tools_gb=1.5 + 8.0,
)
# Over a wire: a chat server with vision and tools, or the tuned student behind vLLM or SGLang,
# which take no two frames as one picture. Nothing but the video is read here.
SERVED = replace(
    T4,
    name="served",
    budget=replace(T4.budget, overview_as_video=False, max_side_px=448),
    tools=(replace(T4.tools[0], ranker="", max_side_px=448),),
    tools_gb=0.0,
)
PAPER = replace(
    LARGE,
    name="paper",
    # The paper begins with a frame a second. It names no bound, and long videos need one: ours.
    budget=replace(LARGE.budget, overview_hz=1.0, overview_frames=64, max_calls=1, dialect="tags"),
    tools=(
        SearchFrame(retriever="Salesforce/blip2-itm-vit-g-coco", max_side_px=448),
        ImagineFrame(
            generator="stabilityai/stable-diffusion-3.5-large",
            # Its makers' steps and guidance for text alone; the strength is our choice.
            options={"num_inference_steps": 28, "guidance_scale": 3.5, "strength": 0.7},
            retriever="Salesforce/blip2-itm-vit-g-coco",
            max_side_px=448,
        ),
    ),
    # The paper's rate, batch and epoch; rank and targets of its adapter are not known.
    recipe=Recipe(learning_rate=2.5e-6, epochs=1, batch_size=1, fed_tokens=1, recompute=True),
    system=TAGS_STUDENT,
    retries=2,
    reply_tokens=32_768,
    # BLIP-2's 1.2 billion weights, and T5-XXL, the largest part of the pipeline, in 16 bits.
    tools_gb=2.4 + 9.6,
)
_ALL = (POCKET, IMAGINE, PAPER_POCKET, T4, SERVED, LARGE, PAPER)
PROFILES = {profile.name: profile for profile in _ALL}


def load_profile(name: str, **changed: str | int) -> Profile:
    """The profile of this name, with fields changed where a value is given; "" and 0 leave them.

    `ranker`, `retriever` and `generator` change the tools that have such a field. Raises ValueError
    naming the known profiles, and TypeError for a field that there is not.

    >>> load_profile("t4", student="my/own", teacher="").student
    'my/own'
    """
    if name not in PROFILES:
        raise ValueError(f"profile is {name!r}; it must be one of: {', '.join(PROFILES)}")
    fields = {field: value for field, value in changed.items() if value}
    names = ("ranker", "retriever", "generator")
    models = {field: fields.pop(field) for field in names if field in fields}
    tools = tuple(
        replace(tool, **{field: m for field, m in models.items() if hasattr(tool, field)})
        for tool in PROFILES[name].tools
    )
    return replace(PROFILES[name], tools=tools, **fields)


def equip(profile: Profile) -> Profile:
    """The profile with the models that its tools need in memory, and no others."""
    return replace(profile, tools=tuple(tool.loaded() for tool in profile.tools))
