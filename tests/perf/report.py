"""Ratios of ours to a slow obvious reference, both run in turn in one process, as a table.

A script states a case, two functions and a limit; `outputs/perf.csv` keeps the last figures of
every subject. Only ratios are compared: times hold for one machine at one hour.
"""

import ctypes
import gc
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pandas as pd

TABLE = Path("outputs/perf.csv")
COLUMNS = ["subject", "case", "ours", "reference", "unit", "ratio", "limit"]


def compare(
    subject: str, case: str, limit: str, ours: Callable, reference: Callable, pairs: int = 5
) -> None:
    """Medians of the seconds that two functions take, run in turn, or of what they return.

    limit: `>= 3` for reference / ours, `<= 0.8` for ours / reference.
    """
    seconds = [(_take(ours), _take(reference)) for _ in range(pairs)]
    record(subject, case, limit, *(median(some) for some in zip(*seconds, strict=True)))


def _take(work: Callable) -> float:
    gc.collect()
    began = time.perf_counter()
    told = work()
    return told if isinstance(told, float) else time.perf_counter() - began


def record(subject: str, case: str, limit: str, ours, reference, unit: str = "s") -> None:
    """Print one row and keep it in the table, in place of an older one of the same case."""
    ratio = reference / ours if limit.startswith(">=") else ours / reference
    held = ratio >= float(limit[2:]) if limit.startswith(">=") else ratio <= float(limit[2:])
    row = [subject, case, round(ours, 4), round(reference, 4), unit, round(ratio, 3), limit]
    print(f"{subject}: {case}: {ratio:.2f} ({limit}, {'held' if held else 'MISSED'})", flush=True)
    TABLE.parent.mkdir(exist_ok=True)
    old = pd.read_csv(TABLE) if TABLE.exists() else pd.DataFrame(columns=COLUMNS)
    old = old[(old.subject != subject) | (old.case != case)]
    pd.DataFrame([*old.to_numpy().tolist(), row], columns=COLUMNS).to_csv(TABLE, index=False)


def peak_bytes(work: Callable) -> float:
    """How far the memory of this process rose above where it stood, at the most, during `work`.

    What was freed earlier goes back to the system first: it would be used again unnoticed.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    done, page = threading.Event(), 4096
    before = _resident() * page
    peak = [before]

    def watch() -> None:
        while not done.is_set():
            peak[0] = max(peak[0], _resident() * page)
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return float(peak[0] - before)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1])
