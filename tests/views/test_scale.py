from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from simclr_lightning.errors import InputError
from simclr_lightning.views import ImageBatch, ValueRange, ViewEngine, ViewRecipe, centre_view, clean, crop_views
from simclr_lightning.views.scale import DTYPES, early, in_unit_range, limits_of, rows_of, unified

RECIPE = ViewRecipe("imagenet", size=24, jitter=1.0, blur=1.0)
BYTES = torch.randint(256, (6, 3, 40, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def batch(images: Tensor, scale: ValueRange | None = None) -> ImageBatch:
    return ImageBatch(images, None, torch.full((6,), -1), torch.arange(6), epoch=2, scale=scale)


def test_floats_are_copied() -> None:
    floats = torch.rand(3, 4)
    result = in_unit_range(floats)
    assert torch.equal(result, floats)
    assert result.data_ptr() != floats.data_ptr()
    assert in_unit_range(floats.double()).dtype == torch.float32


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_ends_of_a_type_are_black_and_white(dtype: torch.dtype) -> None:
    low, high = limits_of(dtype)
    assert in_unit_range(torch.tensor([[[low, high]]]).to(dtype)).flatten().tolist() == [0.0, 1.0]


def test_what_lies_outside_is_clipped_and_no_number_is_black() -> None:
    values = torch.tensor([-5.0, 10, 15, 20, 1e9, float("inf"), -float("inf"), float("nan")]).view(1, 1, -1)
    assert in_unit_range(values, ValueRange(10, 20)).flatten().tolist() == [0, 0, 0.5, 1, 1, 1, 0, 0]


def test_bands_have_ranges_of_their_own() -> None:
    pictures = torch.tensor([[10, 20], [10, 20], [10, 20]], dtype=torch.int16).view(1, 3, 1, 2)
    scaled = in_unit_range(pictures, ValueRange.of([[0, 10, -30], [40, 20, 10]]))
    assert scaled.view(3, 2).tolist() == [[0.25, 0.5], [0.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize(
    "numbers", [[3, 3], [5, 1], [1], [1, 2, 3], [[1, 2], [3]], ["a", "b"], [0, float("nan")], [[0, 1], [2, 1]], 7]
)
def test_what_is_no_range(numbers: Any) -> None:
    with pytest.raises(InputError, match=r"The scale is .*data\.scale '\[0, 4095\]'") as caught:
        ValueRange.of(numbers)
    assert str(caught.value).count("\n") < 3


def test_a_range_of_other_bands() -> None:
    with pytest.raises(InputError, match="The scale has 2 numbers, the pictures 3 channel"):
        in_unit_range(BYTES, ValueRange.of([[0, 0], [9, 9]]))


@pytest.mark.parametrize("dtype", [torch.uint16, torch.int16, torch.float32])
def test_the_same_values_give_the_same_views_whatever_their_type(dtype: torch.dtype) -> None:
    scale = ValueRange(0, 255)
    engine = ViewEngine(RECIPE, seed=3, scale=scale)
    (expected,) = engine(batch(BYTES))
    (found,) = engine(batch(BYTES.to(dtype)))
    assert torch.equal(found, expected)
    assert torch.equal(ViewEngine(RECIPE, seed=3)(batch(BYTES.to(dtype), scale))[0], expected)
    assert torch.allclose(ViewEngine(RECIPE, seed=3)(batch(BYTES))[0], expected, atol=1e-5)  # bytes by their range
    assert torch.equal(clean(BYTES.to(dtype), RECIPE, scale), clean(BYTES, RECIPE, scale))


@pytest.mark.parametrize("dtype", [torch.uint16, torch.int16, torch.float32])
def test_the_same_values_give_the_same_crops_in_workers(dtype: torch.dtype) -> None:
    options: dict[str, Any] = {"recipes": [RECIPE], "indices": torch.arange(6), "seed": 3, "epoch": 2}
    scale = ValueRange(0, 255)
    (expected,) = crop_views(list(BYTES), scale=scale, **options)
    (found,) = crop_views(list(BYTES.to(dtype)), scale=scale, **options)
    assert torch.equal(found.pixels, expected.pixels)
    gentle = BYTES // 4 + 96  # no filter leaves their range: bytes are clipped after each direction
    (rounded,), (exact,) = (crop_views(list(own), **options) for own in (gentle, gentle.float() / 255))
    assert rounded.pixels.dtype == torch.uint8
    assert (exact.pixels - rounded.pixels / 255).abs().max() <= 1.1 / 255  # and rounded
    assert torch.equal(centre_view(BYTES[0].to(dtype), RECIPE, scale), centre_view(BYTES[0], RECIPE, scale))


def test_crops_of_workers_are_those_of_the_device() -> None:
    pictures, scale = (BYTES.int() * 9).to(torch.uint16), ValueRange(100, 2000)
    plain = ViewRecipe(size=24, jitter=0.0, grey=0.0, blur=0.0)
    crops = crop_views(list(pictures), [plain], torch.arange(6), seed=3, epoch=2, scale=scale)
    (from_workers,) = ViewEngine(plain, 3)(ImageBatch(None, crops, torch.zeros(6), torch.arange(6), 2))
    (on_device,) = ViewEngine(plain, 3)(batch(pictures, scale))
    assert torch.allclose(from_workers, on_device, atol=1e-5)


def test_a_dead_pixel_does_not_spread() -> None:
    picture = torch.full((1, 1, 33, 33), 1000, dtype=torch.uint16)
    picture[0, 0, 16, 16] = 65535
    view = clean(picture, ViewRecipe("grayscale", size=66), ValueRange(0, 2000))
    assert view.max() <= 1
    assert view.min() > 0.4  # 1000 of 2000, and the overshoot of a filter that has seen 2000, not 65,535
    assert torch.allclose(view[..., :28], torch.tensor(0.5), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int16, torch.float32])
def test_13_bands_keep_their_values(dtype: torch.dtype) -> None:
    values = torch.randint(0, 200, (2, 13, 20, 20))
    recipe = ViewRecipe(size=20, eval_crop=1.0, jitter=0.0, grey=0.0)
    scale, expected = ValueRange(0, 200), values.float() / 200
    assert torch.equal(clean(values.to(dtype), recipe, scale), expected)
    assert torch.equal(centre_view(values[0].to(dtype), recipe, scale), expected[0])
    (views,) = ViewEngine(recipe)(ImageBatch(values.to(dtype), None, torch.zeros(2), torch.arange(2), 0, scale=scale))
    assert views.shape == (2, 2, 13, 20, 20)
    assert (views.min() >= 0) & (views.max() <= 1)


def test_bytes_among_other_numbers() -> None:
    gentle = BYTES // 4 + 96
    mixed = [gentle[0], (gentle[1].int() * 257).to(torch.uint16)]
    (crops,) = crop_views(mixed, [RECIPE], torch.arange(2), seed=3, epoch=2)
    (whole,) = crop_views(list(gentle[:2]), [RECIPE], torch.arange(2), seed=3, epoch=2)
    assert crops.pixels.dtype == torch.float32
    assert (crops.pixels - whole.pixels / 255).abs().max() <= 1.1 / 255
    assert [picture.dtype for picture in unified([BYTES[0], torch.rand(3, 4, 4)])] == [torch.float32] * 2
    assert unified(list(BYTES[:2]))[1].dtype == torch.uint8


def test_floats_are_scaled_before_a_trainer_can_round_them() -> None:
    scale = ValueRange(0, 4)
    assert early(torch.full((1, 1, 1, 1), 2.0), scale)[1] is None
    images, left = early(torch.ones(1, 1, 1, 1, dtype=torch.uint16), scale)
    assert (images.dtype, left) == (torch.uint16, scale)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows(dtype: torch.dtype) -> None:
    images = torch.arange(12).view(3, 1, 2, 2).to(dtype)
    assert torch.equal(rows_of(images, torch.tensor([2, 0])), torch.stack([images[2], images[0]]))
