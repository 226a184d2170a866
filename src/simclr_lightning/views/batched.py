"""``BatchedViews``: both views of a whole batch on its device, every view with its own random parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from simclr_lightning.views import colour
from simclr_lightning.views.batch import ImageBatch
from simclr_lightning.views.blur import gaussian_blur
from simclr_lightning.views.parameters import ViewParameters, draw_parameters
from simclr_lightning.views.pixels import full_precision, normalise, unit_range
from simclr_lightning.views.randomness import pixel_noise
from simclr_lightning.views.recipe import ViewRecipe
from simclr_lightning.views.resample import crop_resize
from simclr_lightning.views.rotation import rotate

_Step = tuple[Callable[[Tensor, Tensor], Tensor], slice]
_CACHED = (
    2**20
)  # float32 numbers that one core works on at a time: 1.4 times as fast as with 256 small pictures at once


class BatchedViews:
    """Turns a batch of bytes into two random views of each picture.

    Args:
        recipe: What the views are.
        seed: Seed of the run; a view depends on (seed, epoch, index of the picture, view) alone.
    """

    def __init__(self, recipe: ViewRecipe, seed: int = 0) -> None:
        self.recipe = recipe
        self.seed = seed

    def __call__(self, batch: ImageBatch, *, epoch: int) -> Tensor:
        """Draw both views of every picture.

        Args:
            batch: ``crops`` where the loader has cropped already, otherwise ``images``; on any device. ``indices`` may
                stay on the CPU, where they are needed: fetching them makes the host wait for the device.
            epoch: Epoch, so that the views differ from one to the next.

        Returns:
            (2, N, C, size, size) float32 on the device of the pictures; in [0, 1] unless the recipe normalises.

        Raises:
            ValueError: If the batch has neither crops nor images, or the recipe does not fit their channels or size.
        """
        pixels = batch.images if batch.crops is None else batch.crops
        if pixels is None:
            raise ValueError("The batch has neither crops nor images: set one of them to draw views from.")
        size = torch.tensor(pixels.shape[-2:])
        parameters = draw_parameters(self.recipe, batch.indices, size, seed=self.seed, epoch=epoch)
        return make_views(self.recipe, parameters, pixels)


@torch.no_grad()
def make_views(recipe: ViewRecipe, parameters: ViewParameters, pixels: Tensor) -> Tensor:
    """Carry out parameters that were drawn.

    Args:
        recipe: What the views are.
        parameters: What is done to each of the 2 N views, on the CPU.
        pixels: (N, C, H, W) pictures, or (2, N, C, size, size) crops that exist already; uint8, or float in [0, 1].

    Returns:
        (2, N, C, size, size) float32 on the device of the pixels.

    Raises:
        ValueError: If the recipe does not fit the channels or the size of the pictures.
    """
    channels, height, width = pixels.shape[-3:]
    check_channels(recipe, channels)
    if pixels.ndim == 5 and (height, width) != (recipe.size, recipe.size):
        raise ValueError(
            f"The crops have {height} x {width} pixels, the recipe's size is {recipe.size}: make them equal."
        )
    together = max(1, torch.get_num_threads() * _CACHED // (2 * channels * recipe.size**2))
    if pixels.device != parameters.flip.device or pixels.shape[-4] <= together:
        return _make_views(recipe, parameters, pixels)
    # Pictures in the host's memory, as the parameters: as many at a time as its caches hold.
    parts = zip(
        torch.split(pixels, together, -4), *(torch.split(values, together, 1) for values in parameters), strict=True
    )
    return torch.cat([_make_views(recipe, ViewParameters(*own), part) for part, *own in parts], 1)


def check_channels(recipe: ViewRecipe, channels: int) -> None:
    """Colour needs three channels; brightness and contrast need one or three.

    Args:
        recipe: Recipe.
        channels: Channels of the pictures.

    Raises:
        ValueError: Naming the fields of the recipe to set to 0.
    """
    if channels == 3:
        return
    needed = ["saturation", "hue"] if channels == 1 else ["brightness", "contrast", "saturation", "hue"]
    jitters = recipe.jitter > 0 and recipe.jitter_strength > 0
    wrong = [name for name in needed if jitters and getattr(recipe, name) > 0] + ["grey"] * (recipe.grey > 0)
    if wrong:
        advice = ", or take the preset grayscale" if channels == 1 else ""
        raise ValueError(
            f"The pictures have {channels} channel{'s' * (channels != 1)}, but the recipe works on colours: "
            f"set {', '.join(wrong)} to 0{advice}."
        )


def _make_views(recipe: ViewRecipe, parameters: ViewParameters, pixels: Tensor) -> Tensor:
    to_device = partial(torch.Tensor.to, device=pixels.device, non_blocking=True)
    flip = to_device(parameters.flip)
    with full_precision(pixels.device):
        if pixels.ndim == 4:
            views = crop_resize(pixels, to_device(parameters.boxes), flip, recipe.size, recipe.interpolation)
            views = views.flatten(0, 1)
        else:
            both = torch.cat([pixels.flatten(0, 1), pixels.flip(-1).flatten(0, 1)])  # cheap, as long as they are bytes
            rows = torch.arange(flip.numel(), device=pixels.device) + flip.flatten() * flip.numel()
            views = unit_range(both.index_select(0, rows))
        if recipe.rotation:
            views = rotate(views, to_device(parameters.angle.flatten().float()))
        steps, chosen, values = _steps(recipe, parameters)
        # Positions, not masks: with a mask the host would wait for the device to learn how many views there are.
        positions = torch.split(to_device(chosen.nonzero()[:, 1]), chosen.sum(1).tolist())
        values = to_device(values.float())
        for (operation, columns), rows in zip(steps, positions, strict=True):
            if len(rows):
                own = values.index_select(0, rows)[:, columns]
                views.index_copy_(0, rows, operation(views.index_select(0, rows), own))
        if recipe.noise:
            keys = to_device(parameters.noise_key.flatten())
            views = views.add_(pixel_noise(keys, tuple(views.shape[1:])), alpha=recipe.noise).clamp_(0, 1)
        return normalise(views, recipe).view(2, -1, *views.shape[1:])


def _steps(recipe: ViewRecipe, parameters: ViewParameters) -> tuple[list[_Step], Tensor, Tensor]:
    """The 18 operations that only some views go through: four times any of the jitter's four, grey, blur.

    Returns:
        The operations in order, each with the columns of its parameters; (18, 2 N) bool, which views go through each;
        (2 N, 7) parameters of the views.
    """
    own = ViewParameters(*(values.flatten(0, 1) for values in parameters))
    brightness = colour.additive_brightness if recipe.additive_brightness else colour.brightness
    blur = partial(gaussian_blur, kernel=recipe.blur_kernel)
    jitter: list[_Step] = [(brightness, slice(0, 1)), (colour.contrast, slice(1, 2))]
    jitter += [(colour.saturation, slice(2, 3)), (colour.hue, slice(3, 6))]
    at_position = torch.where(own.jitter, own.order.T, -1)  # (4, 2 N)
    chosen = (at_position[:, None] == torch.arange(4)[:, None]) & (torch.tensor(recipe.ranges()) > 0)[:, None]
    values = [own.brightness, own.contrast, own.saturation, *colour.shifted_primaries(own.hue).T, own.sigma]
    return (
        [*jitter * 4, (colour.grey, slice(0, 0)), (blur, slice(6, 7))],
        torch.cat([chosen.flatten(0, 1), own.grey[None], own.blur[None]]),
        torch.stack(values, 1),
    )
