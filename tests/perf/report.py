"""Ratios of ours to a slow obvious reference, both run in turn in one process, as a table.

A script states a case, two functions and a limit; `outputs/perf.csv` keeps the last figures of
every subject, with machine, date and versions. Only ratios are compared: times hold for one machine
at one hour.
"""

import ctypes
import gc
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from math import isnan
from pathlib import Path
from statistics import median

import pandas as pd
import torch

TABLE = Path("outputs/perf.csv")
NAN = float("nan")


def compare(
    subject: str, case: str, limit: str, ours: Callable, reference: Callable, pairs: int = 5
) -> None:
    """Medians of the seconds that two functions take, run in turn, or of what they return.

    limit: `>= 3` for reference / ours, `<= 0.8` for ours / reference.
    """
    seconds = [(_take(ours), _take(reference)) for _ in range(pairs)]
    record(subject, case, limit, *(median(some) for some in zip(*seconds, strict=True)), n=pairs)


def _take(work: Callable) -> float:
    gc.collect()
    began = time.perf_counter()
    told = work()
    return told if isinstance(told, float) else time.perf_counter() - began


def record(
    subject: str,
    case: str,
    limit: str,
    ours: float,
    reference: float = NAN,
    unit: str = "s",
    n: int = 1,
    note: str = "",
) -> None:
    """Print one row and keep it in the table, in place of an older one of the same case.

    limit: as of `compare`; "" for ours / reference and no verdict. NaN is what was not measured.
    n: how many runs a figure is the median of.
    """
    ratio = reference / ours if limit.startswith(">=") else ours / reference
    held = not limit or (ratio >= float(limit[2:]) if ">" in limit else ratio <= float(limit[2:]))
    row = {
        "subject": subject,
        "case": case,
        "n": n,
        "ours": round(ours, 4),
        "reference": round(reference, 4),
        "unit": unit,
        "ratio": round(ratio, 3),
        "limit": limit,
        "note": note,
        "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU",
        "date": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "transformers": version("transformers"),
    }
    verdict = f" ({limit}, {'held' if held else 'MISSED'})" if limit and not isnan(ratio) else ""
    figures = f"{ours:.4g} to {reference:.4g} {unit}, {ratio:.2f}"
    print(f"{subject}: {case}: {figures}{verdict} {note}".rstrip(), flush=True)
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    rows = pd.read_csv(TABLE).to_dict("records") if TABLE.exists() else []
    rows = [old for old in rows if (old["subject"], old["case"]) != (subject, case)]
    pd.DataFrame([*rows, row], columns=[*row]).to_csv(TABLE, index=False)


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
