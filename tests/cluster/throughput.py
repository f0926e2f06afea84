"""Questions a second of two workers to those of one, on a core each, into `outputs/perf.csv`."""

import tempfile
import time
from pathlib import Path

import ray

from act2see.cluster import Crew, Worker
from act2see.interleave import Budget
from act2see.pocket.questions import pocket_questions
from act2see.profiles import POCKET
from tests.cluster.test_cluster import student
from tests.perf.report import compare

BUDGET = Budget(open_dialogues=12)


def main() -> None:
    """Both crews are there, and warm, before the first is timed."""
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        questions = pocket_questions("validation", 322, 48, Path(folder))
        remote = ray.remote(num_cpus=1)(Worker)
        crews = [
            Crew(lambda: remote.remote(student, POCKET.tools, BUDGET), count, BUDGET)
            for count in (1, 2)
        ]

        def seconds(crew: Crew) -> float:
            began = time.perf_counter()
            assert len(list(crew.ask(questions))) == len(questions)
            return time.perf_counter() - began

        for crew in crews:
            seconds(crew)
        one, two = crews
        compare("cluster", "2 workers to 1", ">= 1.6", lambda: seconds(two), lambda: seconds(one))


if __name__ == "__main__":
    main()
