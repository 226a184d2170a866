"""What a loader's worker does with pictures of any size: random crops to train on, the central one to evaluate."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_lightning.views.parameters import draw_parameters
from simclr_lightning.views.recipe import ViewRecipe

_CENTRE = 0.875  # share of the shorter side that evaluation keeps, as the official code


def crop_views(
    pictures: Sequence[Tensor], recipe: ViewRecipe, indices: Tensor, *, seed: int, epoch: int, views: int = 2
) -> Tensor:
    """Both random crops of every picture, mirrored or not; ``BatchedViews`` does the rest on the device.

    Args:
        pictures: N pictures (C, H, W) uint8 of any sizes; fastest where the channels of a pixel are neighbours.
        recipe: What the views are.
        indices: (N,) int64 positions in the data set.
        seed: Seed of the run.
        epoch: Epoch.
        views: 2, or 1 for the first view alone.

    Returns:
        (``views``, N, C, size, size) uint8: boxes and mirrors are those of ``draw_parameters``. The channels of a pixel
        are neighbours in memory.
    """
    sizes = torch.tensor([picture.shape[-2:] for picture in pictures])
    parameters = draw_parameters(recipe, indices, sizes, seed=seed, epoch=epoch, views=views)
    channels = len(pictures[0])
    crops = torch.empty(views, len(pictures), recipe.size, recipe.size, channels, dtype=torch.uint8)
    crops = crops.permute(0, 1, 4, 2, 3)
    for targets, boxes, flips in zip(crops, parameters.boxes.tolist(), parameters.flip.tolist(), strict=True):
        for target, picture, box, flip in zip(targets, pictures, boxes, flips, strict=True):
            crop = _resized(picture, box, recipe.size, recipe.interpolation)
            target.copy_(crop.flip(-1) if flip else crop)
    return crops


def centre_view(picture: Tensor, recipe: ViewRecipe) -> Tensor:
    """The evaluation-time picture (official code; Chen et al. 2020, appendix B.5).

    The central square of ``eval_crop`` of the shorter side is resized to ``eval_size``. Where the recipe does not tell,
    that is 0.875 above 32 pixels, which is what a resize to 256 and a central crop of 224 amounts to; up to 32 pixels
    it is the whole square.

    Args:
        picture: (C, H, W) uint8 of any size.
        recipe: Gives ``eval_size``, ``eval_crop`` and filter.

    Returns:
        (C, eval_size, eval_size) uint8.
    """
    height, width = picture.shape[-2:]
    shorter = min(height, width)
    share = recipe.eval_crop or (_CENTRE if recipe.eval_size > 32 else 1.0)
    side = max(1, round(share * shorter))
    return _resized(
        picture, ((height - side) // 2, (width - side) // 2, side, side), recipe.eval_size, recipe.interpolation
    )


def _resized(picture: Tensor, box: Sequence[int], size: int, interpolation: str) -> Tensor:
    """Pillow's algorithm for bytes, which torch has too: up to rounding, the same pixels, 2.5 times as fast."""
    top, left, height, width = box
    crop = picture[:, top : top + height, left : left + width]
    return F.interpolate(crop[None], (size, size), mode=interpolation, antialias=True)[0]
