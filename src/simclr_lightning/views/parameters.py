"""The random numbers behind a batch of views: drawn on the CPU, before any pixel is touched."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from simclr_lightning.views.crops import CROP_STREAMS, crop_boxes
from simclr_lightning.views.randomness import uniforms
from simclr_lightning.views.recipe import ViewRecipe


class ViewParameters(NamedTuple):
    """What is done to each view; leading dimensions (2, N), or (1, N) of first views alone, CPU tensors.

    Attributes:
        boxes: (2, N, 4) int64, the crop's top, left, height and width in pixels of the picture.
        flip: (2, N) bool, mirrored left to right.
        angle: (2, N) float64, rotation in degrees, counter-clockwise.
        jitter: (2, N) bool, colour jitter happens.
        order: (2, N, 4) int64, the jitter's operations in the order of their execution: 0 brightness, 1 contrast,
            2 saturation, 3 hue.
        brightness: (2, N) float64, factor, or summand where the recipe has ``additive_brightness``.
        contrast: (2, N) float64, factor.
        saturation: (2, N) float64, factor.
        hue: (2, N) float64, shift in turns.
        grey: (2, N) bool, colour is dropped.
        blur: (2, N) bool, blur happens.
        sigma: (2, N) float64, standard deviation of the blur in pixels.
        noise_key: (2, N) int64, key of the pixel noise, see ``randomness.pixel_noise``.
    """

    boxes: Tensor
    flip: Tensor
    angle: Tensor
    jitter: Tensor
    order: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    grey: Tensor
    blur: Tensor
    sigma: Tensor
    noise_key: Tensor


def draw_parameters(
    recipe: ViewRecipe, indices: Tensor, sizes: Tensor, *, seed: int, epoch: int, views: int = 2
) -> ViewParameters:
    """Draw the parameters of both views of every picture, or of the first one alone.

    They depend on (seed, epoch, index, view) alone. The laws are those of torchvision's ``RandomResizedCrop`` and
    ``ColorJitter``, which are also those of the official PyTorch-like pseudo-code (Chen et al. 2020, appendix A).

    Args:
        recipe: Ranges and probabilities.
        indices: (N,) int64 positions in the data set.
        sizes: (N, 2) int64 heights and widths of the pictures, or (2,) where they are all the same.
        seed: Seed of the run.
        epoch: Epoch.
        views: 2, or 1 for the first view alone, which is the same then.

    Returns:
        The parameters of ``views`` x N views.
    """
    numbers = uniforms(seed, epoch, indices, CROP_STREAMS + 15)[:views]
    boxes = crop_boxes(recipe, numbers[..., :CROP_STREAMS], sizes)
    flip, angle, jitter, brightness, contrast, saturation, hue, grey, blur, sigma, key, *order = numbers[
        ..., CROP_STREAMS:
    ].unbind(-1)
    ranges = recipe.ranges()
    centre = 0.0 if recipe.additive_brightness else 1.0
    return ViewParameters(
        boxes=boxes,
        flip=flip < recipe.flip,
        angle=_between(angle, -recipe.rotation, recipe.rotation),
        jitter=jitter < recipe.jitter,
        order=torch.stack(order, -1).argsort(-1),
        brightness=_around(centre, brightness, ranges[0], additive=recipe.additive_brightness),
        contrast=_around(1.0, contrast, ranges[1]),
        saturation=_around(1.0, saturation, ranges[2]),
        hue=_between(hue, -ranges[3], ranges[3]),
        grey=grey < recipe.grey,
        blur=blur < recipe.blur,
        sigma=_between(sigma, *recipe.blur_sigma),
        noise_key=(key * 2.0**53).long(),
    )


def _between(uniform: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * uniform


def _around(centre: float, uniform: Tensor, half: float, *, additive: bool = False) -> Tensor:
    low = centre - half if additive else max(0.0, centre - half)
    return _between(uniform, low, centre + half)
