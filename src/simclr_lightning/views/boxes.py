"""Which part of a picture a view shows: crop boxes from random numbers, by torchvision's law and by Google's."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from simclr_lightning.views.recipe import LEAST_COVERED, ViewRecipe

ATTEMPTS = 10
CROP_STREAMS = 2 * ATTEMPTS + 3
"""Random numbers of a view's crop: area and ratio of every attempt, then top, left, and whether to crop at all."""

_OFFICIAL_ATTEMPTS = 100
OFFICIAL_STREAMS = 2 * _OFFICIAL_ATTEMPTS
"""Random numbers of the attempts of Google's law: all ratios, then all heights."""


def crop_boxes(recipe: ViewRecipe, numbers: Tensor, sizes: Tensor) -> Tensor:
    """Turn uniform random numbers into crop boxes by the law of torchvision's ``RandomResizedCrop``.

    Area is uniform, the logarithm of the aspect ratio is uniform; the first of ten attempts that fits is placed
    uniformly, and if none fits, the largest central crop whose ratio is in range is taken.

    Args:
        recipe: Ranges and probabilities.
        numbers: (V, N, CROP_STREAMS) float64 in [0, 1).
        sizes: (N, 2) int64 heights and widths, (2,), or (V, N, 2).

    Returns:
        (V, N, 4) int64: top, left, height and width in pixels.

    Example:
        >>> numbers = torch.full((1, 1, CROP_STREAMS), 0.5, dtype=torch.float64)
        >>> crop_boxes(ViewRecipe(crop_area=(0.25, 0.25)), numbers, torch.tensor([64, 64])).tolist()
        [[[16, 16, 32, 32]]]
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

    fallback_tall, fallback_wide = _central(recipe, height, width)
    tall = torch.where(random, tall.gather(-1, first)[..., 0], fallback_tall)
    wide = torch.where(random, wide.gather(-1, first)[..., 0], fallback_wide)
    top = torch.where(random, (row * (height - tall + 1)).floor(), ((height - tall) / 2).floor())
    left = torch.where(random, (column * (width - wide + 1)).floor(), ((width - wide) / 2).floor())
    return torch.stack([top, left, tall, wide], -1).long()


def official_boxes(recipe: ViewRecipe, place: Tensor, attempts: Tensor, sizes: Tensor) -> Tensor:
    """Turn uniform random numbers into crop boxes by the law of Google's code.

    That is TensorFlow's ``sample_distorted_bounding_box`` with the whole picture as the object: the ratio is uniform,
    the height is uniform among the whole numbers that area and picture allow, and a box is rejected that misses the
    area's range or a tenth of the picture. After 100 attempts it is the whole picture. A box never touches the lower or
    right edge unless it is as tall or wide as the picture.

    Args:
        recipe: Ranges and probabilities.
        place: (V, N, 3) float64 in [0, 1): top, left, and whether to crop at all.
        attempts: (V, N, OFFICIAL_STREAMS) float64 in [0, 1).
        sizes: (N, 2) int64 heights and widths, (2,), or (V, N, 2).

    Returns:
        (V, N, 4) int64: top, left, height and width in pixels.

    Example:
        >>> place, attempts = torch.full((1, 1, 3), 0.5), torch.full((1, 1, OFFICIAL_STREAMS), 0.5)
        >>> official_boxes(ViewRecipe("official"), place.double(), attempts.double(), torch.tensor([64, 64])).tolist()
        [[[12, 11, 40, 42]]]
    """
    height, width = sizes.cpu().double().unbind(-1)
    rows, columns = height[..., None], width[..., None]
    least, most = (share * rows * columns for share in recipe.crop_area)
    low, high = recipe.crop_ratio
    ratio = low + (high - low) * attempts[..., :_OFFICIAL_ATTEMPTS]
    shortest, tallest = (least / ratio).sqrt().round(), (most / ratio).sqrt().round()
    fitting = ((columns + 0.5 - 1e-7) / ratio).floor()  # the most rows whose width, rounded, fits the picture
    fitting = fitting - ((fitting * ratio).round() > columns).double()
    tallest = torch.where((tallest * ratio).round() > columns, fitting, tallest).minimum(rows)
    shortest = shortest.minimum(tallest)
    tall = shortest + (attempts[..., _OFFICIAL_ATTEMPTS:] * (tallest - shortest + 1)).floor()
    tall = tall + (tall * (tall * ratio).round() < least).double()  # rounding alone is no reason to reject a box
    tall = tall - (tall * (tall * ratio).round() > most).double()
    wide = (tall * ratio).round()
    area = tall * wide
    fits = (area >= least) & (area <= most) & (area >= LEAST_COVERED * rows * columns) & (area > 0)
    fits &= (tall <= rows) & (wide <= columns)
    first = fits.byte().argmax(-1, keepdim=True)
    found, (row, column, use) = fits.any(-1), place.unbind(-1)
    central = _central(recipe, height, width)
    tall, wide = (
        torch.where(use < recipe.crop, torch.where(found, side.gather(-1, first)[..., 0], whole), centre)
        for side, whole, centre in zip((tall, wide), (height, width), central, strict=True)
    )
    top, left = (
        torch.where(use < recipe.crop, (number * (total - side)).floor(), ((total - side) / 2).floor())
        for number, total, side in ((row, height, tall), (column, width, wide))
    )
    return torch.stack([top, left, tall, wide], -1).long()


def _central(recipe: ViewRecipe, height: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """Height and width of the largest box whose ratio is in range."""
    low, high = recipe.crop_ratio
    tall = torch.minimum(height, (width / low).round().clamp_min(1))
    return tall, torch.minimum(width, (height * high).round().clamp_min(1))
