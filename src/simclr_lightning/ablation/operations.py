"""The operations of the augmentation study: whole batches in, whole batches out, on any device.

What ``ViewRecipe`` has is drawn by its own engine; cutout, Sobel and quarter turns are added here.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_lightning.errors import InputError
from simclr_lightning.views import ViewRecipe, check_channels, draw_parameters, make_views, uniforms
from simclr_lightning.views.torch_ops import rotate

OPERATIONS = ("crop", "cutout", "colour", "sobel", "noise", "blur", "rotate")
"""Names, in the order of the paper's Figure 5."""

CUTOUT_SIDE = 0.5
"""Side of the square that is cut out, as a fraction of the picture's (DeVries and Taylor 2017, CIFAR-10)."""

_GREY = 0.5  # what a cut-out square is filled with
_NOISE = 0.1  # standard deviation, where the recipe has none
_JITTER, _BLUR = 0.8, 0.5  # appendix A's probabilities, where the recipe has switched the operation off
_NOTHING: dict[str, Any] = {
    **dict.fromkeys(("crop", "flip", "vertical_flip", "rotate90", "rotation", "jitter", "grey", "blur", "noise"), 0.0),
    "normalize": "recipe",
    "mean": None,
    "std": None,
    "count": 1,
}
_OF_RECIPE: dict[str, Callable[[ViewRecipe], dict[str, Any]]] = {
    "crop": lambda recipe: {"crop": recipe.crop or 1.0, **flips(recipe)},
    "colour": lambda recipe: {"jitter": recipe.jitter or _JITTER, "grey": recipe.grey},
    "noise": lambda recipe: {"noise": recipe.noise or _NOISE},
    "blur": lambda recipe: {"blur": recipe.blur or _BLUR},
}


class Draw(NamedTuple):
    """What random numbers are a function of.

    Attributes:
        indices: (N,) int64 positions of the pictures in the data set.
        seed: of the run.
        epoch: so that the numbers differ from one to the next.

    Example:
        >>> Draw(torch.arange(8), seed=0, epoch=2)._replace(epoch=3).epoch
        3
    """

    indices: Tensor
    seed: int
    epoch: int


def parse_operations(operations: str | Sequence[str]) -> tuple[str, ...]:
    """Look operations up.

    Args:
        operations: names, as a list or as one string with commas between them; a repeated name counts once.

    Raises:
        InputError: if a name is unknown, or there are fewer than two; the message lists what there is.

    Example:
        >>> parse_operations("crop, colour")
        ('crop', 'colour')
    """
    names = operations.split(",") if isinstance(operations, str) else operations
    found = tuple(dict.fromkeys(name.strip() for name in names))
    for name in found:
        if name not in OPERATIONS:
            near = difflib.get_close_matches(name, OPERATIONS, n=1, cutoff=0.4)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise InputError(f"Unknown operation {name!r}.{hint} There are {', '.join(OPERATIONS)} (--operations).")
    if len(found) < 2:
        raise InputError(f"A matrix of pairs needs two operations at least, got {', '.join(found)} (--operations).")
    return found


def check_operations(operations: Sequence[str], recipe: ViewRecipe, channels: int) -> None:
    """Make sure that every operation can do something to the pictures.

    Args:
        operations: names.
        recipe: of the views.
        channels: of the pictures.

    Raises:
        InputError: if the colour of these pictures cannot be changed, or the blur's kernel is a single pixel.

    Example:
        >>> check_operations(["crop", "blur"], ViewRecipe(size=32), channels=3)
        >>> check_operations(["crop", "blur"], ViewRecipe(size=16), channels=3)
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: The kernel of the blur is a tenth of the view, and views of 16 pixels \
leave a single pixel: leave blur out (--operations), or enlarge the views (--views.size 20).
    """
    if "colour" in operations:
        check_channels(operation_recipe("colour", recipe), channels)
    if "blur" in operations and recipe.blur_kernel == 1:
        raise InputError(
            f"The kernel of the blur is a tenth of the view, and views of {recipe.size} pixels leave a single pixel: "
            "leave blur out (--operations), or enlarge the views (--views.size 20)."
        )


def only(recipe: ViewRecipe, operations: dict[str, Any]) -> ViewRecipe:
    """A recipe of one view, with nothing switched on but what is named.

    Args:
        recipe: gives sizes, ranges and filter.
        operations: fields of the recipe and their values.

    Example:
        >>> recipe = only(ViewRecipe(), {"blur": 1.0})
        >>> recipe.blur, recipe.crop, recipe.jitter, recipe.count
        (1.0, 0.0, 0.0, 1)
    """
    return replace(recipe, **{**_NOTHING, **operations})


def flips(recipe: ViewRecipe) -> dict[str, float]:
    """Fields of the flips and quarter turns, which go with the crop.

    Example:
        >>> flips(ViewRecipe(rotate90=0.75))
        {'flip': 0.5, 'vertical_flip': 0.0, 'rotate90': 0.75}
    """
    return {name: getattr(recipe, name) for name in ("flip", "vertical_flip", "rotate90")}


