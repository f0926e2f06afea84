"""Traces and small files on disk.

Works on `Trace`, texts and paths. Knows nothing of models or of who asks. A trace is a line of JSON
with a check sum; pictures lie once each in `frames`, named by their content. Lines under a lock and
not a database: anyone can read them, files of earlier versions have the same form, damage costs the
lines it hits, and SQLite's log needs memory that network drives do not share. Our choice.
"""

import os
import re
import warnings
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, overload

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from act2see.files import add_line, locked, remembered, replacing, saving, write_text
from act2see.pictures import digest, write_picture
from act2see.plain import mended
from act2see.tools.generate import GenerateFrame
from act2see.tools.retrieve import RetrieveFrames
from act2see.trace import Trace

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = [
    "Traces",
    "add_trace",
    "compact",
    "digest",
    "read_traces",
    "remembered",
    "replace_traces",
    "run_folder",
    "write_text",
    "write_traces",
    "written",
]

# Of the tools that traces from before version 0.2 name without a schema.
FORMER_TOOLS = {tool.name: tool.schema() for tool in (RetrieveFrames(), GenerateFrame())}
CHECKED = re.compile(rb'\{"check":"([0-9a-f]{8})",("key":"([0-9a-f]*)",.*\})\n?')


def write_traces(path: Path, traces: Iterable[Trace]) -> None:
    """Append traces to a JSONL file, one a line. Raises as `locked` and `saving`.

    Pictures go once each, named by their content, into the folder `frames` next to the file, and
    leave the memory.
    """
    with locked(path) as file:
        for trace in traces:
            add_trace(file, trace)


def add_trace(file: BinaryIO, trace: Trace) -> None:
    """Append a trace to a file that `locked` gave, its pictures first."""
    folder = Path(file.name).parent / "frames"
    with saving(folder, "every trace before"):
        folder.mkdir(exist_ok=True)
        for frame in trace.frames():
            if frame.pixels or frame.folder != folder:
                frame.file = write_picture(folder, frame.image())
                frame.folder = folder
                frame.pixels = None
    try:
        text = trace.model_dump_json()
    except PydanticSerializationError:
        text = Trace.model_validate(mended(trace.model_dump())).model_dump_json()
    body = text[1:].encode()
    add_line(file, b'{"check":"%08x",%b' % (zlib.crc32(body), body))


def replace_traces(path: Path, traces: Iterable[Trace]) -> None:
    """Write a JSONL file of these traces whole or not at all. Raises as `write_traces`."""
    with replacing(path) as partial:
        write_traces(partial, traces)


class Traces(Sequence[Trace]):
    """The traces of a JSONL file, in order, each read when it is asked for.

    A line that is damaged or no trace is left out; one warning counts and names such lines.
    last: key -> place of its last trace. unkeyed: places of traces that earlier versions wrote.
    """

    def __init__(self, path: Path):
        self.path = path
        self.starts: list[int] = []  # in bytes
        self.last: dict[str, int] = {}
        self.unkeyed: list[int] = []
        faults = []
        start = 0
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    key = _checked_key(line)
                except ValueError as error:
                    faults.append(f"line {number} {error}")
                else:
                    self.unkeyed += [] if key else [len(self.starts)]
                    self.last[key] = len(self.starts)
                    self.starts.append(start)
                start += len(line)
        if faults:
            more = f" and {len(faults) - 3} more" * (len(faults) > 3)
            named = f"{'; '.join(faults[:3])}{more}"
            left = f"{len(faults)} of {len(faults) + len(self)} lines are left out"
            warnings.warn(f"{path}: {left}: {named}", stacklevel=3)

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, place: int) -> Trace: ...

    @overload
    def __getitem__(self, place: slice) -> list[Trace]: ...

    def __getitem__(self, place: Any) -> Any:
        """The trace at a place. Raises ValueError where the file was changed meanwhile."""
        if isinstance(place, slice):
            return [self[i] for i in range(len(self))[place]]
        with self.path.open("rb") as file:
            file.seek(self.starts[place])
            line = file.readline()
        try:
            _checked_key(line)
            trace = Trace.model_validate_json(line)
        except ValueError as error:
            raise ValueError(f"{self.path} was changed while it was read: {error}") from error
        for frame in trace.frames():
            frame.folder = self.path.parent / "frames"
        former = (FORMER_TOOLS.get(name) for name in trace.tool_names())
        pairs = zip(trace.tools, former, strict=True)
        # A schema without parameters is a bare name out of an old file.
        trace.tools = [t if "parameters" in t["function"] or not old else old for t, old in pairs]
        return trace


def _checked_key(line: bytes) -> str:
    """The key of a line, "" of one from an earlier version. Raises ValueError saying what it is."""
    found = CHECKED.fullmatch(line)
    if found and zlib.crc32(found[2]) == int(found[1], 16):
        return found[3].decode()
    # With a space behind, another program wrote the line anew: it is read like an old one.
    if line.startswith(b'{"check":"'):
        cut = "" if line.endswith(b"\n") else "was cut off or "
        raise ValueError(f"{cut}is damaged: its check sum differs")
    try:
        return Trace.model_validate_json(line).key
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"]))
        raise ValueError(f"is not a trace: {place} {fault['msg']}") from error


def read_traces(path: Path) -> Traces:
    """The traces of a JSONL file. What of it cannot be read is left out with a warning."""
    return Traces(path)


def compact(path: Path) -> int:
    """How many lines went: all but the last of each key. Lines of old versions get check sums."""
    with locked(path):
        traces = Traces(path)
        kept = sorted({*traces.last.values(), *traces.unkeyed})
        replace_traces(path, map(traces.__getitem__, kept))
    return len(traces) - len(kept)


def repository() -> Path:
    """The nearest folder, from the working one upwards, that holds a pyproject.toml; else that."""
    here = Path.cwd()
    return next((p for p in (here, *here.parents) if (p / "pyproject.toml").exists()), here)


def run_folder(output: str, profile: str) -> Path:
    """Where a run writes: `output`, or else outputs/<profile> in the repository.

    A notebook finds its run so, from whichever folder it was opened.
    """
    # Relative, so that what is written down is the same in every copy of the repository.
    home = os.path.relpath(repository() / "outputs" / profile)
    return Path(output or home)


def written(*paths: Path) -> "DataFrame":
    """What lies on disk: a row per path, with the number of files and their size in MB."""
    from pandas import DataFrame  # half a second that only notebooks need

    rows = []
    for path in filter(Path.exists, paths):
        files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
        size_mb = sum(file.stat().st_size for file in files) / 1e6
        rows.append((str(path), len(files), round(size_mb, 3)))
    return DataFrame(rows, columns=["written", "files", "MB"])
