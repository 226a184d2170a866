"""One run of a study: a short pre-training, and a judgement of the frozen features."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from lightning.pytorch import Trainer, seed_everything

from simclr_lightning.ablation.matrix import UNTRAINED, Cell, Scores
from simclr_lightning.ablation.one_sided import AblationDataModule
from simclr_lightning.callbacks import LARSWarmup
from simclr_lightning.evaluation.frozen import knn_accuracy, linear_accuracy
from simclr_lightning.features import clean_features
from simclr_lightning.simclr import SimCLR

NEIGHBOURS = 200
WARMUP = 0.1
"""Share of the steps."""


class Training(NamedTuple):
    """The same for all runs of a study.

    Attributes:
        steps: optimizer steps of a run.
        encoder: as ``SimCLR`` takes it.
        width: of the encoder.
        temperature: of NT-Xent.
        learning_rate: peak rate of Nesterov SGD for a batch of 256; it grows linearly with the batch.
        weight_decay: of the weights.
        accelerator: of Lightning's Trainer.
    """

    steps: int
    encoder: str
    width: float
    temperature: float
    learning_rate: float
    weight_decay: float
    accelerator: str


def build_model(data: AblationDataModule, training: Training) -> SimCLR:
    """The model of a run; a mistake in its arguments shows here, before anything is trained."""
    return SimCLR(
        encoder=training.encoder,
        width=training.width,
        image_size=data.recipe.size,
        in_channels=data.in_channels,
        temperature=training.temperature,
        optimizer="sgd",
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
    )


def run_cell(data: AblationDataModule, training: Training, cell: Cell) -> Scores:
    """Pre-train with one-sided views and judge the encoder on the validation pictures.

    The seed decides initialisation, order of the pictures and all views: the same cell gives the same figures, whatever
    ran before it.

    Args:
        data: set up, with labels.
        training: how to train.
        cell: operations and seed.

    Raises:
        ValueError: if the training diverges.
    """
    started = time.perf_counter()
    own = data.one_sided(cell.operations, cell.seed)
    seed_everything(cell.seed, verbose=False)
    model = build_model(own, training)
    with quiet():
        trainer = Trainer(
            max_steps=training.steps,
            max_epochs=-1,
            accelerator=training.accelerator,
            devices=1,
            callbacks=[LARSWarmup(warmup_steps=int(WARMUP * training.steps))],
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        if cell.first != UNTRAINED:
            trainer.fit(model, own)
        train, val = (clean_features(trainer, model, own, split) for split in ("train", "val"))
    if not train.features.isfinite().all():
        raise ValueError(
            f"The training of {cell} diverged at a learning rate of {training.learning_rate}: choose a smaller one "
            "(--learning_rate), in a new folder (--output)."
        )
    linear = linear_accuracy(train, val)
    knn = knn_accuracy(train, val, k=min(NEIGHBOURS, len(train.targets)))
    return Scores(100 * linear, 100 * knn, time.perf_counter() - started)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning from introducing every one of a hundred Trainers."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have many workers")  # what is in memory needs none
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
