"""The compiled crop of ``compiled.py``, whose remarks hold here: only the taps that a crop needs are added up."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from simclr_lightning.views.draw import ViewParameters
from simclr_lightning.views.numba_tools import ONE, ZERO, Array, compiled, in_threads
from simclr_lightning.views.recipe import ViewRecipe


def crop(views: Tensor, recipe: ViewRecipe, parameters: ViewParameters, pictures: Tensor) -> None:
    """Fill views with their crops as ``whole_batch.crop`` does; the views are contiguous, in the host's memory.

    Example:
        >>> from simclr_lightning.views.draw import draw_parameters
        >>> recipe, pictures = ViewRecipe(size=24), torch.full((4, 3, 32, 32), 51, dtype=torch.uint8)
        >>> parameters = draw_parameters(recipe, torch.arange(4), torch.tensor([32, 32]), seed=0, epoch=0)
        >>> views = torch.empty(8, 3, 24, 24)
        >>> crop(views, recipe, parameters.flatten(), pictures)
        >>> views.mean()
        tensor(0.2000)
    """
    pictures = pictures.contiguous() if pictures.dtype == torch.uint8 else pictures.float().contiguous()
    unit = 1 / 255 if pictures.dtype == torch.uint8 else 1.0
    source, target = pictures.numpy(), views.numpy()
    number = np.arange(len(views)) % max(1, len(pictures))
    own = (parameters.boxes, parameters.flip, parameters.upside_down, parameters.transposed)
    boxes, flip, upside_down, transposed = (column.numpy() for column in own)
    cubic, antialias = recipe.interpolation == "bicubic", not recipe.official

    def work(part: slice) -> None:
        turned = upside_down[part], transposed[part]
        _crop(target[part], source, number[part], boxes[part], flip[part], *turned, cubic, antialias, unit)

    in_threads(work, len(views))


@compiled
def _crop(
    views: Array,
    pictures: Array,
    number: Array,
    boxes: Array,
    flip: Array,
    upside_down: Array,
    transposed: Array,
    cubic: bool,
    antialias: bool,
    unit: float,
) -> None:
    size = views.shape[-1]
    for m in range(len(views)):
        top, left, tall, wide = boxes[m]
        rows = _taps(tall, size, cubic, antialias, upside_down[m], unit)
        columns = _taps(wide, size, cubic, antialias, flip[m], 1.0)
        for c in range(views.shape[1]):
            # By column, so that both directions add up whole lines.
            halfway = np.empty((wide, size), np.float32)
            line = np.empty(wide, np.float32)
            plane = pictures[number[m], c]
            for y in range(size):
                _weighted_sum(line, plane[top:, left : left + wide], rows, y)
                halfway[:, y] = line
            line = np.empty(size, np.float32)
            view = views[m, c].T if transposed[m] else views[m, c]
            for x in range(size):
                _weighted_sum(line, halfway, columns, x)
                for y in range(size):
                    view[y, x] = min(max(line[y], ZERO), ONE)  # bicubic overshoots


@compiled
def _weighted_sum(target: Array, lines: Array, taps: tuple[Array, Array], pixel: int) -> None:
    first, weights = taps
    target[:] = ZERO
    for k in range(weights.shape[1]):
        if weights[pixel, k] != ZERO:
            _add(target, lines[first[pixel] + k], weights[pixel, k])


@compiled
def _add(target: Array, source: Array, weight: np.float32) -> None:
    for x in range(target.size):
        target[x] += np.float32(source[x]) * weight


@compiled
def _taps(length: int, size: int, cubic: bool, antialias: bool, mirrored: bool, unit: float) -> tuple[Array, Array]:
    """For every pixel of the result the first pixel of the crop that counts, and the weights from there on.

    See ``whole_batch.taps``. The weights sum to ``unit``; unused ones are 0.
    """
    radius = 2 if cubic else 1
    scale = length / size
    widening = max(scale, 1.0) if antialias else 1.0
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
