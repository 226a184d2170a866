"""Crop, colour and blur of whole batches on any device, operation by operation, every view with its own parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from simclr_lightning.views import colour
from simclr_lightning.views.blur import gaussian_blur
from simclr_lightning.views.parameters import ViewParameters
from simclr_lightning.views.pixels import at_a_time
from simclr_lightning.views.recipe import ViewRecipe
from simclr_lightning.views.resample import crop_resize

_Step = tuple[Callable[[Tensor, Tensor], Tensor], slice]


def crop(views: Tensor, recipe: ViewRecipe, parameters: ViewParameters, pictures: Tensor) -> None:
    """Fill views with their crops.

    Args:
        views: (V N, C, S, S) float32; all first views, then all second views, if there are any.
        recipe: What the views are.
        parameters: What is done to each view, with the leading dimension (V N,), on the CPU.
        pictures: (N, C, H, W) uint8, or float in [0, 1].
    """
    each = len(views) // max(1, len(pictures))
    targets, boxes, flip = (
        torch.unflatten(values, 0, (each, len(pictures)))
        for values in (views, _sent(parameters.boxes, views), _sent(parameters.flip, views))
    )
    together = at_a_time(targets)
    parts = (torch.split(values, together, 1) for values in (targets, boxes, flip))
    for part, own, mirrored, sources in zip(*parts, torch.split(pictures, together), strict=True):
        part.copy_(crop_resize(sources, own, mirrored, recipe.size, recipe.interpolation))


def recolour(views: Tensor, recipe: ViewRecipe, parameters: ViewParameters) -> None:
    """Jitter, grey and blur, in place.

    Args:
        views: (M, C, S, S) float32 in [0, 1].
        recipe: What the views are.
        parameters: What is done to each view, with the leading dimension (M,), on the CPU.
    """
    together = at_a_time(views)
    for part, *own in zip(*(torch.split(values, together) for values in (views, *parameters)), strict=True):
        _recolour(part, recipe, ViewParameters(*own))


def _recolour(views: Tensor, recipe: ViewRecipe, parameters: ViewParameters) -> None:
    steps, chosen, values = _steps(recipe, parameters)
    # Positions, not masks: with a mask the host would wait for the device to learn how many views there are.
    positions = torch.split(_sent(chosen.nonzero()[:, 1], views), chosen.sum(1).tolist())
    values = _sent(values.float(), views)
    for (operation, columns), rows in zip(steps, positions, strict=True):
        if len(rows):
            own = values.index_select(0, rows)[:, columns]
            views.index_copy_(0, rows, operation(views.index_select(0, rows), own))


def _sent(values: Tensor, views: Tensor) -> Tensor:
    return values.to(views.device, non_blocking=True)


def _steps(recipe: ViewRecipe, own: ViewParameters) -> tuple[list[_Step], Tensor, Tensor]:
    """The 18 operations that only some views go through: four times any of the jitter's four, grey, blur.

    Returns:
        The operations in order, each with the columns of its parameters; (18, M) bool, which views go through each;
        (M, 7) parameters of the views.
    """
    brightness = colour.additive_brightness if recipe.additive_brightness else colour.brightness
    blur = partial(gaussian_blur, kernel=recipe.blur_kernel)
    jitter: list[_Step] = [(brightness, slice(0, 1)), (colour.contrast, slice(1, 2))]
    jitter += [(colour.saturation, slice(2, 3)), (colour.hue, slice(3, 6))]
    at_position = torch.where(own.jitter, own.order.T, -1)  # (4, M)
    chosen = (at_position[:, None] == torch.arange(4)[:, None]) & (torch.tensor(recipe.ranges()) > 0)[:, None]
    values = [own.brightness, own.contrast, own.saturation, *colour.shifted_primaries(own.hue).T, own.sigma]
    return (
        [*jitter * 4, (colour.grey, slice(0, 0)), (blur, slice(6, 7))],
        torch.cat([chosen.flatten(0, 1), own.grey[None], own.blur[None]]),
        torch.stack(values, 1),
    )
