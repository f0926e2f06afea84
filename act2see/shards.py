"""A run in shares: several processes ask a share of the questions each, and one file comes of it.

Works on questions and files of traces. Knows nothing of who starts the processes: a loop in a
shell, a job array, a scheduler. All questions about one video are in one share, so that it is
fetched and decoded in one place. Our choice.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from act2see.store import Traces, write_traces
from act2see.trace import Question

NAMED = 5  # questions or files, in an error


def share(questions: Sequence[Question], shard: int, shards: int) -> list[Question]:
    """The questions of share `shard`, 1 to `shards`, in their order; all of them for shard 0.

    Videos are dealt out in an order that depends on the ids of their questions alone, never on
    where they lie: every process that has the same questions deals the same, and shares differ by
    one video at most. Raises ValueError for a shard that is not there, and for more shards than
    videos.
    """
    videos = len({question.video for question in questions})
    if not 1 <= shards <= max(videos, 1) or not 0 <= shard <= shards:
        rule = f"shards must be 1 to {videos}, the number of videos, and shard 1 to shards or 0"
        raise ValueError(f"shard is {shard} of shards {shards}; {rule}")
    first: dict[str, str] = {}
    for question in questions:
        first[question.video] = min(question.id, first.get(question.video, question.id))
    # By a digest: in the order given, a share of a simulated world would hold one family only.
    dealt = sorted(first, key=lambda video: hashlib.sha256(first[video].encode()).digest())
    hand = {video: place % shards + 1 for place, video in enumerate(dealt)}
    return [question for question in questions if shard in (0, hand[question.video])]


def shard_folder(folder: Path, shard: int, shards: int) -> Path:
    """Where a share writes: a folder inside `folder`, and `folder` itself for shard 0.

    >>> shard_folder(Path("outputs/pocket"), 2, 3).as_posix()
    'outputs/pocket/shard-2-of-3'
    """
    return folder / f"shard-{shard}-of-{shards}" if shard else folder


def merge(files: Sequence[Path], path: Path, questions: Sequence[Question]) -> int:
    """How many traces were added to the file `path`, of the files that the shares wrote.

    Traces that `path` holds already are not added again; the pictures come along. questions: all
    that the shares asked. Raises ValueError, naming them, and writes nothing, where a file or a
    question is missing, or a question is in two files; and as `store.write_traces`.
    """
    absent = [str(file) for file in files if not file.exists()]
    if absent:
        raise ValueError(f"{_named(absent)} must be there before shards are merged; run that shard")
    parts = [Traces(file) for file in files]
    # A question may have several lines in a file: attempts, and those that failed before.
    held = Counter(name for part in parts for name in {trace.question.id for trace in part})
    doubled = [name for name, count in held.items() if count > 1]
    missing = [question.id for question in questions if question.id not in held]
    if doubled or missing:
        faults = {"in two files": doubled, "missing": missing}
        said = "; ".join(f"{fault}: {_named(names)}" for fault, names in faults.items() if names)
        rule = "all shards must have the same questions and the same `shards`"
        raise ValueError(f"{path}: {said}; {rule}")
    known = {trace.model_dump_json() for trace in Traces(path)} if path.exists() else set()
    new = [t for part in parts for t in part if t.model_dump_json() not in known]
    write_traces(path, new)
    return len(new)


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" * (len(names) > NAMED)
    return f"{', '.join(names[:NAMED])}{more}"
