"""What a loader's worker does with pictures of any size: random crops to train on, the central one to evaluate."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_lightning.views.batch import Crops
from simclr_lightning.views.draw import ViewParameters, draw_for_each
from simclr_lightning.views.recipe import ViewRecipe

_CENTRE = 0.875  # share of the shorter side that evaluation keeps, as the official code


def crop_views(
    pictures: Sequence[Tensor], recipes: Sequence[ViewRecipe], indices: Tensor, *, seed: int, epoch: int
) -> tuple[Crops, ...]:
    """The random crops of every picture, mirrored or not; ``ViewEngine`` does the rest on the device.

    Args:
        pictures: N pictures (C, H, W) uint8 of any sizes; fastest where the channels of a pixel are neighbours.
        recipes: What the views are; they are counted on from one recipe to the next.
        indices: (N,) int64 positions in the data set.
        seed: Seed of the run.
        epoch: Epoch.

    Returns:
        For each recipe the crops, (V, N, C, S, S) uint8 with V its count and S its size, and all parameters that were
        drawn for them. The channels of a pixel are neighbours in memory.

    Example:
        >>> pictures = [torch.zeros(3, 40, 60, dtype=torch.uint8), torch.zeros(3, 50, 30, dtype=torch.uint8)]
        >>> recipes = [ViewRecipe(size=32), ViewRecipe(size=16, count=4)]
        >>> large, small = crop_views(pictures, recipes, torch.arange(2), seed=0, epoch=0)
        >>> large.pixels.shape, small.pixels.shape
        (torch.Size([2, 2, 3, 32, 32]), torch.Size([4, 2, 3, 16, 16]))
    """
    sizes = torch.tensor([picture.shape[-2:] for picture in pictures])
    drawn = draw_for_each(recipes, indices, sizes, seed=seed, epoch=epoch)
    return tuple(_crops(pictures, recipe, parameters) for recipe, parameters in zip(recipes, drawn, strict=True))


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

    Example:
        >>> centre_view(torch.zeros(3, 40, 60, dtype=torch.uint8), ViewRecipe("cifar10")).shape
        torch.Size([3, 32, 32])
    """
    height, width = picture.shape[-2:]
    shorter = min(height, width)
    share = recipe.eval_crop or (_CENTRE if recipe.eval_size > 32 else 1.0)
    side = max(1, round(share * shorter))
    return _resized(
        picture, ((height - side) // 2, (width - side) // 2, side, side), recipe.eval_size, recipe.interpolation
    )


def _crops(pictures: Sequence[Tensor], recipe: ViewRecipe, parameters: ViewParameters) -> Crops:
    channels = len(pictures[0])
    pixels = torch.empty(recipe.count, len(pictures), recipe.size, recipe.size, channels, dtype=torch.uint8)
    pixels = pixels.permute(0, 1, 4, 2, 3)
    for targets, boxes, flips in zip(pixels, parameters.boxes.tolist(), parameters.flip.tolist(), strict=True):
        for target, picture, box, flip in zip(targets, pictures, boxes, flips, strict=True):
            crop = _resized(picture, box, recipe.size, recipe.interpolation)
            target.copy_(crop.flip(-1) if flip else crop)
    return Crops(pixels, parameters)


def _resized(picture: Tensor, box: Sequence[int], size: int, interpolation: str) -> Tensor:
    """Pillow's algorithm for bytes, which torch has too: up to rounding, the same pixels, 2.5 times as fast."""
    top, left, height, width = box
    crop = picture[:, top : top + height, left : left + width]
    return F.interpolate(crop[None], (size, size), mode=interpolation, antialias=True)[0]
