"""All attacks on all stages, into data/chaos.csv: `make chaos`, or with a seed and a share.

python -m tests.chaos.run [SEED] [SHARE]: another seed draws other moments, files and bytes; a share
of 0.1 tries a tenth, into outputs/chaos.csv.
"""

import os
import platform
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from act2see.store import write_text
from tests.chaos import attacks, servers
from tests.chaos.stages import STAGES, base, questions

# How often each is tried with each stage.
PLANS = (
    (attacks.kills, 20),
    (attacks.damage, 40),
    (attacks.full_disk, 8),
    (attacks.two_writers, 5),
)


def table(seed: int, share: float) -> pd.DataFrame:
    """A row an attack and a stage."""
    questions()
    base()
    # Imported before the forks, that a kill may hit the work.
    import datasets  # noqa: F401

    import act2see.evaluation
    import act2see.export
    import act2see.finetune
    import act2see.policies.qwen  # noqa: F401

    rows = []
    for attack, tries in PLANS:
        for stage in STAGES:
            with TemporaryDirectory() as folder:
                rows.append(attack(stage, Path(folder), max(1, round(tries * share)), seed))
            print(*rows[-1], flush=True)
    rows.append(attacks.malformed_calls(questions()[0], max(1, round(1000 * share)), seed))
    rows += servers.failing_servers(questions()[0])
    machine = f"{platform.system()}, {platform.machine()}, {os.cpu_count()} cores"
    return pd.DataFrame(rows).assign(seed=seed, machine=machine, date=time.strftime("%Y-%m-%d"))


if __name__ == "__main__":
    words = sys.argv[1:]
    share = float(words[1]) if words[1:] else 1.0
    result = table(int(words[0]) if words else 0, share)
    folder = Path("data") if share == 1 else Path("outputs")
    write_text(folder / "chaos.csv", result.to_csv(index=False))
    print(result.to_string(index=False))
    sys.exit(int((result.survived < result.tried).any()))
