"""A small part of `make chaos`: a few tries of each attack on the quick stages."""

import subprocess
import sys

import pytest

from tests.chaos.attacks import malformed_calls
from tests.chaos.servers import FAILURES, failing_servers

SMALL = """
import sys
from pathlib import Path
from tests.chaos import attacks, stages
stages.questions()
for attack, stage, tries in (
    (attacks.kills, stages.filtering, 3),
    (attacks.damage, stages.filtering, 3),
    (attacks.full_disk, stages.filtering, 1),
    (attacks.two_writers, stages.distillation, 1),
):
    row = attack(stage, Path(sys.argv[1]) / attack.__name__, tries, seed=3)
    print(row)
    assert row.survived == row.tried and not row.lost and not row.left
"""


@pytest.mark.skipif(sys.platform == "win32", reason="it forks")
def test_what_is_attacked_ends_as_if_left_alone(tmp_path):
    # A process of its own: a fork of one in which threads run may wait for ever.
    command = [sys.executable, "-W", "ignore", "-c", SMALL, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr[-2000:]


def test_no_reply_however_odd_raises_and_every_call_is_answered(questions):
    row = malformed_calls(questions[0], 300, seed=3)
    answered, calls = row.named.split(" of ")
    assert row.survived == 300 and answered == calls != "0"


def test_every_way_of_a_server_to_fail_is_named(questions, monkeypatch):
    for name in ("OPENAI_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, "")  # set anew by the servers, and restored
    tried = len(FAILURES)
    for row in failing_servers(questions[0]):
        assert (row.survived, row.named) == (tried, f"{tried} of {tried}")
