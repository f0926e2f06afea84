"""What can go wrong on the disk and in a dialogue: kills, damage, a full disk, two writers, calls.

Each function tries one thing many times and gives a `Row`.
"""

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from act2see.dialects import dialect_of
from act2see.interleave import Budget, open_trace, take_turn
from act2see.pocket.oracle import OraclePolicy
from act2see.profiles import PROFILES
from act2see.trace import Question
from tests.chaos.stages import contents, end, run, start

Stage = Callable[[Path], None]


class Row(NamedTuple):
    """survived: how many ended as if nothing had happened, after a second run where one is needed.
    named: of those that said something was wrong, how many named the file. lost, left: lines that
    are missing, and files that should not be there, over all.
    """

    what: str
    stage: str
    tried: int
    survived: int
    named: str
    lost: int = 0
    left: int = 0


def reference(stage: Stage, folder: Path) -> tuple[dict, float]:
    """What a stage leaves when it is left alone, and how long it takes."""
    before = time.monotonic()
    ended = run(stage, folder / stage.__name__)
    assert ended.code == 0, ended.words
    return contents(folder / stage.__name__), time.monotonic() - before


def kills(stage: Stage, folder: Path, tries: int, seed: int) -> Row:
    """SIGKILL at random moments, up to three in a row, then a run that is left alone."""
    wanted, seconds = reference(stage, folder)
    draw = random.Random(seed)
    survived = lost = left = 0
    for number in range(tries):
        place = folder / f"kill{number}"
        for _ in range(draw.choice((1, 1, 2, 3))):
            run(stage, place, kill_after_s=draw.uniform(0.02, seconds))
        ended = run(stage, place)
        found = contents(place)
        survived += ended.code == 0 and found == wanted
        lost += len(wanted.keys() - found.keys())
        left += len(found.keys() - wanted.keys())
        shutil.rmtree(place)
    return Row("kill", stage.__name__, tries, survived, "–", lost, left)


def _cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def _emptied(content: bytes, draw: random.Random) -> bytes:
    return b""


def _zeroed(content: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(content) + 1)
    end = min(len(content), start + draw.randrange(1, 4000))
    return content[:start] + bytes(end - start) + content[end:]


def _flipped(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.randrange(1, 5)):
        if changed:
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _garbled(content: bytes, draw: random.Random) -> bytes:
    start = content.find(b"\n", draw.randrange(len(content) + 1)) + 1
    return content[:start] + draw.randbytes(draw.randrange(1, 300)) + b"\n" + content[start:]


DAMAGE = (_cut, _emptied, _zeroed, _flipped, _garbled)


def damage(stage: Stage, folder: Path, tries: int, seed: int) -> Row:
    """One file of a finished run damaged or gone; the stage runs again and is as it was.

    Clear: it ends as it was, or it stops with the file's name and what to do with it, and with that
    done ends as it was.
    """
    wanted, _ = reference(stage, folder)
    draw = random.Random(seed)
    survived = told = named = 0
    for number in range(tries):
        place = shutil.copytree(folder / stage.__name__, folder / f"damage{number}")
        files = sorted(path for path in place.rglob("*") if path.is_file())
        # A kind first: there are far more pictures than anything else.
        kind = draw.choice(sorted({path.suffix for path in files}))
        file = draw.choice([path for path in files if path.suffix == kind])
        before = file.read_bytes()
        how = draw.choice((*DAMAGE, None))
        if how:
            file.write_bytes(how(before, draw))
        else:
            file.unlink()
        ended = run(stage, place)
        told += ended.words != ""
        named += file.name in ended.words or file.parent.name in ended.words
        if ended.code == 3 and file.name in ended.words:
            file.unlink(missing_ok=True)
            ended = run(stage, place)
        well = ended.code == 0 and _same_results(contents(place), wanted)
        if not well:
            print(f"{how.__name__ if how else 'gone'}: {file.relative_to(place)}: {ended}")
        survived += well
        shutil.rmtree(place)
    return Row("damaged file", stage.__name__, tries, survived, f"{named} of {told}")


