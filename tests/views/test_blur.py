from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage  # type: ignore[import-untyped]
from torchvision.transforms.v2 import functional as tv

from simclr_lightning.views.blur import gaussian_blur


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
