"""Crop, antialiased resize and mirror of pictures in the host's memory, one view at a time, compiled.

The same as ``resample.py``, but only the taps that a crop needs are computed: about ten times as fast.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from simclr_lightning.views.compiler import Array, compiled, in_threads
from simclr_lightning.views.parameters import ViewParameters
from simclr_lightning.views.recipe import ViewRecipe

_ZERO, _ONE = np.float32(0), np.float32(1)


def crop(views: Tensor, recipe: ViewRecipe, parameters: ViewParameters, pictures: Tensor) -> None:
    """Fill views with their crops of pictures of equal size.

    Args:
        views: (V N, C, S, S) float32, contiguous, in the host's memory; all first views, then all second views, if
            there are any.
        recipe: What the views are.
        parameters: What is done to each view, with the leading dimension (V N,).
        pictures: (N, C, H, W) uint8, or float in [0, 1].
    """
    pictures = pictures.contiguous() if pictures.dtype == torch.uint8 else pictures.float().contiguous()
    unit = 1 / 255 if pictures.dtype == torch.uint8 else 1.0
    source, target = pictures.numpy(), views.numpy()
    number = np.arange(len(views)) % max(1, len(pictures))
    boxes, flip = parameters.boxes.numpy(), parameters.flip.numpy()
    cubic = recipe.interpolation == "bicubic"

    def work(part: slice) -> None:
        _crop(target[part], source, number[part], boxes[part], flip[part], cubic, unit)

    in_threads(work, len(views))


@compiled
def _crop(views: Array, pictures: Array, number: Array, boxes: Array, flip: Array, cubic: bool, unit: float) -> None:
    size = views.shape[-1]
    for m in range(len(views)):
        top, left, tall, wide = boxes[m]
        rows = _taps(tall, size, cubic, False, unit)
        columns = _taps(wide, size, cubic, flip[m], 1.0)
        for c in range(views.shape[1]):
            # By column, so that both directions add up whole lines.
            halfway = np.empty((wide, size), np.float32)
            line = np.empty(wide, np.float32)
            plane = pictures[number[m], c]
            for y in range(size):
                _weighted_sum(line, plane[top:, left : left + wide], rows, y)
                halfway[:, y] = line
            line = np.empty(size, np.float32)
            view = views[m, c]
            for x in range(size):
                _weighted_sum(line, halfway, columns, x)
                for y in range(size):
                    view[y, x] = min(max(line[y], _ZERO), _ONE)  # bicubic overshoots


@compiled
def _weighted_sum(target: Array, lines: Array, taps: tuple[Array, Array], pixel: int) -> None:
    first, weights = taps
    target[:] = _ZERO
    for k in range(weights.shape[1]):
        if weights[pixel, k] != _ZERO:
            _add(target, lines[first[pixel] + k], weights[pixel, k])


@compiled
def _add(target: Array, source: Array, weight: np.float32) -> None:
    for x in range(target.size):
        target[x] += np.float32(source[x]) * weight


@compiled
def _taps(length: int, size: int, cubic: bool, mirrored: bool, unit: float) -> tuple[Array, Array]:
    """For every pixel of the result the first pixel of the crop that counts, and the weights from there on.

    See ``resample.resampling_weights``. The weights sum to ``unit``; unused ones are 0.
    """
    radius = 2 if cubic else 1
    scale = length / size
    widening = max(scale, 1.0)
    first = np.zeros(size, np.int64)
    weights = np.zeros((size, int(np.ceil(2 * radius * widening)) + 1))
    for pixel in range(size):
        centre = (pixel + 0.5) * scale
        start = int(np.floor(centre - radius * widening + 0.5))
        row = size - 1 - pixel if mirrored else pixel
        first[row] = max(start, 0)
        for source in range(first[row], min(start + weights.shape[1], length)):
            distance = abs(source + 0.5 - centre) / widening
            weights[row, source - first[row]] = _cubic(distance) if cubic else max(0.0, 1 - distance)
        weights[row] *= unit / weights[row].sum()
    return first, weights.astype(np.float32)


@compiled
def _cubic(x: float) -> float:
    """Keys' cubic convolution kernel (1981) with a = -0.5."""
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    if x < 2:
        return ((2.5 - 0.5 * x) * x - 4) * x + 2
    return 0.0
