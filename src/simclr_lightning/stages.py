"""The stages of a training step, and how a module marks one that Lightning cannot tell apart."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.profilers import Profiler

STAGES = ("data", "copy", "views", "encoder", "loss", "backward", "optimizer", "rest")
"""In the order of a step, with the rest: callbacks, loggers, and what Lightning does between them."""

_MARK = "[stage]."


def marked(stage: str, trainer: Trainer | None) -> AbstractContextManager[Any]:
    """Mark what runs inside as a stage, for the profiler of the Trainer, where Lightning marks its own actions.

    Without a listener this does nothing; ``--trainer.profiler simple`` shows it among the actions.

    Example:
        >>> with marked("loss", None):
        ...     pass

    Args:
        stage: one of ``STAGES``.
        trainer: that runs the module, None in somebody else's loop.
    """
    if trainer is None:
        return nullcontext()
    profiler: Profiler = trainer.profiler  # type: ignore[attr-defined]  # set by one of its parts
    return profiler.profile(f"{_MARK}{stage}")


def stage_of(action: str) -> str | None:
    """The stage that an action of Lightning belongs to; None where it is part of whatever it is in.

    Example:
        >>> stage_of("[Strategy]DDPStrategy.backward"), stage_of("[Callback]ViewGrid.on_train_epoch_end")
        ('backward', None)

    Args:
        action: as a profiler is told it.
    """
    owner, _, name = action.rpartition(".")
    if owner.startswith("[Callback]"):
        return None
    return name if f"{owner}." == _MARK else _OF_LIGHTNING.get(name)


_OF_LIGHTNING = {
    "train_dataloader_next": "data",
    "on_before_batch_transfer": "copy",
    "batch_to_device": "copy",
    "on_after_batch_transfer": "views",
    "training_step": "encoder",
    "backward": "backward",
    "optimizer_step": "optimizer",
}
