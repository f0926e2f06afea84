"""The cells of the pocket world's ablations: which students, trained on what, asked how.

Works on names and numbers. Knows nothing of training or asking: `ablations` does both. The paper
has the grids `tools`, `reference` and `inference only` (its Tables 8, 7 and 4), at its size; the
others are our choice.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from act2see.faithfulness import SWAPS
from act2see.pocket.key_frames import by_truth
from act2see.policies.key_frames import by_change
from act2see.profiles import IMAGINE, PAPER, PAPER_POCKET, POCKET, Profile
from act2see.similarity import THRESHOLD

TOOLS = {
    "both": IMAGINE.tools,
    "retrieval": IMAGINE.tools[:1],
    "generation": IMAGINE.tools[1:],
    "none": (),
}
# The paper's form is one frame by a text; more of them, and windows of several frames, are ours.
FORMS = {
    "windows": replace(IMAGINE, families=PAPER_POCKET.families),
    "one frame by text": PAPER_POCKET,
    "frames by text": replace(PAPER_POCKET, budget=replace(PAPER_POCKET.budget, max_calls=4)),
}
RATES = (PAPER.recipe.learning_rate, POCKET.recipe.learning_rate)
KEY_FRAMES = {"oracle": by_truth, "retriever": by_change}


@dataclass(frozen=True)
class Cell:
    """One cell: which traces a student learns from, and how it is asked."""

    grid: str
    cell: str
    seed: int = 0  # of the adapter, the order of the traces and the test questions
    reference: str = "human"  # the filter's, or what stands in its place; "": the untrained base
    threshold: float = THRESHOLD
    size: int = 0  # most traces; 0: all that are kept of the first questions
    tools: str = "both"
    calls: int = 4
    evidence: str = ""  # shown in the place of what is called for: of SWAPS or KEY_FRAMES
    overview: int = 0  # frames; 0: the profile's
    rate: float = 0.0  # of learning, one trace a step; 0: the recipe of `pocket`
    form: str = ""  # of the call, of FORMS; "": windows, about the questions of `imagine`

    def profile(self) -> Profile:
        """Dialect, tools, overview and questions of the cell."""
        profile = FORMS.get(self.form, IMAGINE)
        frames = self.overview or profile.budget.overview_frames
        budget = replace(profile.budget, max_calls=self.calls, overview_frames=frames)
        tools = profile.tools if self.tools == "both" else TOOLS[self.tools]
        return replace(profile, budget=budget, tools=tools)

    def student(self) -> str:
        """Names the adapter: cells that differ only in how they ask share one."""
        choice = f"{self.reference}-{self.threshold:.2f}-{self.size}-{self.tools}-{self.seed}"
        rate = f"{self.rate:.1e}" if self.rate else ""
        return f"{choice}-{self.form}{rate}".removesuffix("-").replace(" ", "_")

    def answers(self) -> str:
        """The file of answers: cells that ask one student in the same way share it."""
        base = f"base-{self.tools}-{self.seed}-{self.form}".replace(" ", "_")
        student = self.student() if self.reference else base
        return f"answers/{student}-{self.calls}-{self.evidence}-{self.overview}.jsonl"


def grid(seeds: int) -> Iterator[Cell]:
    """All cells, the headline first, with `seeds` seeds; the rest with one."""
    for seed in range(seeds):
        yield Cell("tools", "base", seed, reference="", tools="none")
        yield from (Cell("tools", tools, seed, tools=tools) for tools in TOOLS)
    yield from (Cell("evidence", swap, evidence=swap) for swap in SWAPS)
    yield from (Cell("calls", str(calls), calls=calls) for calls in (0, 1, 2, 4, 8))
    # 12 frames: about what a student with tools has seen in the end.
    yield Cell("frames", "base, as many frames", reference="", tools="none", overview=12)
    yield from (
        Cell("inference only", f"key frames by {name}", reference="", evidence=name)
        for name in KEY_FRAMES
    )
    references = ("human", "model", "none", "random", "human and right")
    yield from (Cell("reference", name, reference=name) for name in references)
    # At 0.95 hardly any trace is kept.
    yield from (Cell("threshold", f"{x:.2f}", threshold=x) for x in (0.6, 0.7, 0.8, 0.9))
    yield from (Cell("traces", str(size), size=size) for size in (50, 200, 800, 3200))
    # Whether an adapter of this size moves at the paper's rate: the base is offered the same tools.
    yield Cell("recipe", "untrained, tools offered", reference="")
    yield from (Cell("recipe", f"rate {x:g}, a trace a step", rate=x) for x in RATES)
    for seed in range(seeds):
        yield Cell("form", "base", seed, reference="", tools="none", form="windows")
        for form, profile in FORMS.items():
            yield Cell("form", form, seed, form=form, calls=profile.budget.max_calls)
