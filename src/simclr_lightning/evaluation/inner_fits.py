"""Classifiers that are trained for one figure, by a quiet Trainer of their own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn

from simclr_lightning.callbacks import LARSWarmup
from simclr_lightning.classifiers import Classifier
from simclr_lightning.data import FeatureBatch, GlobalBatchSampler, LabelledDataModule, PictureDataModule
from simclr_lightning.data.feature_batches import FeatureDataset
from simclr_lightning.data.loaders import PictureLoader, make_loader
from simclr_lightning.errors import InputError, check_number
from simclr_lightning.evaluation.labelled_data import TestSplit
from simclr_lightning.evaluation.quiet_trainer import Progress, device_settings, quiet_trainer
from simclr_lightning.features import Features

LINEAR_EPOCHS = 90
LINEAR_RATE = 0.1
LINEAR_BATCH = 256

_STEPS_IN_THE_PAPER = 180
"""Of fine-tuning: 60 epochs on 12,811 labels, 1 % of ImageNet, in batches of 4096."""


@dataclass(frozen=True)
class FineTuneRecipe:
    """How networks are fine-tuned: Nesterov SGD, cosine decay, crop and flip, no weight decay (Chen et al. 2020, B.5).

    Args:
        epochs: None: the paper's, 60 for less than 5 % of the labels, otherwise 30. Few labels have few steps in an
            epoch: a small data set needs more.
        learning_rate: base rate, of a batch of 256, which the batch size scales linearly.
        batch_size: pictures of a step, at most as many as there are labels.
        draws: subsets of the labels to fine-tune on, where not all are used.

    Raises:
        InputError: if a value is out of range.

    Example:
        >>> FineTuneRecipe().epochs_for(0.01), FineTuneRecipe().epochs_for(0.1), FineTuneRecipe(epochs=7).epochs_for(1)
        (60, 30, 7)
    """

    epochs: int | None = None
    learning_rate: float = 0.05
    batch_size: int = 256
    draws: int = 3

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("epochs", "batch_size", "draws"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} of fine-tuning is {value}: choose 1 or more (--finetune.{name}).")
        check_number("draws of fine-tuning", self.draws, "finetune.draws 3", most=1_000_000)
        check_number("learning_rate of fine-tuning", self.learning_rate, "finetune.learning_rate 0.05", above=0)

    def epochs_for(self, fraction: float) -> int:
        """Epochs on a share of the labels, in (0, 1]."""
        return self.epochs or (60 if fraction < 0.05 else 30)

    def too_few_steps(self, labels: int, fraction: float) -> str | None:
        """What to tell a reader if networks may not converge on so many labels, a share of them all."""
        steps = self.epochs_for(fraction) * (labels // min(labels, self.batch_size))
        if steps >= _STEPS_IN_THE_PAPER:
            return None
        return (
            f"takes {steps} steps, the paper {_STEPS_IN_THE_PAPER} or more: where networks do not converge, raise "
            "--finetune.epochs."
        )


PAPER = FineTuneRecipe()
"""The paper's recipe, but for its batch of 4096 pictures."""


def check_fine_tuning(datamodule: LightningDataModule, encoder: nn.Module | None) -> None:
    """Find out whether there is something to fine-tune, and on what.

    Raises:
        InputError: if pictures cannot be augmented for it, or the encoder does not tell the length of its features.

    Example:
        >>> from simclr_lightning import SimCLRDataModule
        >>> check_fine_tuning(SimCLRDataModule("digits"), None)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: Networks are fine-tuned from an attribute encoder of the model, ...
    """
    if not isinstance(datamodule, PictureDataModule):
        raise InputError(
            f"Networks are fine-tuned on crops and flips, which {type(datamodule).__name__} has not: use "
            "SimCLRDataModule, or leave finetune out."
        )
    if not isinstance(getattr(encoder, "feature_dim", None), int):
        raise InputError(
            "Networks are fine-tuned from an attribute encoder of the model, a module with an int attribute "
            "feature_dim, as SimCLR has: add it, or leave finetune out."
        )


