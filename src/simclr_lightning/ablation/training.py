"""One cell of the matrix, with one seed: a short pre-training, and a judgement of the frozen features."""

from __future__ import annotations

import time
from typing import NamedTuple

from lightning.pytorch import seed_everything

from simclr_lightning.ablation.matrix import UNTRAINED, Cell, Scores
from simclr_lightning.ablation.one_sided import AblationDataModule
from simclr_lightning.callbacks import LARSWarmup
from simclr_lightning.errors import InputError
from simclr_lightning.evaluation.frozen import knn_accuracy, linear_accuracy
from simclr_lightning.evaluation.quiet_trainer import quiet_trainer
from simclr_lightning.features import clean_features
from simclr_lightning.losses import NTXentLoss
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

    Example:
        >>> Training(100, "resnet8", 0.5, 0.2, learning_rate=1.0, weight_decay=1e-4, accelerator="cpu").steps
        100
    """

    steps: int
    encoder: str
    width: float
    temperature: float
    learning_rate: float
    weight_decay: float
    accelerator: str


def small_model(data: AblationDataModule, training: Training) -> SimCLR:
    """The model of a run; a mistake in its arguments shows here, before anything is trained.

    Example:
        >>> training = Training(100, "resnet8", 0.125, 0.2, learning_rate=1.0, weight_decay=1e-4, accelerator="cpu")
        >>> small_model(AblationDataModule("digits"), training).loss.temperature
        0.2
    """
    return SimCLR(
        encoder=training.encoder,
        width=training.width,
        image_size=data.recipe.size,
        in_channels=data.in_channels,
        loss=NTXentLoss(temperature=training.temperature),
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
        InputError: if the training diverges.

    Example:
        >>> data = AblationDataModule("digits", val_fraction=0.8)
        >>> data.setup()
        >>> training = Training(2, "resnet8", 0.125, 0.2, learning_rate=1.0, weight_decay=1e-4, accelerator="cpu")
        >>> 0 < run_cell(data, training, Cell("rotate", "noise", seed=0)).linear < 100
        True
    """
    begun = time.perf_counter()
    own = data.one_sided(cell.operations, cell.seed)
    seed_everything(cell.seed, verbose=False)
    model = small_model(own, training)
    with quiet_trainer(
        accelerator=training.accelerator,
        max_steps=training.steps,
        callbacks=[LARSWarmup(warmup_steps=int(WARMUP * training.steps))],
    ) as trainer:
        if cell.first != UNTRAINED:
            trainer.fit(model, own)
        train, val = (clean_features(trainer, model, own, split) for split in ("train", "val"))
    if not train.features.isfinite().all():
        raise InputError(
            f"The training of {cell} diverged at a learning rate of {training.learning_rate}: choose a smaller one "
            "(--learning_rate), in a new folder (--output)."
        )
    linear = linear_accuracy(train, val)
    knn = knn_accuracy(train, val, k=min(NEIGHBOURS, len(train.targets)))
    return Scores(100 * linear, 100 * knn, time.perf_counter() - begun)
