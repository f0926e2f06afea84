"""Odd and damaged videos, by seed: the frames are the right ones, or the file is refused by name.

ODD_VIDEOS=200 tries so many; without it a few are, which take seconds.
"""

import os
from pathlib import Path

import av
import numpy as np

from act2see.interleave import collect
from act2see.tools.retrieve import RetrieveFrames
from act2see.trace import Question, Reply, Step
from act2see.video import VideoError, probe, read_frames
from tests.odd_videos import Odd, odd, write

SEEDS = range(int(os.environ.get("ODD_VIDEOS", 46)))


def decoded(path: Path) -> tuple[dict[float, np.ndarray], bool]:
    """The picture at each time, decoded from the start, and whether that went well to the end."""
    pictures = {}
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            start_s = (container.start_time or 0) / av.time_base
            for frame in container.decode(container.streams.best("video")):
                pictures[round(frame.time - start_s, 4)] = frame.to_ndarray(format="rgb24")
    # Without a video stream, and without times, in this order.
    except (av.FFmpegError, AttributeError, TypeError):
        return pictures, False
    return pictures, True


def check(kind: Odd, path: Path) -> str:
    """`read` or `refused`; asserts that nothing else happened."""
    pictures, whole = decoded(path)
    whole = whole and kind.damage == "none"
    try:
        video = probe(path)
        indices = np.unique(np.linspace(0, len(video.times_s) - 1, 9).astype(int))
        shown, times_s = read_frames(path, video.times_s[indices][::-1])
    except VideoError as error:
        # Stamps of a few AVI files are out of order, and nothing tells which picture is when.
        odd_form = kind.ending in ("avi", "nut", "h264", "ts")
        assert path.name in str(error) and (not whole or odd_form), f"{kind}: {error}"
        return "refused"
    known = np.array(sorted(pictures))
    if whole:
        assert len(known) == len(video.times_s), kind
        assert np.abs(known - video.times_s).max() < 0.5 / video.fps, kind
    for picture, time_s in zip(shown, times_s, strict=True):
        nearest = known[np.abs(known - time_s).argmin()]
        # What a damaged file decodes to depends on where one begins, and on the decoder.
        if kind.damage == "none":
            assert abs(nearest - time_s) < 0.5 / video.fps, kind
            difference = np.abs(np.asarray(picture, np.int16) - pictures[nearest])
            assert difference.mean() < 2.5, f"{kind}: another picture at {time_s} s"
    return "read"


def test_every_frame_is_the_right_one_or_the_file_is_refused_by_name(tmp_path):
    outcomes = []
    for seed in SEEDS:
        path = write(odd(seed), tmp_path)
        if path:
            outcomes.append(check(odd(seed), path))
            path.unlink()
    counts = {outcome: outcomes.count(outcome) for outcome in ("read", "refused")}
    print(f"{len(outcomes)} odd videos: {counts}")
    assert len(outcomes) > 0.8 * len(SEEDS) and counts["read"] > len(outcomes) / 2


class Looks:
    """A policy that looks once at the second half, then answers."""

    name = "looks"

    def __init__(self):
        self.asked = 0

    def reply(self, traces):
        self.asked += len(traces)
        return [self.turn(trace) for trace in traces]

    def turn(self, trace):
        if trace.calls():
            return Reply("so", answer="Answer: A")
        half_s = trace.question.duration_s / 2
        window = {"start_s": half_s / 2, "end_s": half_s}
        return Reply("hm", [Step(kind="call", tool="retrieve_frames", arguments=window)])

    def force(self, traces):
        return ["Answer: B" for _ in traces]


def test_none_ends_a_run_of_ten_questions(questions, tmp_path):
    for seed in SEEDS[:: max(1, len(SEEDS) // 40)]:
        path = write(odd(seed), tmp_path)
        if not path:
            continue
        strange = Question(video=str(path), text="what?", options=["yes", "no"])
        run = [*questions[:5], strange, *questions[6:]]
        file = tmp_path / f"{seed}.jsonl"
        traces = collect(file, run, Looks(), [RetrieveFrames()])
        others = [t for t in traces if t.question.id != strange.id]
        assert len(traces) == 10 and not any(t.failed for t in others)
        assert traces[5].answer() or path.name in traces[5].failed, odd(seed)
