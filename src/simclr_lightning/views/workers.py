"""What a loader's worker does with pictures of any size: random crops to train on, the central one to evaluate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from simclr_lightning.views.batch import Crops
from simclr_lightning.views.draw import ViewParameters, draw_for_each
from simclr_lightning.views.recipe import ViewRecipe
from simclr_lightning.views.scale import ValueRange, in_unit_range, unified
from simclr_lightning.views.whole_batch import Filter, taps

_CENTRE = 0.875  # share of the shorter side that evaluation keeps, as the official code


class ScaledPicture(NamedTuple):
    """A picture that was decoded at a half of its size, a quarter or an eighth.

    Attributes:
        image: in mode RGB.
        scale: 2, 4 or 8.

    Example:
        >>> from PIL import Image
        >>> ScaledPicture(Image.new("RGB", (50, 40)), scale=2).resized((10, 20, 64, 63), 16, "bicubic").shape
        torch.Size([3, 16, 16])
    """

    image: Image.Image
    scale: int

    def resized(self, box: Sequence[int], size: int, interpolation: str) -> Tensor:
        """A crop, resized.

        Pillow takes boxes that begin and end within a pixel. Rounded to whole ones, the crop would be shifted by up to
        half a pixel of the view.

        Args:
            box: top, left, height and width in pixels of the whole picture.
            size: side of the result.
            interpolation: bicubic or bilinear.

        Returns:
            (3, size, size) uint8.
        """
        top, left, height, width = (side / self.scale for side in box)
        right, bottom = min(left + width, self.image.width), min(top + height, self.image.height)
        resample = Image.Resampling[interpolation.upper()]
        resized = self.image.resize((size, size), resample, box=(left, top, right, bottom))
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1)


def crop_views(
    pictures: Sequence[Tensor] | Sequence[Sequence[Tensor]],
    recipes: Sequence[ViewRecipe],
    indices: Tensor,
    *,
    seed: int,
    epoch: int,
    scale: ValueRange | None = None,
) -> tuple[Crops, ...]:
    """The random crops of every picture, mirrored and turned as drawn; ``ViewEngine`` does the rest on the device.

    Args:
        pictures: N pictures (C, H, W) of any sizes; bytes are fastest where the channels of a pixel are neighbours. Or,
            for each view, N pictures.
        recipes: What the views are; they are counted on from one recipe to the next.
        indices: (N,) int64 positions in the data set.
        seed: Seed of the run.
        epoch: Epoch.
        scale: What counts as black and as white; None: the range of each picture's type.

    Returns:
        For each recipe the crops, (V, N, C, S, S) with V its count and S its size, and all parameters that were drawn
        for them. They are bytes if the pictures are and there is no scale, otherwise float32 in [0, 1]. The channels of
        a pixel are neighbours in memory.

    Example:
        >>> pictures = [torch.zeros(3, 40, 60, dtype=torch.uint8), torch.zeros(3, 50, 30, dtype=torch.uint8)]
        >>> recipes = [ViewRecipe(size=32), ViewRecipe(size=16, count=4)]
        >>> large, small = crop_views(pictures, recipes, torch.arange(2), seed=0, epoch=0)
        >>> large.pixels.shape, small.pixels.shape
        (torch.Size([2, 2, 3, 32, 32]), torch.Size([4, 2, 3, 16, 16]))
    """
    recipes = [recipe.at(epoch) for recipe in recipes]
    views = sum(recipe.count for recipe in recipes)
    whole = isinstance(pictures[0], Tensor)
    of_views = cast("Sequence[Sequence[Tensor]]", [pictures] * views if whole else pictures)
    sizes = torch.tensor([[picture.shape[-2:] for picture in own] for own in of_views])
    return crops_of(of_views, recipes, draw_for_each(recipes, indices, sizes, seed=seed, epoch=epoch), scale)


def centre_view(picture: Tensor, recipe: ViewRecipe, scale: ValueRange | None = None) -> Tensor:
    """The evaluation-time picture (official code; Chen et al. 2020, appendix B.5).

    The central square of ``eval_crop`` of the shorter side is resized to ``eval_size``. Where the recipe does not tell,
    that is 0.875 above 32 pixels, which is what a resize to 256 and a central crop of 224 amounts to; up to 32 pixels
    it is the whole square.

    Args:
        picture: (C, H, W) of any size.
        recipe: Gives ``eval_size``, ``eval_crop`` and filter.
        scale: What counts as black and as white; None: the range of the type.

    Returns:
        (C, eval_size, eval_size), bytes of bytes without a scale, otherwise float32 in [0, 1].

    Example:
        >>> centre_view(torch.zeros(3, 40, 60, dtype=torch.uint8), ViewRecipe("cifar10")).shape
        torch.Size([3, 32, 32])
    """
    height, width = picture.shape[-2:]
    shorter = min(height, width)
    side = max(1, round(centre_share(recipe.eval_crop, recipe.eval_size) * shorter))
    return _resized(picture, (*centred(height, width, side, recipe), side, side), recipe.eval_size, recipe, scale)


def centre_share(eval_crop: float | None, eval_size: int) -> float:
    """Share of the shorter side that clean pictures keep, see :func:`centre_view`.

    Example:
        >>> centre_share(None, 224), centre_share(None, 32), centre_share(0.5, 32)
        (0.875, 1.0, 0.5)
    """
    return eval_crop or (_CENTRE if eval_size > 32 else 1.0)


def centre_views(pictures: Sequence[Tensor], recipe: ViewRecipe, scale: ValueRange | None = None) -> Tensor:
    """A batch of evaluation-time pictures, see :func:`centre_view`.

    Example:
        >>> pictures = [torch.zeros(3, 40, 60, dtype=torch.uint8), torch.zeros(3, 50, 30, dtype=torch.uint16)]
        >>> centre_views(pictures, ViewRecipe("cifar10")).dtype
        torch.float32
    """
    return torch.stack(unified([centre_view(picture, recipe, scale) for picture in pictures]))


def centred(height: int, width: int, side: int, recipe: ViewRecipe) -> tuple[int, int]:
    """Top and left of the central square; the official code rounds up what torchvision's users round down.

    Args:
        height: Of the picture.
        width: Of the picture.
        side: Of the square.
        recipe: Gives ``forms``.

    Example:
        >>> centred(11, 20, 8, ViewRecipe("cifar10")), centred(11, 20, 8, ViewRecipe("official"))
        ((1, 6), (2, 6))
    """
    up = int(recipe.official)
    return (height - side + up) // 2, (width - side + up) // 2


def largest_scales(recipes: Sequence[ViewRecipe], drawn: Sequence[ViewParameters], sources: Tensor) -> list[list[int]]:
    """By what pictures may be divided so that no crop is enlarged to its view: 1, 2, 4 or 8, as JPEGs can be decoded.

    Crops of the official forms are sampled without antialiasing from whole pictures: these are not divided.

    Args:
        recipes: What the views are.
        drawn: For each recipe, the parameters of the views of N pictures.
        sources: (V, N) positions of the pictures that the views are of; those of a column that are of one picture are
            cut out of the same pixels.

    Returns:
        V times N numbers: every crop of a picture is at least as many times as large as its view, in both directions.

    Example:
        >>> recipe = ViewRecipe(size=32, crop_area=(1.0, 1.0), crop_ratio=(1.0, 1.0))
        >>> sizes = torch.tensor([[63, 63], [64, 64], [400, 400]])
        >>> drawn = draw_for_each([recipe], torch.arange(3), sizes, seed=0, epoch=0)
        >>> largest_scales([recipe], drawn, torch.tensor([[0, 1, 2], [0, 1, 2]]))
        [[1, 2, 8], [1, 2, 8]]
    """
    if any(recipe.official for recipe in recipes):
        return [[1] * sources.shape[1]] * len(sources)
    times = [own.boxes[..., 2:].amin(-1) // recipe.size for recipe, own in zip(recipes, drawn, strict=True)]
    every = torch.cat(times)
    others = sources[:, None] != sources
    least = every.expand(len(every), -1, -1).masked_fill(others, torch.iinfo(torch.int64).max).amin(1)
    return [[max(s for s in (1, 2, 4, 8) if s <= max(1, number)) for number in row] for row in least.tolist()]


def crops_of(
    pictures: Sequence[Sequence[Tensor | ScaledPicture]],
    recipes: Sequence[ViewRecipe],
    drawn: Sequence[ViewParameters],
    scale: ValueRange | None = None,
) -> tuple[Crops, ...]:
    """Cut out the crops that were drawn.

    Args:
        pictures: For each of the views of all recipes N pictures (C, H, W) of any sizes, or scaled ones.
        recipes: What the views are.
        drawn: For each recipe, the parameters of the views of the N pictures.
        scale: What counts as black and as white; None: the range of each picture's type.

    Returns:
        As :func:`crop_views`.

    Example:
        >>> pictures, recipes = [torch.zeros(3, 40, 60, dtype=torch.uint8)], [ViewRecipe(size=32)]
        >>> drawn = draw_for_each(recipes, torch.arange(1), torch.tensor([40, 60]), seed=0, epoch=0)
        >>> crops_of([pictures, pictures], recipes, drawn)[0].pixels.shape
        torch.Size([2, 1, 3, 32, 32])
    """
    of_views = iter(pictures)
    each = zip(recipes, drawn, strict=True)
    return tuple(_crops([next(of_views) for _ in range(own.count)], own, parameters, scale) for own, parameters in each)


def _crops(
    pictures: Sequence[Sequence[Tensor | ScaledPicture]],
    recipe: ViewRecipe,
    parameters: ViewParameters,
    scale: ValueRange | None,
) -> Crops:
    one = pictures[0][0]
    channels = len(one) if isinstance(one, Tensor) else 3
    bytes_alone = scale is None and all(
        isinstance(picture, ScaledPicture) or picture.dtype == torch.uint8 for own in pictures for picture in own
    )
    dtype = torch.uint8 if bytes_alone else torch.float32
    pixels = torch.empty(recipe.count, len(pictures[0]), recipe.size, recipe.size, channels, dtype=dtype)
    pixels = pixels.permute(0, 1, 4, 2, 3)
    drawn = (parameters.boxes, parameters.upside_down, parameters.flip, parameters.transposed)
    for targets, own, *of_view in zip(pixels, pictures, *(values.tolist() for values in drawn), strict=True):
        for target, picture, box, upside_down, flip, transposed in zip(targets, own, *of_view, strict=True):
            crop = _resized(picture, box, recipe.size, recipe, scale)
            if crop.dtype != dtype:  # bytes among others
                crop = in_unit_range(crop)
            crop = crop.flip([-2] * upside_down + [-1] * flip) if upside_down or flip else crop
            target.copy_(crop.mT if transposed else crop)
    return Crops(pixels, parameters)


def _resized(
    picture: Tensor | ScaledPicture, box: Sequence[int], size: int, recipe: ViewRecipe, scale: ValueRange | None
) -> Tensor:
    """Pillow's algorithm for bytes, which torch has too: up to rounding, the same pixels, 2.5 times as fast.

    Other numbers are clipped and scaled before they are resized: one dead pixel would otherwise spread.
    """
    if isinstance(picture, ScaledPicture):
        resized = picture.resized(box, size, recipe.interpolation)
        return resized if scale is None else in_unit_range(resized, scale)
    top, left, height, width = box
    if picture.dtype != torch.uint8 or scale is not None:
        values = in_unit_range(picture[:, top : top + height, left : left + width], scale)
        if (height, width) == (size, size):
            return values
        if recipe.official:
            return _sampled(values, size, recipe.interpolation).clamp_(0, 1)
        return F.interpolate(values[None], (size, size), mode=recipe.interpolation, antialias=True)[0].clamp_(0, 1)
    if recipe.official:
        crop = _sampled(picture[:, top : top + height, left : left + width], size, recipe.interpolation)
        return crop.round_().clamp_(0, 255).to(torch.uint8)
    # Made a batch of before the channels come first, a picture keeps the strides that torch has a faster way for.
    crop = picture.permute(1, 2, 0)[top : top + height, left : left + width][None].permute(0, 3, 1, 2)
    return F.interpolate(crop, (size, size), mode=recipe.interpolation, antialias=True)[0]


def _sampled(crop: Tensor, size: int, interpolation: Filter) -> Tensor:
    """Without antialiasing; torch's own bicubic filter has another shape then, and other borders."""
    for direction in (-2, -1):
        length = crop.shape[direction]
        position, weight = taps(
            torch.tensor(float(length)), torch.tensor(False), 1, size, interpolation, antialias=False
        )
        position = position.long().clamp(0, length - 1)
        picked = torch.unflatten(crop.index_select(direction, position.flatten()), direction, position.shape).float()
        crop = (picked * weight).sum(-1) if direction == -1 else (picked * weight[..., None]).sum(-2)
    return crop
