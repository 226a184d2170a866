"""Pictures of any number of channels, their orientations, and channels that are normalised by themselves."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from tests.views.reference import reference_views

from simclr_lightning.errors import InputError
from simclr_lightning.views import ImageBatch, ViewEngine, check_channels, clean, crop_views, draw_parameters, uniforms
from simclr_lightning.views import engine as engine_module
from simclr_lightning.views.draw import ViewParameters
from simclr_lightning.views.engine import make_views
from simclr_lightning.views.presets import PRESETS
from simclr_lightning.views.recipe import ViewRecipe

NUMBER = 8
PLAIN = ViewRecipe("multispectral", size=24, crop=0.0, flip=0.0, rotate90=0.0, jitter=0.0)
RECIPES = {
    "brightness": dataclasses.replace(PLAIN, jitter=1.0, brightness=0.6),
    "additive brightness": dataclasses.replace(PLAIN, jitter=1.0, brightness=0.6, additive_brightness=True),
    "contrast": dataclasses.replace(PLAIN, jitter=1.0, brightness=0.0, contrast=0.8),
    "blur": dataclasses.replace(PLAIN, size=40, blur=1.0),
    "noise": dataclasses.replace(PLAIN, noise=0.1),
    "orientation": dataclasses.replace(PLAIN, crop=1.0, flip=0.5, vertical_flip=0.5, rotate90=0.6, rotation=10.0),
    "picture": dataclasses.replace(PLAIN, normalize="picture", jitter=1.0, contrast=0.5, noise=0.05),
    "all": ViewRecipe("multispectral", size=24, contrast=0.3, blur=0.5, noise=0.05, vertical_flip=0.3),
    "official": ViewRecipe("multispectral", size=24, contrast=0.3, blur=0.5, forms="official"),
}


@pytest.fixture(params=["compiled", "whole batch"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways on a CPU; the kernels for GPUs are in fused_cases.py."""
    if request.param == "compiled":
        pytest.importorskip("numba")
    else:
        monkeypatch.setattr(engine_module, "find_spec", lambda name: None)


def drawn(recipe: ViewRecipe, number: int = NUMBER, side: int = 30) -> ViewParameters:
    return draw_parameters(recipe, torch.arange(number), torch.tensor([side, side]), seed=3, epoch=1)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("channels", [1, 2, 4, 13])
@pytest.mark.parametrize("name", sorted(set(RECIPES) - {"official"}))
def test_views_equal_the_reference_channel_by_channel(name: str, channels: int) -> None:
    recipe, images = RECIPES[name], torch.rand(NUMBER, channels, 30, 30)
    parameters = drawn(recipe)
    views = make_views(recipe, parameters, images)
    tolerance = 3e-4 if recipe.normalize == "picture" else 3e-5  # divided by standard deviations of a tenth
    torch.testing.assert_close(views.double(), reference_views(images, recipe, parameters), atol=tolerance, rtol=0)
    plain = dataclasses.replace(PLAIN, size=recipe.size)
    assert not torch.allclose(views, make_views(plain, drawn(plain), images), atol=0.01)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("name", ["all", "official", "picture"])
def test_every_channel_is_what_it_would_be_alone(name: str) -> None:
    recipe, images = dataclasses.replace(RECIPES[name], noise=0.0), torch.rand(NUMBER, 7, 30, 30)
    parameters = drawn(recipe)
    together = make_views(recipe, parameters, images)
    for channel in range(7):
        alone = make_views(recipe, parameters, images[:, channel : channel + 1])
        torch.testing.assert_close(together[:, :, channel], alone[:, :, 0], atol=2e-5, rtol=0)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("forms", ["torchvision", "official"])
def test_crops_of_a_worker_have_the_same_orientation(forms: Any) -> None:
    recipe = dataclasses.replace(RECIPES["orientation"], rotation=0.0, forms=forms)
    images = torch.randint(64, 192, (NUMBER, 5, 30, 30), dtype=torch.uint8)  # bytes cut off what overshoots in between
    (crops,) = crop_views(list(images), [recipe], torch.arange(NUMBER), seed=3, epoch=1)
    here = make_views(recipe, drawn(recipe), images)
    assert (here - crops.pixels / 255).abs().max() < 1.6 / 255  # two roundings to bytes
    batch = ImageBatch(None, (crops,), torch.zeros(NUMBER), torch.arange(NUMBER), epoch=1)
    assert torch.equal(ViewEngine(recipe, seed=3)(batch)[0], crops.pixels / 255)


