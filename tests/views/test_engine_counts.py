"""Any number of views, several recipes, and every number drawn once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from simclr_lightning.errors import InputError
from simclr_lightning.views import draw
from simclr_lightning.views import engine as engine_module
from simclr_lightning.views.batch import Crops, ImageBatch
from simclr_lightning.views.engine import ViewEngine
from simclr_lightning.views.recipe import ViewRecipe
from simclr_lightning.views.workers import crop_views

NUMBER = 6
INDICES = torch.tensor([40, 2, 33, 7, 5, 91])
EVERYTHING: dict[str, Any] = {
    "size": 24,
    "rotation": 20.0,
    "noise": 0.05,
    "blur": 0.8,
    "mean": (0.5,) * 3,
    "std": (0.4,) * 3,
}


@pytest.fixture(params=["compiled", "whole batch"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to jitter, grey and blur on a CPU."""
    if request.param == "compiled":
        pytest.importorskip("numba")
    else:
        monkeypatch.setattr(engine_module, "find_spec", lambda name: None)
    return str(request.param)


def pictures() -> ImageBatch:
    images = torch.randint(0, 256, (NUMBER, 3, 40, 50), dtype=torch.uint8)
    return ImageBatch(images, None, torch.full((NUMBER,), -1), INDICES, epoch=2)


def cropped(recipes: list[ViewRecipe]) -> ImageBatch:
    """A batch of pictures of different sizes, as a worker hands it over."""
    sources = [torch.randint(0, 256, (3, 30 + 5 * n, 60 - 3 * n), dtype=torch.uint8) for n in range(NUMBER)]
    return ImageBatch(None, crop_views(sources, recipes, INDICES, seed=1, epoch=2), torch.zeros(NUMBER), INDICES, 2)


@pytest.mark.usefixtures("engine")
def test_two_views_never_change_between_releases() -> None:
    rows, columns, channels = torch.arange(40)[:, None], torch.arange(50), torch.arange(3)[:, None, None]
    pattern = rows * rows * (channels + 1) + 3 * columns * (channels + 2) + rows * columns
    images = torch.stack([(17 * n + pattern) % 256 for n in range(3)]).byte()
    indices = torch.tensor([4, 0, 9])
    (views,) = ViewEngine(ViewRecipe(**EVERYTHING), seed=3)(ImageBatch(images, None, indices, indices, epoch=5))
    means = torch.tensor([[0.76299, 0.1887, -0.10038], [0.41754, -0.0118, -0.47891]])
    deviations = torch.tensor([[0.19106, 0.35564, 0.57331], [0.25963, 0.17347, 0.18555]])
    torch.testing.assert_close(views.mean((2, 3, 4)), means, atol=2e-5, rtol=0)
    torch.testing.assert_close(views.std((2, 3, 4)), deviations, atol=2e-5, rtol=0)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_view_is_the_same_whatever_the_count(count: int) -> None:
    batch = pictures()
    (six,) = ViewEngine(ViewRecipe(**EVERYTHING, count=6), seed=1)(batch)
    (views,) = ViewEngine(ViewRecipe(**EVERYTHING, count=count), seed=1)(batch)
    assert views.shape == (count, NUMBER, 3, 24, 24)
    torch.testing.assert_close(views, six[:count], atol=1e-6, rtol=0)


@pytest.mark.usefixtures("engine")
def test_a_single_view_is_the_first_one_to_the_last_bit() -> None:
    batch = pictures()
    (both,) = ViewEngine(ViewRecipe(**EVERYTHING), seed=1)(batch)
    (single,) = ViewEngine(ViewRecipe(**EVERYTHING, count=1), seed=1)(batch)
    assert torch.equal(single, both[:1])


@pytest.mark.usefixtures("engine")
def test_no_picture_is_a_batch_of_any_number_of_views() -> None:
    images = torch.empty(0, 3, 40, 50, dtype=torch.uint8)
    nothing = torch.empty(0, dtype=torch.int64)
    (views,) = ViewEngine(ViewRecipe("cifar10", count=3))(ImageBatch(images, None, nothing, nothing))
    assert views.shape == (3, 0, 3, 32, 32)


