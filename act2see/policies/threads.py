"""As many threads as other programs leave cores: a product waits for its slowest thread.

Works on the times that the system counts. Knows nothing of models. PyTorch's threads wait for each
other by spinning, and where another program has one of two cores, one thread is faster than two.
Our choice.
"""

import os
import time

import psutil  # comes with accelerate
import torch

WINDOW_S = 0.5  # over which the cores' use is counted


class Threads:
    """How many threads this process may take, looked at again from time to time."""

    def __init__(self) -> None:
        self.most = torch.get_num_threads()
        self.cores = psutil.cpu_count() or 1
        self.before = _times()

    def settle(self) -> None:
        """Take no more threads than others left cores since the last look; at least one."""
        now = _times()
        wall_s, used_s, own_s = (new - old for new, old in zip(now, self.before, strict=True))
        if wall_s >= WINDOW_S:
            self.before = now
            left = round(self.cores - (used_s - own_s) / wall_s)
            torch.set_num_threads(max(1, min(self.most, left)))


def _times() -> tuple[float, float, float]:
    """Seconds passed, used on all cores by all programs, and used by this one."""
    cores = psutil.cpu_times()
    own = os.times()
    used_s = cores.user + cores.system + getattr(cores, "nice", 0.0)
    return time.monotonic(), used_s, own.user + own.system
