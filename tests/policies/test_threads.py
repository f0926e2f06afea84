import pytest
import torch

from act2see.policies import threads
from act2see.policies.threads import Threads


@pytest.mark.parametrize(
    ("passed_s", "used_s", "own_s", "taken"),
    [
        (1.0, 4.0, 4.0, 4),  # alone, on all four cores
        (1.0, 1.0, 0.9, 4),
        (1.0, 4.0, 3.0, 3),  # another program took one
        (10.0, 40.0, 20.0, 2),
        (1.0, 4.0, 0.1, 1),  # others took all
        (0.1, 0.4, 0.0, 4),  # too short to tell
    ],
)
def test_no_more_threads_than_others_leave_cores(monkeypatch, passed_s, used_s, own_s, taken):
    times = iter([(0.0, 0.0, 0.0), (passed_s, used_s, own_s)])
    numbers = []
    monkeypatch.setattr(threads, "_times", lambda: next(times))
    monkeypatch.setattr(threads.psutil, "cpu_count", lambda: 4)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(torch, "set_num_threads", numbers.append)
    Threads().settle()
    assert (numbers or [4]) == [taken]


def test_the_times_are_of_this_machine_and_this_process():
    one = threads._times()
    sum(range(3_000_000))
    other = threads._times()
    passed_s, used_s, own_s = (b - a for a, b in zip(one, other, strict=True))
    assert passed_s > 0 and own_s >= 0 and used_s >= 0
