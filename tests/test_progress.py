"""The line of a training: what it says, and how often."""

from types import SimpleNamespace

import pytest

from act2see import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves ten seconds each time that it is read."""
    seconds = iter(range(0, 10_000, 10))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))


def state(step, **log):
    return SimpleNamespace(global_step=step, max_steps=8, epoch=step / 4, log_history=[log])


ARGUMENTS = SimpleNamespace(num_train_epochs=2.0)


def test_the_line_tells_epoch_step_loss_and_minutes_left(clock, capsys):
    line = progress.Progress(first_s=10)
    line.on_train_begin(ARGUMENTS, state(0), None)
    line.on_step_end(ARGUMENTS, state(1), None)
    line.on_step_end(ARGUMENTS, state(2, loss=0.51234), None)
    line.on_step_end(ARGUMENTS, state(3, loss=0.5), None)
    assert capsys.readouterr().err.splitlines() == [
        # One step took ten seconds, and seven are left.
        "training: epoch 0.2 of 2, step 1 of 8, loss to come, 1.2 min left",
        "training: epoch 0.8 of 2, step 3 of 8, loss 0.500, 0.8 min left",
    ]


def test_the_last_step_is_told_and_a_resumed_training_counts_its_own_steps(clock, capsys):
    line = progress.Progress(first_s=10, every_s=1e6)
    line.on_train_begin(ARGUMENTS, state(4), None)
    for step in (5, 6, 7, 8):
        line.on_step_end(ARGUMENTS, state(step, loss=0.1), None)
    first, last = capsys.readouterr().err.splitlines()
    assert first.endswith("step 5 of 8, loss 0.100, 0.5 min left")
    assert last.endswith("step 8 of 8, loss 0.100, 0.0 min left")


def test_nothing_is_told_before_ten_seconds_are_measured(clock, capsys):
    line = progress.Progress(first_s=25)
    line.on_train_begin(ARGUMENTS, state(0), None)
    for step in (1, 2):
        line.on_step_end(ARGUMENTS, state(step), None)
    assert capsys.readouterr().err == ""
    line.on_step_end(ARGUMENTS, state(3), None)
    # Three steps took thirty seconds.
    assert capsys.readouterr().err.endswith("0.8 min left\n")


def test_a_forecast_is_made_from_what_was_measured():
    assert progress.forecast(4, 90.0, 8).endswith(
        "4 took 1.5 min on this machine; 8 more: about 3.0 min"
    )
    assert progress.forecast(0, 0.0, 8).endswith("about 0.0 min")
