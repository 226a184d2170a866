from __future__ import annotations

import dataclasses

import pytest
import torch

from simclr_lightning.views import whole_batch
from simclr_lightning.views.parameters import ViewParameters, draw_parameters
from simclr_lightning.views.recipe import ViewRecipe

compiled_colour = pytest.importorskip(
    "simclr_lightning.views.compiled_colour", reason="needs the extra fast", exc_type=ImportError
)

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
    both = draw_parameters(recipe, torch.arange(number), size, seed=1, epoch=0)
    return ViewParameters(*(values.flatten(0, 1) for values in both))


@pytest.mark.parametrize("name", RECIPES)
def test_the_same_as_the_operations_on_whole_batches(name: str) -> None:
    recipe = RECIPES[name]
    number = 8 if recipe.size > 100 else NUMBER
    views = torch.rand(2 * number, 3, recipe.size, recipe.size)
    views[::3] = views[::3].round()  # saturated colours, and ties between the channels
    expected = views.clone()
    whole_batch.recolour(expected, recipe, drawn(recipe, number))
    compiled_colour.recolour(views, recipe, drawn(recipe, number))
    torch.testing.assert_close(views, expected, atol=3e-6, rtol=0)


@pytest.mark.parametrize("threads", [1, 3, 7])
def test_threads_change_no_bit(threads: int) -> None:
    recipe = ViewRecipe(size=24)
    views = torch.rand(20, 3, 24, 24)
    alone = views.clone()
    for m in range(20):
        own = ViewParameters(*(values[m : m + 1] for values in drawn(recipe, 10)))
        compiled_colour.recolour(alone[m : m + 1], recipe, own)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        compiled_colour.recolour(views, recipe, drawn(recipe, 10))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(views, alone)


def test_what_is_switched_off_does_not_happen() -> None:
    recipe = dataclasses.replace(ViewRecipe(size=24), jitter=0.0, grey=0.0, blur=0.0)
    views = torch.rand(20, 3, 24, 24)
    before = views.clone()
    compiled_colour.recolour(views, recipe, drawn(recipe, 10))
    assert torch.equal(views, before)
