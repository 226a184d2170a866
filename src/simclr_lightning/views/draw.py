"""What is drawn for a view: random numbers that depend on nothing but (seed, epoch, picture, view), and their laws.

A generator's state would tie a view to the batch, process and worker that it was drawn in. A hash of the counters does
not: any split of the batch over devices, and a run resumed anywhere, sees the same views. The hash is SplitMix64's
(Steele et al. 2014), applied once for every counter; Philox and Threefry (Salmon et al. 2011) are the same idea.
Everything here happens on the CPU, before any pixel is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from simclr_lightning.views.boxes import CROP_STREAMS, OFFICIAL_STREAMS, crop_boxes, official_boxes
from simclr_lightning.views.recipe import ViewRecipe

VALIDATION_EPOCH = 1 << 30
"""Epoch of the views of evaluation batches: always the same, and none that training reaches."""

_OWN_STREAMS = CROP_STREAMS + 18  # before those that are drawn for the official crop alone
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: SplitMix64's increment


class ViewParameters(NamedTuple):
    """What is done to each view; leading dimensions (V, N), V views of N pictures, CPU tensors.

    Attributes:
        boxes: (V, N, 4) int64, the crop's top, left, height and width in pixels of the picture.
        flip: (V, N) bool, mirrored left to right.
        upside_down: (V, N) bool, mirrored top to bottom.
        transposed: (V, N) bool, rows become columns after both of these: a quarter turn is a flip and this.
        angle: (V, N) float64, rotation in degrees, counter-clockwise.
        jitter: (V, N) bool, colour jitter happens.
        order: (V, N, 4) int64, the jitter's operations in the order of their execution: 0 brightness, 1 contrast,
            2 saturation, 3 hue.
        brightness: (V, N) float64, factor, or summand where the recipe has ``additive_brightness``.
        contrast: (V, N) float64, factor.
        saturation: (V, N) float64, factor.
        hue: (V, N) float64, shift in turns.
        grey: (V, N) bool, colour is dropped.
        blur: (V, N) bool, blur happens.
        sigma: (V, N) float64, standard deviation of the blur in pixels.
        noise_key: (V, N) int64, key of the pixel noise, see ``torch_ops.pixel_noise``.

    Example:
        >>> parameters = draw_parameters(ViewRecipe(), torch.arange(2), torch.tensor([32, 32]), seed=0, epoch=0)
        >>> parameters.flip.tolist()
        [[False, True], [True, True]]
    """

    boxes: Tensor
    flip: Tensor
    upside_down: Tensor
    transposed: Tensor
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

    def flatten(self) -> ViewParameters:
        """The same with the leading dimension (V N,): all first views, then all second views, and so on.

        Example:
            >>> parameters = draw_parameters(ViewRecipe(), torch.arange(2), torch.tensor([32, 32]), seed=0, epoch=0)
            >>> parameters.flatten().flip.tolist()
            [False, True, True, True]
        """
        return ViewParameters(*(values.flatten(0, 1) for values in self))

    def __reduce__(self) -> tuple[Callable[..., ViewParameters], tuple[Any, ...]]:
        """Travel by value: in shared memory each of these small tensors would take a file handle of its own."""
        return _from_arrays, tuple(values.numpy() for values in self)


def draw_for_each(
    recipes: Sequence[ViewRecipe], indices: Tensor, sizes: Tensor, *, seed: int, epoch: int
) -> tuple[ViewParameters, ...]:
    """Draw the parameters of the views of several recipes, which are counted on from one recipe to the next.

    Args:
        recipes: Recipes.
        indices: (N,) int64 positions in the data set.
        sizes: (N, 2) int64 heights and widths of the pictures, or (2,) where they are all the same; (V, N, 2) where the
            V views of all recipes are of different ones.
        seed: Seed of the run.
        epoch: Epoch.

    Returns:
        For each recipe, in order, the parameters of its ``count`` x N views.

    Example:
        >>> recipes = [ViewRecipe(size=224, count=2), ViewRecipe(size=96, count=4)]
        >>> large, small = draw_for_each(recipes, torch.arange(5), torch.tensor([300, 400]), seed=0, epoch=0)
        >>> large.flip.shape, small.flip.shape
        (torch.Size([2, 5]), torch.Size([4, 5]))
    """
    drawn, first = [], 0
    for recipe in recipes:
        own = sizes[first : first + recipe.count] if sizes.ndim == 3 else sizes
        drawn.append(draw_parameters(recipe, indices, own, seed=seed, epoch=epoch, first=first))
        first += recipe.count
    return tuple(drawn)


def draw_parameters(
    recipe: ViewRecipe, indices: Tensor, sizes: Tensor, *, seed: int, epoch: int, first: int = 0
) -> ViewParameters:
    """Draw the parameters of the views ``first`` to ``first + recipe.count - 1`` of every picture.

    They depend on (seed, epoch, index, number of the view) alone. The laws are those of torchvision's
    ``RandomResizedCrop`` and ``ColorJitter``, which are also those of the official PyTorch-like pseudo-code (Chen et
    al. 2020, appendix A); the crop's is another with ``forms: official``.

    Args:
        recipe: Ranges, probabilities and number of views.
        indices: (N,) int64 positions in the data set.
        sizes: (N, 2) int64 heights and widths of the pictures, (2,) where they are all the same, or (count, N, 2).
        seed: Seed of the run.
        epoch: Epoch.
        first: Number of the first view.

    Returns:
        The parameters of ``recipe.count`` x N views.

    Example:
        >>> size, third = torch.tensor([32, 32]), ViewRecipe(count=1)
        >>> views = draw_parameters(ViewRecipe(count=4), torch.arange(9), size, seed=0, epoch=0)
        >>> view = draw_parameters(third, torch.arange(9), size, seed=0, epoch=0, first=2)
        >>> torch.equal(view.boxes[0], views.boxes[2])
        True
    """
    streams = _OWN_STREAMS + (OFFICIAL_STREAMS if recipe.official else 0)
    numbers = uniforms(seed, epoch, indices, streams, views=range(first, first + recipe.count))
    if recipe.official:
        boxes = official_boxes(
            recipe, numbers[..., CROP_STREAMS - 3 : CROP_STREAMS], numbers[..., _OWN_STREAMS:], sizes
        )
    else:
        boxes = crop_boxes(recipe, numbers[..., :CROP_STREAMS], sizes)
    flip, angle, jitter, brightness, contrast, saturation, hue, grey, blur, sigma, key, *rest = numbers[
        ..., CROP_STREAMS:_OWN_STREAMS
    ].unbind(-1)
    order, (vertical, turn, quarters) = rest[:4], rest[4:]
    turns = torch.where(turn < recipe.rotate90, 1 + (3 * quarters).floor(), 0.0)
    ranges = recipe.ranges()
    centre = 0.0 if recipe.additive_brightness else 1.0
    return ViewParameters(
        boxes=boxes,
        # A turn by 90 degrees is a flip and a transposition, by 180 both flips, by 270 the other and a transposition.
        flip=(flip < recipe.flip) ^ ((turns == 1) | (turns == 2)),
        upside_down=(vertical < recipe.vertical_flip) ^ (turns >= 2),
        transposed=turns % 2 == 1,
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


def uniforms(seed: int, epoch: int, indices: Tensor, count: int, *, views: Sequence[int] = (0, 1)) -> Tensor:
    """Random numbers for views of every picture.

    Args:
        seed: Seed of the run.
        epoch: Epoch, so that the views differ from one to the next.
        indices: (N,) int64 positions in the data set.
        count: Random numbers per view. Column k does not depend on ``count``.
        views: Numbers of the views, V of them.

    Returns:
        (V, N, count) float64 in [0, 1), on the CPU.

    Example:
        >>> uniforms(0, 0, torch.tensor([0]), 1).flatten().tolist()
        [0.47141042966848024, 0.7816823175847682]
    """
    streams = torch.arange(count)
    return _fraction(mix(view_keys(seed, epoch, indices, views)[..., None], streams))


def view_keys(seed: int, epoch: int, indices: Tensor, views: Sequence[int] = (0, 1)) -> Tensor:
    """One 64-bit key per view: the hash of seed, epoch, index and number of the view.

    Args:
        seed: Seed of the run.
        epoch: Epoch.
        indices: (N,) int64 positions in the data set.
        views: Numbers of the views, V of them.

    Returns:
        (V, N) int64.

    Example:
        >>> view_keys(0, 0, torch.arange(5), views=[3]).shape
        torch.Size([1, 5])
    """
    key = torch.zeros((), dtype=torch.int64)
    for counter in (torch.tensor(_signed(seed)), torch.tensor(epoch), indices.cpu(), torch.tensor(views)[:, None]):
        key = mix(key, counter)
    return key


def mix(key: Tensor, counter: Tensor) -> Tensor:
    """Fold a counter into a key.

    Args:
        key: int64 keys of any shape.
        counter: int64 counters that broadcast against the keys.

    Returns:
        int64 keys, every bit of which depends on every bit of both inputs.

    Example:
        >>> mix(torch.tensor(1234567), torch.tensor(0)).item()  # SplitMix64's first output for this seed
        6457827717110365317
    """
    z = key + (counter + 1) * _signed(_GOLDEN)  # int64 arithmetic wraps around: it is arithmetic modulo 2^64
    z = (z ^ _shift_right(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shift_right(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _shift_right(z, 31)


def _from_arrays(*arrays: Any) -> ViewParameters:
    return ViewParameters(*(torch.from_numpy(values) for values in arrays))


def _shift_right(bits: Tensor, by: int) -> Tensor:
    return (bits >> by) & ((1 << (64 - by)) - 1)  # int64's own shift copies the sign: mask it away


def _fraction(bits: Tensor) -> Tensor:
    return _shift_right(bits, 11).double() * 2.0**-53  # the upper 53 bits: every float64 step of 2^-53 in [0, 1)


def _signed(number: int) -> int:
    """The int64 with the lower 64 bits of a Python integer."""
    return (number + 2**63) % 2**64 - 2**63


def _between(uniform: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * uniform


def _around(centre: float, uniform: Tensor, half: float, *, additive: bool = False) -> Tensor:
    low = centre - half if additive else max(0.0, centre - half)
    return _between(uniform, low, centre + half)
