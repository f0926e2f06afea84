"""How long it takes on this machine: a line while a training runs, a forecast of what is to come.

Works on the state of transformers' Trainer, and on counts and seconds. Knows nothing of models or
traces. The Trainer's bar is a widget, which a terminal does not show while papermill runs the
notebook. Our choice.
"""

import sys
import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class Progress(TrainerCallback):
    """Writes a line to stderr after `first_s` seconds, then every `every_s`, and at the last step.

    The minutes left are computed from the steps that this run has done on this machine.
    """

    def __init__(self, first_s: float = 10.0, every_s: float = 15.0) -> None:
        self.first_s = first_s
        self.every_s = every_s

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any
    ) -> None:
        """Remembers when it began, and at which step: a resumed training begins later."""
        self.begin_s = time.monotonic()
        self.begin_step = state.global_step
        self.due_s = self.begin_s + self.first_s

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any
    ) -> None:
        """Writes the line, if it is time."""
        now_s = time.monotonic()
        if now_s < self.due_s and state.global_step < state.max_steps:
            return
        self.due_s = now_s + self.every_s
        step_s = (now_s - self.begin_s) / (state.global_step - self.begin_step)
        left_min = step_s * (state.max_steps - state.global_step) / 60
        losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
        print(
            f"training: epoch {state.epoch:.1f} of {args.num_train_epochs:g}, "
            f"step {state.global_step} of {state.max_steps}, "
            f"loss {f'{losses[-1]:.3f}' if losses else 'to come'}, {left_min:.1f} min left",
            file=sys.stderr,
            flush=True,
        )


def forecast(done: int, seconds: float, left: int) -> str:
    """About how long `left` more will take here, where `done` of the same kind took `seconds`.

    >>> forecast(200, 60.0, 1200)
    '200 took 1.0 min on this machine; 1200 more: about 6.0 min'
    """
    minutes = seconds / 60
    more = minutes * left / max(done, 1)
    return f"{done} took {minutes:.1f} min on this machine; {left} more: about {more:.1f} min"
