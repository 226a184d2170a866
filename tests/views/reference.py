"""The truth that the engine is tested against: torchvision's float operations, one picture at a time, slow."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from simclr_lightning.views.draw import ViewParameters
from simclr_lightning.views.recipe import ViewRecipe
from simclr_lightning.views.torch_ops import pixel_noise


def reference_views(pixels: Tensor, recipe: ViewRecipe, parameters: ViewParameters) -> Tensor:
    """All views of a batch, in float64.

    Args:
        pixels: (N, C, H, W) pictures, or (V, N, C, size, size) crops, mirrored or not; uint8, or float in [0, 1].
        recipe: What the views are.
        parameters: What is done to each of the V N views.

    Returns:
        (V, N, C, size, size) float64 on the CPU.
    """
    count, number = parameters.flip.shape
    pixels = pixels.cpu().double() / (1 if pixels.dtype.is_floating_point else 255)
    if pixels.ndim == 5:  # nothing is left to crop
        whole = torch.tensor([0, 0, recipe.size, recipe.size]).expand(count, number, 4)
        done = torch.zeros(count, number, dtype=torch.bool)
        parameters = parameters._replace(boxes=whole, flip=done, upside_down=done, transposed=done)
    own = pixels if pixels.ndim == 5 else pixels.expand(count, *pixels.shape)
    rows = [[reference_view(own[view, n], recipe, parameters, view, n) for n in range(number)] for view in range(count)]
    return torch.stack([torch.stack(row) for row in rows])


def reference_view(picture: Tensor, recipe: ViewRecipe, parameters: ViewParameters, view: int, n: int) -> Tensor:
    """One view of one picture.

    Args:
        picture: (C, H, W) float in [0, 1].
        recipe: What the views are.
        parameters: What is done to each view of the batch.
        view: Which view.
        n: Which picture of the batch.

    Returns:
        (C, size, size) float.
    """
    own = ViewParameters(*(values[view, n] for values in parameters))
    top, left, height, width = own.boxes.tolist()
    mode = InterpolationMode(recipe.interpolation)
    side = [recipe.size, recipe.size]
    image: Tensor = tv.resized_crop(picture, top, left, height, width, side, interpolation=mode, antialias=True)
    image = image.clamp(0, 1)  # bicubic overshoots
    if own.flip:
        image = tv.horizontal_flip(image)
    if own.upside_down:
        image = tv.vertical_flip(image)
    if own.transposed:
        image = image.mT
    if recipe.rotation:
        image = tv.rotate(image, own.angle.item(), InterpolationMode.BILINEAR)  # without fill: black outside
    if own.jitter:
        for operation in own.order.tolist():
            image = _jitter(image, recipe, own, operation)
    if own.grey:
        image = tv.rgb_to_grayscale(image, num_output_channels=3)
    if own.blur:
        image = tv.gaussian_blur(image, [recipe.blur_kernel] * 2, [own.sigma.item()] * 2)
    if recipe.noise:
        noise = pixel_noise(own.noise_key[None], tuple(image.shape))[0]
        image = (image + recipe.noise * noise).clamp(0, 1)
    if recipe.mean is not None and recipe.std is not None:
        image = tv.normalize(image, list(recipe.mean), list(recipe.std))
    if recipe.normalize == "picture":
        mean, std = image.mean((1, 2), keepdim=True), image.std((1, 2), correction=0, keepdim=True)
        image = (image - mean) / std
    return image


def _jitter(image: Tensor, recipe: ViewRecipe, own: ViewParameters, operation: int) -> Tensor:
    if operation == 0 and recipe.additive_brightness:
        return (image + own.brightness).clamp(0, 1)
    if len(image) not in (1, 3):  # torchvision has no such pictures: every channel is one of its own
        own_channels = [_jitter(channel, recipe, own, operation) for channel in torch.split(image, 1)]
        return torch.cat(own_channels)
    functions = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
    changed: Tensor = functions[operation](
        image, (own.brightness, own.contrast, own.saturation, own.hue)[operation].item()
    )
    return changed
