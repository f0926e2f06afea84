"""Profiles: which models, how many frames, which recipe. All notebooks run on any of them.

Works on names and numbers. Knows nothing of how anything is done: what a profile changes is data.
`pocket` is the embedded default and needs no GPU, no key and no download.
"""

from dataclasses import dataclass
from pathlib import Path

from act2see.finetune import Recipe
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


PROFILES = {
    "pocket": Profile(
        name="pocket",
        student=str(DATA / "pocket" / "base"),
        teacher="oracle",
        embedder=POCKET_EMBEDDER,
        budget=Budget(overview_frames=8, max_calls=4, open_dialogues=64),
        toolbox=Toolbox(tools=("retrieve_frames",), frames_per_call=5, rate_hz=4.0),
        recipe=Recipe(rank=16, learning_rate=2e-3, epochs=4, batch_size=16),
    ),
}


def load_profile(name: str) -> Profile:
    """The profile of this name. Raises ValueError naming the known ones."""
    if name not in PROFILES:
        raise ValueError(f"profile is {name!r}; it must be one of: {', '.join(PROFILES)}")
    return PROFILES[name]
