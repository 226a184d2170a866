from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from tests.views.reference import reference_view
from torch.utils._python_dispatch import TorchDispatchMode

from simclr_lightning.errors import InputError
from simclr_lightning.views import engine as engine_module
from simclr_lightning.views import whole_batch
from simclr_lightning.views.batch import Crops, ImageBatch
from simclr_lightning.views.draw import draw_parameters
from simclr_lightning.views.engine import ViewEngine, check_channels, clean, make_views
from simclr_lightning.views.recipe import ViewRecipe

# No operation at all: what each test switches on is all that happens.
PLAIN = ViewRecipe(size=24, crop=0.0, flip=0.0, jitter=0.0, grey=0.0, blur=0.0)
NUMBER = 12
OPERATIONS = {
    "crop": dataclasses.replace(PLAIN, crop=1.0),
    "crop, bilinear": dataclasses.replace(PLAIN, crop=1.0, interpolation="bilinear"),
    "enlarging crop": dataclasses.replace(PLAIN, size=80, crop=1.0),
    "flip": dataclasses.replace(PLAIN, flip=0.5),
    "rotation": dataclasses.replace(PLAIN, rotation=40.0),
    "brightness": dataclasses.replace(PLAIN, jitter=0.8, contrast=0.0, saturation=0.0, hue=0.0),
    "additive brightness": dataclasses.replace(
        PLAIN, jitter=0.8, contrast=0.0, saturation=0.0, hue=0.0, additive_brightness=True
    ),
    "contrast": dataclasses.replace(PLAIN, jitter=0.8, brightness=0.0, saturation=0.0, hue=0.0),
    "saturation": dataclasses.replace(PLAIN, jitter=0.8, brightness=0.0, contrast=0.0, hue=0.0),
    "hue": dataclasses.replace(PLAIN, jitter=0.8, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.5),
    "jitter in any order": dataclasses.replace(PLAIN, jitter=0.9),
    "grey": dataclasses.replace(PLAIN, grey=0.5),
    "blur": dataclasses.replace(PLAIN, blur=0.5),
    "noise": dataclasses.replace(PLAIN, noise=0.1),
    "normalisation": dataclasses.replace(PLAIN, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)),
    "all of them": ViewRecipe(size=40, rotation=20.0, noise=0.05, blur=0.8, mean=(0.4, 0.5, 0.6), std=(0.5, 0.6, 0.7)),
    "cifar10": ViewRecipe("cifar10"),
    "stl10, additive": ViewRecipe("stl10", additive_brightness=True),
}


