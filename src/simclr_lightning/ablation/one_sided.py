"""Pairs of views of which one side alone is changed, and the data module that serves them."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from simclr_lightning.ablation.operations import Draw, flips, only, operate
from simclr_lightning.data import Pictures, PictureSets, SimCLRDataModule
from simclr_lightning.data.cache import reduced
from simclr_lightning.data.splits import Split, Splits
from simclr_lightning.views import ImageBatch, ViewEngine, ViewRecipe
from simclr_lightning.views.normalisation import normalise_
from simclr_lightning.views.scale import in_unit_range


class OneSidedViews(ViewEngine):
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

    Example:
        >>> images = torch.randint(0, 256, (8, 3, 48, 48), dtype=torch.uint8)
        >>> batch = ImageBatch(images, None, targets=torch.full((8,), -1), indices=torch.arange(8), epoch=3)
        >>> (views,) = OneSidedViews(ViewRecipe(size=32), ["sobel", "noise"])(batch)
        >>> views.shape
        torch.Size([2, 8, 3, 32, 32])
    """

    def __init__(self, recipe: ViewRecipe, operations: Sequence[str], seed: int = 0) -> None:
        super().__init__(recipe, seed)
        self.recipe = recipe
        self.operations = tuple(operations)
        self._crop = ViewEngine(only(recipe, {"crop": recipe.crop, **flips(recipe)}), seed)

    def __call__(self, batch: ImageBatch) -> tuple[Tensor, ...]:
        """Draw both views of every picture.

        Args:
            batch: as ``ViewEngine`` takes it; of crops that are there already the first is used.

        Returns:
            One tensor (2, N, C, size, size) float32 on the device of the pictures; in [0, 1] unless the recipe
            normalises. () if ``batch.epoch`` is None.
        """
        if batch.epoch is None:
            return ()
        first = self._crop(batch)[0][0] if batch.crops is None else in_unit_range(batch.crops[0].pixels[0])
        second = first
        for operation in self.operations:
            second = operate(operation, second, self.recipe, Draw(batch.indices, self.seed, batch.epoch))
        return (normalise_(torch.stack([first, second]), self.recipe),)


class AblationDataModule(SimCLRDataModule):
    """``SimCLRDataModule`` for many short runs on the same pictures: they are read once, and kept in memory.

    The test pictures are left alone: a study chooses, so it is judged on validation pictures.

    Example:
        >>> data = AblationDataModule("digits", val_fraction=0.2)
        >>> data.setup()
        >>> own = data.one_sided(["rotate", "noise"], seed=1)
        >>> own.num_pictures, own.splits.test, own.seed
        (1149, None, 1)
    """

    def arrange(self, sets: PictureSets) -> Splits:
        """Decide which pictures are for what, and read all but the test pictures."""
        splits = super().arrange(sets)
        side = shorter_side(self.recipe)
        read: dict[int, Pictures] = {}  # one set may serve to train and to validate

        def in_memory(split: Split) -> Split:
            pictures, positions = split
            if id(pictures) not in read:
                read[id(pictures)] = reduced(pictures, side, self.on_bad_picture)
            pictures = read[id(pictures)]
            return Split(pictures, positions[~pictures.bad[positions]])

        return splits._replace(
            train=in_memory(splits.train),
            labelled=None if splits.labelled is None else in_memory(splits.labelled),
            val=None if splits.val is None else in_memory(splits.val),
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
        other.engine = OneSidedViews(self.recipe, operations, seed)
        return other


def shorter_side(recipe: ViewRecipe) -> int:
    """Pixels at which even the smallest crop of a recipe is not enlarged: below, the views would be blurred.

    The shorter side of a crop is at least sqrt(smallest area x smallest ratio) times that of a square picture.

    Example:
        >>> shorter_side(ViewRecipe(size=32, crop_area=(0.25, 1.0), crop_ratio=(1.0, 1.0)))
        64
    """
    low, high = recipe.crop_ratio
    return math.ceil(recipe.size / math.sqrt(recipe.crop_area[0] * min(low, 1 / high)))
