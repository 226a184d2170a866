"""The forms of Google's code, one picture at a time in float64, written from their definitions, not from ours.

Crop: resized by Keys' cubic kernel at the centres of the pixels, unwidened, weights outside the crop left out.
Contrast: about each channel's own mean. Saturation, hue: through Python's ``colorsys``. Blur: SciPy's, zeros outside.
"""

from __future__ import annotations

import colorsys
import math
from typing import Any

import numpy as np
import torch
from scipy import ndimage  # type: ignore[import-untyped]
from torch import Tensor

from simclr_lightning.views.draw import ViewParameters
from simclr_lightning.views.recipe import ViewRecipe

Array = np.ndarray[Any, Any]


def official_views(pictures: Tensor, recipe: ViewRecipe, parameters: ViewParameters, cropped: bool = False) -> Tensor:
    """(V, N, C, S, S) float64 of (N, C, H, W) pictures, or of (V, N, C, S, S) crops; uint8, or float in [0, 1]."""
    scale = 1 if pictures.dtype.is_floating_point else 255
    views = []
    for view in range(parameters.flip.shape[0]):
        for n in range(parameters.flip.shape[1]):
            own = ViewParameters(*(values[view, n].numpy() for values in parameters))  # type: ignore[arg-type]
            picture = (pictures[view, n] if cropped else pictures[n]).cpu().double().numpy() / scale
            views.append(torch.from_numpy(official_view(picture, recipe, own, cropped).copy()))
    stacked = torch.stack(views)
    return stacked.view(*parameters.flip.shape, *stacked.shape[1:])


def official_view(picture: Array, recipe: ViewRecipe, own: Any, cropped: bool) -> Array:
    """One (C, S, S) view of a (C, H, W) picture in [0, 1]."""
    view = picture if cropped else official_crop(picture, recipe, own)
    if own.jitter:
        for operation in own.order:
            if recipe.ranges()[operation] > 0:
                view = np.clip(official_jitter(view, recipe, own, operation), 0, 1)
    if own.grey:
        view = np.repeat(np.tensordot([0.2989, 0.587, 0.114], view, 1)[None], 3, 0)
    if own.blur:
        radius = int((recipe.size // 10) / 2)
        offsets = np.arange(-radius, radius + 1)
        weights = np.exp(-(offsets**2) / (2 * float(own.sigma) ** 2))
        weights /= weights.sum()
        for axis in (1, 2):
            view = ndimage.convolve1d(view, weights, axis=axis, mode="constant", cval=0.0)
        view = np.clip(view, 0, 1)
    return view


def official_crop(picture: Array, recipe: ViewRecipe, own: Any) -> Array:
    """Cut out, resized, mirrored."""
    top, left, height, width = own.boxes
    part = picture[:, top : top + height, left : left + width]
    resized = np.clip(official_resize(part, recipe.size, recipe.interpolation), 0, 1)
    return resized[:, :, ::-1] if own.flip else resized


def official_resize(picture: Array, size: int, interpolation: str) -> Array:
    """``tf.image.resize`` without antialiasing: half-pixel centres, and weights that sum to 1 within the picture."""
    for axis in (1, 2):
        length = picture.shape[axis]
        lines = []
        for pixel in range(size):
            where = (pixel + 0.5) * length / size - 0.5
            near = [at for at in range(math.floor(where) - 1, math.floor(where) + 3) if 0 <= at < length]
            weights = np.array([kernel(abs(at - where), interpolation) for at in near])
            lines.append(np.tensordot(weights / weights.sum(), picture.take(near, axis), (0, axis)))
        picture = np.stack(lines, axis)
    return picture


def kernel(x: float, interpolation: str) -> float:
    """Keys 1981, eq. 15; or a triangle."""
    if interpolation == "bilinear":
        return max(0.0, 1 - x)
    if x < 1:
        return 3 / 2 * x**3 - 5 / 2 * x**2 + 1
    return -1 / 2 * x**3 + 5 / 2 * x**2 - 4 * x + 2 if x < 2 else 0.0


def official_jitter(view: Array, recipe: ViewRecipe, own: Any, operation: int) -> Array:
    """Brightness, contrast, saturation or hue, not yet clipped."""
    if operation == 0:
        brighter: Array = view + own.brightness if recipe.additive_brightness else view * own.brightness
        return brighter
    if operation == 1:
        mean = view.mean((1, 2), keepdims=True)
        contrasted: Array = (view - mean) * own.contrast + mean
        return contrasted
    changed = np.empty_like(view)
    for y, x in np.ndindex(view.shape[1:]):
        hue, saturation, value = colorsys.rgb_to_hsv(*view[:, y, x])
        if operation == 2:
            saturation = min(1.0, saturation * own.saturation)
        else:
            hue = (hue + own.hue) % 1
        changed[:, y, x] = colorsys.hsv_to_rgb(hue, saturation, value)
    return changed
