"""How well a whole network does that is fine-tuned on some of the labels."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial
from typing import Self, cast

from lightning.pytorch import LightningDataModule
from torch import Tensor, nn

from simclr_lightning.data import LabelledDataModule, SimCLRDataModule
from simclr_lightning.data.splits import Split, Splits
from simclr_lightning.evaluation.lineup import Subject
from simclr_lightning.evaluation.nested import Network, Tell, train_and_test


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
        ValueError: if a value is out of range.
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
                raise ValueError(f"{name} of fine-tuning is {value}: choose 1 or more (--finetune.{name}).")
        if not self.learning_rate > 0:
            raise ValueError(
                f"learning_rate of fine-tuning is {self.learning_rate}: choose one above 0 (--finetune.learning_rate)."
            )

    def epochs_for(self, fraction: float) -> int:
        """Epochs on a share of the labels, in (0, 1]."""
        return self.epochs or (60 if fraction < 0.05 else 30)


PAPER = FineTuneRecipe()
"""The paper's recipe, but for its batch of 4096 pictures."""


def check_fine_tuning(datamodule: LightningDataModule, encoder: nn.Module | None) -> None:
    """Find out whether there is something to fine-tune, and on what.

    Raises:
        ValueError: if pictures cannot be augmented for it, or the encoder does not tell the length of its features.
    """
    if not isinstance(datamodule, SimCLRDataModule):
        raise ValueError(
            f"Networks are fine-tuned on crops and flips, which {type(datamodule).__name__} has not: use "
            "SimCLRDataModule, or leave finetune out."
        )
    if not isinstance(getattr(encoder, "feature_dim", None), int):
        raise ValueError(
            "Networks are fine-tuned from an attribute encoder of the model, a module with an int attribute "
            "feature_dim, as SimCLR has: add it, or leave finetune out."
        )


def fine_tuned(
    subject: Subject, positions: Tensor, recipe: FineTuneRecipe, *, epochs: int, seed: int, tell: Tell
) -> dict[str, float]:
    """Accuracies of a fine-tuned copy of the network on the test pictures.

    The encoder gets a new linear layer, and all of it is trained. The network of the last epoch is judged.

    Args:
        subject: what is fine-tuned; it is left as it is.
        positions: (n,) int64, which of the labelled training pictures to learn from.
        recipe: how.
        epochs: passes over those pictures.
        seed: of their order and augmentation.
        tell: takes a line about how far this is.

    Returns:
        top1 and mean_per_class and, above five classes, top5, in [0, 1].

    Raises:
        ValueError: as :func:`check_fine_tuning`.
    """
    check_fine_tuning(subject.datamodule, subject.encoder)
    source = cast("SimCLRDataModule", subject.datamodule)
    encoder = copy.deepcopy(cast("nn.Module", subject.encoder))
    labelled = cast("Split", source.splits.labelled)
    data = _SharedPictures(
        dataset=_SharedPictures,  # any callable: it is not called
        batch_size=min(recipe.batch_size, len(positions)),
        views=source.recipe,
        on_bad_picture=source.on_bad_picture,
        num_workers=source.num_workers,
        pin_memory=source.pin_memory,
        prefetch_factor=source.prefetch_factor,
        seed=seed,
    ).share(
        source.splits._replace(
            labelled=Split(labelled.pictures, labelled.positions[positions]),
            test=source.splits.test if subject.split == "test" else source.splits.val,
        )
    )
    feature_dim, classes = cast("int", encoder.feature_dim), cast("int", source.num_classes)
    make = partial(Network, encoder, feature_dim, classes, recipe.learning_rate)
    return train_and_test(make, data, data, subject.trainer, epochs=epochs, seed=seed, tell=tell)


class _SharedPictures(LabelledDataModule):
    """Serves pictures that another data module has read."""

    def share(self, splits: Splits) -> Self:
        """Take them over."""
        self._splits = splits
        return self
