"""How long videos last, remembered on disk, so that a file is opened once for it.

Works on paths; what was learnt holds while a file's size and time stay the same. Knows nothing of
records. One SQLite table in the user's cache folder, which several processes may share. Our choice.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from act2see.video import probe

# Its number goes up when `probe` comes to measure lengths differently.
CREATE = """CREATE TABLE IF NOT EXISTS lengths_1
(path TEXT PRIMARY KEY, size INTEGER, changed_ns INTEGER, length_s REAL)"""
FIND = "SELECT length_s FROM lengths_1 WHERE (path, size, changed_ns) = (?, ?, ?)"


def length_s(path: Path) -> float:
    """Seconds that a video lasts, from the disk or else from the file; raises as `video.probe`."""
    with closing(_table()) as table:
        try:
            status = path.stat()
        except (OSError, ValueError):
            return probe(path).duration_s
        key = (str(path.resolve()), status.st_size, status.st_mtime_ns)
        known = table.execute(FIND, key).fetchone()
        if known:
            return known[0]
        found_s = probe(path).duration_s
        table.execute("INSERT OR REPLACE INTO lengths_1 VALUES (?, ?, ?, ?)", (*key, found_s))
    return found_s


def cache_file() -> Path:
    """Where lengths are remembered: `videos.sqlite` in `act2see` of the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "act2see" / "videos.sqlite"


def _table() -> sqlite3.Connection:
    file = cache_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        table = sqlite3.connect(file, timeout=30, isolation_level=None)
        table.execute(CREATE)
    # A folder that cannot be written, or a damaged file: each length is measured anew.
    except (OSError, sqlite3.Error):
        table = sqlite3.connect(":memory:", isolation_level=None)
        table.execute(CREATE)
    return table
