"""What a loader's worker does with a picture of any size: random crops to train on, the central one to evaluate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from simclr_lightning.views.crops import draw_crops
from simclr_lightning.views.recipe import ViewRecipe

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_CENTRE = 0.875  # share of the shorter side that evaluation keeps, as the official code


def crop_pair(picture: Image.Image, recipe: ViewRecipe, *, seed: int, epoch: int, index: int) -> Tensor:
    """Both random crops of one picture; ``BatchedViews`` does the rest on the device.

    Args:
        picture: Picture of any size, mode RGB or L.
        recipe: What the views are.
        seed: Seed of the run.
        epoch: Epoch.
        index: Position in the data set.

    Returns:
        (2, C, size, size) uint8: the boxes are those of ``draw_parameters`` for this index.
    """
    size = torch.tensor([picture.height, picture.width])
    boxes = draw_crops(recipe, torch.tensor([index]), size, seed=seed, epoch=epoch)
    return torch.stack([_resized(picture, box, recipe.size, recipe.interpolation) for box in boxes[:, 0].tolist()])


def centre_view(picture: Image.Image, recipe: ViewRecipe) -> Tensor:
    """The evaluation-time picture (official code; Chen et al. 2020, appendix B.5).

    Where ``eval_size`` is above 32 pixels, the central square of 0.875 of the shorter side is resized to it, which is
    what a resize to 256 and a central crop of 224 amounts to; up to 32 pixels the whole central square is.

    Args:
        picture: Picture of any size, mode RGB or L.
        recipe: Gives ``eval_size`` and filter.

    Returns:
        (C, eval_size, eval_size) uint8.
    """
    shorter = min(picture.size)
    side = max(1, round(_CENTRE * shorter)) if recipe.eval_size > 32 else shorter
    box = ((picture.height - side) // 2, (picture.width - side) // 2, side, side)
    return _resized(picture, box, recipe.eval_size, recipe.interpolation)


def _resized(picture: Image.Image, box: Sequence[int], size: int, interpolation: str) -> Tensor:
    top, left, height, width = box
    crop = picture.crop((left, top, left + width, top + height))
    if crop.size != (size, size):
        crop = crop.resize((size, size), _FILTERS[interpolation])
    pixels = torch.from_numpy(np.array(crop))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()
