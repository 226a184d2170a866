"""Tests of ``views/pictures.py``; the data room has pictures of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from simclr_lightning.views.parameters import draw_parameters
from simclr_lightning.views.pictures import centre_view, crop_pair
from simclr_lightning.views.recipe import ViewRecipe


def picture(height: int, width: int, mode: str = "RGB") -> Image.Image:
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("height", "width", "size"), [(75, 101, 32), (20, 33, 32), (200, 150, 64)])
def test_crops_are_torchvisions_pil_crops_with_the_drawn_boxes(
    height: int, width: int, size: int, interpolation: str, mode: str
) -> None:
    recipe = ViewRecipe(size=size, interpolation=interpolation)  # type: ignore[arg-type]
    source = picture(height, width, mode)
    crops = crop_pair(source, recipe, seed=3, epoch=5, index=77)
    assert crops.shape == (2, 3 if mode == "RGB" else 1, size, size)
    assert crops.dtype == torch.uint8
    sizes = torch.tensor([[height, width]])
    boxes = draw_parameters(recipe, torch.tensor([77]), sizes, seed=3, epoch=5).boxes[:, 0]
    for crop, box in zip(crops, boxes.tolist(), strict=True):
        expected = tv.resized_crop(source, *box, size=[size, size], interpolation=InterpolationMode(interpolation))
        assert torch.equal(crop, tv.pil_to_tensor(expected))


def test_crops_change_with_seed_epoch_index_and_view_and_not_otherwise() -> None:
    source, recipe = picture(90, 120), ViewRecipe(size=24)
    base = crop_pair(source, recipe, seed=0, epoch=0, index=0)
    assert torch.equal(base, crop_pair(source, recipe, seed=0, epoch=0, index=0))
    assert not torch.equal(base[0], base[1])
    for other in (
        {"seed": 1, "epoch": 0, "index": 0},
        {"seed": 0, "epoch": 1, "index": 0},
        {"seed": 0, "epoch": 0, "index": 1},
    ):
        assert not torch.equal(base, crop_pair(source, recipe, **other))


@pytest.mark.parametrize(("height", "width", "side"), [(256, 256, 224), (300, 500, 262), (480, 320, 280), (40, 40, 35)])
def test_centre_view_above_32_pixels_is_the_official_central_crop(height: int, width: int, side: int) -> None:
    source = picture(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    expected = tv.resized_crop(source, top, left, side, side, [224, 224], InterpolationMode.BICUBIC)
    result = centre_view(source, ViewRecipe())
    assert result.shape == (3, 224, 224)
    assert torch.equal(result, tv.pil_to_tensor(expected))


def test_centre_view_has_the_evaluation_size_and_its_rule() -> None:
    source = picture(64, 64)
    assert torch.equal(centre_view(source, ViewRecipe(size=20, eval_size=64)), centre_view(source, ViewRecipe(size=64)))
    assert torch.equal(centre_view(source, ViewRecipe(size=64, eval_size=32)), centre_view(source, ViewRecipe(size=32)))


def test_centre_view_keeps_224_of_256_pixels() -> None:
    source = picture(256, 256)
    assert torch.equal(centre_view(source, ViewRecipe()), tv.pil_to_tensor(source)[:, 16:240, 16:240])


def test_centre_view_up_to_32_pixels_keeps_the_whole_square() -> None:
    small = picture(32, 32)
    assert torch.equal(centre_view(small, ViewRecipe("cifar10")), tv.pil_to_tensor(small))
    wide = picture(28, 40, "L")
    expected = tv.resize(tv.center_crop(wide, [28, 28]), [32, 32], InterpolationMode.BICUBIC)
    assert torch.equal(centre_view(wide, ViewRecipe(size=32)), tv.pil_to_tensor(expected))


def test_a_picture_of_one_pixel_works() -> None:
    assert crop_pair(picture(1, 1), ViewRecipe(size=48), seed=0, epoch=0, index=0).shape == (2, 3, 48, 48)
    assert centre_view(picture(1, 1), ViewRecipe(size=48)).shape == (3, 48, 48)
