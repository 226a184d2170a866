"""The kernels beside torchvision: on a CPU in Triton's interpreter, with TRITON_INTERPRET=1, otherwise on a GPU.

test_fused.py runs this file. The interpreter is slow: few and small pictures, and tiles that are large, but not so
large that all views fit into one.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from itertools import permutations
from typing import Any, Literal

import pytest
import torch
from tests.views.official import official_views
from tests.views.reference import reference_views
from torch import Tensor

from simclr_lightning.views import fused
from simclr_lightning.views.draw import ViewParameters, draw_parameters
from simclr_lightning.views.engine import make_views
from simclr_lightning.views.recipe import ViewRecipe

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu") if INTERPRETED else torch.accelerator.current_accelerator() or torch.device("cpu")

if INTERPRETED:
    # Of loops to a number that was computed: Triton 3.6's interpreter asks NumPy for the number in an array of one
    # dimension, which recent releases of NumPy refuse. As Triton 3.8 asks:
    from triton.runtime import interpreter

    def _patched(tensor: Any, *rest: Any, original: Callable[..., None] = interpreter._patch_lang_tensor) -> None:
        original(tensor, *rest)
        tensor.__index__ = lambda self: int(self.handle.data.squeeze())

    interpreter._patch_lang_tensor = _patched

PLAIN = ViewRecipe(size=20, crop=0.0, flip=0.0, jitter=0.0, grey=0.0, blur=0.0)
EVERYTHING = ViewRecipe(
    size=24, rotation=20.0, noise=0.05, jitter=1.0, grey=0.3, blur=0.6, mean=(0.4, 0.5, 0.6), std=(0.5, 0.6, 0.7)
)
CROPPING = {
    "crop": dataclasses.replace(PLAIN, crop=1.0, flip=0.5),
    "crop, bilinear": dataclasses.replace(PLAIN, crop=1.0, interpolation="bilinear"),
    "shrinking crop": dataclasses.replace(PLAIN, size=10, crop=1.0),
    "cifar10": ViewRecipe("cifar10"),
    "official": ViewRecipe("official", size=10, flip=0.5),
    "official, enlarging, bilinear": ViewRecipe("official", size=40, interpolation="bilinear", jitter=0.0),
    "everything": EVERYTHING,
}
FINISHING = {
    "nothing": PLAIN,
    "brightness": dataclasses.replace(PLAIN, jitter=0.8, contrast=0.0, saturation=0.0, hue=0.0),
    "contrast": dataclasses.replace(PLAIN, jitter=0.8, brightness=0.0, saturation=0.0, hue=0.0),
    "saturation": dataclasses.replace(PLAIN, jitter=0.8, brightness=0.0, contrast=0.0, hue=0.0),
    "hue": dataclasses.replace(PLAIN, jitter=0.8, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.5),
    "additive brightness": dataclasses.replace(PLAIN, jitter=0.8, additive_brightness=True),
    "grey": dataclasses.replace(PLAIN, grey=0.5),
    "blur": dataclasses.replace(PLAIN, size=33, blur=0.7),
    "wide blur": dataclasses.replace(PLAIN, size=40, blur=1.0, blur_sigma=(5.0, 9.0)),
    "narrow blur": dataclasses.replace(PLAIN, size=25, blur=1.0, blur_sigma=(0.01, 0.3)),
    "official jitter": dataclasses.replace(PLAIN, jitter=1.0, grey=0.3, forms="official"),
    "official blur": dataclasses.replace(PLAIN, size=40, blur=1.0, blur_sigma=(1.0, 9.0), forms="official"),
    "noise": dataclasses.replace(PLAIN, noise=0.1),
    "normalisation": dataclasses.replace(PLAIN, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)),
    "everything": EVERYTHING,
}


@pytest.fixture(autouse=True)
def _tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "_BLOCK", 512)
    monkeypatch.setattr(fused, "_CROP_BLOCK", 512)
    monkeypatch.setattr(fused, "_BLUR_TILE", (32, 64))


def drawn(recipe: ViewRecipe, number: int, height: int, width: int) -> ViewParameters:
    size = torch.tensor([height, width])
    return draw_parameters(recipe, torch.arange(7, 7 + number), size, seed=3, epoch=1)


def random_bytes(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, device=DEVICE)


def assert_right(
    pixels: Tensor, recipe: ViewRecipe, parameters: ViewParameters, dtype: torch.dtype = torch.float32
) -> Tensor:
    views = fused.make_views(recipe, parameters, pixels, dtype)
    assert views.device == pixels.device
    if recipe.official:
        expected = official_views(pixels, recipe, parameters, cropped=pixels.ndim == 5)
    else:
        expected = reference_views(pixels, recipe, parameters)
    assert views.dtype == dtype
    assert views.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    if dtype == torch.float32:
        torch.testing.assert_close(views.cpu().double(), expected, atol=2e-5, rtol=0)
    else:  # rounded once, by half a unit in the last place; the interpreter cuts bfloat16 off, which GPUs do not
        rounding = {torch.bfloat16: 2**-7 if INTERPRETED else 2**-8, torch.float16: 2**-11}[dtype]
        torch.testing.assert_close(views.cpu().double(), expected, atol=2e-5, rtol=rounding)
    return views


@pytest.mark.parametrize("name", CROPPING)
def test_views_of_pictures_equal_torchvisions(name: str) -> None:
    recipe = CROPPING[name]
    assert_right(random_bytes(2, 3, 29, 35), recipe, drawn(recipe, 2, 29, 35))


@pytest.mark.parametrize("name", FINISHING)
def test_views_of_crops_equal_torchvisions(name: str) -> None:
    recipe, size = FINISHING[name], FINISHING[name].size
    parameters = drawn(recipe, 3, size, size)
    crops = random_bytes(2, 3, size, size, 3).permute(0, 1, 4, 2, 3)  # as a worker hands them over
    views = assert_right(crops, recipe, parameters)
    if name == "everything":
        assert torch.equal(views, fused.make_views(recipe, parameters, crops.contiguous(), torch.float32))
        assert_right(crops[:1].expand(2, -1, -1, -1, -1), recipe, parameters)


@pytest.mark.parametrize("forms", ["torchvision", "official"])
@pytest.mark.parametrize("additive", [False, True])
def test_every_order_of_the_jitter(additive: bool, forms: Literal["torchvision", "official"]) -> None:
    recipe = dataclasses.replace(PLAIN, size=9, jitter=1.0, jitter_strength=2.0, count=1, forms=forms)
    recipe = dataclasses.replace(recipe, additive_brightness=additive)
    orders = torch.tensor(list(permutations(range(4))))
    parameters = drawn(recipe, len(orders), 9, 9)._replace(order=orders[None])
    crops = random_bytes(1, len(orders), 3, 9, 9)
    crops[:, ::2] = crops[:, ::2] // 128 * 255  # saturated colours, and ties between the channels
    assert_right(crops, recipe, parameters)


def test_an_operation_without_a_range_does_not_happen() -> None:
    recipe = dataclasses.replace(PLAIN, size=9, jitter=1.0, contrast=0.0)
    assert_right(random_bytes(2, 4, 3, 9, 9), recipe, drawn(recipe, 4, 9, 9))


@pytest.mark.parametrize("preset", ["grayscale", "digits"])
def test_one_channel(preset: str) -> None:
    recipe = ViewRecipe(preset, blur=0.5, size=22)
    assert_right(random_bytes(3, 1, 28, 28), recipe, drawn(recipe, 3, 28, 28))


@pytest.mark.parametrize("channels", [2, 5])
def test_channels_without_colour(channels: int) -> None:
    recipe = dataclasses.replace(
        ViewRecipe("multispectral", size=22, jitter=1.0, contrast=0.5, vertical_flip=0.5, blur=0.5, noise=0.1),
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
    )
    assert_right(random_bytes(2, channels, 20, 20), recipe, drawn(recipe, 2, 20, 20))
    own = dataclasses.replace(recipe, mean=None, std=None, normalize="picture")
    assert_right(random_bytes(2, 1, channels, 22, 22), own, drawn(own, 1, 22, 22), torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once_at_the_end(dtype: torch.dtype) -> None:
    recipe = dataclasses.replace(EVERYTHING, rotation=0.0)
    assert_right(random_bytes(2, 2, 3, 24, 24), recipe, drawn(recipe, 2, 24, 24), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_float_pictures(dtype: torch.dtype) -> None:
    recipe = dataclasses.replace(PLAIN, crop=1.0, jitter=1.0)
    pictures = torch.rand(2, 3, 17, 19).to(DEVICE, dtype)
    assert_right(pictures, recipe, drawn(recipe, 2, 17, 19))
    last = pictures.contiguous(memory_format=torch.channels_last)
    assert_right(last, recipe, drawn(recipe, 2, 17, 19))


def test_the_same_views_as_operation_by_operation_at_the_size_that_trains() -> None:
    recipe = ViewRecipe(size=224, count=1, blur=1.0)
    crops = random_bytes(1, 1, 3, 224, 224)
    parameters = drawn(recipe, 1, 224, 224)
    fast = fused.make_views(recipe, parameters, crops, torch.float32)
    torch.testing.assert_close(fast.cpu(), make_views(recipe, parameters, crops.cpu()), atol=2e-5, rtol=0)


def test_no_picture() -> None:
    recipe = ViewRecipe(size=24, count=3)
    views = fused.make_views(recipe, drawn(recipe, 0, 20, 20), random_bytes(0, 3, 20, 20), torch.float32)
    assert views.shape == (3, 0, 3, 24, 24)