def _same_results(found: dict, wanted: dict) -> bool:
    """Whether nothing is missing that was there before but a checkpoint, and no trace is wrong."""
    for name, content in wanted.items():
        if isinstance(content, list) and name.endswith(".jsonl"):
            # A damaged line stays where it is: every good one must be there beside it.
            if not set(content) <= set(found.get(name, [])):
                return False
        elif "checkpoint-" not in name and "frames/" not in name and found.get(name) != content:
            return False
    return True


def full_disk(stage: Stage, folder: Path, tries: int, seed: int) -> Row:
    """No file may grow over a limit drawn anew; then there is room, and the stage goes on."""
    wanted, _ = reference(stage, folder)
    draw = random.Random(seed)
    # A kind first, as above.
    sizes: dict[str, list[int]] = {}
    for name, content in wanted.items():
        if isinstance(content, bytes) or name.endswith(".jsonl"):
            size = len(b"\n".join(content) if isinstance(content, list) else content)
            sizes.setdefault(Path(name).suffix, []).append(size)
    survived = told = named = left = 0
    for number in range(tries):
        place = folder / f"full{number}"
        limit = draw.choice(sizes[draw.choice(sorted(sizes))]) - draw.randrange(1, 200)
        ended = run(stage, place, most_bytes=max(limit, 1))
        told += ended.code == 3
        named += ended.code == 3 and str(place) in ended.words and "again" in ended.words
        ended = run(stage, place)
        found = contents(place)
        survived += ended.code == 0 and found == wanted
        left += len(found.keys() - wanted.keys())
        shutil.rmtree(place)
    return Row("full disk", stage.__name__, tries, survived, f"{named} of {told}", 0, left)


def two_writers(stage: Stage, folder: Path, tries: int, seed: int) -> Row:
    """Two processes of one stage in one folder: both end well, or one is refused by name."""
    wanted, _ = reference(stage, folder)
    survived = told = named = 0
    for number in range(tries):
        place = folder / f"two{number}"
        both = [start(stage, place) for _ in "ab"]
        ends = [end(one) for one in both]
        refused = [ended for ended in ends if ended.code]
        told += len(refused)
        named += sum("another process" in ended.words for ended in refused)
        if len(refused) > 1 or any("another process" not in ended.words for ended in refused):
            print(refused)
        again = run(stage, place)
        survived += len(refused) < 2 and again.code == 0 and contents(place) == wanted
        shutil.rmtree(place)
    return Row("two writers", stage.__name__, tries, survived, f"{named} of {told}")


PIECES = (
    "<tool_call>", "</tool_call>", "<think>", "</think>", '{"name": "retrieve_frames", ',
    '"arguments": {', '"start_s": ', '"end_s": ', "1", "-3", "1e999", "NaN", "null", "[]", "{", "}",
    '"', "\\", ", ", "Answer: B", "<answer>", "</answer>", "<retrieve>", "</retrieve>", "<frame>",
    "a red disc", "\0", "\x1b[2J", "\u202e", "９", "true", '{"name": 5}', "<|im_end|>", "\n", "```",
)  # fmt: skip


def malformed_calls(question: Question, tries: int, seed: int) -> Row:
    """Replies thrown together out of pieces: each call is answered, and none raises."""
    draw = random.Random(seed)
    survived = answered = calls = 0
    openings = [
        open_trace(question, OraclePolicy(), PROFILES["pocket"].tools, Budget(2, dialect=d))
        for d in ("calls", "tags")
    ]
    for _ in range(tries):
        opening = draw.choice(openings)
        trace = opening.model_copy(update={"steps": []})
        text = "".join(draw.choices(PIECES, k=draw.randrange(1, 25)))
        reply = dialect_of(trace).read_reply(text, draw.random() < 0.1)
        take_turn(trace, reply, PROFILES["pocket"].tools, Budget(2))
        evidence = [step for step in trace.steps if step.kind == "evidence"]
        calls += len(trace.calls())
        answered += sum(bool(step.text or step.frames) for step in evidence)
        survived += len(evidence) == len(trace.calls()) and bool(str(trace))
    return Row("malformed call", "inference", tries, survived, f"{answered} of {calls}")