def operation_recipe(name: str, recipe: ViewRecipe) -> ViewRecipe:
    """The recipe that draws one of crop, colour, noise and blur, and nothing else.

    Example:
        >>> recipe = operation_recipe("colour", ViewRecipe(jitter=0.6))
        >>> recipe.jitter, recipe.grey, recipe.crop
        (0.6, 0.2, 0.0)
    """
    return only(recipe, _OF_RECIPE[name](recipe))


@torch.no_grad()
def operate(name: str, images: Tensor, recipe: ViewRecipe, draw: Draw) -> Tensor:
    """Apply one operation to a batch.

    Each operation has random numbers of its own, whatever is applied before or after it: they depend on its name, the
    seed, the epoch and the picture. Ranges and probabilities are the recipe's; the paper gives none for this study.

    * crop: random crop, resized to the same side, mirrored as often as the recipe's crops are.
    * cutout: a grey square of half the side, its centre anywhere in the picture.
    * colour: the recipe's jitter, then its grey.
    * sobel: strength of the edges, channel by channel.
    * noise: Gaussian, of the recipe's standard deviation, 0.1 if it has none.
    * blur: the recipe's; in half of the pictures if it has none.
    * rotate: by 90, 180 or 270 degrees.

    Args:
        name: one of ``OPERATIONS``.
        images: (N, C, S, S) float32 in [0, 1], S the recipe's size.
        recipe: of the views.
        draw: what the random numbers depend on.

    Returns:
        (N, C, S, S) float32 in [0, 1]; ``images`` is left alone.

    Example:
        >>> images = torch.rand(8, 3, 32, 32)
        >>> operate("cutout", images, ViewRecipe(size=32), Draw(torch.arange(8), seed=0, epoch=0)).shape
        torch.Size([8, 3, 32, 32])
    """
    # Seeds are counters of a hash: any other number is another stream, and 2^32 is more than anybody types.
    draw = draw._replace(seed=draw.seed + (OPERATIONS.index(name) + 1) * 2**32)
    if name in _OF_RECIPE:
        own, size = operation_recipe(name, recipe), torch.tensor(images.shape[-2:])
        parameters = draw_parameters(own, draw.indices, size, seed=draw.seed, epoch=draw.epoch)
        return make_views(own, parameters, images if name == "crop" else images[None])[0]  # crops are left as they are
    if name == "sobel":
        return sobel(images)
    numbers = uniforms(draw.seed, draw.epoch, draw.indices, 2, views=[0])[0].to(images.device)
    if name == "cutout":
        return cutout(images, numbers, round(CUTOUT_SIDE * recipe.size))
    quarters = (3 * numbers[:, 0]).floor() + 1
    return rotate(images, 90 * quarters.to(images)).clamp_(0, 1)


def cutout(images: Tensor, centres: Tensor, side: int) -> Tensor:
    """Replace a square by grey; what lies outside the picture is cut off (DeVries and Taylor 2017, arXiv 1708.04552).

    Args:
        images: (N, C, H, W) float in [0, 1].
        centres: (N, 2) in [0, 1), row and column of the square's centre as fractions of height and width.
        side: of the square, in pixels.

    Returns:
        (N, C, H, W).

    Example:
        >>> cutout(torch.zeros(1, 1, 4, 4), torch.tensor([[0.5, 0.5]]), 2)[0, 0]
        tensor([[0.0000, 0.0000, 0.0000, 0.0000],
                [0.0000, 0.5000, 0.5000, 0.0000],
                [0.0000, 0.5000, 0.5000, 0.0000],
                [0.0000, 0.0000, 0.0000, 0.0000]])
    """
    inside = []
    for length, centre in zip(images.shape[-2:], centres.unbind(-1), strict=True):
        start = (centre * length).floor() - side // 2
        pixel = torch.arange(length, device=images.device)
        inside.append((pixel >= start[:, None]) & (pixel < start[:, None] + side))
    rows, columns = inside
    square = rows[:, None, :, None] & columns[:, None, None, :]
    return images.masked_fill(square, _GREY)


def sobel(images: Tensor) -> Tensor:
    """Magnitude of the gradient by Sobel's filters, channel by channel, with reflected borders.

    A step from 0 to 1 along an axis gives 1 on both of its sides; the larger values of corners are clipped.

    Args:
        images: (N, C, H, W) float in [0, 1].

    Returns:
        (N, C, H, W) in [0, 1].

    Example:
        >>> sobel(torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(1, 1, 3, 4))[0, 0, 0]
        tensor([0., 1., 1., 0.])
    """
    planes = F.pad(images.flatten(0, 1)[:, None], [1] * 4, mode="reflect")
    smooth, difference = images.new_tensor([1.0, 2.0, 1.0]) / 4, images.new_tensor([-1.0, 0.0, 1.0])
    across = torch.outer(smooth, difference)
    gradient = F.conv2d(planes, torch.stack([across, across.T])[:, None])
    magnitude: Tensor = torch.linalg.vector_norm(gradient, dim=1).clamp_(max=1)
    return magnitude.view(images.shape)
