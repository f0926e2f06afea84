"""Records of published files, checked one by one, and the videos that they speak of.

Works on JSON, JSONL, CSV and Parquet files and a folder of videos. Knows nothing of what a record
means: each source and benchmark says so itself. A question keeps its record, as published, in
`truth`, which no prompt shows. Our choice.
"""

import json
import re
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import pandas as pd
from pydantic import BaseModel, Field, ValidationError
from tqdm.auto import tqdm

from act2see.trace import Question
from act2see.video import VideoError, probe

Text = Annotated[str, Field(min_length=1)]
R = TypeVar("R", bound=BaseModel)


class Loaded(NamedTuple):
    """The questions whose video can be read, and every other video with what is wrong with it."""

    questions: list[Question]
    missing: dict[str, str]


def read_records(path: str | Path, kind: type[R], key: str = "") -> list[tuple[dict[str, Any], R]]:
    """Every record of a file, as it stands there and as a `kind`.

    A JSON file may hold a list, an object of objects, or one object a line.
    key: the field that identifies a record, "" where none does.
    Raises ValueError naming file, record and field when a record is no `kind` or its key is taken.
    """
    pairs, taken = [], set()
    try:
        rows = _rows(Path(path))
    except (UnicodeError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{path}: {error}; it must be UTF-8 text") from error
    if not rows:
        raise ValueError(f"{path}: no record in it")
    for index, row in enumerate(rows):
        where = f"{path}: record {index}"
        if not isinstance(row, dict):
            raise ValueError(f"{where} is {reprlib.repr(row)}; it must be an object with fields")
        where += f" ({row.get(key)})" if key else ""
        try:
            pairs.append((row, kind.model_validate(row)))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            got = "" if first["type"] == "missing" else f", got {reprlib.repr(first['input'])}"
            raise ValueError(f"{where}: {field}: {first['msg']}{got}") from error
        if key and row[key] in taken:
            raise ValueError(f"{where}: {key}: an earlier record has it already")
        taken.add(row.get(key))
    return pairs


def find_videos(questions: Sequence[Question], folder: str | Path) -> Loaded:
    """The questions with the path of their video, so far a name in the folder, and its duration.

    A name may have folders of its own before it and another ending than the file.
    """
    found, missing = {}, {}
    names = dict.fromkeys(question.video for question in questions)
    for name in tqdm(names, desc="videos", unit="video", leave=False):
        path = _locate(Path(folder), Path(name))
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
    Raises ValueError for what is no YouTube id.

    >>> download_command(["dQw4w9WgXcQ"], "clips")[-2:]
    ['--', 'https://www.youtube.com/watch?v=dQw4w9WgXcQ']
    """
    if wrong := [i for i in video_ids if not re.fullmatch(r"[\w-]{11}", i)]:
        raise ValueError(f"{wrong[0]!r} is no YouTube id: it must have 11 letters, digits, - or _")
    form = ["-S", "res:720,vcodec:h264", "--remux-video", "mp4"]
    if length_s:
        span = f"*{start_s:.3f}-{start_s + length_s:.3f}"
        form += ["--download-sections", span, "--force-keyframes-at-cuts"]
    addresses = [f"https://www.youtube.com/watch?v={i}" for i in video_ids]
    return ["yt-dlp", *form, "-o", f"{folder}/%(id)s.%(ext)s", "--", *addresses]


def _rows(path: Path) -> list[Any]:
    if path.suffix == ".parquet":
        return json.loads(pd.read_parquet(path).to_json(orient="records"))
    if path.suffix == ".csv":
        return pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")
    text = path.read_text(encoding="utf-8-sig")
    lines = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    if path.suffix != ".jsonl" and not (len(lines) > 1 and lines[0][1].strip().endswith("}")):
        lines = [(1, text)]
    rows = []
    for number, line in lines:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: no JSON from line {number} on: {error}") from error
    if len(rows) == 1 and isinstance(rows[0], dict):
        one = list(rows[0].values())
        return one if all(isinstance(value, dict) for value in one) else rows
    return rows[0] if len(rows) == 1 and isinstance(rows[0], list) else rows


def _locate(folder: Path, name: Path) -> Path:
    """The first file there is: with all folders of the name, then with fewer; else the first."""
    parts = [part for part in name.parts if part != name.anchor]
    nested = [folder.joinpath(*parts[i:]) for i in range(len(parts))]
    endings = dict.fromkeys([name.suffix, ".mp4", ".webm", ".mkv"])
    tried = [path.with_suffix(ending) for path in nested for ending in endings]
    return next((path for path in tried if path.is_file()), nested[0])
