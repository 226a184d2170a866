"""The law of the random crop: torchvision's ``RandomResizedCrop``, for many pictures at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from simclr_lightning.views.recipe import ViewRecipe

ATTEMPTS = 10
CROP_STREAMS = 2 * ATTEMPTS + 3
"""Random numbers per view: area and ratio of every attempt, then top, left, and whether to crop at all."""


def crop_boxes(recipe: ViewRecipe, numbers: Tensor, sizes: Tensor) -> Tensor:
    """Turn uniform random numbers into crop boxes.

    Area is uniform, the logarithm of the aspect ratio is uniform; the first of ten attempts that fits is placed
    uniformly, and if none fits, the largest central crop whose ratio is in range is taken.

    Args:
        recipe: Ranges and probabilities.
        numbers: (2, N, CROP_STREAMS) float64 in [0, 1).
        sizes: (N, 2) int64 heights and widths, or (2,).

    Returns:
        (2, N, 4) int64: top, left, height and width in pixels.
    """
    height, width = sizes.cpu().double().unbind(-1)
    area, ratio, (row, column, use) = numbers[..., :ATTEMPTS], numbers[..., ATTEMPTS:-3], numbers[..., -3:].unbind(-1)
    low, high = recipe.crop_area
    area = (low + (high - low) * area) * (height * width)[..., None]
    low, high = (math.log(bound) for bound in recipe.crop_ratio)
    ratio = torch.exp(low + (high - low) * ratio)
    tall = torch.sqrt(area / ratio).round()  # rounds half to even, as Python does
    wide = torch.sqrt(area * ratio).round()
    fits = (tall >= 1) & (wide >= 1) & (tall <= height[..., None]) & (wide <= width[..., None])
    first = fits.byte().argmax(-1, keepdim=True)
    random = fits.any(-1) & (use < recipe.crop)

    low, high = recipe.crop_ratio
    fallback_tall = torch.minimum(height, (width / low).round().clamp_min(1))
    fallback_wide = torch.minimum(width, (height * high).round().clamp_min(1))
    tall = torch.where(random, tall.gather(-1, first)[..., 0], fallback_tall)
    wide = torch.where(random, wide.gather(-1, first)[..., 0], fallback_wide)
    top = torch.where(random, (row * (height - tall + 1)).floor(), ((height - tall) / 2).floor())
    left = torch.where(random, (column * (width - wide + 1)).floor(), ((width - wide) / 2).floor())
    return torch.stack([top, left, tall, wide], -1).long()
