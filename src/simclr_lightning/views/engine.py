"""``ViewEngine``: the views of a whole batch on its device, every view with its own random parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from simclr_lightning.errors import InputError
from simclr_lightning.precision import full_precision
from simclr_lightning.views import fused, whole_batch
from simclr_lightning.views.batch import ImageBatch, sent
from simclr_lightning.views.draw import ViewParameters, draw_for_each
from simclr_lightning.views.normalisation import normalisation, normalise_
from simclr_lightning.views.recipe import ViewRecipe
from simclr_lightning.views.scale import ValueRange, in_unit_range, is_ready
from simclr_lightning.views.torch_ops import pixel_noise, rotate
from simclr_lightning.views.workers import centred

_Crop = Callable[[Tensor, ViewRecipe, ViewParameters, Tensor], None]
_Recolour = Callable[[Tensor, ViewRecipe, ViewParameters], None]


class ViewEngine:
    """Turns a batch of pixels into random views of each picture.

    Args:
        recipes: What the views are: one recipe, or several, whose views are counted on from one to the next.
        seed: Seed of the run; a view depends on (seed, epoch, index of the picture, number of the view) alone.
        dtype: Of the views, which are computed in float32 and rounded once, at the end: bfloat16 where the encoder
            rounds its input to that anyway.
        scale: What counts as black and as white in whole pictures; that of a batch wins over it. None: the range of
            their type (0 to 255, 0 to 65,535; floats are in [0, 1]).

    Raises:
        InputError: If there is no recipe.

    Example:
        >>> images = torch.randint(0, 256, (8, 3, 48, 48), dtype=torch.uint8)
        >>> batch = ImageBatch(images, None, targets=torch.full((8,), -1), indices=torch.arange(8), epoch=3)
        >>> (views,) = ViewEngine(ViewRecipe("cifar10"))(batch)
        >>> views.shape, views.dtype
        (torch.Size([2, 8, 3, 32, 32]), torch.float32)
        >>> large, small = ViewEngine([ViewRecipe(size=32), ViewRecipe(size=16, count=4)])(batch)
        >>> large.shape, small.shape
        (torch.Size([2, 8, 3, 32, 32]), torch.Size([4, 8, 3, 16, 16]))
    """

    def __init__(
        self,
        recipes: ViewRecipe | Sequence[ViewRecipe],
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        scale: ValueRange | None = None,
    ) -> None:
        self.recipes = (recipes,) if isinstance(recipes, ViewRecipe) else tuple(recipes)
        self.seed, self.dtype, self.scale = seed, dtype, scale
        if not self.recipes:
            raise InputError("The list of view recipes is empty: give at least one (--data.views imagenet).")

    def __call__(self, batch: ImageBatch) -> tuple[Tensor, ...]:
        """Draw the views of every picture.

        What the loader's workers have cropped is finished with the parameters that they drew; nothing is drawn again.

        Args:
            batch: ``crops`` where the loader has cropped already, otherwise ``images``, for each picture or for each of
                its views; on any device.

        Returns:
            For each recipe (V, N, C, S, S) on the device of the pictures, V its count and S its size; in [0, 1] unless
            the recipe normalises. On an accelerator ``flatten(0, 1)`` is channels_last. () if ``batch.epoch`` is None.

        Raises:
            InputError: If a recipe does not fit the channels of the pictures.
            ValueError: If the batch has neither crops nor images, or crops that do not fit the recipes.
        """
        if batch.epoch is None:
            return ()
        recipes = [recipe.at(batch.epoch) for recipe in self.recipes]
        if batch.crops is not None:  # which are scaled
            cropped, wanted = [len(own.pixels) for own in batch.crops], [recipe.count for recipe in recipes]
            if cropped != wanted:
                raise ValueError(f"Crops were made for {cropped} views, a number for each recipe; they want {wanted}.")
            sources = [(own.parameters, own.pixels) for own in batch.crops]
        elif batch.images is not None:
            size = torch.tensor(batch.images.shape[-2:])
            drawn = draw_for_each(recipes, batch.indices, size, seed=self.seed, epoch=batch.epoch)
            pictures = ready(batch.images, batch.scale or self.scale)  # once, for all recipes
            pixels = [pictures] * len(recipes)
            if pictures.ndim == 5:
                pixels = [own.flatten(0, 1) for own in torch.split(pictures, [recipe.count for recipe in recipes])]
            sources = list(zip(drawn, pixels, strict=True))
        else:
            raise ValueError("The batch has neither crops nor images: set one of them to draw views from.")
        return tuple(make_views(recipe, *own, self.dtype) for recipe, own in zip(recipes, sources, strict=True))


@torch.no_grad()
def make_views(
    recipe: ViewRecipe,
    parameters: ViewParameters,
    pixels: Tensor,
    dtype: torch.dtype = torch.float32,
    scale: ValueRange | None = None,
) -> Tensor:
    """Carry out parameters that were drawn.

    Args:
        recipe: What the views are.
        parameters: What is done to each of the V N views, on the CPU.
        pixels: (N, C, H, W) pictures, or (V N, C, H, W), one for each view, or (V, N, C, size, size) crops that exist
            already, mirrored or not; of any type, floats in [0, 1] unless there is a scale.
        dtype: Of the views, which are computed in float32.
        scale: What counts as black and as white; None: the range of the type.

    Returns:
        (V, N, C, size, size) on the device of the pixels; on an accelerator ``flatten(0, 1)`` is channels_last.

    Raises:
        InputError: If the recipe does not fit the channels of the pictures.
        ValueError: If crops do not have the recipe's size, or there are not as many as parameters.

    Example:
        >>> from simclr_lightning.views import draw_parameters
        >>> recipe, size = ViewRecipe("cifar10", count=3), torch.tensor([48, 48])
        >>> parameters = draw_parameters(recipe, torch.arange(8), size, seed=0, epoch=0)
        >>> make_views(recipe, parameters, torch.rand(8, 3, 48, 48)).shape
        torch.Size([3, 8, 3, 32, 32])
    """
    channels, height, width = pixels.shape[-3:]
    check_channels(recipe, channels)
    if pixels.ndim == 5 and (height, width) != (recipe.size, recipe.size):
        raise ValueError(
            f"The crops have {height} x {width} pixels, the recipe's size is {recipe.size}: make them equal."
        )
    if pixels.ndim == 5 and pixels.shape[:2] != parameters.flip.shape:
        number, drawn = (" x ".join(map(str, shape[:2])) for shape in (pixels.shape, parameters.flip.shape))
        raise ValueError(f"There are crops of {number} views, but parameters of {drawn}: hand over those of the crops.")
    pixels = ready(pixels, scale)
    with full_precision(pixels.device):
        if fused.available(pixels.device):
            return fused.make_views(recipe, parameters, pixels, dtype)
        crop, recolour = _ways(pixels.device)
        views = _fresh((*parameters.flip.shape, channels, recipe.size, recipe.size), pixels.device)
        flat, own = views.flatten(0, 1), parameters.flatten()
        if pixels.ndim == 4:
            crop(flat, recipe, own, pixels)
        else:
            views.copy_(pixels)
            if pixels.dtype == torch.uint8:
                views.div_(255)
        if recipe.rotation:
            flat.copy_(rotate(flat, sent(own.angle.float(), flat.device)))
        recolour(flat, recipe, own)
        if recipe.noise:
            keys = sent(own.noise_key, flat.device)
            flat.add_(pixel_noise(keys, tuple(flat.shape[1:])), alpha=recipe.noise).clamp_(0, 1)
        normalise_(views, recipe)
        return torch.unflatten(flat.to(dtype), 0, views.shape[:2])


@torch.no_grad()
def clean(images: Tensor, recipe: ViewRecipe, scale: ValueRange | None = None) -> Tensor:
    """The evaluation-time picture: nothing random.

    Args:
        images: (N, C, H, W) of any type, floats in [0, 1] unless there is a scale, on any device.
        recipe: Gives ``eval_size``, ``eval_crop`` (all, if None), filter and normalisation.
        scale: What counts as black and as white; None: the range of the type.

    Returns:
        (N, C, eval_size, eval_size) float32, the central square; in [0, 1] unless the recipe normalises.

    Raises:
        InputError: If the recipe's mean and standard deviation have another number of channels.

    Example:
        >>> clean(torch.zeros(8, 3, 40, 60, dtype=torch.uint8), ViewRecipe("cifar10")).shape
        torch.Size([8, 3, 32, 32])
    """
    height, width = images.shape[-2:]
    if height == width == recipe.eval_size:  # so are those that loader workers have cropped
        return normalise_(in_unit_range(images, scale), recipe)
    images = ready(images, scale)
    side = max(1, round((recipe.eval_crop or 1.0) * min(height, width)))
    box = torch.tensor([*centred(height, width, side, recipe), side, side])
    box = sent(box, images.device).expand(1, len(images), 4)
    mirrored = torch.zeros(1, len(images), dtype=torch.bool, device=images.device)
    with full_precision(images.device):
        resize = (recipe.eval_size, recipe.interpolation, not recipe.official)
        return normalise_(whole_batch.crop_resize(images, box, mirrored, *resize)[0], recipe)


def ready(pixels: Tensor, scale: ValueRange | None) -> Tensor:
    """Pixels as the operations take them: bytes and floats in [0, 1] as they are, others as float32 in [0, 1].

    Example:
        >>> ready(torch.full((1, 1, 1), 5.0), ValueRange(0, 10)).item()
        0.5
    """
    return pixels if is_ready(pixels, scale) else in_unit_range(pixels, scale)


def check_channels(recipe: ViewRecipe, channels: int) -> None:
    """Saturation, hue and grey need three channels; mean and standard deviation one number for each channel.

    Args:
        recipe: Recipe.
        channels: Channels of the pictures.

    Raises:
        InputError: Naming the fields of the recipe to change.

    Example:
        >>> check_channels(ViewRecipe("cifar10"), 3)
        >>> check_channels(ViewRecipe("cifar10", grey=0.0), 1)
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: The pictures have 1 channel, but the recipe works on colours: \
set saturation, hue to 0, or take the preset grayscale.
    """
    normalisation(recipe, channels)
    if channels == 3:
        return
    jitters = recipe.jitter > 0 and recipe.jitter_strength > 0
    wrong = [name for name in ("saturation", "hue") if jitters and getattr(recipe, name) > 0]
    wrong += ["grey"] * (recipe.grey > 0)
    if wrong:
        preset = "grayscale" if channels == 1 else "multispectral"
        raise InputError(
            f"The pictures have {channels} channel{'s' * (channels != 1)}, but the recipe works on colours: "
            f"set {', '.join(wrong)} to 0, or take the preset {preset}."
        )


def _fresh(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Memory for a batch of views, uninitialised float32; on an accelerator channels_last.

    On a CPU it comes from NumPy, which asks the system for huge pages where torch does not: the first touch of a batch
    of large views then takes a third of the time.
    """
    if device.type == "cpu":
        return torch.from_numpy(np.empty(shape, np.float32))
    flat = torch.empty((shape[0] * shape[1], *shape[2:]), device=device, memory_format=torch.channels_last)
    return torch.unflatten(flat, 0, shape[:2])


def _ways(device: torch.device) -> tuple[_Crop, _Recolour]:
    """The fastest ways to crop, and to jitter, grey and blur, on a device."""
    if device.type == "cpu" and find_spec("numba"):
        from simclr_lightning.views import compiled

        return compiled.crop, compiled.recolour
    return whole_batch.crop, whole_batch.recolour
