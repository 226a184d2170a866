"""``BatchedViews``: both views of a whole batch on its device, every view with its own random parameters."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

from simclr_lightning.views import whole_batch
from simclr_lightning.views.batch import ImageBatch
from simclr_lightning.views.parameters import ViewParameters, draw_parameters
from simclr_lightning.views.pixels import fresh, full_precision, normalise_
from simclr_lightning.views.randomness import pixel_noise
from simclr_lightning.views.recipe import ViewRecipe
from simclr_lightning.views.rotation import rotate

_Crop = Callable[[Tensor, ViewRecipe, ViewParameters, Tensor], None]
_Recolour = Callable[[Tensor, ViewRecipe, ViewParameters], None]


class BatchedViews:
    """Turns a batch of bytes into two random views of each picture.

    Args:
        recipe: What the views are.
        seed: Seed of the run; a view depends on (seed, epoch, index of the picture, view) alone.
    """

    def __init__(self, recipe: ViewRecipe, seed: int = 0) -> None:
        self.recipe = recipe
        self.seed = seed

    def __call__(self, batch: ImageBatch, *, epoch: int, views: int = 2) -> Tensor:
        """Draw both views of every picture, or the first one alone.

        Args:
            batch: ``crops`` where the loader has cropped already, otherwise ``images``; on any device. ``indices`` may
                stay on the CPU, where they are needed: fetching them makes the host wait for the device.
            epoch: Epoch, so that the views differ from one to the next.
            views: 2, or 1 for the first view alone, which is the same then.

        Returns:
            (``views``, N, C, size, size) float32 on the device of the pictures; in [0, 1] unless the recipe normalises.

        Raises:
            ValueError: If the batch has neither crops nor images, or the recipe does not fit their channels or size.
        """
        pixels = batch.images if batch.crops is None else batch.crops
        if pixels is None:
            raise ValueError("The batch has neither crops nor images: set one of them to draw views from.")
        size = torch.tensor(pixels.shape[-2:])
        parameters = draw_parameters(self.recipe, batch.indices, size, seed=self.seed, epoch=epoch, views=views)
        return make_views(self.recipe, parameters, pixels)


@torch.no_grad()
def make_views(recipe: ViewRecipe, parameters: ViewParameters, pixels: Tensor) -> Tensor:
    """Carry out parameters that were drawn.

    Args:
        recipe: What the views are.
        parameters: What is done to each of the V N views, on the CPU; V is 2, or 1 for first views alone.
        pixels: (N, C, H, W) pictures, or (V, N, C, size, size) crops that exist already, mirrored or not;
            uint8, or float in [0, 1].

    Returns:
        (V, N, C, size, size) float32 on the device of the pixels.

    Raises:
        ValueError: If the recipe does not fit the channels or the size of the pictures.
    """
    channels, height, width = pixels.shape[-3:]
    check_channels(recipe, channels)
    if pixels.ndim == 5 and (height, width) != (recipe.size, recipe.size):
        raise ValueError(
            f"The crops have {height} x {width} pixels, the recipe's size is {recipe.size}: make them equal."
        )
    with full_precision(pixels.device):
        crop, recolour = _engine(pixels.device)
        views = fresh((*parameters.flip.shape, channels, recipe.size, recipe.size), pixels.device)
        flat, own = views.flatten(0, 1), ViewParameters(*(values.flatten(0, 1) for values in parameters))
        if pixels.ndim == 4:
            crop(flat, recipe, own, pixels)
        else:
            views.copy_(pixels)
            if pixels.dtype == torch.uint8:
                views.div_(255)
        if recipe.rotation:
            flat.copy_(rotate(flat, own.angle.float().to(flat.device, non_blocking=True)))
        recolour(flat, recipe, own)
        if recipe.noise:
            keys = own.noise_key.to(flat.device, non_blocking=True)
            flat.add_(pixel_noise(keys, tuple(flat.shape[1:])), alpha=recipe.noise).clamp_(0, 1)
        return normalise_(views, recipe)


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


def _engine(device: torch.device) -> tuple[_Crop, _Recolour]:
    """The fastest ways to crop, and to jitter, grey and blur, on a device."""
    if device.type == "cpu" and find_spec("numba"):
        from simclr_lightning.views import compiled_colour, compiled_crops

        return compiled_crops.crop, compiled_colour.recolour
    return whole_batch.crop, whole_batch.recolour
