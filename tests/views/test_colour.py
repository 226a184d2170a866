from __future__ import annotations

import colorsys
from collections.abc import Callable

import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from simclr_lightning.views import colour


def pictures(number: int = 40) -> torch.Tensor:
    """Random pictures with black, white, grey, saturated and tied pixels among them."""
    images = torch.rand(number, 3, 12, 14)
    images[:, :, 0, :2] = torch.tensor([0.0, 1.0])
    images[:, :, 1] = images[:, :1, 1]  # grey
    images[:, 0, 2] = images[:, 1, 2]  # red = green
    images[:, 1, 3] = images[:, 2, 3]
    images[:, 2, 4] = images[:, 0, 4]
    images[:, :, 5] = images[:, :, 5].round()  # corners of the colour cube
    images[:, :, 6] = 0.3 + 1e-6 * images[:, :, 6]  # nearly grey
    return images


def each(
    function: Callable[[torch.Tensor, float], torch.Tensor], images: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    return torch.stack([function(image, value.item()) for image, value in zip(images, values[:, 0], strict=True)])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (colour.brightness, tv.adjust_brightness),
        (colour.contrast, tv.adjust_contrast),
        (colour.saturation, tv.adjust_saturation),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_factors_do_what_torchvisions_do(
    ours: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    theirs: Callable[[torch.Tensor, float], torch.Tensor],
    channels: int,
) -> None:
    if ours is colour.saturation and channels == 1:
        channels = 3  # no saturation without colour: the engine refuses it
    images = pictures()[:, :channels]
    factors = torch.linspace(0, 2.5, 40)[:, None]
    torch.testing.assert_close(ours(images, factors), each(theirs, images, factors), atol=1e-6, rtol=0)


def test_hue_equals_torchvisions_way_through_hsv() -> None:
    images, turns = pictures(), torch.linspace(-0.5, 0.5, 40)[:, None]
    shifted = colour.hue(images, colour.shifted_primaries(turns[:, 0]))
    torch.testing.assert_close(shifted, each(tv.adjust_hue, images, turns), atol=3e-6, rtol=0)


def test_hue_equals_the_standard_librarys_colorsys() -> None:
    images, turns = pictures(6), torch.tensor([-0.5, -0.3, -0.01, 0.0, 0.2, 0.5])
    shifted = colour.hue(images, colour.shifted_primaries(turns))
    for image, result, turn in zip(images, shifted, turns.tolist(), strict=True):
        for pixel, after in zip(image.flatten(1).T.tolist(), result.flatten(1).T.tolist(), strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
            assert after == pytest.approx(colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value), abs=1e-6)


def test_hue_shifts_by_thirds_permute_the_channels() -> None:
    images = pictures(2)
    shifted = colour.hue(images, colour.shifted_primaries(torch.tensor([1 / 3, -1 / 3])))
    torch.testing.assert_close(shifted[0], images[0].roll(1, 0), atol=1e-6, rtol=0)
    torch.testing.assert_close(shifted[1], images[1].roll(-1, 0), atol=1e-6, rtol=0)


def test_shifted_primaries_stay_within_half_a_turn() -> None:
    primaries = colour.shifted_primaries(torch.linspace(-0.5, 0.5, 101))
    assert primaries.shape == (101, 3)
    assert primaries.abs().max() <= 3


def test_additive_brightness_adds_and_clamps() -> None:
    images = torch.tensor([0.1, 0.5, 0.9]).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    brighter = colour.additive_brightness(images, torch.tensor([[-0.3], [0.25], [0.4]]))
    torch.testing.assert_close(brighter[:, 0, 0, 0], torch.tensor([0.0, 0.75, 1.0]))


def test_grey_equals_torchvisions_with_three_channels() -> None:
    images = pictures()
    expected = tv.rgb_to_grayscale(images, num_output_channels=3)
    torch.testing.assert_close(colour.grey(images, torch.empty(40, 0)), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "function", [colour.brightness, colour.contrast, colour.saturation, colour.additive_brightness]
)
def test_inputs_are_left_alone(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
    images = pictures(3)
    before = images.clone()
    function(images, torch.full((3, 1), 0.3))
    colour.hue(images, colour.shifted_primaries(torch.full((3,), 0.3)))
    assert torch.equal(images, before)
