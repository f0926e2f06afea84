"""How resuming grows with the questions, and what a large file of traces takes to open."""

from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from act2see.interleave import Budget, collect
from act2see.pocket.example import example_video
from act2see.store import read_traces, write_traces
from act2see.trace import Question, Reply, Trace
from tests.perf.report import NAN, peak_bytes, record

BUDGET = Budget(overview_frames=2)


class Talker:
    """Thinks for a kilobyte, then says A."""

    name = "talker"

    def reply(self, traces: list[Trace]) -> list[Reply]:
        return [Reply("the disc is red. " * 60, answer="Answer: A") for _ in traces]


def resuming(folder: Path, count: int) -> tuple[float, float]:
    """Seconds and bytes that a run takes which has nothing left to ask."""
    asked = [
        Question(
            id=str(n), video=str(example_video()), duration_s=24, text="what?", options=["a", "b"]
        )
        for n in range(count)
    ]
    file = folder / f"{count}.jsonl"
    collect(file, asked, Talker(), budget=BUDGET, tools=())
    began = perf_counter()
    used = peak_bytes(lambda: collect(file, asked, Talker(), budget=BUDGET, tools=()))
    return perf_counter() - began, used


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        folder = Path(name)
        few_s, few_bytes = resuming(folder, 1000)
        many_s, many_bytes = resuming(folder, 5000)
        # Five times the questions: a tenth more than five times as much is still even.
        record("store", "5,000 questions resumed to 1,000, time", "<= 5.5", many_s, few_s)
        mega = many_bytes / 1e6, few_bytes / 1e6
        record("store", "5,000 questions resumed to 1,000, memory", "<= 5.5", *mega, unit="MB")
        (trace,) = read_traces(folder / "1000.jsonl")[:1]
        large = folder / "large.jsonl"
        while not large.exists() or large.stat().st_size < 200e6:
            write_traces(large, [trace] * 20_000)
        began = perf_counter()
        used = peak_bytes(lambda: read_traces(large)[-1])
        record("store", "a file of 200 MB opened, time", "", perf_counter() - began, NAN)
        record("store", "a file of 200 MB opened, memory", "", used / 1e6, NAN, unit="MB")
