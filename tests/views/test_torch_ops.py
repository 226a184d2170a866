from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage, stats  # type: ignore[import-untyped]
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from simclr_lightning.views import torch_ops
from simclr_lightning.views.draw import view_keys
from simclr_lightning.views.normalisation import normalise_
from simclr_lightning.views.recipe import ViewRecipe
from simclr_lightning.views.torch_ops import gaussian_blur, pixel_noise, rotate


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
        (torch_ops.brightness, tv.adjust_brightness),
        (torch_ops.contrast, tv.adjust_contrast),
        (torch_ops.saturation, tv.adjust_saturation),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_factors_do_what_torchvisions_do(
    ours: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    theirs: Callable[[torch.Tensor, float], torch.Tensor],
    channels: int,
) -> None:
    if ours is torch_ops.saturation and channels == 1:
        channels = 3  # no saturation without colour: the engine refuses it
    images = pictures()[:, :channels]
    factors = torch.linspace(0, 2.5, 40)[:, None]
    torch.testing.assert_close(ours(images, factors), each(theirs, images, factors), atol=1e-6, rtol=0)


def test_hue_equals_torchvisions_way_through_hsv() -> None:
    images, turns = pictures(), torch.linspace(-0.5, 0.5, 40)[:, None]
    shifted = torch_ops.hue(images, torch_ops.shifted_primaries(turns[:, 0]))
    torch.testing.assert_close(shifted, each(tv.adjust_hue, images, turns), atol=3e-6, rtol=0)


def test_hue_equals_the_standard_librarys_colorsys() -> None:
    images, turns = pictures(6), torch.tensor([-0.5, -0.3, -0.01, 0.0, 0.2, 0.5])
    shifted = torch_ops.hue(images, torch_ops.shifted_primaries(turns))
    for image, result, turn in zip(images, shifted, turns.tolist(), strict=True):
        for pixel, after in zip(image.flatten(1).T.tolist(), result.flatten(1).T.tolist(), strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
            assert after == pytest.approx(colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value), abs=1e-6)


def test_hue_shifts_by_thirds_permute_the_channels() -> None:
    images = pictures(2)
    shifted = torch_ops.hue(images, torch_ops.shifted_primaries(torch.tensor([1 / 3, -1 / 3])))
    torch.testing.assert_close(shifted[0], images[0].roll(1, 0), atol=1e-6, rtol=0)
    torch.testing.assert_close(shifted[1], images[1].roll(-1, 0), atol=1e-6, rtol=0)


def test_shifted_primaries_stay_within_half_a_turn() -> None:
    primaries = torch_ops.shifted_primaries(torch.linspace(-0.5, 0.5, 101))
    assert primaries.shape == (101, 3)
    assert primaries.abs().max() <= 3


def test_additive_brightness_adds_and_clamps() -> None:
    images = torch.tensor([0.1, 0.5, 0.9]).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    brighter = torch_ops.additive_brightness(images, torch.tensor([[-0.3], [0.25], [0.4]]))
    torch.testing.assert_close(brighter[:, 0, 0, 0], torch.tensor([0.0, 0.75, 1.0]))


def test_grey_equals_torchvisions_with_three_channels() -> None:
    images = pictures()
    expected = tv.rgb_to_grayscale(images, num_output_channels=3)
    torch.testing.assert_close(torch_ops.grey(images, torch.empty(40, 0)), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "function", [torch_ops.brightness, torch_ops.contrast, torch_ops.saturation, torch_ops.additive_brightness]
)
def test_inputs_are_left_alone(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
    images = pictures(3)
    before = images.clone()
    function(images, torch.full((3, 1), 0.3))
    torch_ops.hue(images, torch_ops.shifted_primaries(torch.full((3,), 0.3)))
    assert torch.equal(images, before)


@pytest.mark.parametrize(("size", "kernel"), [(224, 23), (96, 9), (64, 7), (32, 3), (33, 3), (20, 1), (12, 23)])
@pytest.mark.parametrize("channels", [1, 3])
def test_blur_equals_torchvisions_with_the_same_kernel_and_sigma(size: int, kernel: int, channels: int) -> None:
    images = torch.rand(4, channels, size, size)
    sigma = torch.tensor([[0.1], [0.5], [1.3], [2.0]])
    blurred = gaussian_blur(images, sigma, kernel)
    for image, ours, own in zip(images, blurred, sigma[:, 0].tolist(), strict=True):
        theirs = tv.gaussian_blur(image, [kernel, kernel], [own, own])
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=0)


def test_pictures_need_not_be_square() -> None:
    images = torch.rand(2, 3, 40, 70)
    blurred = gaussian_blur(images, torch.tensor([[1.0], [1.0]]), 9)
    torch.testing.assert_close(blurred, tv.gaussian_blur(images, [9, 9], [1.0, 1.0]), atol=2e-6, rtol=0)


def test_a_wide_kernel_is_scipys_gaussian_filter() -> None:
    image = torch.rand(48, 48, dtype=torch.float64)
    expected = ndimage.gaussian_filter(image.numpy(), 1.5, mode="mirror", radius=11)
    blurred = gaussian_blur(image[None, None], torch.tensor([[1.5]], dtype=torch.float64), 23)[0, 0]
    np.testing.assert_allclose(blurred.numpy(), expected, atol=1e-8)


def test_no_product_has_a_denormal_factor() -> None:
    """Denormal weights made the blur of a small sigma several times slower than that of a large one."""
    impulse = torch.zeros(1, 1, 64, 64)
    impulse[..., 32, 32] = 1
    response = gaussian_blur(impulse, torch.tensor([[0.6]]), 23)
    assert response[response > 0].min() > 1e-20


@pytest.mark.parametrize("size", [8, 16, 33])
def test_rotation_equals_torchvisions_with_black_outside(size: int) -> None:
    images = torch.rand(9, 2, size, size)
    degrees = torch.tensor([-180.0, -91.5, -45, -3, 0.25, 10, 30, 89, 135])
    rotated = rotate(images, degrees)
    for image, ours, angle in zip(images, rotated, degrees.tolist(), strict=True):
        theirs = tv.rotate(image, angle, InterpolationMode.BILINEAR)
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_a_quarter_turn_is_counter_clockwise() -> None:
    images = torch.rand(1, 1, 10, 10)
    torch.testing.assert_close(rotate(images, torch.tensor([90.0])), images.rot90(1, (2, 3)), atol=1e-5, rtol=0)


def test_pixel_noise_is_standard_normal_and_differs_between_pictures() -> None:
    noise = pixel_noise(view_keys(0, 0, torch.arange(8)).flatten(), (3, 32, 32))
    assert noise.shape == (16, 3, 32, 32)
    assert noise.dtype == torch.float32
    assert noise.isfinite().all()
    assert stats.kstest(noise.flatten().double().numpy(), "norm").pvalue > 0.01
    correlation = np.corrcoef(noise.flatten(1).numpy()) - np.eye(16)
    assert np.abs(correlation).max() < 5 / (3 * 32 * 32) ** 0.5


def test_normalising_another_number_of_channels_is_an_error() -> None:
    recipe = ViewRecipe(mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="mean and std have 3 numbers, the pictures 1 channels"):
        normalise_(torch.rand(2, 1, 4, 4), recipe)
