from __future__ import annotations

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from simclr_lightning.views.rotation import rotate


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
