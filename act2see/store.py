"""Traces and small files on disk.

Works on `Trace` and paths. Knows nothing of models or of who asks. A trace is a line of JSON,
pictures lie once each beside the file, named by their content: our choice.
"""

import hashlib
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from pydantic import ValidationError

from act2see.tools.generate import GenerateFrame
from act2see.tools.retrieve import RetrieveFrames
from act2see.trace import Trace

if TYPE_CHECKING:
    from pandas import DataFrame

# Of the tools that traces from before version 0.2 name without a schema.
FORMER_TOOLS = {tool.name: tool.schema() for tool in (RetrieveFrames(), GenerateFrame())}


def digest(*images: Image.Image) -> str:
    """20 hex digits that tell a picture, or several, from any other."""
    content = b"".join(image.tobytes() + str(image.size).encode() for image in images)
    return hashlib.sha1(content).hexdigest()[:20]


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: whoever is interrupted leaves the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def write_traces(path: Path, traces: Iterable[Trace]) -> None:
    """Append traces to a JSONL file, one a line; a last line that was cut off goes first.

    Pictures go once each, named by their content, into the folder `frames` beside the file.
    """
    folder = path.parent / "frames"
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        file.seek(-min(file.tell(), 1), os.SEEK_END)
        if file.read() not in (b"", b"\n"):
            file.truncate(path.read_bytes().rfind(b"\n") + 1)
        for trace in traces:
            for frame in trace.frames():
                image = frame.image()
                frame.file = f"{digest(image)}.png"
                frame.folder = folder
                if not (folder / frame.file).exists():
                    partial = folder / f"{frame.file}.{os.getpid()}.partial"
                    image.save(partial, "PNG", compress_level=1)
                    partial.replace(folder / frame.file)
            file.write(trace.model_dump_json().encode() + b"\n")
            file.flush()


def read_traces(path: Path) -> list[Trace]:
    """The traces of a JSONL file.

    A last line cut off by an interruption is left out with a warning. Raises ValueError, naming
    file and line, where another line is not a trace.
    """
    *lines, cut = path.read_bytes().split(b"\n")
    if cut:
        warnings.warn(f"{path}: line {len(lines) + 1} was cut off and is left out", stacklevel=2)
    traces = []
    for number, line in enumerate(lines, 1):
        try:
            trace = Trace.model_validate_json(line)
        except ValidationError as error:
            raise ValueError(f"{path}: line {number} is not a trace: {error}") from error
        for frame in trace.frames():
            frame.folder = path.parent / "frames"
        former = (FORMER_TOOLS.get(name) for name in trace.tool_names())
        pairs = zip(trace.tools, former, strict=True)
        # A schema without parameters is a bare name out of an old file.
        trace.tools = [t if "parameters" in t["function"] or not old else old for t, old in pairs]
        traces.append(trace)
    return traces


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
