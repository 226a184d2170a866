from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from simclr_lightning.views.draw import draw_parameters
from simclr_lightning.views.recipe import ViewRecipe
from simclr_lightning.views.workers import centre_view, crop_views


def picture(height: int, width: int, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(height * width)
    return torch.randint(0, 256, (height, width, channels), generator=generator, dtype=torch.uint8).permute(2, 0, 1)


def cropped(pictures: list[Tensor], recipe: ViewRecipe, indices: list[int], seed: int = 0, epoch: int = 0) -> Tensor:
    (crops,) = crop_views(pictures, [recipe], torch.tensor(indices), seed=seed, epoch=epoch)
    return crops.pixels


def pillows_crop(source: Tensor, box: list[int], size: int, interpolation: str) -> Tensor:
    mode = InterpolationMode(interpolation)
    crop: Tensor = tv.pil_to_tensor(tv.resized_crop(tv.to_pil_image(source), *box, [size, size], mode))
    return crop


def assert_same_up_to_rounding(actual: Tensor, expected: Tensor) -> None:
    """Both round to bytes after each direction, in another order: at most two grey levels, nearly always none."""
    assert actual.dtype == expected.dtype == torch.uint8
    difference = (actual.int() - expected.int()).abs()
    assert difference.max() <= 2
    assert difference.double().mean() < 0.1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [24, 64, 224])
def test_crops_are_pillows_with_the_drawn_boxes_and_mirrors(size: int, interpolation: str, channels: int) -> None:
    recipe = ViewRecipe(size=size, interpolation=interpolation)  # type: ignore[arg-type]
    pictures = [picture(75, 101, channels), picture(20, 33, channels), picture(200, 150, channels)]
    indices = torch.tensor([77, 3, 5])
    (own,) = crop_views(pictures, [recipe], indices, seed=3, epoch=5)
    crops, parameters = own.pixels, own.parameters
    assert crops.shape == (2, 3, channels, size, size)
    sizes = torch.tensor([source.shape[1:] for source in pictures])
    drawn = draw_parameters(recipe, indices, sizes, seed=3, epoch=5)
    assert all(torch.equal(ours, expected) for ours, expected in zip(parameters, drawn, strict=True))
    assert 0 < parameters.flip.sum() < 6
    for view in (0, 1):
        for n, source in enumerate(pictures):
            expected = pillows_crop(source, parameters.boxes[view, n].tolist(), size, interpolation)
            assert_same_up_to_rounding(crops[view, n], expected.flip(-1) if parameters.flip[view, n] else expected)


def test_crops_change_with_seed_epoch_index_and_view_and_not_otherwise() -> None:
    source, recipe = [picture(90, 120)], ViewRecipe(size=24)
    base = cropped(source, recipe, [0])
    assert torch.equal(base, cropped(source, recipe, [0]))
    assert not torch.equal(base[0], base[1])
    for index, seed, epoch in ((0, 1, 0), (0, 0, 1), (1, 0, 0)):
        assert not torch.equal(base, cropped(source, recipe, [index], seed, epoch))


def test_a_picture_has_the_same_crops_in_any_company() -> None:
    sources, recipe = [picture(90, 120), picture(50, 40), picture(33, 70)], ViewRecipe(size=24)
    together = cropped(sources, recipe, [4, 9, 2])
    assert torch.equal(together[:, 1:2], cropped(sources[1:2], recipe, [9]))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_crop_is_the_same_however_many_are_drawn(count: int) -> None:
    sources = [picture(30, 40), picture(50, 20)]
    six = cropped(sources, ViewRecipe(size=16, count=6), [0, 1], 1, 2)
    assert torch.equal(cropped(sources, ViewRecipe(size=16, count=count), [0, 1], 1, 2), six[:count])


def test_crops_of_several_recipes_are_counted_on() -> None:
    sources, indices = [picture(30, 40), picture(50, 20)], torch.tensor([8, 5])
    six = cropped(sources, ViewRecipe(size=16, count=6), [8, 5])
    recipes = [ViewRecipe(size=16, count=2), ViewRecipe(size=24, count=1), ViewRecipe(size=16, count=3)]
    first, second, third = crop_views(sources, recipes, indices, seed=0, epoch=0)
    assert torch.equal(first.pixels, six[:2])
    assert second.pixels.shape == (1, 2, 3, 24, 24)
    assert torch.equal(third.pixels, six[3:])


def test_the_memory_order_of_a_picture_does_not_matter() -> None:
    source, recipe = picture(90, 120), ViewRecipe(size=24)
    assert torch.equal(cropped([source.contiguous()], recipe, [0]), cropped([source], recipe, [0]))


@pytest.mark.parametrize(("height", "width", "side"), [(256, 256, 224), (300, 500, 262), (480, 320, 280), (40, 40, 35)])
def test_centre_view_above_32_pixels_is_the_official_central_crop(height: int, width: int, side: int) -> None:
    source = picture(height, width)
    result = centre_view(source, ViewRecipe())
    assert result.shape == (3, 224, 224)
    box = [(height - side) // 2, (width - side) // 2, side, side]
    assert_same_up_to_rounding(result, pillows_crop(source, box, 224, "bicubic"))


def test_centre_view_has_the_evaluation_size_and_its_rule() -> None:
    source = picture(64, 64)
    assert torch.equal(centre_view(source, ViewRecipe(size=20, eval_size=64)), centre_view(source, ViewRecipe(size=64)))
    assert torch.equal(centre_view(source, ViewRecipe(size=64, eval_size=32)), centre_view(source, ViewRecipe(size=32)))


@pytest.mark.parametrize(("eval_crop", "side"), [(1.0, 80), (0.5, 40)])
def test_centre_view_keeps_the_share_that_is_asked_for(eval_crop: float, side: int) -> None:
    source = picture(80, 100)
    result = centre_view(source, ViewRecipe(size=64, eval_crop=eval_crop))
    assert_same_up_to_rounding(
        result, pillows_crop(source, [(80 - side) // 2, (100 - side) // 2, side, side], 64, "bicubic")
    )


def test_centre_view_keeps_224_of_256_pixels() -> None:
    source = picture(256, 256)
    assert torch.equal(centre_view(source, ViewRecipe()), source[:, 16:240, 16:240])


def test_centre_view_up_to_32_pixels_keeps_the_whole_square() -> None:
    small = picture(32, 32)
    assert torch.equal(centre_view(small, ViewRecipe("cifar10")), small)
    wide = picture(28, 40, 1)
    assert_same_up_to_rounding(
        centre_view(wide, ViewRecipe(size=32)), pillows_crop(wide, [0, 6, 28, 28], 32, "bicubic")
    )


def test_a_picture_of_one_pixel_works() -> None:
    source = picture(1, 1)
    assert (cropped([source], ViewRecipe(size=48), [0]) == source[:, :1, :1]).all()
    assert (centre_view(source, ViewRecipe(size=48)) == source).all()
