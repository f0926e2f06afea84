"""The cached, batched loop against what an expert would write with the stock model.

One dialogue: 32 overview frames of 64 tokens, 6 calls of 4 frames, 24 tokens a turn, random weights
(15 M parameters). Many: 32 dialogues of the shipped base, 8 overview frames, 3 calls of 5.
"""

import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from act2see.interleave import Budget, interleave
from act2see.pocket.making.models import build_model
from act2see.pocket.questions import pocket_questions
from act2see.policies.qwen import QwenPolicy
from act2see.profiles import PROFILES
from act2see.student import load_processor, load_student
from act2see.tools.retrieve import RetrieveFrames
from act2see.trace import Step
from tests.perf.references import Continued, Padded
from tests.perf.report import compare, peak_bytes, record
from tests.policies.naive import Naive, Scripted

TOKENS = 24
BASE = PROFILES["pocket"].student


def looks(count: int) -> list[Step]:
    """Calls that ask for windows one after the other."""
    windows = [{"start_s": 3.0 * i + 0.2, "end_s": 3.0 * i + 2.9} for i in range(count)]
    return [Step(kind="call", tool="retrieve_frames", arguments=w) for w in windows]


class Timed(Scripted):
    """Notes how long every turn took. An answer that is forced costs neither side anything."""

    def force(self, traces):
        return ["Answer: A" for _ in traces]

    def reply(self, traces):
        began = time.perf_counter()
        said = super().reply(traces)
        self.turns_s = [*getattr(self, "turns_s", []), time.perf_counter() - began]
        return said


def run(inner, questions, tools, budget, calls):
    """What was thought in every turn, by question, and the policy."""
    policy = Timed(inner, {q.id: looks(calls) for q in questions})
    done = interleave(questions, policy, tools, budget)
    return {t.question.id: [s.text for s in t.steps if s.kind == "think"] for t in done}, policy


def one_dialogue(folder: Path) -> None:
    processor = load_processor(BASE)
    processor.image_processor.size = {"shortest_edge": 128**2, "longest_edge": 128**2}
    torch.manual_seed(0)
    model = build_model(processor, hidden=384, layers=6, heads=6, vision=192).eval()
    questions = pocket_questions("validation", 5, 1, folder)
    setting = (
        questions,
        (RetrieveFrames(frames_per_call=4),),
        Budget(overview_frames=32, max_calls=6),
        6,
    )
    said, turns = {}, []

    def ours():
        policy = QwenPolicy(model, processor, max_new_tokens=TOKENS)
        said["ours"], timed = run(policy, *setting)
        turns.append((timed.turns_s[6], timed.turns_s[2]))

    def naive():
        said["naive"] = run(Naive(model, processor, TOKENS), *setting)[0]

    compare("interleaving", "one dialogue, 32 frames, 6 calls", ">= 3", ours, naive)
    assert said["ours"] == said["naive"], "the two say different things"
    sixth, second = map(sorted, zip(*turns, strict=True))
    record("interleaving", "turn after call 6 to call 2", "<= 1.3", sixth[2], second[2])


def many_dialogues(folder: Path) -> None:
    processor, model = load_processor(BASE), load_student(BASE, four_bit=False)
    questions = pocket_questions("validation", 6, 32, folder)
    setting = questions, (RetrieveFrames(frames_per_call=5),), Budget(open_dialogues=32), 3
    said = {}

    def ours():
        policy = QwenPolicy(model, processor, max_new_tokens=TOKENS)
        said["ours"] = run(policy, *setting)[0]

    references = {
        "sending all again": (Naive, ">= 6"),
        "one cache at batch 1": (Continued, ">= 2"),
        "one padded batch": (Padded, ">= 2"),
    }
    for name, (policy, limit) in references.items():

        def reference(policy=policy):
            said["reference"] = run(policy(model, processor, TOKENS), *setting)[0]

        compare("interleaving", f"32 dialogues, 3 calls, to {name}", limit, ours, reference)
        assert said["ours"] == said["reference"], "the two say different things"


def memory(folder: Path) -> None:
    """How far the process rises above where it stands with the model and the frames loaded."""
    processor, model = load_processor(BASE), load_student(BASE, four_bit=False)
    questions = pocket_questions("validation", 6, 32, folder)
    held = []

    def ours():
        policy = QwenPolicy(model, processor, max_new_tokens=TOKENS)
        held[:] = [policy.cache]
        run(policy, questions, (RetrieveFrames(frames_per_call=5),), Budget(open_dialogues=32), 3)

    risen = []
    for _ in range(6):
        held.clear()
        risen.append(peak_bytes(ours) / 1e6)
    stores = [layer.store for layer in held[0].layers.layers]
    own = sum(kept.nbytes for kept in [*stores, held[0].seating.spare])
    case = "memory to caches, 32 dialogues"
    record("interleaving", case, "<= 1.5", median(risen[1:]), own / 1e6, "MB")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as clips:
        memory(Path(clips))  # first: before others leave holes
        one_dialogue(Path(clips))
        many_dialogues(Path(clips))
