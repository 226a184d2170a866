from __future__ import annotations

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from simclr_lightning.views.whole_batch import Filter, crop_resize, resampling_weights

BOXES = [
    (0, 0, 40, 56),  # all of it
    (3, 5, 11, 9),  # grows
    (0, 20, 40, 36),  # touches two ends
    (39, 55, 1, 1),  # one pixel
    (7, 0, 2, 56),  # two rows, all columns
    (1, 2, 16, 16),
    (10, 10, 29, 3),
]


def torchvisions(picture: torch.Tensor, box: tuple[int, ...], size: int, interpolation: Filter) -> torch.Tensor:
    top, left, tall, wide = box
    mode = InterpolationMode(interpolation)
    result: torch.Tensor = tv.resized_crop(picture, top, left, tall, wide, [size, size], mode, antialias=True)
    return result.clamp(0, 1)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [8, 16, 24, 80])
def test_crops_equal_torchvisions_antialiased_resize_up_and_down(size: int, interpolation: Filter) -> None:
    pictures = torch.rand(len(BOXES), 3, 40, 56)
    boxes = torch.tensor([BOXES, BOXES[::-1]])
    flip = torch.rand(boxes.shape[:2]) < 0.5
    ours = crop_resize(pictures, boxes, flip, size, interpolation)
    assert ours.shape == (2, len(BOXES), 3, size, size)
    assert ours.is_contiguous()
    for view, order in enumerate((BOXES, BOXES[::-1])):
        for n, box in enumerate(order):
            expected = torchvisions(pictures[n], box, size, interpolation)
            expected = expected.flip(-1) if flip[view, n] else expected
            torch.testing.assert_close(ours[view, n], expected, atol=5e-6, rtol=0, msg=f"{box}, view {view}")


def test_large_pictures_shrink_as_in_torchvision() -> None:
    pictures = torch.rand(2, 3, 301, 427)
    boxes = torch.tensor([[(0, 0, 301, 427), (13, 29, 250, 333)]])
    ours = crop_resize(pictures, boxes, torch.zeros(1, 2, dtype=torch.bool), 32, "bicubic")
    for n, box in enumerate(boxes[0].tolist()):
        torch.testing.assert_close(ours[0, n], torchvisions(pictures[n], box, 32, "bicubic"), atol=1e-5, rtol=0)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_bytes_are_scaled_to_the_unit_range(channels: int) -> None:
    pictures = torch.randint(0, 256, (2, channels, 20, 20), dtype=torch.uint8)
    boxes = torch.tensor([[(2, 3, 9, 10), (0, 0, 20, 20)]])
    flip = torch.zeros(1, 2, dtype=torch.bool)
    from_bytes = crop_resize(pictures, boxes, flip, 12, "bicubic")
    torch.testing.assert_close(from_bytes, crop_resize(pictures / 255, boxes, flip, 12, "bicubic"), atol=1e-6, rtol=0)
    assert from_bytes.dtype == torch.float32


def test_the_whole_picture_at_its_own_size_is_unchanged() -> None:
    pictures = torch.rand(3, 3, 24, 24)
    boxes = torch.tensor([0, 0, 24, 24]).expand(1, 3, 4)
    interpolation: Filter
    for interpolation in ("bicubic", "bilinear"):
        result = crop_resize(pictures, boxes, torch.zeros(1, 3, dtype=torch.bool), 24, interpolation)[0]
        torch.testing.assert_close(result, pictures, atol=1e-6, rtol=0)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_weights_sum_to_one_and_vanish_outside_the_crop(interpolation: Filter) -> None:
    start, length = torch.tensor([0.0, 5, 30, 39]), torch.tensor([40.0, 17, 10, 1])
    weights = resampling_weights(start, length, torch.tensor([False, True, False, True]), 40, 16, interpolation)
    assert weights.shape == (4, 16, 40)
    torch.testing.assert_close(weights.sum(-1), torch.ones(4, 16))
    pixel = torch.arange(40)
    outside = (pixel < start[:, None]) | (pixel >= (start + length)[:, None])
    assert (weights.abs().amax(1)[outside] == 0).all()


def test_overshoot_of_the_bicubic_filter_is_clamped() -> None:
    edge = torch.zeros(1, 1, 8, 8)
    edge[..., 4:] = 1
    boxes = torch.tensor([[(0, 0, 8, 8)]])
    result = crop_resize(edge, boxes, torch.zeros(1, 1, dtype=torch.bool), 32, "bicubic")
    raw = tv.resize(edge, [32, 32], InterpolationMode.BICUBIC, antialias=True)
    assert raw.max() > 1.01
    assert result.min() == 0
    assert result.max() == 1
