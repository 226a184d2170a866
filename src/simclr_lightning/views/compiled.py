"""Crop, colour and blur of views in the host's memory, one view at a time, compiled; needs Numba (the extra ``fast``).

The same operations as in ``whole_batch.py``, from first to last while a view is in the cache, without temporary
pictures, and with only the taps that a crop needs: ten to fifteen times as fast, and equal up to rounding in float32.
Numba compiles at the first call, which takes some seconds, and keeps the result on disk. It needs no compiler.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import numba
import numpy as np
import torch
from torch import Tensor

from simclr_lightning.views.draw import ViewParameters
from simclr_lightning.views.recipe import ViewRecipe
from simclr_lightning.views.torch_ops import LUMA, shifted_primaries

Array = np.ndarray[Any, Any]

_Function = TypeVar("_Function", bound=Callable[..., Any])

_BRIGHTNESS, _CONTRAST, _SATURATION = range(3)  # numbers of the jitter's operations; hue is what remains
_ZERO, _ONE, _THREE = (np.float32(number) for number in (0, 1, 3))  # literals would make float64 of everything
_RED, _GREEN, _BLUE = (np.float32(weight) for weight in LUMA)
_INVISIBLE = 1e-7  # a weight of the blur below it adds less than float32 can tell


def _compiled(function: _Function) -> _Function:
    """Compile a function of NumPy arrays and numbers for the types of each call.

    Pixels are taken to be finite, so sums may be reordered. Python's lock is not held: threads can share a batch.
    """
    fastmath = {"contract", "reassoc", "nsz", "nnan", "ninf"}
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
    try:
        return cast("_Function", numba.njit(function, cache=True, **options))
    except RuntimeError:  # no folder to keep the result in: compiled anew in every process
        return cast("_Function", numba.njit(function, **options))


def _in_threads(work: Callable[[slice], None], number: int) -> None:
    """Share a number of views between as many threads as torch uses."""
    threads = torch.get_num_threads()
    share = max(1, -(-number // threads))
    parts = [slice(first, first + share) for first in range(0, number, share)]
    if len(parts) <= 1:
        work(slice(0, number))
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, parts))


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
    boxes, flip = parameters.boxes.numpy(), parameters.flip.numpy()
    cubic = recipe.interpolation == "bicubic"

    def work(part: slice) -> None:
        _crop(target[part], source, number[part], boxes[part], flip[part], cubic, unit)

    _in_threads(work, len(views))


def recolour(views: Tensor, recipe: ViewRecipe, parameters: ViewParameters) -> None:
    """Jitter, grey and blur in place as ``whole_batch.recolour``; the views are contiguous, in the host's memory.

    Example:
        >>> from simclr_lightning.views.draw import draw_parameters
        >>> recipe, views = ViewRecipe(size=24, grey=1.0), torch.rand(8, 3, 24, 24)
        >>> parameters = draw_parameters(recipe, torch.arange(4), torch.tensor([32, 32]), seed=0, epoch=0)
        >>> recolour(views, recipe, parameters.flatten())
        >>> torch.allclose(views[:, 0], views[:, 2], atol=1e-6)
        True
    """
    hue = shifted_primaries(parameters.hue).float()
    factors = torch.stack([parameters.brightness, parameters.contrast, parameters.saturation], 1).float()
    columns = (parameters.jitter, parameters.order, factors, hue, parameters.grey, parameters.blur, parameters.sigma)
    arrays = [column.numpy() for column in columns]
    happens, pixels = np.array(recipe.ranges()) > 0, views.numpy()

    def work(part: slice) -> None:
        own = tuple(array[part] for array in arrays)
        _recolour(pixels[part], happens, recipe.additive_brightness, recipe.blur_kernel, own)

    _in_threads(work, len(views))


@_compiled
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


@_compiled
def _weighted_sum(target: Array, lines: Array, taps: tuple[Array, Array], pixel: int) -> None:
    first, weights = taps
    target[:] = _ZERO
    for k in range(weights.shape[1]):
        if weights[pixel, k] != _ZERO:
            _add(target, lines[first[pixel] + k], weights[pixel, k])


@_compiled
def _add(target: Array, source: Array, weight: np.float32) -> None:
    for x in range(target.size):
        target[x] += np.float32(source[x]) * weight


@_compiled
def _taps(length: int, size: int, cubic: bool, mirrored: bool, unit: float) -> tuple[Array, Array]:
    """For every pixel of the result the first pixel of the crop that counts, and the weights from there on.

    See ``whole_batch.resampling_weights``. The weights sum to ``unit``; unused ones are 0.
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


@_compiled
def _cubic(x: float) -> float:
    """Keys' cubic convolution kernel (1981) with a = -0.5."""
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    if x < 2:
        return ((2.5 - 0.5 * x) * x - 4) * x + 2
    return 0.0


