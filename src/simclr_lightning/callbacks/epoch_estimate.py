"""``EpochEstimate``: after the first steps, how long an epoch and the whole run will take."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar

from simclr_lightning.callbacks.time_left import duration

_LEAST_SECONDS, _LEAST_STEPS = 5.0, 10  # a device may lag behind the host by some steps, which counts little then
_LONG = 60.0  # seconds, after which two steps are enough to tell


class EpochEstimate(Callback):
    """Says once, in the first epoch of a fit, how long epochs and the run will take, validation not counted.

    It is measured from the end of the first step, which chooses kernels and waits for workers, by the host's clock:
    after ten steps and five seconds, or two steps that took a minute. No device is waited for. Where an epoch is over
    before, nothing is said: its own line or the bar tells it.

    Example:
        >>> trainer = Trainer(callbacks=[EpochEstimate()], accelerator="cpu", logger=False, enable_checkpointing=False)
    """

    def __init__(self) -> None:
        super().__init__()
        self._begun, self._steps, self._pending = 0.0, 0, False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin."""
        self._begun, self._steps, self._pending = 0.0, 0, trainer.is_global_zero

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Say it if it can be said."""
        if not self._pending:
            return
        now = time.monotonic()
        if not self._begun:
            self._begun = now
            return
        self._steps += 1
        seconds = now - self._begun
        if (self._steps >= _LEAST_STEPS and seconds >= _LEAST_SECONDS) or (self._steps >= 2 and seconds >= _LONG):
            self._pending = False
            _say(trainer, estimate(trainer, seconds / self._steps))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A validation within the epoch would count."""
        self._begun, self._steps = 0.0, 0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The epoch's own line tells it."""
        self._pending = False


def estimate(trainer: Trainer, seconds: float) -> str:
    """Time of an epoch and of the rest of the run.

    Args:
        trainer: that trains.
        seconds: of a batch.

    Example:
        >>> trainer = Trainer(accelerator="cpu", max_epochs=3, logger=False, enable_checkpointing=False)
        >>> trainer.fit_loop.max_batches = 100
        >>> estimate(trainer, 0.5)
        'A step takes about 0.5 s, an epoch of 100 step(s) about 50 s, and what is left of the run 2 min 30 s, \
validation not counted.'
    """
    batches, epochs = trainer.num_training_batches, trainer.max_epochs
    told = f"A step takes about {seconds:.2g} s" if seconds < 9.95 else f"A step takes about {seconds:.0f} s"
    parts = [told]
    if math.isfinite(batches):
        parts.append(f"an epoch of {int(batches):,} step(s) about {duration(seconds * batches)}")
    left = math.inf
    if math.isfinite(batches) and epochs is not None and epochs > 0:
        done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        left = (epochs - trainer.current_epoch) * batches - done
    if trainer.max_steps > 0:
        left = min(left, (trainer.max_steps - trainer.global_step) * trainer.accumulate_grad_batches)
    if math.isfinite(left):
        parts.append(f"what is left of the run {duration(seconds * max(0, left))}")
    *first, last = parts
    return f"{', '.join(first)}{', and ' if first else ''}{last}, validation not counted."


def _say(trainer: Trainer, line: str) -> None:
    """Beside a bar, where there is one."""
    bar = trainer.progress_bar_callback
    (bar.print if isinstance(bar, ProgressBar) else print)(line)
    sys.stdout.flush()
