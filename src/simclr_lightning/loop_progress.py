"""Where Lightning's loops are, as its private names have it, and as a checkpoint of any moment has to tell it."""

from __future__ import annotations

from typing import Any, cast

from lightning.pytorch import Trainer
from lightning.pytorch.trainer.states import TrainerFn

_KINDS = ("total", "current")  # Lightning's counts, of everything and of what goes on


def stop_between_batches(trainer: Trainer) -> None:
    """Let a Trainer raise ``SIGTERMException`` where its state is complete: after a batch, not in the middle of one.

    Example:
        >>> trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        >>> stop_between_batches(trainer)
        >>> trainer.received_sigterm
        True
    """
    trainer._signal_connector.received_sigterm = True


def accumulates(trainer: Trainer) -> bool:
    """Whether gradients are held for a later step, which no checkpoint has.

    Example:
        >>> accumulates(Trainer(accelerator="cpu", logger=False, enable_checkpointing=False))
        False
    """
    return bool(trainer.fit_loop._should_accumulate())


def between_batches(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Change a checkpoint that is made at the end of a batch or in a validation to one that is made before or after it.

    Lightning takes a batch whose last hook has not ended for one after which there was a validation, and the last one
    of an epoch for the end of the epoch; and a validation that was broken off for one that has ended. What comes after
    the batch is then left out, and an epoch too many is trained where such a run is resumed again. A validation is
    begun again where a batch of it seems to have failed.

    It also takes an epoch for over in which ``max_steps``, or early stopping, has ended the training: such a run goes
    on after the batch. What ``limit_train_batches`` leaves of an epoch is all of it.

    Args:
        trainer: that makes it.
        checkpoint: is changed; a second time nothing happens.

    Example:
        >>> trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        >>> content = {"loops": {"fit_loop": trainer.fit_loop.state_dict()}}
        >>> between_batches(trainer, content)
        >>> content["loops"]["fit_loop"] == trainer.fit_loop.state_dict()
        True
    """
    if trainer.state.fn != TrainerFn.FITTING or "loops" not in checkpoint:
        return
    loops, loop = checkpoint["loops"]["fit_loop"], trainer.fit_loop.epoch_loop
    batches = loops["epoch_loop.batch_progress"]
    ends = batches["total"]["completed"] == batches["total"]["processed"] - 1
    if ends:
        for kind in _KINDS:
            batches[kind]["completed"] = batches[kind]["processed"]
    fetcher: Any = trainer.fit_loop._data_fetcher
    if trainer.validating or (ends and loop._should_check_val_fx(fetcher)):
        progress = loops["epoch_loop.val_loop.batch_progress"]
        in_it = progress["current"]["completed"] if trainer.validating else 0
        before = progress["total"]["completed"] - in_it
        for kind, done in zip(_KINDS, (before, 0), strict=True):
            progress[kind] |= {"ready": done + 1, "started": done + 1, "processed": done, "completed": done}
    elif ends and not accumulates(trainer):
        loops["epoch_loop.state_dict"]["_batches_that_stepped"] += 1
    elif not ends and _is_within_epoch(trainer):
        for kind in _KINDS:
            epochs = loops["epoch_progress"][kind]
            epochs["processed"] = epochs["completed"] = epochs["started"] - 1
        checkpoint["epoch"] = loops["epoch_progress"]["current"]["completed"]
        if _is_validated_next(trainer):  # which is over, and left out by a turn of the loop that counts a step
            loops["epoch_loop.state_dict"]["_batches_that_stepped"] = loop._batches_that_stepped - 1
            total = loops["epoch_loop.val_loop.batch_progress"]["total"]  # of one that was begun again: one too many
            total["ready"] = total["started"] = total["processed"] = total["completed"]


def _is_within_epoch(trainer: Trainer) -> bool:
    """Whether a batch has ended in this training, and was not the last one of its epoch."""
    loop = trainer.fit_loop.epoch_loop
    batches = loop.batch_progress
    is_last = batches.is_last_batch or batches.current.ready >= trainer.num_training_batches
    return batches.current.ready == batches.current.completed and not is_last and not loop._loaded_from_state_dict


def _is_validated_next(trainer: Trainer) -> bool:
    """Whether there is a validation after this batch, by its number; one by early stopping is not there again."""
    stops, trainer.should_stop = trainer.should_stop, False
    try:
        return trainer.fit_loop.epoch_loop._should_check_val_fx(cast("Any", trainer.fit_loop)._data_fetcher)
    finally:
        trainer.should_stop = stops


def record_to_come(trainer: Trainer) -> dict[str, float]:
    """What Lightning is about to log of a step or of an epoch, whose end is saved before; empty elsewhere.

    All processes must ask, since the values may be those of all of them.

    Example:
        >>> record_to_come(Trainer(accelerator="cpu", logger=False, enable_checkpointing=False))
        {}
    """
    loop: Any = trainer.fit_loop
    connector = trainer._logger_connector
    epochs, batches = loop.epoch_progress.total, loop.epoch_loop.batch_progress.current
    of_epoch = epochs.processed == epochs.completed + 1
    of_step = batches.processed == batches.completed + 1 and not accumulates(trainer) and connector.should_update_logs
    if trainer.state.fn != TrainerFn.FITTING or not trainer.training or not (of_epoch or of_step):
        return {}
    logged = {name: float(value) for name, value in connector.metrics["log"].items()}
    step = loop.epoch_loop._batches_that_stepped - of_epoch
    return {"epoch": trainer.current_epoch, "step": step, **logged} if logged else {}


def end_epoch_that_is_over(trainer: Trainer) -> None:
    """Take no batch more where a run goes on after the last one of an epoch, of which ``limit_train_batches`` may be.

    Args:
        trainer: that starts to train, and has restored its state.

    Example:
        >>> end_epoch_that_is_over(Trainer(accelerator="cpu", logger=False, enable_checkpointing=False))
    """
    loop = trainer.fit_loop
    if loop.restarting and loop.epoch_loop.batch_progress.current.ready >= trainer.num_training_batches:
        cast("Any", loop)._data_fetcher.done = True
