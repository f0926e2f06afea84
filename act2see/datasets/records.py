"""Records of published files, checked one by one, and the videos that they are about.

Works on JSON, JSONL, CSV and Parquet files and a folder of videos. Does not know what a record
means: the file of each data set says so. A question keeps its record, as published, in `truth`,
which no prompt shows. Our choice.
"""

import json
import re
import reprlib
from collections.abc import Sequence
from json.decoder import WHITESPACE
from pathlib import Path
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import pandas as pd
from pydantic import BaseModel, Field, ValidationError
from tqdm import tqdm

from act2see.trace import Question
from act2see.video import VideoError, probe

Text = Annotated[str, Field(min_length=1)]
R = TypeVar("R", bound=BaseModel)


class Published(NamedTuple, Generic[R]):
    """A record twice: the row as it stands in the file, and checked."""

    row: dict[str, Any]
    record: R


class Loaded(NamedTuple):
    """The questions whose video can be read, and every other video with what is wrong with it."""

    questions: list[Question]
    missing: dict[str, str]


def item(question: Question) -> str:
    """The item that the question belongs to: its id up to the last `/`, or all of it.

    Data sets that ask about one item several times number its questions behind a slash.
    """
    return question.id.rpartition("/")[0] or question.id


def read_records(path: str | Path, kind: type[R], key: str = "") -> list[Published[R]]:
    """Every record of a file, as it stands there and as a `kind`.

    A JSON file may hold a list, an object of objects, or one object a line.
    key: the field that identifies a record, "" where none does.
    Raises ValueError naming file, record and field where one is wrong, or two records have a key.
    """
    try:
        rows = _rows(Path(path))
    except (UnicodeError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{path}: {error}; it must be UTF-8 text") from error
    if not rows:
        raise ValueError(f"{path} has 0 records; it must have 1 or more")
    published = []
    taken = set()
    for index, row in enumerate(rows):
        where = f"{path}: record {index}"
        if not isinstance(row, dict):
            raise ValueError(f"{where} is {reprlib.repr(row)}; it must be an object with fields")
        where += f" ({row.get(key)})" if key else ""
        published.append(Published(row, _checked(row, kind, where)))
        # A trace is found again by its question's id: two of one id would share an answer.
        if key and row[key] in taken:
            raise ValueError(f"{where}: {key}: an earlier record has it already; keep one of them")
        taken.add(row.get(key))
    return published


def find_videos(questions: Sequence[Question], folder: str | Path) -> Loaded:
    """The questions with the path of their video, so far a name in the folder, and its duration.

    A name may have folders of its own before it and another ending than the file.
    """
    found = {}
    missing = {}
    names = dict.fromkeys(question.video for question in questions)
    for name in tqdm(names, desc="videos", unit="video", leave=False):
        path = _locate(Path(folder), Path(name))
        # YouTube takes videos away, so no download is ever whole: the rest is still worth asking.
        try:
            found[name] = {"video": str(path), "duration_s": probe(path).duration_s}
        except VideoError as error:
            missing[name] = str(error)
    kept = [q.model_copy(update=found[q.video]) for q in questions if q.video in found]
    return Loaded(kept, missing)


def download_command(
    video_ids: Sequence[str], folder: str | Path, start_s: float = 0.0, length_s: float = 0.0
) -> list[str]:
    """The yt-dlp command that puts YouTube videos into the folder; nothing is run here.

    length_s: cut so many seconds out from `start_s` on; 0 takes the whole video.
    Raises ValueError where an id cannot be YouTube's.

    >>> download_command(["dQw4w9WgXcQ"], "clips")[-2:]
    ['--', 'https://www.youtube.com/watch?v=dQw4w9WgXcQ']
    """
    if wrong := [i for i in video_ids if not re.fullmatch(r"[\w-]{11}", i)]:
        raise ValueError(f"video id is {wrong[0]!r}; it must be 11 letters, digits, - or _")
    form = ["-S", "res:720,vcodec:h264", "--remux-video", "mp4"]
    if length_s:
        span = f"*{start_s:.3f}-{start_s + length_s:.3f}"
        form += ["--download-sections", span, "--force-keyframes-at-cuts"]
    addresses = [f"https://www.youtube.com/watch?v={i}" for i in video_ids]
    return ["yt-dlp", *form, "-o", f"{folder}/%(id)s.%(ext)s", "--", *addresses]


def _rows(path: Path) -> list[Any]:
    """What stands in the file, record by record, whatever form it is published in."""
    if path.suffix == ".parquet":
        # By way of JSON, since Parquet gives arrays where the records have lists.
        return json.loads(pd.read_parquet(path).to_json(orient="records"))
    if path.suffix == ".csv":
        return pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")
    text = path.read_text(encoding="utf-8-sig")
    values = []
    place = WHITESPACE.match(text).end()
    # Value after value, because some files named .json hold one object a line.
    while place < len(text):
        try:
            value, place = json.JSONDecoder().raw_decode(text, place)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: line {error.lineno} is not JSON: {error.msg}") from error
        values.append(value)
        place = WHITESPACE.match(text, place).end()
    if len(values) == 1 and isinstance(values[0], list):
        return values[0]
    if len(values) == 1 and isinstance(values[0], dict):
        inner = list(values[0].values())
        return inner if all(isinstance(value, dict) for value in inner) else values
    return values


def _checked(row: dict[str, Any], kind: type[R], where: str) -> R:
    """The row as a `kind`. Raises ValueError naming the first wrong field and what stands in it."""
    try:
        return kind.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        got = "" if first["type"] == "missing" else f", got {reprlib.repr(first['input'])}"
        raise ValueError(f"{where}: {field}: {first['msg']}{got}") from error


def _locate(folder: Path, name: Path) -> Path:
    """The first file there is: with all folders of the name, then with fewer; else the first."""
    parts = [part for part in name.parts if part != name.anchor]
    nested = [folder.joinpath(*parts[i:]) for i in range(len(parts))]
    # Names end in .mp4 as published, but yt-dlp leaves what YouTube has.
    endings = dict.fromkeys([name.suffix, ".mp4", ".webm", ".mkv"])
    candidates = [path.with_suffix(ending) for path in nested for ending in endings]
    return next((path for path in candidates if path.is_file()), nested[0])
