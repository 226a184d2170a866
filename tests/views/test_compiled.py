from __future__ import annotations

import dataclasses
from typing import Any, Literal

import pytest
import torch

from simclr_lightning.views import numba_tools, whole_batch
from simclr_lightning.views.draw import ViewParameters, draw_parameters
from simclr_lightning.views.recipe import ViewRecipe

compiled = pytest.importorskip("simclr_lightning.views.compiled", reason="needs the extra fast", exc_type=ImportError)

NUMBER = 40
RECIPES = {
    "imagenet": ViewRecipe(size=48),
    "large": ViewRecipe(size=224),
    "additive brightness": ViewRecipe(size=32, additive_brightness=True),
    "wide blur": ViewRecipe(size=60, blur=1.0, blur_sigma=(5.0, 9.0), jitter=0.0),
    "narrow blur": ViewRecipe(size=60, blur=1.0, blur_sigma=(0.01, 0.3), jitter=0.0),
    "largest hue": ViewRecipe(size=24, hue=0.5, jitter=1.0),
}


def drawn(recipe: ViewRecipe, number: int = NUMBER) -> ViewParameters:
    size = torch.tensor([recipe.size, recipe.size])
    return draw_parameters(recipe, torch.arange(number), size, seed=1, epoch=0).flatten()


@pytest.mark.parametrize("name", RECIPES)
def test_the_same_as_the_operations_on_whole_batches(name: str) -> None:
    recipe = RECIPES[name]
    number = 8 if recipe.size > 100 else NUMBER
    views = torch.rand(2 * number, 3, recipe.size, recipe.size)
    views[::3] = views[::3].round()  # saturated colours, and ties between the channels
    expected = views.clone()
    whole_batch.recolour(expected, recipe, drawn(recipe, number))
    compiled.recolour(views, recipe, drawn(recipe, number))
    torch.testing.assert_close(views, expected, atol=3e-6, rtol=0)


@pytest.mark.parametrize("threads", [1, 3, 7])
def test_threads_change_no_bit(threads: int) -> None:
    recipe = ViewRecipe(size=24)
    views = torch.rand(20, 3, 24, 24)
    alone = views.clone()
    for m in range(20):
        own = ViewParameters(*(values[m : m + 1] for values in drawn(recipe, 10)))
        compiled.recolour(alone[m : m + 1], recipe, own)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        compiled.recolour(views, recipe, drawn(recipe, 10))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(views, alone)


def test_what_is_switched_off_does_not_happen() -> None:
    recipe = dataclasses.replace(ViewRecipe(size=24), jitter=0.0, grey=0.0, blur=0.0)
    views = torch.rand(20, 3, 24, 24)
    before = views.clone()
    compiled.recolour(views, recipe, drawn(recipe, 10))
    assert torch.equal(views, before)


def drawn_from(recipe: ViewRecipe, number: int, height: int, width: int) -> ViewParameters:
    return draw_parameters(recipe, torch.arange(number), torch.tensor([height, width]), seed=1, epoch=0).flatten()


def cropped(pictures: torch.Tensor, recipe: ViewRecipe) -> torch.Tensor:
    views = torch.full((2 * len(pictures), pictures.shape[1], recipe.size, recipe.size), torch.nan)
    compiled.crop(views, recipe, drawn_from(recipe, len(pictures), *pictures.shape[-2:]), pictures)
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
    whole_batch.crop(expected, recipe, drawn_from(recipe, 12, height, width), pictures)
    torch.testing.assert_close(cropped(pictures, recipe), expected, atol=2e-5, rtol=0)


def test_floats_and_any_memory_order() -> None:
    recipe = ViewRecipe(size=24)
    pictures = torch.randint(0, 256, (8, 3, 30, 40), dtype=torch.uint8)
    expected = cropped(pictures, recipe)
    torch.testing.assert_close(cropped(pictures / 255, recipe), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(cropped(pictures.double() / 255, recipe), expected, atol=1e-6, rtol=0)
    assert torch.equal(cropped(pictures.contiguous(memory_format=torch.channels_last), recipe), expected)


def double(x: float) -> float:
    return 2 * x


def test_without_a_folder_for_the_result_it_is_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    numba = pytest.importorskip("numba")
    njit = numba.njit

    def nowhere(function: Any, *, cache: bool = False, **options: Any) -> Any:
        if cache:
            raise RuntimeError("cannot cache function 'double': no locator available")
        return njit(function, **options)

    monkeypatch.setattr(numba, "njit", nowhere)
    assert numba_tools.compiled(double)(4.0) == 8.0


@pytest.mark.parametrize("number", [0, 1, 5, 8])
@pytest.mark.parametrize("threads", [1, 3, 8])
def test_threads_do_everything_once(number: int, threads: int) -> None:
    before, done = torch.get_num_threads(), torch.zeros(number)
    torch.set_num_threads(threads)
    try:
        compiled.in_threads(lambda part: done[part].add_(1), number)
    finally:
        torch.set_num_threads(before)
    assert (done == 1).all()
