"""Crop, colour and blur of views in the host's memory, one view at a time, compiled; needs Numba (the extra ``fast``).

The same operations as in ``whole_batch.py``, from first to last while a view is in the cache, without temporary
pictures, and with only the taps that a crop needs: ten to fifteen times as fast, and equal up to rounding in float32.
Numba compiles at the first call, which takes some seconds, and keeps the result on disk. It needs no compiler.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from simclr_lightning.views.compiled_crop import crop
from simclr_lightning.views.draw import ViewParameters
from simclr_lightning.views.numba_tools import ONE, THREE, ZERO, Array, compiled, in_threads
from simclr_lightning.views.recipe import ViewRecipe
from simclr_lightning.views.torch_ops import LUMA, shifted_primaries

__all__ = ["crop", "recolour"]

_BRIGHTNESS, _CONTRAST, _SATURATION = range(3)  # numbers of the jitter's operations; hue is what remains
_RED, _GREEN, _BLUE = (np.float32(weight) for weight in LUMA)
_INVISIBLE = 1e-7  # a weight of the blur below it adds less than float32 can tell


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
        _recolour(pixels[part], happens, recipe.additive_brightness, recipe.official, recipe.blur_kernel, own)

    in_threads(work, len(views))


@compiled
def _recolour(
    views: Array, happens: Array, additive: bool, official: bool, kernel: int, own: tuple[Array, ...]
) -> None:
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
                _contrast(view, factors[m, 1], official)
            elif operation == _SATURATION and official:
                _hsv_saturation(view, factors[m, 2])
            elif operation == _SATURATION:
                _saturation(view, factors[m, 2])
            else:
                _hue(view, hue[m])
        if grey[m]:
            _saturation(view, ZERO)
        if blur[m] and kernel > 1:
            _blur(views[m], sigma[m], kernel, official)


@compiled
def _brightness(view: Array, factor: np.float32, additive: bool) -> None:
    scale, shift = (ONE, factor) if additive else (factor, ZERO)
    for c in range(len(view)):  # "for channel in view" would forget that a channel's pixels lie side by side
        _scale_and_shift(view[c], scale, shift)


@compiled
def _contrast(view: Array, factor: np.float32, own_means: bool) -> None:
    grey = len(view) == 3 and not own_means
    mean = _mean(view[0])
    if grey:
        mean = _RED * mean + _GREEN * _mean(view[1]) + _BLUE * _mean(view[2])
    for c in range(len(view)):
        if c > 0 and not grey:
            mean = _mean(view[c])
        _scale_and_shift(view[c], factor, mean * (ONE - factor))


@compiled
def _mean(pixels: Array) -> np.float32:
    total = ZERO
    for i in range(pixels.size):
        total += pixels[i]
    return total / np.float32(pixels.size)


@compiled
def _scale_and_shift(pixels: Array, scale: np.float32, shift: np.float32) -> None:
    for i in range(pixels.size):
        pixels[i] = min(max(pixels[i] * scale + shift, ZERO), ONE)


@compiled
def _saturation(view: Array, factor: np.float32) -> None:
    red, green, blue = view[0], view[1], view[2]
    for i in range(red.size):
        rest = (_RED * red[i] + _GREEN * green[i] + _BLUE * blue[i]) * (ONE - factor)
        red[i] = min(max(red[i] * factor + rest, ZERO), ONE)
        green[i] = min(max(green[i] * factor + rest, ZERO), ONE)
        blue[i] = min(max(blue[i] * factor + rest, ZERO), ONE)


@compiled
def _hsv_saturation(view: Array, factor: np.float32) -> None:
    """See ``torch_ops.hsv_saturation`` for the formula."""
    red, green, blue = view[0], view[1], view[2]
    for i in range(red.size):
        largest, smallest = max(red[i], green[i], blue[i]), min(red[i], green[i], blue[i])
        chroma, own = largest - smallest, factor
        if chroma * factor > largest:
            own = largest / chroma
        red[i] = min(max(largest - (largest - red[i]) * own, ZERO), ONE)
        green[i] = min(max(largest - (largest - green[i]) * own, ZERO), ONE)
        blue[i] = min(max(largest - (largest - blue[i]) * own, ZERO), ONE)


@compiled
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
        reds[i] = min(max(abs(abs(hue - chroma * for_red) - THREE * chroma) + base, smallest), largest)
        greens[i] = min(max(abs(abs(hue - chroma * for_green) - THREE * chroma) + base, smallest), largest)
        blues[i] = min(max(abs(abs(hue - chroma * for_blue) - THREE * chroma) + base, smallest), largest)


@compiled
def _blur(view: Array, sigma: np.float32, kernel: int, zeros: bool) -> None:
    """One direction after the other; borders are reflected, or zeros. Only taps with a visible weight are computed."""
    side, half = view.shape[-1], kernel // 2
    weights = np.exp(-((np.arange(half + 1) / sigma) ** 2) / 2)
    weights = (weights / (2 * weights.sum() - weights[0])).astype(np.float32)
    reach = 0
    while reach < half and weights[reach + 1] > _INVISIBLE:
        reach += 1
    columns, nothing = np.empty((side, side), np.float32), np.zeros(side if zeros else 0, np.float32)
    line = np.empty(side + 2 * reach, np.float32)
    for c in range(len(view)):
        plane = view[c]
        for y in range(side):
            _scaled(columns[y], plane[y], weights[0])
            for k in range(1, reach + 1):
                below = y + k if y + k < side else 2 * (side - 1) - y - k
                if zeros:
                    upper = plane[y - k] if y >= k else nothing
                    _add_pair(columns[y], upper, plane[y + k] if y + k < side else nothing, weights[k])
                else:
                    _add_pair(columns[y], plane[abs(y - k)], plane[below], weights[k])
        for y in range(side):
            line[reach : reach + side] = columns[y]
            for k in range(1, reach + 1):
                line[reach - k] = ZERO if zeros else columns[y, k]
                line[reach + side - 1 + k] = ZERO if zeros else columns[y, side - 1 - k]
            _scaled(plane[y], columns[y], weights[0])
            for k in range(1, reach + 1):
                _add_pair(plane[y], line[reach - k : reach - k + side], line[reach + k : reach + k + side], weights[k])


@compiled
def _scaled(target: Array, source: Array, weight: np.float32) -> None:
    for x in range(target.size):
        target[x] = source[x] * weight


@compiled
def _add_pair(target: Array, one: Array, other: Array, weight: np.float32) -> None:
    for x in range(target.size):
        target[x] += (one[x] + other[x]) * weight