def test_orientations_are_flips_and_then_turns() -> None:
    recipe, number = ViewRecipe(flip=0.5, vertical_flip=0.3, rotate90=0.6), 4000
    parameters = drawn(recipe, number)
    numbers = uniforms(3, 1, torch.arange(number), 41)
    picture, seen = torch.arange(9).view(3, 3), set()
    for view in range(2):
        for n in range(200):
            flip, vertical, turn, quarters = numbers[view, n, [23, 38, 39, 40]].tolist()
            expected = picture.flip(1) if flip < 0.5 else picture
            expected = expected.flip(0) if vertical < 0.3 else expected
            turns = 1 + int(3 * quarters) if turn < 0.6 else 0
            expected = torch.rot90(expected, turns)
            own = ViewParameters(*(values[view, n] for values in parameters))
            ours = picture.flip(1) if own.flip else picture
            ours = ours.flip(0) if own.upside_down else ours
            ours = ours.mT if own.transposed else ours
            assert torch.equal(ours, expected)
            seen.add(tuple(ours.flatten().tolist()))
    assert len(seen) == 8
    assert abs(parameters.transposed.double().mean() - 0.4) < 0.03


def test_both_flips_and_quarter_turns_make_all_eight_orientations_equally_likely() -> None:
    for recipe in (ViewRecipe(vertical_flip=0.5, rotate90=0.75), ViewRecipe("histology"), ViewRecipe("multispectral")):
        own = drawn(recipe, 4000)
        kinds = 4 * own.transposed + 2 * own.upside_down + own.flip
        assert (kinds.flatten().bincount(minlength=8) / kinds.numel() - 1 / 8).abs().max() < 0.02


def test_new_numbers_change_nothing_that_was_drawn_before() -> None:
    ours, theirs = drawn(ViewRecipe(vertical_flip=0.5)), drawn(ViewRecipe())
    for name, values in ours._asdict().items():
        assert torch.equal(values, getattr(theirs, name)) == (name != "upside_down"), name
    assert not drawn(ViewRecipe()).transposed.any()


@pytest.mark.usefixtures("engine")
def test_each_channel_of_a_view_has_mean_zero_and_standard_deviation_one() -> None:
    recipe = ViewRecipe("microscopy", size=40)
    images = torch.rand(NUMBER, 5, 50, 60) * torch.tensor([1.0, 0.1, 0.01, 0.001, 0.0]).view(5, 1, 1)
    for views in (make_views(recipe, drawn(recipe), images).flatten(0, 1), clean(images, recipe)):
        std, mean = torch.std_mean(views, (-2, -1), correction=0)
        torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-4, rtol=0)
        torch.testing.assert_close(std[:, :4], torch.ones_like(std[:, :4]), atol=1e-3, rtol=0)
        assert (std[:, 4] == 0).all()  # nothing but black stays nothing


def test_a_mean_and_a_channels_own_statistics_exclude_each_other() -> None:
    with pytest.raises(InputError, match="normalize is picture, which needs neither mean nor std"):
        ViewRecipe(normalize="picture", mean=(0.5,), std=(0.2,))
    with pytest.raises(InputError, match="normalize is 'image': choose recipe or picture"):
        ViewRecipe(normalize="image")  # type: ignore[arg-type]


def test_numbers_for_other_channels_are_told_before_any_view_is_drawn() -> None:
    recipe = ViewRecipe("multispectral", mean=(0.5,) * 3, std=(0.2,) * 3)
    with pytest.raises(InputError, match=r"mean and std have 3 numbers, the pictures 10 channels.*or set normalize to"):
        check_channels(recipe, 10)


@pytest.mark.parametrize(
    ("preset", "channels"),
    [
        ("retina", (3,)),
        ("xray", (1, 3)),
        ("histology", (3,)),
        ("multispectral", (2, 3, 10, 13)),
        ("microscopy", (1, 3, 5)),
        ("galaxy", (1, 3, 5)),
    ],
)
def test_presets_of_domains_fit_their_channels(preset: str, channels: tuple[int, ...]) -> None:
    assert preset in PRESETS
    recipe = ViewRecipe(preset, size=32)
    for number in channels:
        check_channels(recipe, number)
        assert make_views(recipe, drawn(recipe, 2), torch.rand(2, number, 30, 30)).isfinite().all()
