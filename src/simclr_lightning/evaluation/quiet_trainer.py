"""A Trainer for what another command computes on the way, and how that command tells how far it is."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Callback, Trainer

Progress = Callable[[str], None]
"""Takes a line about how far something is."""


def within(progress: Progress, title: str) -> Progress:
    """Progress of a part of something.

    Example:
        >>> within(print, "draw 1 of 3")("epoch 2 of 60")
        draw 1 of 3, epoch 2 of 60
    """
    return lambda line: progress(f"{title}, {line}")


def device_settings(trainer: Trainer) -> dict[str, Any]:
    """Accelerator, devices and precision of a Trainer of one device, for :func:`quiet_trainer`.

    Example:
        >>> device_settings(Trainer(accelerator="cpu", logger=False))
        {'accelerator': 'cpu', 'devices': 1, 'precision': '32-true'}
    """
    device = trainer.strategy.root_device
    devices = 1 if device.index is None else [device.index]
    return {"accelerator": device.type, "devices": devices, "precision": trainer.precision}


@contextmanager
def quiet_trainer(
    *,
    accelerator: str = "auto",
    devices: list[int] | int = 1,
    precision: Any = "32-true",
    max_epochs: int = -1,
    max_steps: int = -1,
    callbacks: Sequence[Callback] = (),
) -> Iterator[Trainer]:
    """A Trainer that logs, saves, announces and shows nothing, for what another command computes on the way.

    It does not validate. Within the block Lightning neither introduces it, nor advises on workers and validation.

    Args:
        accelerator: as Lightning's Trainer takes it, like the others.
        devices: a number, or which.
        precision: of the computations.
        max_epochs: of a fit.
        max_steps: of a fit.
        callbacks: the only ones.

    Example:
        >>> with quiet_trainer(accelerator="cpu", max_epochs=2) as trainer:
        ...     trainer.loggers, trainer.max_epochs
        ([], 2)
    """
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "You defined a `validation_step` but have no `val_dataloader`")
            warnings.filterwarnings("ignore", ".*does not have many workers")
            yield Trainer(
                accelerator=accelerator,
                devices=devices,
                precision=precision,
                max_epochs=max_epochs,
                max_steps=max_steps,
                callbacks=list(callbacks),
                limit_val_batches=0,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
