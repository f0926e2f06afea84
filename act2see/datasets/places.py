"""Which file of a folder a published name means: one inside it, and no other record's.

Works on names and a folder. Knows nothing of records, nor of what is in the files. Our choice.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

# Names end in .mp4 as published, but yt-dlp leaves what YouTube has.
ENDINGS = (".mp4", ".webm", ".mkv")
Parts = tuple[str, ...]


def locate(names: Sequence[str], folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """By name, the file in the folder; and why there is none for the others.

    A name's first folders may be missing, its ending may be another, and a name without folders may
    lie deeper: but only where no other of the names could mean that file.
    """
    wrong = {name: reason for name in names if (reason := refused(name))}
    parts = _shortened({name: inside(name) for name in names if name not in wrong})
    owners = Counter(stem(tail) for own in {*parts.values()} for tail in tails(own))
    found = {}
    for name, own in parts.items():
        alone = [folder.joinpath(*tail) for tail in tails(own) if owners[stem(tail)] == 1]
        endings = [path.with_suffix(ending) for path in alone for ending in ENDINGS]
        path = next(filter(Path.is_file, [folder.joinpath(*own), *alone, *endings]), None)
        if path:
            found[name] = path
    lost = [name for name in parts if name not in found]
    deeper = _deeper(folder, {stem(parts[name]) for name in lost if len(parts[name]) == 1})
    for name in lost:
        if len(parts[name]) == owners[stem(parts[name])] == 1 and stem(parts[name]) in deeper:
            found[name] = deeper[stem(parts[name])]
        else:
            wrong[name] = f"{folder.joinpath(*parts[name])}: No such file or directory"
    return found, wrong


def _shortened(parts: dict[str, Parts]) -> dict[str, Parts]:
    """By name, its parts; of somebody else's absolute path, those that are another name too."""
    relative = {own for name, own in parts.items() if not Path(name).anchor}
    for name, own in parts.items():
        if Path(name).anchor:
            parts[name] = next((tail for tail in tails(own) if tail in relative), own)
    return parts


def refused(name: str) -> str:
    """Why a name cannot be that of a file inside a folder; "" if it can.

    >>> refused("../secret.mp4")
    "'../secret.mp4' is a name; it must be that of a file inside the folder"
    """
    parts = inside(name)
    long = len(name) > 1000 or any(len(part.encode("utf-8", "replace")) > 255 for part in parts)
    if not parts or ".." in parts or not name.isprintable() or long:
        return f"{name[:80]!r} is a name; it must be that of a file inside the folder"
    return ""


def inside(name: str) -> Parts:
    """The folders and the file of a name; an absolute one begins inside the folder, too."""
    path = Path(name)
    return tuple(part for part in path.parts if part != path.anchor)


def tails(parts: Parts) -> Iterator[Parts]:
    """The parts, then the parts without the first, and so on to the last alone."""
    return (parts[i:] for i in range(len(parts)))


def stem(parts: Parts) -> Parts:
    """The parts without the file's ending."""
    return (*parts[:-1], Path(parts[-1]).stem)


def _deeper(folder: Path, stems: set[Parts]) -> dict[Parts, Path]:
    """By stem, the only video so called that lies in a folder of the folder."""
    found: dict[Parts, list[Path]] = {}
    for path in folder.glob("*/**/*") if stems else ():
        if (path.stem,) in stems and path.suffix in ENDINGS:
            found.setdefault((path.stem,), []).append(path)
    return {name: paths[0] for name, paths in found.items() if len(paths) == 1}
