"""Pairs of views of which one side alone is changed, and the data module that serves them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from simclr_lightning.ablation.operations import Draw, only, operate
from simclr_lightning.ablation.pictures import in_memory, shorter_side
from simclr_lightning.data import Pictures, SimCLRDataModule
from simclr_lightning.data.splits import Split
from simclr_lightning.views import BatchedViews, ImageBatch, ViewRecipe
from simclr_lightning.views.pixels import normalise_


class OneSidedViews(BatchedViews):
    """The asymmetric views of the augmentation study (Chen et al. 2020, section 3.1, Figure 5).

    A random crop of the picture, resized and mirrored as the recipe says, is the first view as it is. The second view
    is the *same* crop after the operations. They share the pixels they start from and nothing that is drawn later.

    In the paper images are first randomly cropped and resized to the same resolution, and the transformations in
    question are then applied to one branch, the other being the identity. It leaves open whether both branches start
    from one crop (here they do: otherwise every cell would have a random crop in it), whether the crop is mirrored
    (here as the recipe says), and with which parameters and probabilities each operation runs (here the recipe's, see
    ``operate``).

    Args:
        recipe: of the first crop, and of the ranges and probabilities of the operations.
        operations: names, in the order in which they are applied to the second view.
        seed: of the run; a view depends on (seed, epoch, index of the picture, operations) alone.
    """

    def __init__(self, recipe: ViewRecipe, operations: Sequence[str], seed: int = 0) -> None:
        super().__init__(recipe, seed)
        self.operations = tuple(operations)
        self._crop = BatchedViews(only(recipe, {"crop": recipe.crop, "flip": recipe.flip}), seed)

    def __call__(self, batch: ImageBatch, *, epoch: int, views: int = 2) -> Tensor:
        """Draw both views of every picture, or the first one alone.

        Args:
            batch: as ``BatchedViews`` takes it; of two ready crops the first is used.
            epoch: so that the views differ from one to the next.
            views: 2, or 1 for the first view alone.

        Returns:
            (``views``, N, C, size, size) float32 on the device of the pictures; in [0, 1] unless the recipe normalises.
        """
        if batch.crops is not None:
            batch = batch._replace(crops=batch.crops[:1])
        drawn = [self._crop(batch, epoch=epoch, views=1)[0]]
        if views == 2:
            second = drawn[0]
            for operation in self.operations:
                second = operate(operation, second, self.recipe, Draw(batch.indices, self.seed, epoch))
            drawn.append(second)
        return normalise_(torch.stack(drawn), self.recipe)


class AblationDataModule(SimCLRDataModule):
    """``SimCLRDataModule`` for many short runs on the same pictures: they are read once, and kept in memory.

    The test pictures are left alone: a study chooses, so it is judged on validation pictures.
    """

    def setup(self, stage: str | None = None) -> None:
        """Find, split, label and read the pictures; a second call does nothing."""
        if self._splits is not None:
            return
        super().setup(stage)
        side = shorter_side(self.recipe)
        read: dict[int, Pictures] = {}  # one set may serve to train and to validate

        def ready(split: Split) -> Split:
            if id(split.pictures) not in read:
                read[id(split.pictures)] = in_memory(split.pictures, side, self.on_bad_picture)
            return Split(read[id(split.pictures)], split.positions)

        splits = self.splits
        self._splits = splits._replace(
            train=ready(splits.train),
            labelled=None if splits.labelled is None else ready(splits.labelled),
            val=None if splits.val is None else ready(splits.val),
            test=None,
        )

    def one_sided(self, operations: Sequence[str], seed: int) -> Self:
        """The same pictures for one run.

        Args:
            operations: that the second views go through.
            seed: of the order of the pictures and of the views.
        """
        other = copy.copy(self)
        other.trainer = None
        other.seed = seed
        other._views = OneSidedViews(self.recipe, operations, seed)
        return other
