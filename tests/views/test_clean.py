from __future__ import annotations

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from simclr_lightning.views.engine import clean
from simclr_lightning.views.recipe import ViewRecipe


def test_clean_pictures_of_the_right_size_are_only_scaled() -> None:
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    result = clean(images, ViewRecipe("cifar10"))
    assert result.dtype == torch.float32
    assert torch.equal(result, images / 255)


@pytest.mark.parametrize("size", [12, 48])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_clean_pictures_of_another_size_are_resized_as_in_torchvision(size: int, interpolation: str) -> None:
    images = torch.randint(0, 256, (4, 1, 28, 28), dtype=torch.uint8)
    recipe = ViewRecipe("grayscale", size=size, interpolation=interpolation)  # type: ignore[arg-type]
    expected = tv.resize(images / 255, [size, size], InterpolationMode(interpolation), antialias=True).clamp(0, 1)
    torch.testing.assert_close(clean(images, recipe), expected, atol=2e-6, rtol=0)


def test_clean_pictures_have_the_evaluation_size() -> None:
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(clean(images, ViewRecipe("cifar10", size=20, eval_size=32)), images / 255)
    assert clean(images, ViewRecipe("cifar10", eval_size=20)).shape == (4, 3, 20, 20)


def test_clean_takes_the_central_square() -> None:
    images = torch.rand(2, 3, 20, 31)
    recipe = ViewRecipe(size=16)
    torch.testing.assert_close(clean(images, recipe), clean(images[..., 5:25], recipe), atol=1e-6, rtol=0)


def test_clean_pictures_keep_the_share_that_is_asked_for() -> None:
    images = torch.rand(2, 3, 20, 30)
    half = clean(images, ViewRecipe(size=16, eval_crop=0.5))
    torch.testing.assert_close(half, clean(images[..., 5:15, 10:20], ViewRecipe(size=16)), atol=1e-6, rtol=0)
    right = torch.rand(2, 3, 16, 16)  # as loader workers give them, who have cropped
    assert torch.equal(clean(right, ViewRecipe(size=16, eval_crop=0.5)), right)


def test_clean_pictures_are_normalised_if_asked() -> None:
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.3, 0.4)
    result = clean(images, ViewRecipe(size=8, mean=mean, std=std))
    torch.testing.assert_close(result, tv.normalize(images / 255, list(mean), list(std)))


def test_clean_is_exact_under_autocast() -> None:
    images = torch.randint(0, 256, (4, 3, 28, 28), dtype=torch.uint8)
    expected = clean(images, ViewRecipe(size=32))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(clean(images, ViewRecipe(size=32)), expected)
