"""Bytes to what the network sees: memory for it, the [0, 1] range, the clean evaluation-time picture, normalisation."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

from simclr_lightning.views.recipe import ViewRecipe
from simclr_lightning.views.resample import crop_resize

_CACHED = 2**20  # float32 numbers that one core works on at a time: 1.4 times as fast as 256 small pictures at once


@torch.no_grad()
def clean(images: Tensor, recipe: ViewRecipe) -> Tensor:
    """The evaluation-time picture: nothing random.

    Args:
        images: (N, C, H, W) uint8, or float in [0, 1], on any device.
        recipe: Gives ``eval_size``, ``eval_crop`` (all, if None), filter and normalisation.

    Returns:
        (N, C, eval_size, eval_size) float32, the central square; in [0, 1] unless the recipe normalises.
    """
    height, width = images.shape[-2:]
    if height == width == recipe.eval_size:  # so are those that loader workers have cropped
        return normalise_(unit_range(images), recipe)
    side = max(1, round((recipe.eval_crop or 1.0) * min(height, width)))
    box = torch.tensor([(height - side) // 2, (width - side) // 2, side, side]).expand(1, len(images), 4)
    mirrored = torch.zeros(1, len(images), dtype=torch.bool, device=images.device)
    box = box.to(images.device, non_blocking=True)
    with full_precision(images.device):
        return normalise_(crop_resize(images, box, mirrored, recipe.eval_size, recipe.interpolation)[0], recipe)


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


def fresh(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Memory for a batch of views.

    On a CPU it comes from NumPy, which asks the system for huge pages where torch does not: the first touch of a batch
    of large views then takes a third of the time.

    Args:
        shape: Shape.
        device: Device.

    Returns:
        Uninitialised float32 tensor.
    """
    if device.type == "cpu":
        return torch.from_numpy(np.empty(shape, np.float32))
    return torch.empty(shape, device=device)


def at_a_time(images: Tensor) -> int:
    """How many pictures to work on together: as many as the caches hold on a CPU, all on other devices.

    Args:
        images: (..., M, C, H, W) float32; leading dimensions count as one picture.
    """
    if images.device.type != "cpu":
        return max(1, images.shape[-4])
    each = images[..., :1, :, :, :].numel()
    return max(1, torch.get_num_threads() * _CACHED // max(1, each))


def normalise_(images: Tensor, recipe: ViewRecipe) -> Tensor:
    """Subtract the recipe's mean and divide by its standard deviation, in place, if it has any.

    Args:
        images: (..., C, H, W) float.
        recipe: Recipe.

    Returns:
        The images.

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
    return images.sub_(mean).div_(std)
