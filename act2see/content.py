"""What tells files and folders apart: a digest of all that they hold, wherever they lie.

Works on paths and hub names. Knows nothing of what is in the files. Our choice.
"""

import hashlib
from functools import lru_cache
from os.path import isdir, isfile
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError


def content(place: str | Path) -> str:
    """16 hex digits of a file's or a folder's whole content, hidden files left out; a hub name with
    the version that is cached; the text itself where there is nothing of these.
    """
    path = Path(place).expanduser()
    # Not `Path.is_file`, which raises for a name that is too long.
    if isfile(path):
        return _digest(path)
    if isdir(path):
        names = sorted(file.relative_to(path) for file in path.rglob("*") if file.is_file())
        visible = [name for name in names if not any(p.startswith(".") for p in name.parts)]
        rows = [f"{name.as_posix()} {_digest(path / name)}\n" for name in visible]
        return hashlib.sha256("".join(rows).encode()).hexdigest()[:16]
    return f"{place} {_version(str(place))}".strip()


def _version(name: str) -> str:
    """The commit of a hub's model in the cache, "" where there is none."""
    try:
        cached = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        return ""
    return Path(cached).parent.name if isinstance(cached, str) else ""


def _digest(file: Path) -> str:
    status = file.stat()
    return _read(file.resolve(), status.st_size, status.st_mtime_ns)


# Gigabytes take seconds, and a run asks several times.
@lru_cache(maxsize=65536)
def _read(file: Path, size: int, written_ns: int) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:16]
