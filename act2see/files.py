"""Files that are whole or not there, and lines that one writer at a time adds to a file.

Works on texts, bytes and paths. Knows nothing of what they say. A kill at any moment, a full disk
or a second writer costs the line or the file that was being written, never one before it. Our
choice.
"""

import errno
import hashlib
import json
import mmap
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

from pydantic_core import from_json
from safetensors import SafetensorError

from act2see.plain import mended

P = ParamSpec("P")
T = TypeVar("T")
WAIT_S = 10.0  # for another process to end its writing
WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)  # some network drives


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: whoever is interrupted leaves the one before."""
    with replacing(path) as partial:
        partial.write_text(mended(text), encoding="utf-8")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` when the context ends well.

    Raises OSError, naming the file, what is kept and how to go on, where it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with saving(path, "the file of before"):
            yield partial
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def saving(path: Path, kept: str) -> Iterator[None]:
    """A context in which a failing write names the file, what is kept, and how to go on."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        rule = "make room or correct the path, and run again: it goes on from there"
        message = f"{path} could not be written ({reason}); {kept} is kept; {rule}"
        raise OSError(getattr(error, "errno", None) or errno.EIO, message) from error


def sweep(folder: Path) -> None:
    """Remove what processes that have ended left half written in a folder."""
    for partial in folder.glob("*.*.partial"):
        import psutil  # comes with accelerate

        owner = partial.name.split(".")[-2]
        # A container that starts again gives the same number: what is ours is not being written.
        if owner == str(os.getpid()) or (owner.isdigit() and not psutil.pid_exists(int(owner))):
            partial.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[BinaryIO]:
    """The file, open to be read and added to, while no other process may write it.

    The lock is the system's and on the file itself, so that it ends with the process that holds it.
    A last line that was cut off goes. Raises BlockingIOError, naming the file, where another writes
    it for longer than `WAIT_S`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent / "frames")
    end_s = time.monotonic() + WAIT_S
    while True:
        # Unbuffered: what could not be written must not be tried again when the file is closed.
        with path.open("ab+", buffering=0) as file:
            if _lock(file) and _is_at(file, path):
                try:
                    _mend(file)
                    yield file
                finally:
                    with suppress(PermissionError):  # Windows keeps a file that is open
                        if not file.seek(0, os.SEEK_END):
                            path.unlink(missing_ok=True)
                return
        if time.monotonic() >= end_s:
            rule = "wait until that has ended, or name another output"
            raise BlockingIOError(f"{path} is being written by another process; {rule}")
        time.sleep(0.05)


def alone(work: Callable[P, T]) -> Callable[P, T]:
    """The same function, refused while another process works in its argument `folder`.

    Raises BlockingIOError as `locked`. Of the processes of a launcher, the first holds the lock for
    all. It lies next to the folder, which may be emptied.
    """

    @wraps(work)
    def guarded(*given: P.args, **named: P.kwargs) -> T:
        folder = signature(work).bind(*given, **named).arguments["folder"]
        if os.environ.get("RANK", "0") != "0":
            return work(*given, **named)
        with locked(folder.with_name(f"{folder.name}.lock")):
            return work(*given, **named)

    return guarded


def _lock(file: BinaryIO) -> bool:
    """Whether the file is ours to write now. True on a drive that has no locks."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(2**40)  # a place that no line takes: readers are not shut out
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in WITHOUT_LOCKS
    return True


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Whether the path still leads to the open file: whoever held the lock may have replaced it."""
    return path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())


def _mend(file: BinaryIO) -> None:
    """End the last line where it is whole, else take it off."""
    if not file.seek(0, os.SEEK_END):
        return
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.rfind(b"\n") + 1
        line = content[start:]
    if not line:
        return
    try:
        from_json(line)
    except ValueError:
        warnings.warn(f"{file.name}: its last line was cut off and is left out", stacklevel=4)
        file.truncate(start)
    else:
        add_line(file, b"")


def add_line(file: BinaryIO, line: bytes) -> None:
    """Add a line to a file that `locked` gave, whole or not at all."""
    end = file.seek(0, os.SEEK_END)
    rest = line + b"\n"
    try:
        with saving(Path(file.name), "every line before"):
            while rest:
                rest = rest[file.write(rest) :]
    except OSError:
        file.truncate(end)
        raise


def remembered(path: Path, ask: Callable[..., str], **asked: str) -> Callable[[str], str]:
    """A function that asks `ask(prompt, **asked)` once for each prompt, and keeps its reply.

    path: a JSONL file with a reply a line, whatever else was asked; a line that cannot be read is
    asked again. What `ask` raises is raised and not kept, nor is silence. Raises as `locked`.
    """
    known = {}
    with suppress(FileNotFoundError):
        for line in path.read_bytes().splitlines():
            with suppress(ValueError, KeyError, TypeError):
                fields = from_json(line)
                known[fields["key"]] = str(fields["reply"])

    def reply(prompt: str) -> str:
        content = json.dumps([prompt, asked], sort_keys=True)
        key = hashlib.sha256(content.encode()).hexdigest()[:32]
        if key in known:
            return known[key]
        said = mended(ask(prompt, **asked))
        if said.strip():
            known[key] = said
            row = {"key": key, **asked, "prompt": mended(prompt), "reply": said}
            with locked(path) as file:
                add_line(file, json.dumps(row).encode())
        return said

    return reply