@_compiled
def _recolour(views: Array, happens: Array, additive: bool, kernel: int, own: tuple[Array, ...]) -> None:
    jitter, order, factors, hue, grey, blur, sigma = own
    for m in range(len(views)):
        view = views[m].reshape(views.shape[1], -1)
        for position in range(4):
            operation = order[m, position]
            if not jitter[m] or not happens[operation]:
                continue
            if operation == _BRIGHTNESS:
                _brightness(view, factors[m, 0], additive)
            elif operation == _CONTRAST:
                _contrast(view, factors[m, 1])
            elif operation == _SATURATION:
                _saturation(view, factors[m, 2])
            else:
                _hue(view, hue[m])
        if grey[m]:
            _saturation(view, _ZERO)
        if blur[m] and kernel > 1:
            _blur(views[m], sigma[m], kernel)


@_compiled
def _brightness(view: Array, factor: np.float32, additive: bool) -> None:
    scale, shift = (_ONE, factor) if additive else (factor, _ZERO)
    for c in range(len(view)):  # "for channel in view" would forget that a channel's pixels lie side by side
        _scale_and_shift(view[c], scale, shift)


@_compiled
def _contrast(view: Array, factor: np.float32) -> None:
    mean = _mean(view[0])
    if len(view) == 3:
        mean = _RED * mean + _GREEN * _mean(view[1]) + _BLUE * _mean(view[2])
    for c in range(len(view)):
        _scale_and_shift(view[c], factor, mean * (_ONE - factor))


@_compiled
def _mean(pixels: Array) -> np.float32:
    total = _ZERO
    for i in range(pixels.size):
        total += pixels[i]
    return total / np.float32(pixels.size)


@_compiled
def _scale_and_shift(pixels: Array, scale: np.float32, shift: np.float32) -> None:
    for i in range(pixels.size):
        pixels[i] = min(max(pixels[i] * scale + shift, _ZERO), _ONE)


@_compiled
def _saturation(view: Array, factor: np.float32) -> None:
    red, green, blue = view[0], view[1], view[2]
    for i in range(red.size):
        rest = (_RED * red[i] + _GREEN * green[i] + _BLUE * blue[i]) * (_ONE - factor)
        red[i] = min(max(red[i] * factor + rest, _ZERO), _ONE)
        green[i] = min(max(green[i] * factor + rest, _ZERO), _ONE)
        blue[i] = min(max(blue[i] * factor + rest, _ZERO), _ONE)


@_compiled
def _hue(view: Array, primaries: Array) -> None:
    """See ``torch_ops.hue`` for the formula."""
    reds, greens, blues = view[0], view[1], view[2]
    for_red, for_green, for_blue = primaries[0], primaries[1], primaries[2]
    for i in range(reds.size):
        red, green, blue = reds[i], greens[i], blues[i]
        largest, smallest = max(red, green, blue), min(red, green, blue)
        chroma = largest - smallest
        hue = green + blue - red + chroma - smallest
        if green < blue:
            hue = -hue
        base = smallest - chroma
        reds[i] = min(max(abs(abs(hue - chroma * for_red) - _THREE * chroma) + base, smallest), largest)
        greens[i] = min(max(abs(abs(hue - chroma * for_green) - _THREE * chroma) + base, smallest), largest)
        blues[i] = min(max(abs(abs(hue - chroma * for_blue) - _THREE * chroma) + base, smallest), largest)


@_compiled
def _blur(view: Array, sigma: np.float32, kernel: int) -> None:
    """One direction after the other; borders are reflected. Only taps with a visible weight are computed."""
    side, half = view.shape[-1], kernel // 2
    weights = np.exp(-((np.arange(half + 1) / sigma) ** 2) / 2)
    weights = (weights / (2 * weights.sum() - weights[0])).astype(np.float32)
    reach = 0
    while reach < half and weights[reach + 1] > _INVISIBLE:
        reach += 1
    columns = np.empty((side, side), np.float32)
    line = np.empty(side + 2 * reach, np.float32)
    for c in range(len(view)):
        plane = view[c]
        for y in range(side):
            _scaled(columns[y], plane[y], weights[0])
            for k in range(1, reach + 1):
                below = y + k if y + k < side else 2 * (side - 1) - y - k
                _add_pair(columns[y], plane[abs(y - k)], plane[below], weights[k])
        for y in range(side):
            line[reach : reach + side] = columns[y]
            for k in range(1, reach + 1):
                line[reach - k] = columns[y, k]
                line[reach + side - 1 + k] = columns[y, side - 1 - k]
            _scaled(plane[y], columns[y], weights[0])
            for k in range(1, reach + 1):
                _add_pair(plane[y], line[reach - k : reach - k + side], line[reach + k : reach + k + side], weights[k])


@_compiled
def _scaled(target: Array, source: Array, weight: np.float32) -> None:
    for x in range(target.size):
        target[x] = source[x] * weight


@_compiled
def _add_pair(target: Array, one: Array, other: Array, weight: np.float32) -> None:
    for x in range(target.size):
        target[x] += (one[x] + other[x]) * weight
