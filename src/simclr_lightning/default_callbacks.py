"""The callbacks of ``simclr fit`` that nobody should have to ask for."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, ProgressBar

from simclr_lightning.callbacks import (
    ClassReport,
    EndTogether,
    EpochLines,
    LARSWarmup,
    RepresentationHealth,
    RetrievalTable,
    RunSummary,
    SaveWhenStopped,
    Throughput,
    TrainingBar,
    UnreadablePictures,
    ViewGrid,
)
from simclr_lightning.callbacks.epoch_estimate import EpochEstimate
from simclr_lightning.callbacks.sync_batchnorm import SyncBatchNormOnDevices
from simclr_lightning.classifiers import Classifier
from simclr_lightning.errors import InputError
from simclr_lightning.loop_progress import accumulates
from simclr_lightning.simclr import SimCLR


def chosen_callbacks(
    subcommand: str,
    model: LightningModule,
    trainer: Any,
    *,
    sync_batchnorm: bool = True,
    save_every_minutes: float | None = None,
) -> list[Callback]:
    """The callbacks that were asked for, and the defaults of which no other of their type was.

    Args:
        subcommand: of ``simclr``.
        model: that is trained or judged.
        trainer: settings of the Trainer.
        sync_batchnorm: whether BatchNorm statistics are shared.
        save_every_minutes: also write a checkpoint so often, within epochs.

    Raises:
        InputError: if these minutes are not more than 0.

    Example:
        >>> settings = dict.fromkeys(["callbacks", "barebones", "precision", "logger", "enable_checkpointing"])
        >>> settings |= {"fast_dev_run": True, "enable_progress_bar": False}
        >>> [type(callback).__name__ for callback in chosen_callbacks("fit", SimCLR("resnet8"), settings)]
        ['UnreadablePictures', 'EndTogether', 'SyncBatchNormOnDevices', 'LARSWarmup', 'RunSummary', 'Throughput']
    """
    callbacks = list(trainer["callbacks"] or [])
    for default in _defaults(subcommand, model, trainer, sync_batchnorm):
        if not any(isinstance(callback, type(default)) for callback in callbacks):
            callbacks.append(default)
    if subcommand == "fit" and save_every_minutes is not None:
        if save_every_minutes <= 0:
            raise InputError(f"save_every_minutes is {save_every_minutes}: choose more than 0", "save_every_minutes 10")
        # Beside that of every epoch: Lightning's callback knows one occasion only.
        callbacks.append(CheckpointByTheClock(train_time_interval=timedelta(minutes=save_every_minutes)))
    return callbacks


class CheckpointByTheClock(ModelCheckpoint):
    """Saves so often as ``train_time_interval`` says, but never between gradients that make up one step.

    Example:
        >>> callback = CheckpointByTheClock(train_time_interval=timedelta(minutes=10))
    """

    def on_train_batch_end(self, trainer: Trainer, *arguments: Any) -> None:
        """Save if it is time, and the step is complete."""
        if not accumulates(trainer):
            super().on_train_batch_end(trainer, *arguments)


def _defaults(subcommand: str, model: LightningModule, trainer: Any, sync_batchnorm: bool) -> list[Callback]:
    if trainer["barebones"]:
        return []
    classifies = isinstance(model, Classifier)
    given, callbacks = trainer["callbacks"] or [], list[Callback]([UnreadablePictures()])
    if classifies and subcommand in ("fit", "validate", "test"):
        callbacks.append(ClassReport())
    if subcommand != "fit":
        return callbacks
    callbacks.append(EndTogether())
    if sync_batchnorm:
        callbacks.append(SyncBatchNormOnDevices())
    if isinstance(model, SimCLR) and type(model).configure_optimizers is SimCLR.configure_optimizers:
        callbacks.append(LARSWarmup())
    if classifies and type(model).configure_optimizers is Classifier.configure_optimizers:
        callbacks.append(LARSWarmup(warmup_epochs=0))
    callbacks += [RunSummary(advise=trainer["precision"] is None), Throughput()]  # before the bar, which shows it
    if trainer["enable_progress_bar"] is not False and not any(isinstance(own, ProgressBar) for own in given):
        callbacks.append(TrainingBar() if sys.stdout.isatty() else EpochLines())
    if trainer["fast_dev_run"]:
        return callbacks
    callbacks.append(EpochEstimate())
    if not classifies:
        callbacks.append(ViewGrid())
    if isinstance(model, SimCLR):
        callbacks += [RepresentationHealth(), RetrievalTable()]
    if trainer["enable_checkpointing"] is not False:
        # Lightning's own choice is to save after validation, which may never come.
        callbacks.append(ModelCheckpoint(save_last=True, save_on_train_epoch_end=True))
        callbacks.append(SaveWhenStopped())
    if trainer["logger"] is not False:
        callbacks.append(LearningRateMonitor(logging_interval="step"))
    return callbacks
