"""Crop, colour and blur of whole batches on any device, operation by operation, every view with its own parameters.

Crop and antialiased resize are two matrix products, equal to ``interpolate(antialias=True)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from simclr_lightning.views import torch_ops
from simclr_lightning.views.batch import sent
from simclr_lightning.views.draw import ViewParameters
from simclr_lightning.views.recipe import ViewRecipe

Filter = Literal["bicubic", "bilinear"]

_CACHED = 2**20  # float32 numbers that one core works on at a time: 1.4 times as fast as 256 small pictures at once
_Step = tuple[Callable[[Tensor, Tensor], Tensor], slice]


def crop(views: Tensor, recipe: ViewRecipe, parameters: ViewParameters, pictures: Tensor) -> None:
    """Fill views with their crops.

    Args:
        views: (V N, C, S, S) float32; all first views, then all second views, and so on.
        recipe: What the views are.
        parameters: What is done to each view, with the leading dimension (V N,), on the CPU.
        pictures: (N, C, H, W) uint8, or float in [0, 1].

    Example:
        >>> from simclr_lightning.views.draw import draw_parameters
        >>> recipe, pictures = ViewRecipe(size=24), torch.full((4, 3, 32, 32), 51, dtype=torch.uint8)
        >>> parameters = draw_parameters(recipe, torch.arange(4), torch.tensor([32, 32]), seed=0, epoch=0)
        >>> views = torch.empty(8, 3, 24, 24)
        >>> crop(views, recipe, parameters.flatten(), pictures)
        >>> views.mean()
        tensor(0.2000)
    """
    each = len(views) // max(1, len(pictures))
    mirrored = torch.stack([parameters.upside_down, parameters.flip, parameters.transposed], 1)
    targets, boxes, mirrored = (
        torch.unflatten(values, 0, (each, len(pictures)))
        for values in (views, sent(parameters.boxes, views.device), sent(mirrored, views.device))
    )
    together, resize = _at_a_time(targets), (recipe.size, recipe.interpolation, not recipe.official)
    parts = (torch.split(values, together, 1) for values in (targets, boxes, mirrored))
    for part, own, directions, sources in zip(*parts, torch.split(pictures, together), strict=True):
        upside_down, flip, transposed = directions.unbind(-1)
        crops = crop_resize(sources, own, flip, *resize, upside_down=upside_down)
        part.copy_(torch.where(transposed[..., None, None, None], crops.mT, crops) if recipe.rotate90 else crops)


def recolour(views: Tensor, recipe: ViewRecipe, parameters: ViewParameters) -> None:
    """Jitter, grey and blur, in place.

    Args:
        views: (M, C, S, S) float32 in [0, 1].
        recipe: What the views are.
        parameters: What is done to each view, with the leading dimension (M,), on the CPU.

    Example:
        >>> from simclr_lightning.views.draw import draw_parameters
        >>> recipe, views = ViewRecipe(size=24, grey=1.0), torch.rand(8, 3, 24, 24)
        >>> parameters = draw_parameters(recipe, torch.arange(4), torch.tensor([32, 32]), seed=0, epoch=0)
        >>> recolour(views, recipe, parameters.flatten())
        >>> torch.allclose(views[:, 0], views[:, 2], atol=1e-6)
        True
    """
    together = _at_a_time(views)
    for part, *own in zip(*(torch.split(values, together) for values in (views, *parameters)), strict=True):
        _recolour(part, recipe, ViewParameters(*own))


def crop_resize(
    images: Tensor,
    boxes: Tensor,
    flip: Tensor,
    size: int,
    interpolation: Filter,
    antialias: bool = True,
    *,
    upside_down: Tensor | None = None,
) -> Tensor:
    """Cut boxes out of pictures, resize them to squares and mirror some; V views of each picture at once.

    Each direction of the separable filter is one batched matrix product. The weights of a view are zero outside its
    box, and those of a mirrored view are reversed, so neither crop nor flip costs anything.

    Args:
        images: (N, C, H, W) pictures: uint8, scaled to [0, 1] here, or float in [0, 1].
        boxes: (V, N, 4) top, left, height and width in pixels.
        flip: (V, N) bool, mirror left to right.
        size: Side of the result.
        interpolation: Filter: bicubic (a = -0.5, result clamped to [0, 1]) or bilinear.
        antialias: Widen the filter where a crop shrinks.
        upside_down: (V, N) bool, mirror top to bottom; None: none.

    Returns:
        (V, N, C, size, size) float32 in [0, 1].

    Example:
        >>> picture = torch.tensor([[0.0, 0.5], [0.5, 1.0]]).view(1, 1, 2, 2)
        >>> boxes, flip = torch.tensor([[[0, 0, 2, 2]], [[0, 0, 1, 2]]]), torch.tensor([[False], [True]])
        >>> crop_resize(picture, boxes, flip, 2, "bilinear").flatten(1)  # all of it, and the upper line mirrored
        tensor([[0.0000, 0.5000, 0.5000, 1.0000],
                [0.5000, 0.0000, 0.5000, 0.0000]])
    """
    views, number = boxes.shape[:2]
    channels, height, width = images.shape[1:]
    top, left, tall, wide = boxes.float().unbind(-1)
    upside_down = torch.zeros_like(flip) if upside_down is None else upside_down
    how = (size, interpolation, antialias)
    if height == width:  # both directions at once
        start, length, mirrored = torch.stack([top, left]), torch.stack([tall, wide]), torch.stack([upside_down, flip])
        rows, columns = resampling_weights(start, length, mirrored, height, *how).unbind()
    else:
        rows = resampling_weights(top, tall, upside_down, height, *how)
        columns = resampling_weights(left, wide, flip, width, *how)
    if images.dtype == torch.uint8:
        rows = rows / 255
    # One product for the rows of all channels and views: (V size, H) x (H, C W).
    pixels = images.transpose(1, 2).reshape(number, height, channels * width).float()
    halfway = rows.transpose(0, 1).reshape(number, views * size, height) @ pixels
    halfway = halfway.view(number, views, size * channels, width).transpose(0, 1)
    result = (halfway @ columns.transpose(-1, -2)).view(views, number, size, channels, size)
    result = result.transpose(2, 3).contiguous()
    return result.clamp_(0, 1) if interpolation == "bicubic" else result


def resampling_weights(
    start: Tensor,
    length: Tensor,
    mirrored: Tensor,
    total: int,
    size: int,
    interpolation: Filter,
    antialias: bool = True,
) -> Tensor:
    """Weights with which every pixel of a line contributes to every pixel of its resized crop.

    Args:
        start: (...) float, first pixel of the crop.
        length: (...) float, pixels in the crop.
        mirrored: (...) bool, reverse the result.
        total: Pixels in the line.
        size: Pixels after the resize.
        interpolation: bicubic or bilinear.
        antialias: See ``taps``.

    Returns:
        (..., size, total) weights that sum to 1 over the last dimension and are 0 outside the crop.

    Example:
        >>> start, length = torch.tensor(1.0), torch.tensor(2.0)
        >>> resampling_weights(start, length, torch.tensor(False), total=4, size=2, interpolation="bilinear")
        tensor([[0., 1., 0., 0.],
                [0., 0., 1., 0.]])
    """
    most = max(total / size, 1) if antialias else 1
    source, weights = taps(length, mirrored, most, size, interpolation, antialias)
    number = source.shape[-1]
    # Taps may hang over the ends of the line, with weight 0: a margin takes them.
    dense = weights.new_zeros(*weights.shape[:-1], total + 2 * number)
    return dense.scatter_(-1, (source + (start[..., None, None] + number)).long(), weights)[..., number:-number]


def taps(
    length: Tensor, mirrored: Tensor, most: float, size: int, interpolation: Filter, antialias: bool
) -> tuple[Tensor, Tensor]:
    """Pixels of a crop's line that contribute to every pixel of the resized one.

    The filter is widened by the scale where the crop shrinks (antialiasing), cut at the crop's ends and normalised.

    Args:
        length: (...) float, pixels in the crop.
        mirrored: (...) bool, reverse the result.
        most: Widest filter, as a multiple of its own width.
        size: Pixels after the resize.
        interpolation: bicubic or bilinear.
        antialias: Widen the filter. If not, a crop that shrinks is sampled at points, as in the official code.

    Returns:
        (..., size, taps) positions in the crop, some of them outside it, and their weights, which sum to 1.

    Example:
        >>> position, weight = taps(torch.tensor(4.0), torch.tensor(False), 2, 2, "bilinear", antialias=True)
        >>> position[0], weight[0]
        (tensor([-1.,  0.,  1.,  2.]), tensor([0.0000, 0.4286, 0.4286, 0.1429]))
    """
    radius = 2 if interpolation == "bicubic" else 1
    number = math.ceil(2 * radius * most)
    length, mirrored = length[..., None, None], mirrored[..., None, None]
    scale = length / size
    widening = scale.clamp_min(1) if antialias else torch.ones_like(scale)
    pixel = torch.arange(size, device=length.device)[:, None]
    centre = (torch.where(mirrored, size - 1 - pixel, pixel) + 0.5) * scale
    source = (centre - radius * widening + 0.5).floor() + torch.arange(number, device=length.device)
    distance = ((source + 0.5 - centre) / widening).abs_()
    weights = _cubic(distance) if interpolation == "bicubic" else (1 - distance).clamp_(0)
    weights *= (source >= 0) & (source < length)
    weights /= weights.sum(-1, keepdim=True)
    return source, weights


def _recolour(views: Tensor, recipe: ViewRecipe, parameters: ViewParameters) -> None:
    steps, chosen, values = _steps(recipe, parameters)
    # Positions, not masks: with a mask the host would wait for the device to learn how many views there are.
    positions = torch.split(sent(chosen.nonzero()[:, 1], views.device), chosen.sum(1).tolist())
    values = sent(values.float(), views.device)
    for (operation, columns), rows in zip(steps, positions, strict=True):
        if len(rows):
            own = values.index_select(0, rows)[:, columns]
            views.index_copy_(0, rows, operation(views.index_select(0, rows), own))


def _steps(recipe: ViewRecipe, own: ViewParameters) -> tuple[list[_Step], Tensor, Tensor]:
    """The 18 operations that only some views go through: four times any of the jitter's four, grey, blur.

    Returns:
        The operations in order, each with the columns of its parameters; (18, M) bool, which views go through each;
        (M, 7) parameters of the views.
    """
    brightness = torch_ops.additive_brightness if recipe.additive_brightness else torch_ops.brightness
    blur = partial(torch_ops.gaussian_blur, kernel=recipe.blur_kernel, zeros=recipe.official)
    contrast = partial(torch_ops.contrast, own_means=recipe.official)
    saturation = torch_ops.hsv_saturation if recipe.official else torch_ops.saturation
    jitter: list[_Step] = [(brightness, slice(0, 1)), (contrast, slice(1, 2))]
    jitter += [(saturation, slice(2, 3)), (torch_ops.hue, slice(3, 6))]
    at_position = torch.where(own.jitter, own.order.T, -1)  # (4, M)
    chosen = (at_position[:, None] == torch.arange(4)[:, None]) & (torch.tensor(recipe.ranges()) > 0)[:, None]
    values = [own.brightness, own.contrast, own.saturation, *torch_ops.shifted_primaries(own.hue).T, own.sigma]
    return (
        [*jitter * 4, (torch_ops.grey, slice(0, 0)), (blur, slice(6, 7))],
        torch.cat([chosen.flatten(0, 1), own.grey[None], own.blur[None]]),
        torch.stack(values, 1),
    )


def _at_a_time(images: Tensor) -> int:
    """How many of (..., M, C, H, W) pictures to work on together: what a CPU's caches hold; elsewhere all of them."""
    if images.device.type != "cpu":
        return max(1, images.shape[-4])
    each = images[..., :1, :, :, :].numel()
    return max(1, torch.get_num_threads() * _CACHED // max(1, each))


def _cubic(x: Tensor) -> Tensor:
    """Keys' cubic convolution kernel (1981) with a = -0.5, as in Pillow's and torch's antialiased resize.

    Of the two cubic pieces, on [0, 1] and on [1, 2], either is 0 at 1, so that clamped arguments let them be added.
    """
    near, far = x.clamp(0, 1), x.clamp(1, 2)
    return ((1.5 * near - 2.5) * near * near + 1) + (((2.5 - 0.5 * far) * far - 4) * far + 2)