@pytest.mark.usefixtures("engine")
def test_views_of_several_recipes_are_counted_on() -> None:
    batch = pictures()
    (six,) = ViewEngine(ViewRecipe(**EVERYTHING, count=6), seed=1)(batch)
    recipes = [ViewRecipe(**EVERYTHING, count=2), ViewRecipe("cifar10", count=1), ViewRecipe(**EVERYTHING, count=3)]
    first, second, third = ViewEngine(recipes, seed=1)(batch)
    torch.testing.assert_close(first, six[:2], atol=1e-6, rtol=0)
    assert second.shape == (1, NUMBER, 3, 32, 32)
    torch.testing.assert_close(third, six[3:], atol=1e-6, rtol=0)


def test_all_views_of_a_picture_differ() -> None:
    (views,) = ViewEngine(ViewRecipe(size=24, count=8))(pictures())
    flat = views.flatten(0, 1).flatten(1)
    distances = torch.cdist(flat, flat) + 1e9 * torch.eye(len(flat))
    assert distances.min() > 0.1


def test_without_an_epoch_no_views_are_drawn() -> None:
    assert ViewEngine(ViewRecipe())(pictures()._replace(epoch=None)) == ()


class Counted:
    """``draw.uniforms`` that notes which views it drew for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.views: list[int] = []
        self.uniforms = draw.uniforms
        monkeypatch.setattr(draw, "uniforms", self)

    def __call__(self, *args: Any, views: Any = (0, 1)) -> Tensor:
        self.views += views
        return self.uniforms(*args, views=views)


@pytest.mark.parametrize("counts", [[2], [3], [2, 4], [1, 1, 1]])
@pytest.mark.parametrize("by_worker", [False, True])
def test_the_numbers_of_a_view_are_drawn_once(
    counts: list[int], by_worker: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch)
    recipes = [ViewRecipe(size=24, count=count) for count in counts]
    batch = cropped(recipes) if by_worker else pictures()
    if by_worker:
        assert counted.views == list(range(sum(counts)))
    ViewEngine(recipes, seed=1)(batch)
    assert counted.views == list(range(sum(counts)))


@pytest.mark.usefixtures("engine")
def test_what_a_worker_drew_is_carried_out_whatever_the_engines_seed_and_the_batchs_epoch() -> None:
    recipe = ViewRecipe(**EVERYTHING)
    batch = cropped([recipe])
    (views,) = ViewEngine(recipe, seed=1)(batch)
    (others,) = ViewEngine(recipe, seed=8)(batch._replace(epoch=9))
    assert torch.equal(views, others)


@pytest.mark.usefixtures("engine")
def test_crops_are_not_mirrored_a_second_time() -> None:
    recipe = ViewRecipe(size=24, flip=1.0, jitter=0.0, grey=0.0, blur=0.0)
    batch = cropped([recipe])
    assert batch.crops is not None
    (views,) = ViewEngine(recipe, seed=1)(batch)
    assert batch.crops[0].parameters.flip.all()
    torch.testing.assert_close(views, batch.crops[0].pixels / 255, atol=1e-6, rtol=0)


def test_crops_of_a_worker_are_finished_as_whole_pictures_are_up_to_bytes() -> None:
    recipe = ViewRecipe(size=24, rotation=10.0, count=3)
    batch = pictures()
    assert batch.images is not None
    crops = crop_views(list(batch.images), [recipe], INDICES, seed=1, epoch=2)
    (whole,) = ViewEngine(recipe, seed=1)(batch)
    (finished,) = ViewEngine(recipe, seed=1)(batch._replace(images=None, crops=crops))
    assert (whole - finished).abs().mean() < 0.01


def test_crops_for_other_recipes_are_an_error() -> None:
    recipes = [ViewRecipe(size=24), ViewRecipe(size=24, count=3)]
    batch = cropped(recipes)
    assert batch.crops is not None
    with pytest.raises(ValueError, match=r"made for \[2, 3\] views.*want \[2\]"):
        ViewEngine(recipes[0])(batch)
    with pytest.raises(ValueError, match=r"made for \[2, 3\] views.*want \[3, 2\]"):
        ViewEngine(recipes[::-1])(batch)
    shorter = Crops(batch.crops[0].pixels[:, :-1], batch.crops[0].parameters)
    with pytest.raises(ValueError, match=r"crops of 2 x 5 views, but parameters of 2 x 6"):
        ViewEngine(recipes[0])(batch._replace(crops=(shorter,)))


def test_no_recipe_is_an_error() -> None:
    with pytest.raises(InputError, match="list of view recipes is empty"):
        ViewEngine([])