@pytest.fixture(params=["compiled", "whole batch"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to jitter, grey and blur on a CPU."""
    if request.param == "compiled":
        pytest.importorskip("numba")
    else:
        monkeypatch.setattr(engine_module, "find_spec", lambda name: None)


def batch(channels: int = 3, height: int = 36, width: int = 44, number: int = NUMBER) -> ImageBatch:
    images = torch.randint(0, 256, (number, channels, height, width), dtype=torch.uint8)
    return ImageBatch(images, None, torch.full((number,), -1), torch.arange(100, 100 + number))


def drawn(recipe: ViewRecipe, pictures: ImageBatch, *, seed: int = 0, epoch: int = 0) -> torch.Tensor:
    (views,) = ViewEngine(recipe, seed)(pictures._replace(epoch=epoch))
    return views


def crops_of(recipe: ViewRecipe, pixels: torch.Tensor) -> Crops:
    """Crops as a worker hands them over."""
    size = torch.tensor(pixels.shape[-2:])
    return Crops(pixels, draw_parameters(recipe, torch.arange(pixels.shape[1]), size, seed=0, epoch=0))


def reference(pictures: ImageBatch, recipe: ViewRecipe, seed: int, epoch: int) -> torch.Tensor:
    assert pictures.images is not None
    size = torch.tensor(pictures.images.shape[-2:])
    parameters = draw_parameters(recipe, pictures.indices, size, seed=seed, epoch=epoch)
    number = range(len(pictures.indices))
    rows = [[reference_view(pictures.images[n] / 255, recipe, parameters, view, n) for n in number] for view in (0, 1)]
    return torch.stack([torch.stack(row) for row in rows])


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("name", OPERATIONS)
def test_views_equal_torchvisions_picture_by_picture(name: str) -> None:
    recipe, pictures = OPERATIONS[name], batch()
    views = drawn(recipe, pictures, seed=7, epoch=3)
    assert views.shape == (2, NUMBER, 3, recipe.size, recipe.size)
    assert views.dtype == torch.float32
    torch.testing.assert_close(views, reference(pictures, recipe, 7, 3), atol=3e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"normalisation"}))
def test_every_operation_changes_the_views(name: str) -> None:
    recipe, pictures = OPERATIONS[name], batch()
    plain = dataclasses.replace(PLAIN, size=recipe.size)
    assert not torch.allclose(drawn(recipe, pictures), drawn(plain, pictures), atol=0.01)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("preset", ["grayscale", "digits"])
def test_one_channel_views_equal_torchvisions(preset: str) -> None:
    recipe, pictures = ViewRecipe(preset), batch(1, 28, 28)
    views = drawn(recipe, pictures, epoch=1)
    torch.testing.assert_close(views, reference(pictures, recipe, 0, 1), atol=3e-5, rtol=0)


@pytest.mark.usefixtures("engine")
def test_ready_crops_get_everything_but_crop_and_mirror() -> None:
    recipe = ViewRecipe(size=24, rotation=10.0, noise=0.1)
    crops = torch.randint(0, 256, (2, NUMBER, 3, 24, 24), dtype=torch.uint8)
    indices = torch.arange(NUMBER)
    size = torch.tensor([24, 24])
    parameters = draw_parameters(recipe, indices, size, seed=1, epoch=2)
    (views,) = ViewEngine(recipe)(ImageBatch(None, (Crops(crops, parameters),), indices, indices))
    uncropped = dataclasses.replace(recipe, crop=0.0, flip=0.0)
    parameters = draw_parameters(uncropped, indices, size, seed=1, epoch=2)
    for view in range(2):
        for n in range(NUMBER):
            expected = reference_view(crops[view, n] / 255, uncropped, parameters, view, n)
            torch.testing.assert_close(views[view, n], expected, atol=3e-5, rtol=0)


def test_crops_are_preferred_to_the_evaluation_pictures_beside_them() -> None:
    pictures = batch(3, 24, 24)
    assert pictures.images is not None
    crops = crops_of(PLAIN, pictures.images.flip(0).expand(2, -1, -1, -1, -1))
    both = drawn(PLAIN, pictures._replace(crops=(crops,)))
    torch.testing.assert_close(both, crops.pixels / 255)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    "recipe", [ViewRecipe("cifar10"), ViewRecipe(size=40), ViewRecipe(size=20, noise=0.1, rotation=5.0)]
)
def test_pixels_stay_in_the_unit_range(recipe: ViewRecipe) -> None:
    views = drawn(recipe, batch())
    assert views.min() >= -1e-6
    assert views.max() <= 1 + 1e-6


def test_views_differ_between_pictures_views_epochs_and_seeds() -> None:
    recipe, pictures = ViewRecipe(size=24), batch()
    assert pictures.images is not None
    same = pictures._replace(images=pictures.images[:1].expand(NUMBER, -1, -1, -1))  # one picture, many indices
    views = [drawn(recipe, same, seed=seed, epoch=epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    flat = torch.cat(views).flatten(0, 1).flatten(1)
    distances = torch.cdist(flat, flat) + 1e9 * torch.eye(len(flat))
    assert distances.min() > 0.1


@pytest.mark.usefixtures("engine")
def test_views_are_the_same_after_a_resume_and_for_any_split_and_order_of_the_batch() -> None:
    recipe, pictures = ViewRecipe(size=40, rotation=10.0, noise=0.1), batch()
    assert pictures.images is not None
    whole = drawn(recipe, pictures, seed=4, epoch=6)
    again = drawn(recipe, pictures, seed=4, epoch=6)
    assert torch.equal(whole, again)
    order = torch.randperm(NUMBER)
    for rows in (order[:5], order[5:6], order[6:]):
        part = ImageBatch(pictures.images[rows], None, pictures.targets[rows], pictures.indices[rows])
        torch.testing.assert_close(drawn(recipe, part, seed=4, epoch=6), whole[:, rows], atol=1e-6, rtol=0)


def test_working_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, pictures = ViewRecipe(size=24), batch()
    whole = drawn(recipe, pictures)
    monkeypatch.setattr(whole_batch, "_CACHED", 5 * 2 * 3 * 24 * 24 // torch.get_num_threads())
    torch.testing.assert_close(drawn(recipe, pictures), whole, atol=1e-6, rtol=0)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_no_bit(dtype: torch.dtype) -> None:
    recipe, pictures = ViewRecipe(size=40, rotation=5.0), batch()
    expected = drawn(recipe, pictures)
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(drawn(recipe, pictures), expected)


def test_no_gradient_is_recorded() -> None:
    images = torch.rand(3, 3, 16, 16, requires_grad=True)
    views = drawn(ViewRecipe(size=24), ImageBatch(images, None, torch.zeros(3), torch.arange(3)))
    assert not views.requires_grad


def test_float_pictures_and_the_callers_tensors_are_left_alone() -> None:
    images = torch.rand(NUMBER, 3, 24, 24)
    before = images.clone()
    indices = torch.arange(NUMBER)
    views = drawn(ViewRecipe(size=24), ImageBatch(images, None, indices, indices))
    crops = crops_of(ViewRecipe(size=24), images.expand(2, -1, -1, -1, -1).contiguous())
    drawn(ViewRecipe(size=24, flip=0.0), ImageBatch(None, (crops,), indices, indices))
    assert torch.equal(images, before)
    assert torch.equal(crops.pixels[1], before)
    in_bytes = drawn(ViewRecipe(size=24), ImageBatch((images * 255).byte(), None, indices, indices))
    assert (views - in_bytes).abs().mean() < 0.01


@pytest.mark.usefixtures("engine")
def test_one_picture_is_a_batch() -> None:
    assert drawn(ViewRecipe("cifar10"), batch(number=1)).shape == (2, 1, 3, 32, 32)


@pytest.mark.usefixtures("engine")
def test_no_picture_is_a_batch_too() -> None:
    assert drawn(ViewRecipe("cifar10"), batch(number=0)).shape == (2, 0, 3, 32, 32)


@pytest.mark.usefixtures("engine")
def test_more_channels_work_without_colour() -> None:
    recipe = ViewRecipe(size=24, jitter=0.0, grey=0.0, rotation=5.0)
    assert drawn(recipe, batch(5)).shape == (2, NUMBER, 5, 24, 24)


@pytest.mark.parametrize(
    ("recipe", "channels", "message"),
    [
        (ViewRecipe(), 1, "1 channel, .*set saturation, hue, grey to 0, or take the preset grayscale"),
        (ViewRecipe(saturation=0.0, hue=0.0), 1, "set grey to 0"),
        (ViewRecipe(), 4, "4 channels, .*set saturation, hue, grey to 0, or take the preset multispectral"),
        (ViewRecipe("grayscale", grey=0.1), 2, "2 channels, .*set grey to 0"),
        (ViewRecipe("grayscale", mean=(0.5,), std=(0.2,)), 2, "mean and std have 1 numbers, the pictures 2 channels"),
    ],
)
def test_colour_on_other_channels_names_the_fields_to_change(recipe: ViewRecipe, channels: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        drawn(recipe, batch(channels))


@pytest.mark.parametrize("recipe", [ViewRecipe(jitter=0.0, grey=0.0), ViewRecipe(jitter_strength=0.0, grey=0.0)])
def test_without_jitter_any_number_of_channels_is_right(recipe: ViewRecipe) -> None:
    for channels in (1, 2, 4):
        check_channels(recipe, channels)


def test_crops_of_another_size_are_an_error() -> None:
    crops = crops_of(PLAIN, torch.zeros(2, 3, 3, 20, 24, dtype=torch.uint8))
    with pytest.raises(ValueError, match="The crops have 20 x 24 pixels, the recipe's size is 24"):
        drawn(PLAIN, ImageBatch(None, (crops,), torch.zeros(3), torch.arange(3)))


def test_a_batch_without_pictures_is_an_error() -> None:
    with pytest.raises(ValueError, match="neither crops nor images"):
        drawn(PLAIN, ImageBatch(None, None, torch.zeros(3), torch.arange(3)))


class NoDoubles(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Fails on a float64 tensor away from the host: some accelerators have none."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "meta":
                assert tensor.dtype != torch.float64, func
        return result


@pytest.mark.parametrize("cropped", [False, True])
def test_any_device_works_without_a_look_back_and_without_float64(cropped: bool) -> None:
    """On the meta device a copy to the host, or a size that depends on values, fails; a mask as an index is both."""
    recipe = ViewRecipe(size=24, rotation=5.0, noise=0.1, mean=(0.5,) * 3, std=(0.5,) * 3)
    parameters = draw_parameters(recipe, torch.arange(NUMBER), torch.tensor([36, 44]), seed=0, epoch=0)
    shape = (2, NUMBER, 3, 24, 24) if cropped else (NUMBER, 3, 36, 44)
    with NoDoubles():  # type: ignore[no-untyped-call]
        views = make_views(recipe, parameters, torch.empty(shape, dtype=torch.uint8, device="meta"))
        clean(torch.empty(NUMBER, 3, 36, 44, dtype=torch.uint8, device="meta"), recipe)
    assert views.device.type == "meta"
    assert views.shape == (2, NUMBER, 3, 24, 24)
