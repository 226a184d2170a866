from __future__ import annotations

from typing import Literal

import pytest
import torch

from simclr_lightning.views import whole_batch
from simclr_lightning.views.parameters import ViewParameters, draw_parameters
from simclr_lightning.views.recipe import ViewRecipe

compiled_crops = pytest.importorskip(
    "simclr_lightning.views.compiled_crops", reason="needs the extra fast", exc_type=ImportError
)


def drawn(recipe: ViewRecipe, number: int, height: int, width: int) -> ViewParameters:
    both = draw_parameters(recipe, torch.arange(number), torch.tensor([height, width]), seed=1, epoch=0)
    return ViewParameters(*(values.flatten(0, 1) for values in both))


def cropped(pictures: torch.Tensor, recipe: ViewRecipe) -> torch.Tensor:
    views = torch.full((2 * len(pictures), pictures.shape[1], recipe.size, recipe.size), torch.nan)
    compiled_crops.crop(views, recipe, drawn(recipe, len(pictures), *pictures.shape[-2:]), pictures)
    return views


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(
    ("height", "width", "size"), [(32, 32, 32), (32, 32, 20), (40, 56, 80), (301, 207, 24), (3, 1, 16)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_same_as_the_products_of_whole_batches(
    channels: int, height: int, width: int, size: int, interpolation: Literal["bicubic", "bilinear"]
) -> None:
    recipe = ViewRecipe(size=size, interpolation=interpolation)
    pictures = torch.randint(0, 256, (12, channels, height, width), dtype=torch.uint8)
    expected = torch.empty(24, channels, size, size)
    whole_batch.crop(expected, recipe, drawn(recipe, 12, height, width), pictures)
    torch.testing.assert_close(cropped(pictures, recipe), expected, atol=2e-5, rtol=0)


def test_floats_and_any_memory_order() -> None:
    recipe = ViewRecipe(size=24)
    pictures = torch.randint(0, 256, (8, 3, 30, 40), dtype=torch.uint8)
    expected = cropped(pictures, recipe)
    torch.testing.assert_close(cropped(pictures / 255, recipe), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(cropped(pictures.double() / 255, recipe), expected, atol=1e-6, rtol=0)
    assert torch.equal(cropped(pictures.contiguous(memory_format=torch.channels_last), recipe), expected)