def fine_tune(
    encoder: nn.Module,
    datamodule: LightningDataModule,
    positions: Tensor,
    recipe: FineTuneRecipe,
    *,
    epochs: int,
    split: TestSplit,
    outer: Trainer,
    seed: int,
    progress: Progress,
) -> dict[str, float]:
    """Accuracies of a fine-tuned copy of a network on the test pictures.

    The encoder gets a new linear layer, and all of it is trained. The network of the last epoch is judged.

    Args:
        encoder: is left as it is.
        datamodule: is set up.
        positions: (n,) int64, which of its labelled training pictures to learn from.
        recipe: how.
        epochs: passes over those pictures.
        split: which pictures are classified.
        outer: Trainer whose accelerator and precision are used; it has one device.
        seed: of the pictures' order and augmentation.
        progress: takes a line about how far this is.

    Returns:
        top1 and mean_per_class and, above five classes, top5, in [0, 1].

    Raises:
        InputError: as :func:`check_fine_tuning`.

    Example:
        >>> from simclr_lightning import SimCLRDataModule
        >>> data = SimCLRDataModule("digits")
        >>> data.setup()
        >>> outer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        >>> pixels, positions = nn.Flatten(), torch.arange(20)
        >>> pixels.feature_dim = 256
        >>> settings = {"epochs": 1, "split": "test", "outer": outer, "seed": 0, "progress": lambda line: None}
        >>> sorted(fine_tune(pixels, data, positions, PAPER, **settings))
        ['mean_per_class', 'top1', 'top5']
    """
    check_fine_tuning(datamodule, encoder)
    source = cast("PictureDataModule", datamodule)
    data = LabelledDataModule.of(
        source,
        positions,
        batch_size=min(recipe.batch_size, len(positions)),
        seed=seed,
        test=source.splits.test if split == "test" else source.splits.val,
    )
    copied, classes = copy.deepcopy(encoder), source.num_classes
    make = partial(Classifier, copied, num_classes=classes, learning_rate=recipe.learning_rate)
    return _fit_and_test(make, data, data, outer, epochs=epochs, seed=seed, progress=progress)


def linear_by_sgd(
    train: Features, test: Features, outer: Trainer, *, seed: int, progress: Progress
) -> dict[str, float]:
    """Accuracies on the test pictures, as :func:`fine_tune` has them, of a linear layer that SGD has trained.

    Nesterov SGD at 0.1 x batch / 256 with a cosine decay for 90 epochs, no regularisation, from zeros (Chen et al.
    2020, B.6). It differs from the paper in the batch, which is 256 at most instead of 4096, and in learning from clean
    pictures instead of crops and flips: those are ``LinearEvaluation``'s.

    Args:
        train: features to learn from, all labelled.
        test: features to classify, all labelled.
        outer: Trainer whose accelerator and precision are used.
        seed: of the order.
        progress: takes a line about how far this is.

    Example:
        >>> points = Features(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1]))
        >>> outer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        >>> linear_by_sgd(points, points, outer, seed=0, progress=lambda line: None)["top1"]
        1.0
    """
    classes = 1 + int(torch.maximum(train.targets.max(), test.targets.max()))
    feature_dim = train.features.shape[1]
    make = partial(Classifier, nn.Identity(), feature_dim=feature_dim, num_classes=classes, learning_rate=LINEAR_RATE)
    learned = _loader(train, min(LINEAR_BATCH, len(train.targets)), seed, training=True)
    judged = _loader(test, LINEAR_BATCH, seed, training=False)
    return _fit_and_test(make, learned, judged, outer, epochs=LINEAR_EPOCHS, seed=seed, progress=progress)


def _loader(features: Features, batch_size: int, seed: int, *, training: bool) -> PictureLoader[FeatureBatch]:
    data = FeatureDataset(FeatureBatch(features.features, features.targets, torch.arange(len(features.targets))))
    sampler = GlobalBatchSampler(
        data, batch_size, num_replicas=1, rank=0, shuffle=training, drop_last=training, seed=seed
    )
    return make_loader(
        data,
        sampler,
        resumable=False,
        num_workers=None,
        devices=1,
        pin_memory=False,
        prefetch_factor=None,
        persistent_workers=None,
    )


def _fit_and_test(
    make: Callable[[], Classifier], train: Any, test: Any, outer: Trainer, *, epochs: int, seed: int, progress: Progress
) -> dict[str, float]:
    """Train, without looking at any other picture, then classify the test pictures once.

    The learning rate is proportional to the batch and decays along a cosine, without warm-up. The random numbers of the
    process are left as they are.
    """
    callbacks = [LARSWarmup(warmup_epochs=0), _EpochProgress(progress)]
    settings = device_settings(outer)
    with torch.random.fork_rng(), quiet_trainer(**settings, max_epochs=epochs, callbacks=callbacks) as trainer:
        torch.manual_seed(seed)
        classifier = make().train()  # the Trainer leaves modes as they are, and encoders come in evaluation mode
        trainer.fit(classifier, train)
        (figures,) = trainer.test(classifier, test, verbose=False)
    confusion = cast("Tensor", classifier.confusion_matrix)
    exact = {"top1": (confusion.diag().sum().double() / confusion.sum()).item()}  # what is logged is float32
    return {name.removeprefix("test/"): value for name, value in figures.items() if name != "test/loss"} | exact


class _EpochProgress(Callback):
    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.progress(f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}")
