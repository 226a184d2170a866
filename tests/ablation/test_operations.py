"""Cutout, Sobel and quarter turns against slow references; what the recipe has is tested in tests/views."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy import ndimage  # type: ignore[import-untyped]
from tests.views.reference import reference_view
from torch import Tensor

from simclr_lightning.ablation.operations import (
    OPERATIONS,
    Draw,
    check_operations,
    cutout,
    operate,
    operation_recipe,
    parse_operations,
    sobel,
)
from simclr_lightning.views import ViewRecipe, draw_parameters

NUMBER, SIZE = 12, 24
RECIPE = ViewRecipe(size=SIZE)
DRAW = Draw(torch.arange(100, 100 + NUMBER), seed=5, epoch=2)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(NUMBER, 3, SIZE, SIZE)


@pytest.mark.parametrize("channels", [1, 3])
def test_sobel_is_scipys(channels: int) -> None:
    images = 0.4 * torch.rand(5, channels, 9, 13, dtype=torch.float64)  # too dark for a gradient to be clipped
    expected = np.array([[np.hypot(*(ndimage.sobel(p, a, mode="mirror") for a in (0, 1))) for p in i] for i in images])
    assert expected.max() < 4
    torch.testing.assert_close(sobel(images), torch.from_numpy(expected / 4))


def test_sobel_of_a_step_is_one_on_both_of_its_sides_and_never_more() -> None:
    step = torch.zeros(1, 1, 6, 6)
    step[..., 3:] = 1
    torch.testing.assert_close(sobel(step)[0, 0, 2], torch.tensor([0.0, 0.0, 1.0, 1.0, 0.0, 0.0]))
    corner = torch.zeros(1, 1, 6, 6)
    corner[..., 3:, 3:] = 1
    assert sobel(corner).max() == 1


def test_cutout_is_that_of_a_loop(images: Tensor) -> None:
    centres = torch.rand(NUMBER, 2, dtype=torch.float64)
    centres[0], centres[1] = torch.tensor([0.0, 0.0]), torch.tensor([0.999, 0.5])  # they hang over the border
    images = images[..., :20]  # not square
    expected = images.clone()
    for picture, (row, column) in zip(expected, centres.tolist(), strict=True):
        top, left = int(row * 24) - 5, int(column * 20) - 5
        picture[:, max(0, top) : top + 10, max(0, left) : left + 10] = 0.5
    before = images.clone()
    torch.testing.assert_close(cutout(images, centres, 10), expected, rtol=0, atol=0)
    assert torch.equal(images, before)


def test_rotation_is_by_quarter_turns_and_never_none(images: Tensor) -> None:
    turned = operate("rotate", images, RECIPE, DRAW)
    turns = set()
    for picture, result in zip(images, turned, strict=True):
        (found,) = [
            quarters
            for quarters in range(4)
            if torch.allclose(torch.rot90(picture, quarters, dims=(1, 2)), result, atol=1e-4)
        ]
        turns.add(found)
    assert turns == {1, 2, 3}


@pytest.mark.parametrize("name", ["crop", "colour", "noise", "blur"])
def test_what_a_recipe_has_is_drawn_by_its_own_engine(name: str, images: Tensor) -> None:
    recipe = operation_recipe(name, RECIPE)
    switched_on = [
        field for field in ("crop", "flip", "rotation", "jitter", "grey", "blur", "noise") if getattr(recipe, field)
    ]
    assert switched_on == {"crop": ["crop", "flip"], "colour": ["jitter", "grey"]}.get(name, [name])
    own = DRAW.seed + (OPERATIONS.index(name) + 1) * 2**32
    size = torch.tensor([SIZE, SIZE])
    parameters = draw_parameters(recipe, DRAW.indices, size, seed=own, epoch=DRAW.epoch)
    expected = torch.stack([reference_view(images[n], recipe, parameters, 0, n) for n in range(NUMBER)])
    torch.testing.assert_close(operate(name, images, RECIPE, DRAW), expected, atol=3e-5, rtol=0)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_change_pictures_by_the_same_numbers_in_every_batch(name: str, images: Tensor) -> None:
    before = images.clone()
    result = operate(name, images, RECIPE, DRAW)
    assert torch.equal(images, before)
    assert result.shape == images.shape
    assert result.dtype == torch.float32
    assert result.min() >= 0
    assert result.max() <= 1
    assert not torch.allclose(result, images, atol=0.02)
    alone = operate(name, images[7:8], RECIPE, DRAW._replace(indices=DRAW.indices[7:8]))
    torch.testing.assert_close(alone[0], result[7], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"sobel"}))
@pytest.mark.parametrize("other", [{"seed": 6}, {"epoch": 3}, {"indices": DRAW.indices + 1}])
def test_random_numbers_depend_on_seed_epoch_and_picture(name: str, other: dict[str, object], images: Tensor) -> None:
    draw = Draw(**{**DRAW._asdict(), **other})
    assert not torch.equal(operate(name, images, RECIPE, draw), operate(name, images, RECIPE, DRAW))


def test_what_a_recipe_has_switched_off_gets_the_papers_probability() -> None:
    off = dataclasses.replace(RECIPE, jitter=0.0, blur=0.0, crop=0.0, noise=0.0)
    assert operation_recipe("colour", off).jitter == 0.8
    assert operation_recipe("blur", off).blur == 0.5
    assert operation_recipe("crop", off).crop == 1.0
    assert operation_recipe("noise", off).noise > 0
    own = dataclasses.replace(RECIPE, jitter=0.3, noise=0.02, mean=(0.5,) * 3, std=(0.2,) * 3)
    assert operation_recipe("colour", own).jitter == 0.3
    assert operation_recipe("noise", own).noise == 0.02
    assert operation_recipe("noise", own).mean is None  # both views are normalised at the very end


def test_names_are_looked_up() -> None:
    assert parse_operations("crop, blur,crop") == ("crop", "blur")
    assert parse_operations(["sobel", "noise"]) == ("sobel", "noise")
    with pytest.raises(ValueError, match=r"'color'.*mean colour\? There are crop, cutout"):
        parse_operations("crop,color")
    with pytest.raises(ValueError, match="two operations at least, got crop"):
        parse_operations("crop")


@pytest.mark.parametrize(
    ("recipe", "channels", "message"),
    [
        (RECIPE, 4, "4 channels, .*set saturation, hue, grey to 0"),
        (RECIPE, 1, "grayscale"),
        (ViewRecipe(size=16), 3, r"leave blur out.*--views.size 20"),
    ],
)
def test_operations_that_would_do_nothing_are_refused(recipe: ViewRecipe, channels: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_operations(OPERATIONS, recipe, channels)
    check_operations(["crop", "sobel"], recipe, channels)


def test_grey_pictures_have_all_operations() -> None:
    recipe = ViewRecipe("grayscale")
    check_operations(OPERATIONS, recipe, 1)
    images = torch.rand(NUMBER, 1, 28, 28)
    for name in OPERATIONS:
        assert not torch.equal(operate(name, images, recipe, DRAW), images)
