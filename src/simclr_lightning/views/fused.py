"""Views on a GPU by the kernels of ``triton_kernels.py``: a handful of launches and one copy of parameters a batch.

Of a batch that a worker has cropped, every byte is read twice (once for the grey level that the contrast needs), and
every view is written once, in the encoder's memory format and type. Those that are blurred, half of them by default,
make two passes more in float32. Pictures that are cropped here are read once more.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor

from simclr_lightning.views.batch import sent
from simclr_lightning.views.draw import ViewParameters, draw_parameters
from simclr_lightning.views.normalisation import normalisation, normalise_
from simclr_lightning.views.recipe import ViewRecipe
from simclr_lightning.views.scale import in_unit_range
from simclr_lightning.views.torch_ops import rotate, shifted_primaries

_BLOCK = 1024  # pixels of a tile where a pixel is a few numbers
_CROP_BLOCK = 256  # and in the crop, which holds coordinates too
_BLUR_TILE = (32, 64)  # rows, and numbers of a line: with what lies around it, it stays in the fastest memory
_INVISIBLE = 1e-7  # a weight of the blur below it adds less than float32 can tell
_CONTRAST = 1  # its number in ViewParameters.order


@cache
def obstacle(device: torch.device) -> str | None:
    """Why Triton cannot make views on a device; None if it can. Tried once for each device, by making some.

    Args:
        device: Device.

    Example:
        >>> obstacle(torch.device("cpu"))
        'a CPU has faster ways'
    """
    if device.type == "cpu":
        return "a CPU has faster ways"
    if find_spec("triton") is None:
        return "Triton is not installed"
    try:
        from triton.runtime import driver

        if driver.active.get_device_interface() is not torch.get_device_module(device):
            return "Triton works on other devices"
        recipe = ViewRecipe(size=40, jitter=1.0, blur=1.0)
        parameters = draw_parameters(recipe, torch.arange(1), torch.tensor([40, 40]), seed=0, epoch=0)
        for shape in ((1, 3, 40, 40), (2, 1, 3, 40, 40)):
            make_views(recipe, parameters, torch.zeros(shape, dtype=torch.uint8, device=device), torch.float32)
    except Exception as problem:  # whatever a compiler, a driver, or a missing one may raise
        return (str(problem).strip() or type(problem).__name__).splitlines()[0]
    return None


def available(device: torch.device) -> bool:
    """Whether Triton can make views on a device; see ``obstacle``.

    Args:
        device: Device.

    Example:
        >>> available(torch.device("cpu"))
        False
    """
    return obstacle(device) is None


def make_views(recipe: ViewRecipe, parameters: ViewParameters, pixels: Tensor, dtype: torch.dtype) -> Tensor:
    """As ``engine.make_views``, whose arguments these are; the device is one that ``available`` finds fit.

    Args:
        recipe: What the views are.
        parameters: What is done to each of the V N views, on the CPU.
        pixels: (N, C, H, W) pictures, or (V, N, C, size, size) crops; uint8, or float in [0, 1], in any memory format.
        dtype: Of the views; they are rounded to it once, at the end.

    Returns:
        (V, N, C, size, size), whose ``flatten(0, 1)`` is channels_last.
    """
    size, channels, each = recipe.size, pixels.shape[-3], parameters.flip.shape
    own_statistics = recipe.normalize == "picture"  # of whole channels, so of finished views
    views = _empty(each.numel(), channels, size, pixels.device, torch.float32 if own_statistics else dtype)
    if views.numel():
        given = _give(recipe, parameters.flatten(), channels, pixels.device)
        with _on(pixels.device):
            if pixels.ndim == 4:
                pixels = torch.unflatten(_crop(recipe, given, pixels, each.numel()), 0, each)
            if recipe.rotation:
                pixels = torch.unflatten(rotate(in_unit_range(pixels).flatten(0, 1), given.angle), 0, each)
            sharp = _recolour(views, recipe, given, pixels)
            _blur(views, recipe, given, sharp)
        if own_statistics:
            normalise_(views, recipe)
    return torch.unflatten(views.to(dtype), 0, each)


def _crop(recipe: ViewRecipe, given: _Given, pictures: Tensor, total: int) -> Tensor:
    """Crops, resized and mirrored, (M, C, S, S) float32."""
    from simclr_lightning.views.triton_kernels import crop_kernel

    number, channels, size = len(pictures), pictures.shape[1], recipe.size
    crops = _empty(total, channels, size, pictures.device)
    grid = (total, -(-(size * size) // _CROP_BLOCK), _groups(channels))
    how = (recipe.interpolation == "bicubic", not recipe.official, _unit(pictures), _CROP_BLOCK)
    crop_kernel[grid](pictures, crops, given.table, number, *pictures.stride(), size, channels, *how)
    return crops


def _recolour(views: Tensor, recipe: ViewRecipe, given: _Given, pixels: Tensor) -> Tensor:
    """Finish the views that are not blurred; those that are, in their order, are returned, (B, C, S, S) float32."""
    from simclr_lightning.views.triton_kernels import colour_kernel, level_kernel

    channels, size = pixels.shape[2], recipe.size
    tiles = -(-(size * size) // _BLOCK)
    levels = 1 if channels == 3 and not recipe.official else channels
    forms = (recipe.additive_brightness, recipe.official)
    own = (pixels.shape[1], *pixels.stride(), size, channels, *forms, _unit(pixels), levels)
    sums = torch.empty(len(views), levels, tiles, device=pixels.device)
    grid = (len(views), tiles, _groups(channels))
    if given.contrasts:
        level_kernel[grid](pixels, sums, given.table, given.numbers, *own, tiles, _BLOCK)
    sharp = _empty(given.blurred, channels, size, pixels.device)
    tables, end = (given.table, given.numbers, given.normal), (recipe.noise, recipe.mean is not None)
    many = 1 << (tiles - 1).bit_length()
    colour_kernel[grid](pixels, views, sharp, sums, *tables, *own, *end, tiles, many, _BLOCK)
    return sharp


def _blur(views: Tensor, recipe: ViewRecipe, given: _Given, sharp: Tensor) -> None:
    """Finish the views that are blurred."""
    from simclr_lightning.views.triton_kernels import blur_kernel

    if given.blurred == 0:
        return
    channels, size = views.shape[1:3]
    rows, columns = _BLUR_TILE
    grid = (given.blurred, -(-size // rows) * -(-size * channels // columns))
    own = (given.table, given.blurs, given.weights, given.normal, size, channels, given.width)
    end = (recipe.official, recipe.noise, recipe.mean is not None, rows, columns)
    halfway = torch.empty_like(sharp)
    blur_kernel[grid](sharp, halfway, *own, False, *end)
    blur_kernel[grid](halfway, views, *own, True, *end)


class _Given(NamedTuple):
    """Parameters on the device, all in one piece of memory; whole numbers, and numbers, are two ways to read it."""

    normal: Tensor
    table: Tensor
    numbers: Tensor
    blurs: Tensor
    weights: Tensor
    angle: Tensor
    width: int  # of a row of blurs and weights: the view, the reach of its blur, and half the kernel from its middle on
    blurred: int  # views
    contrasts: bool  # whether any view's contrast is changed


def _give(recipe: ViewRecipe, own: ViewParameters, channels: int, device: torch.device) -> _Given:
    normal = torch.zeros(-(-2 * channels // 4) * 4)  # pieces of 16 bytes: Triton compiles for where they start
    numbers = normalisation(recipe, channels)
    if numbers is not None:
        normal[: 2 * channels] = numbers.flatten()
    happens = own.jitter[:, None] & (torch.tensor(recipe.ranges()) > 0)[own.order]
    order = torch.where(happens, own.order, -1)
    contrast = order == _CONTRAST
    contrasts = contrast.any(1)
    blurred = own.blur if recipe.blur_kernel > 1 else torch.zeros_like(own.blur)
    whole = [
        own.boxes,
        (own.flip + 2 * own.upside_down + 4 * own.transposed)[:, None],
        order,
        torch.where(contrasts, contrast.int().argmax(1), -1)[:, None],
        own.grey[:, None],
        torch.where(blurred, blurred.cumsum(0) - 1, -1)[:, None],
    ]
    factors = torch.stack([own.brightness, own.contrast, own.saturation], 1)
    factors = torch.cat([factors, shifted_primaries(own.hue)], 1).float().view(torch.int32)
    keys = own.noise_key.contiguous().view(torch.int32).view(-1, 2)
    table = torch.cat([torch.cat(whole, 1).int(), factors, keys], 1)
    blurs = _blur_rows(blurred.nonzero()[:, 0], own.sigma, recipe.blur_kernel // 2)
    pieces = [normal.view(torch.int32), table.flatten(), blurs.flatten(), own.angle.float().view(torch.int32)]
    packed = sent(torch.cat(pieces), device)
    lengths = [len(piece) for piece in pieces]
    integers, floats = torch.split(packed, lengths), torch.split(packed.view(torch.float32), lengths)
    return _Given(
        normal=floats[0],
        table=integers[1],
        numbers=floats[1],
        blurs=integers[2],
        weights=floats[2],
        angle=floats[3],
        width=blurs.shape[1],
        blurred=len(blurs),
        contrasts=bool(contrasts.any()),
    )


def _blur_rows(chosen: Tensor, sigma: Tensor, half: int) -> Tensor:
    """(B, 2 + half + 1, rounded up to fours) int32 of the B views that are blurred; the weights are float32 inside."""
    weights = torch.exp(-((torch.arange(half + 1) / sigma[chosen, None]) ** 2) / 2)
    weights = weights / (2 * weights.sum(1, keepdim=True) - weights[:, :1])
    rows = torch.zeros(len(chosen), -(-(half + 3) // 4) * 4, dtype=torch.int32)
    rows[:, 0] = chosen
    rows[:, 1] = (weights > _INVISIBLE).sum(1) - 1
    rows[:, 2 : half + 3] = weights.float().view(torch.int32)
    return rows


def _empty(total: int, channels: int, size: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    shape = (total, channels, size, size)
    return torch.empty(shape, device=device, dtype=dtype, memory_format=torch.channels_last)


def _groups(channels: int) -> int:
    """Programs for the channels of a pixel: colours stay together, others have nothing to do with each other."""
    return 1 if channels == 3 else channels


def _unit(pixels: Tensor) -> float:
    return 1.0 if pixels.dtype.is_floating_point else 1 / 255


def _on(device: torch.device) -> AbstractContextManager[Any]:
    """Triton launches on the current device, whatever the device of the tensors."""
    if device.type == "cpu":  # its interpreter
        return nullcontext()
    context: AbstractContextManager[Any] = torch.get_device_module(device).device(device)
    return context
