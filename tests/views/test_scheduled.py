from __future__ import annotations

import pytest
import torch

from simclr_lightning.errors import InputError
from simclr_lightning.views import (
    VALIDATION_EPOCH,
    ImageBatch,
    ScheduledRecipe,
    ViewEngine,
    ViewRecipe,
    crop_views,
)

RECIPE = ViewRecipe("cifar10", size=24, eval_size=32, mean=(0.5,) * 3, std=(0.2,) * 3, count=3)
SCHEDULED = ScheduledRecipe.of(RECIPE, [12, 16, 24])


def test_nothing_but_the_size_changes() -> None:
    for epoch, size in enumerate([12, 16, 24, 24, 24]):
        values = {name: getattr(RECIPE, name) for name in RECIPE.__dataclass_fields__}
        assert SCHEDULED.at(epoch) == ViewRecipe(**{**values, "size": size})
    assert SCHEDULED.at(VALIDATION_EPOCH) == RECIPE
    assert RECIPE.at(0) is RECIPE


def test_a_schedule_takes_the_place_of_another() -> None:
    assert ScheduledRecipe.of(SCHEDULED, [20]).at(0).size == 20


@pytest.mark.parametrize("sizes", [[], [0], [12, 25]])
def test_sizes_out_of_range(sizes: list[int]) -> None:
    with pytest.raises(InputError, match="from 1 to 24"):
        ScheduledRecipe.of(RECIPE, sizes)


@pytest.mark.parametrize("epoch", [0, 1, 2, VALIDATION_EPOCH])
def test_engine_and_workers_draw_the_views_of_a_recipe_of_that_size(epoch: int) -> None:
    images, indices = torch.randint(256, (4, 3, 30, 30), dtype=torch.uint8), torch.arange(4)
    whole = ImageBatch(images, None, torch.full((4,), -1), indices, epoch)
    (views,) = ViewEngine(SCHEDULED, seed=5)(whole)
    (expected,) = ViewEngine(SCHEDULED.at(epoch), seed=5)(whole)
    assert torch.equal(views, expected)
    crops = crop_views(list(images), [SCHEDULED], indices, seed=5, epoch=epoch)
    assert torch.equal(
        crops[0].pixels, crop_views(list(images), [SCHEDULED.at(epoch)], indices, seed=5, epoch=epoch)[0].pixels
    )
    (finished,) = ViewEngine(SCHEDULED, seed=5)(whole._replace(images=None, crops=crops))
    assert finished.shape == views.shape
