"""Records of published files, checked one by one, and the videos that they are about.

Works on JSON, JSONL, CSV and Parquet files and a folder of videos. Does not know what a record
means: the file of each data set says so. A question keeps its record, as published, in `truth`,
which no prompt shows. Our choice.
"""

import json
import re
import reprlib
import warnings
from collections.abc import Callable, Sequence
from json.decoder import WHITESPACE
from math import inf
from pathlib import Path
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import pandas as pd
from pydantic import BaseModel, Field, ValidationError
from tqdm import tqdm

from act2see.datasets.lengths import length_s
from act2see.datasets.places import locate
from act2see.trace import Question
from act2see.video import VideoError

Text = Annotated[str, Field(min_length=1)]
R = TypeVar("R", bound=BaseModel)


class Published(NamedTuple, Generic[R]):
    """A record twice: the row as it stands in the file, and checked."""

    row: dict[str, Any]
    record: R


class Loaded(NamedTuple):
    """The questions whose video can be read, and what is wrong with other videos and records.

    Of videos that are there, those that were drawn are opened, and no others.
    """

    questions: list[Question]
    missing: dict[str, str]


class Wanted(NamedTuple):
    """Which questions of a file are wanted, so that no video is opened for others.

    order: all of them -> those that may be asked, the first first. count: at the most; None for
    all. wrong: collects what is wrong with a record, by its place; None raises it instead.
    """

    order: Callable[[list[Question]], list[Question]] = list
    count: int | None = None
    wrong: dict[str, str] | None = None


EVERYTHING = Wanted()


def item(question: Question) -> str:
    """The item that the question belongs to: its id up to the last `/`, or all of it.

    Data sets that ask about one item several times number its questions behind a slash.
    """
    return question.id.rpartition("/")[0] or question.id


def read_records(
    path: str | Path,
    kind: type[R],
    key: str = "",
    wanted: Wanted = EVERYTHING,
    reshape: Callable[[list[Any]], list[Any]] = list,
) -> list[Published[R]]:
    """Every record of a file, as it stands there and as a `kind`.

    A JSON file may hold a list, an object of objects, or one object a line.
    key: the field that identifies a record, "" where none does. reshape: the rows of another
    published form -> those of a `kind`.
    Raises ValueError naming file, record and field where one is wrong, or two records have a key;
    where `wanted` collects what is wrong, only if no record is right.
    """
    try:
        rows = reshape(_rows(Path(path)))
    except (UnicodeError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{path}: {error}; it must be UTF-8 text") from error
    if not rows:
        raise ValueError(f"{path} has 0 records; it must have 1 or more")
    published = []
    taken = set()
    for index, row in enumerate(rows):
        try:
            record = _checked(row, kind, f"{path}: record {index}", key)
            # A trace is found again by its question's id: two of one id would share an answer.
            if key and row[key] in taken:
                where = f"{path}: record {index} ({row[key]}): {key}"
                raise ValueError(f"{where}: an earlier record has it already; keep one of them")
        except ValueError as error:
            if wanted.wrong is None:
                raise
            wanted.wrong[f"record {index}"] = str(error)
            continue
        published.append(Published(row, record))
        taken.add(row.get(key))
    if not published:
        raise ValueError(next(iter(wanted.wrong.values())))
    return published


def _alike(question: Question) -> str:
    return ""


def find_videos(
    questions: Sequence[Question],
    folder: str | Path,
    wanted: Wanted = EVERYTHING,
    differs: Callable[[Question], str] = _alike,
) -> Loaded:
    """The questions with the path of their video, so far a name in the folder, and its duration.

    A name may have folders before it and another ending than the file.
    differs: a question with its video's length -> why this is not the record's video, "" if it is.
    """
    names = list(dict.fromkeys(question.video for question in questions))
    paths, missing = locate(names, Path(folder))
    published = {str(path): name for name, path in paths.items()}
    there = [q for q in questions if q.video in paths]
    moved = [q.model_copy(update={"video": str(paths[q.video])}) for q in there]
    kept: list[Question] = []
    order = wanted.order(moved)
    total = min(len(order), wanted.count or len(order))
    for question in tqdm(order, desc="questions", unit="question", total=total, leave=False):
        if len(kept) == wanted.count:
            break
        # YouTube takes videos away, so no download is ever whole: the rest is still worth asking.
        try:
            known = question.model_copy(update={"duration_s": length_s(Path(question.video))})
            if reason := differs(known):
                raise VideoError(f"{question.video}: {reason}")
            kept.append(known)
        except VideoError as error:
            missing[published[question.video]] = str(error)
    in_order = {name: missing[name] for name in names if name in missing}
    return Loaded(kept, (wanted.wrong or {}) | in_order)


def compare_lengths(
    loaded: Loaded, record_s: Callable[[Question], tuple[float, float] | None]
) -> Loaded:
    """The same, after a warning that lists the videos which are not as long as their records say.

    record_s: the least and the most seconds that a question's record allows, None where it does not
    say. A cut or another video is asked about all the same: whoever reads the list may know why.
    """
    others = {}
    for question in loaded.questions:
        least_s, most_s = record_s(question) or (0.0, inf)
        # Cutting and encoding anew move an end by a second or so.
        slack_s = max(2.0, 0.05 * least_s)
        if not least_s - slack_s <= question.duration_s <= most_s + slack_s:
            span = f"{least_s:.0f}" + f" to {most_s:.0f}" * (most_s > least_s)
            lasts = f"lasts {question.duration_s:.0f} s; the record says {span} s"
            others[question.video] = f"{question.video}: {lasts}"
    if others:
        listed = "\n".join(others.values())
        warnings.warn(
            f"{len(others)} videos may not be those of the records:\n{listed}", stacklevel=3
        )
    return loaded


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


def _checked(row: Any, kind: type[R], where: str, key: str) -> R:
    """The row as a `kind`. Raises ValueError naming the first wrong field and what stands in it."""
    if not isinstance(row, dict):
        raise ValueError(f"{where} is {reprlib.repr(row)}; it must be an object with fields")
    where += f" ({row.get(key)})" if key else ""
    try:
        return kind.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        got = f", got {reprlib.repr(first['input'])}"
        if first["type"] == "missing":
            # Whoever took the wrong file sees it from the names.
            got = f"; its fields are {', '.join(map(str, row))}"
        raise ValueError(f"{where}: {field}: {first['msg']}{got}") from error
