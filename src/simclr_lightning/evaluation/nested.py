"""Classifiers that are trained for one figure, by a Trainer of their own."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from simclr_lightning.callbacks import LARSWarmup
from simclr_lightning.classifiers import Classifier

Tell = Callable[[str], None]
"""Takes a line about how far something is."""


def told_within(tell: Tell, outer: str, inner: str) -> None:
    """Tell how far a part of something is."""
    tell(f"{outer}, {inner}")


class Network(Classifier):
    """An encoder and a linear layer that starts at zero, trained by Nesterov SGD without decay, as in the paper.

    Args:
        encoder: pictures to features (N, F); it is trained if it has parameters.
        feature_dim: length F of the features.
        num_classes: number of classes.
        learning_rate: base rate, of a batch of 256.
    """

    def __init__(self, encoder: nn.Module, feature_dim: int, num_classes: int, learning_rate: float) -> None:
        super().__init__(encoder, feature_dim=feature_dim, num_classes=num_classes, origin="a model in memory")
        self.save_hyperparameters({"learning_rate": learning_rate, "momentum": 0.9, "weight_decay": 0.0})


def train_and_test(
    make: Callable[[], Network], train: Any, test: Any, outer: Trainer, *, epochs: int, seed: int, tell: Tell
) -> dict[str, float]:
    """Train, without looking at any other picture, then classify the test pictures once.

    The learning rate is proportional to the batch and decays along a cosine, without warm-up. The random numbers of the
    process are left as they are.

    Args:
        make: makes the network that is trained.
        train: loader or data module.
        test: loader or data module.
        outer: whose accelerator and precision are used; it has one device.
        epochs: passes over the training pictures.
        seed: of whatever is random in training.
        tell: takes a line about how far this is.

    Returns:
        Accuracies after the last epoch, in [0, 1]: top1, mean_per_class and, above five classes, top5.
    """
    device = outer.strategy.root_device
    with _quiet(), torch.random.fork_rng():
        torch.manual_seed(seed)
        network = make().train()  # the Trainer leaves modes as they are, and encoders come in evaluation mode
        trainer = Trainer(
            accelerator=device.type,
            devices=1 if device.index is None else [device.index],
            precision=outer.precision,
            max_epochs=epochs,
            callbacks=[LARSWarmup(warmup_epochs=0), _Progress(tell)],
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(network, train)
        (figures,) = trainer.test(network, test, verbose=False)
    confusion = cast("Tensor", network.confusion_matrix)
    exact = {"top1": (confusion.diag().sum().double() / confusion.sum()).item()}  # what is logged is float32
    return {name.removeprefix("test/"): value for name, value in figures.items() if name != "test/loss"} | exact


class _Progress(Callback):
    def __init__(self, tell: Tell) -> None:
        self.tell = tell

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.tell(f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's announcements of each Trainer, and what it says of training without validation."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "You defined a `validation_step` but have no `val_dataloader`")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
