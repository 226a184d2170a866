"""The last thing that happens to a view: its normalisation."""

from __future__ import annotations

import torch
from torch import Tensor

from simclr_lightning.errors import InputError
from simclr_lightning.views.batch import sent
from simclr_lightning.views.recipe import ViewRecipe

_LEAST_STD = 1e-5  # of a channel that is divided by its own; below a step of 16 bits there is nothing but rounding


def normalise_(images: Tensor, recipe: ViewRecipe) -> Tensor:
    """Normalise as the recipe says, in place: by its mean and standard deviation, if any, or by each channel's own.

    Args:
        images: (..., C, H, W) float.
        recipe: Recipe.

    Returns:
        The images.

    Raises:
        InputError: If the recipe's mean and standard deviation have another number of channels.

    Example:
        >>> normalise_(torch.ones(1, 1, 1), ViewRecipe(mean=(0.5,), std=(0.25,))).item()
        2.0
    """
    if recipe.normalize == "picture":
        std, mean = torch.std_mean(images, dim=(-2, -1), correction=0, keepdim=True)
        return images.sub_(mean).div_(std.clamp_(min=_LEAST_STD))
    numbers = normalisation(recipe, images.shape[-3])
    if numbers is None:
        return images
    mean, std = sent(numbers, images.device)[..., None, None]
    return images.sub_(mean).div_(std)


def normalisation(recipe: ViewRecipe, channels: int) -> Tensor | None:
    """The recipe's means and standard deviations, (2, C) float32 on the CPU; None if it has none.

    Raises:
        InputError: If there are not as many as channels.

    Example:
        >>> normalisation(ViewRecipe(mean=(0.5,), std=(0.25,)), 1)
        tensor([[0.5000],
                [0.2500]])
    """
    if recipe.mean is None or recipe.std is None:
        return None
    if len(recipe.mean) != channels:
        raise InputError(
            f"mean and std have {len(recipe.mean)} numbers, the pictures {channels} channels: "
            "give one number per channel, or set normalize to picture and leave them out."
        )
    return torch.tensor([recipe.mean, recipe.std])
