"""Bytes to what the network sees: the [0, 1] range, the clean evaluation-time picture, normalisation."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from simclr_lightning.views.recipe import ViewRecipe
from simclr_lightning.views.resample import crop_resize


@torch.no_grad()
def clean(images: Tensor, recipe: ViewRecipe) -> Tensor:
    """The evaluation-time picture: nothing random.

    Args:
        images: (N, C, H, W) uint8, or float in [0, 1], on any device.
        recipe: Gives ``eval_size``, filter and normalisation.

    Returns:
        (N, C, eval_size, eval_size) float32, the central square; in [0, 1] unless the recipe normalises.
    """
    height, width = images.shape[-2:]
    if height == width == recipe.eval_size:
        return normalise(unit_range(images), recipe)
    side = min(height, width)
    box = torch.tensor([(height - side) // 2, (width - side) // 2, side, side]).expand(1, len(images), 4)
    mirrored = torch.zeros(1, len(images), dtype=torch.bool, device=images.device)
    box = box.to(images.device, non_blocking=True)
    with full_precision(images.device):
        return normalise(crop_resize(images, box, mirrored, recipe.eval_size, recipe.interpolation)[0], recipe)


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Autocast switched off: it would round the products of the resize and the blur to half precision.

    Args:
        device: Device of the pictures.

    Returns:
        Context to work in; an empty one on devices that know no autocast.
    """
    available = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if available else nullcontext()


def unit_range(pixels: Tensor) -> Tensor:
    """Bytes to float32 in [0, 1]; floats are copied as float32.

    Args:
        pixels: uint8, or float in [0, 1], of any shape.

    Returns:
        New float32 tensor of the same shape.
    """
    copy = pixels.to(torch.float32, copy=True)
    return copy.div_(255) if pixels.dtype == torch.uint8 else copy


def normalise(images: Tensor, recipe: ViewRecipe) -> Tensor:
    """Subtract the recipe's mean and divide by its standard deviation, if it has any.

    Args:
        images: (..., C, H, W) float.
        recipe: Recipe.

    Returns:
        (..., C, H, W) float.

    Raises:
        ValueError: If the recipe's mean and standard deviation have another number of channels.
    """
    if recipe.mean is None or recipe.std is None:
        return images
    if len(recipe.mean) != images.shape[-3]:
        raise ValueError(
            f"mean and std have {len(recipe.mean)} numbers, the pictures {images.shape[-3]} channels: "
            "give one number per channel."
        )
    mean, std = (
        torch.tensor(numbers)[:, None, None].to(images.device, non_blocking=True)
        for numbers in (recipe.mean, recipe.std)
    )
    return (images - mean) / std
