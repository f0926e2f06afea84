"""All attacks on all stages, into outputs/chaos.csv: `make chaos`, or with a seed and a share.

python -m tests.chaos.run [SEED] [SHARE]: another seed draws other moments, files and bytes; a share
of 0.1 tries a tenth.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from act2see.store import write_text
from tests.chaos import attacks, servers
from tests.chaos.stages import STAGES, base, questions


def table(seed: int, share: float) -> pd.DataFrame:
    """A row an attack and a stage."""
    questions()
    base()
    # Imported before the forks, that a kill may hit the work.
    import act2see.evaluation
    import act2see.finetune
    import act2see.policies.qwen  # noqa: F401

    rows = []
    plans = ((attacks.kills, 25), (attacks.damage, 50), (attacks.full_disk, 8))
    plans += ((attacks.two_writers, 3),)
    for attack, tries in plans:
        for stage in STAGES:
            with TemporaryDirectory() as folder:
                rows.append(attack(stage, Path(folder), max(1, round(tries * share)), seed))
            print(*rows[-1], flush=True)
    rows.append(attacks.malformed_calls(questions()[0], max(1, round(1000 * share)), seed))
    rows += servers.failing_servers(questions()[0])
    return pd.DataFrame(rows)


if __name__ == "__main__":
    words = sys.argv[1:]
    result = table(int(words[0]) if words else 0, float(words[1]) if words[1:] else 1.0)
    write_text(Path("outputs/chaos.csv"), result.to_csv(index=False))
    print(result.to_string(index=False))
    sys.exit(int((result.survived < result.tried).any()))
