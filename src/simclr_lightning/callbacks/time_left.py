"""How long a training will take from here, for whoever shows its progress."""

from __future__ import annotations

import math
import time

from lightning.pytorch import Trainer

from simclr_lightning.callbacks.throughput import Throughput


class TimeLeft:
    """Time until the end of a training, from the batches since it began.

    Example:
        >>> left = TimeLeft(Trainer(accelerator="cpu", max_steps=3, logger=False, enable_checkpointing=False))
        >>> left.seconds is None
        True

    Args:
        trainer: that begins to train.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer, self._begun = trainer, time.monotonic()
        self._first = trainer.fit_loop.epoch_loop.total_batch_idx + 1

    @property
    def seconds(self) -> float | None:
        """None where the run has no end, or has done nothing yet."""
        trainer = self._trainer
        done = trainer.fit_loop.epoch_loop.total_batch_idx + 1 - self._first
        if done < 1:
            return None
        steps: float = trainer.estimated_stepping_batches
        if not math.isfinite(steps):
            return None
        left = max(0.0, steps - trainer.global_step)
        return (time.monotonic() - self._begun) / done * left * trainer.accumulate_grad_batches


def duration(seconds: float) -> str:
    """In the two largest units.

    Example:
        >>> duration(3725)
        '1 h 2 min'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def pictures_per_second(trainer: Trainer) -> float | None:
    """As ``Throughput`` has measured it, None where it has not, or is not there.

    Example:
        >>> pictures_per_second(Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)) is None
        True
    """
    found = (own for own in trainer.callbacks if isinstance(own, Throughput))  # type: ignore[attr-defined]
    return next((own.pictures_per_second for own in found), None)


def rate(trainer: Trainer) -> str | None:
    """Learning rate of the first group of parameters.

    Example:
        >>> rate(Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)) is None
        True
    """
    return f"{trainer.optimizers[0].param_groups[0]['lr']:.3g}" if trainer.optimizers else None
