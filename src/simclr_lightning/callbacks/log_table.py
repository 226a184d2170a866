"""Tables for the loggers that take some."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger, WandbLogger
from PIL import Image


def log_table(
    trainer: Trainer,
    name: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    loggers: Iterable[Logger] | None = None,
) -> None:
    """Hand a table to every logger that has ``log_table``, which Weights & Biases has.

    Args:
        trainer: its step.
        name: of the table.
        columns: names of the columns.
        rows: as many cells each: plain values, or PIL pictures.
        loggers: those of the trainer by default.

    Example:
        >>> from types import SimpleNamespace
        >>> logger = SimpleNamespace(log_table=lambda key, columns, data, step: print(key, columns, data, step))
        >>> log_table(Trainer(logger=False), "classes", ["class", "right"], [["cat", 3]], loggers=[logger])
        classes ['class', 'right'] [['cat', 3]] 0
    """
    found: Iterable[Any] = trainer.loggers if loggers is None else loggers
    takers = [own for own in found if hasattr(own, "log_table")]
    table = [list(row) for row in rows] if takers else []
    for logger in takers:
        data = [[_picture(cell) for cell in row] for row in table] if isinstance(logger, WandbLogger) else table
        logger.log_table(key=name, columns=list(columns), data=data, step=trainer.global_step)


def _picture(cell: Any) -> Any:
    """A picture as W&B takes it."""
    if not isinstance(cell, Image.Image):
        return cell
    import wandb

    return wandb.Image(cell)
