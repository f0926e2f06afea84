"""Profiles: which models, how many frames, which recipe. All notebooks run on any of them.

Works on names and numbers. Knows nothing of how anything is done: what a profile changes is data.
`pocket` is the embedded default and needs no GPU, no key and no download.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from act2see.finetune import Recipe
from act2see.generator import load_generator
from act2see.interleave import Budget
from act2see.similarity import POCKET_EMBEDDER
from act2see.toolbox import Toolbox

DATA = Path(__file__).parent.parent / "data"


@dataclass(frozen=True)
class Profile:
    """One way of running the whole method."""

    name: str
    student: str  # a folder or a hub name
    teacher: str
    embedder: str
    budget: Budget
    toolbox: Toolbox
    recipe: Recipe
    system: str = ""  # what the student is told beside the tools
    generator: str = ""  # of hypothetical frames: a folder or a hub name
    generator_options: Mapping = field(default_factory=dict)  # given to it at every call

    def open_toolbox(self) -> Toolbox:
        """The toolbox with the models that its tools need loaded."""
        if not self.generator:
            return self.toolbox
        generator = load_generator(self.generator, self.generator_options)
        return replace(self.toolbox, generator=generator)


PROFILES = {
    "pocket": Profile(
        name="pocket",
        student=str(DATA / "pocket" / "base"),
        teacher="oracle",
        embedder=POCKET_EMBEDDER,
        budget=Budget(overview_frames=8, max_calls=4, open_dialogues=64),
        toolbox=Toolbox(
            tools=("retrieve_frames", "generate_frame"), frames_per_call=5, rate_hz=2.0
        ),
        recipe=Recipe(rank=16, learning_rate=2e-3, epochs=4, batch_size=16),
        generator=str(DATA / "pocket" / "generator"),
        generator_options={"num_inference_steps": 4, "guidance_scale": 1.0},
    ),
}


def load_profile(name: str) -> Profile:
    """The profile of this name. Raises ValueError naming the known ones."""
    if name not in PROFILES:
        raise ValueError(f"profile is {name!r}; it must be one of: {', '.join(PROFILES)}")
    return PROFILES[name]
