"""One side stays as it is; the other starts from the same crop and shares no random number with it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from simclr_lightning.ablation import OPERATIONS, AblationDataModule, OneSidedViews
from simclr_lightning.ablation.one_sided import shorter_side
from simclr_lightning.ablation.operations import Draw, operate
from simclr_lightning.data import BadPictureError, InMemoryPictures
from simclr_lightning.views import ImageBatch, ViewBatch, ViewEngine, ViewRecipe, crop_views, draw_parameters

NUMBER = 10
RECIPE = ViewRecipe(size=20)


@pytest.fixture
def batch() -> ImageBatch:
    images = torch.randint(0, 256, (NUMBER, 3, 30, 36), dtype=torch.uint8)
    return ImageBatch(images, None, torch.full((NUMBER,), -1), torch.arange(NUMBER), epoch=1)


def plain(batch: ImageBatch, recipe: ViewRecipe = RECIPE) -> torch.Tensor:
    """The first view of the recipe's crops and mirrors, and nothing else."""
    return ViewEngine(dataclasses.replace(recipe, jitter=0.0, grey=0.0, blur=0.0), 3)(batch)[0][0]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_only_the_second_view_is_changed(operation: str, batch: ImageBatch) -> None:
    (views,) = OneSidedViews(RECIPE, [operation], seed=3)(batch)
    assert views.shape == (2, NUMBER, 3, 20, 20)
    assert torch.equal(views[0], plain(batch))
    assert not torch.allclose(views[0], views[1], atol=0.02)
    torch.testing.assert_close(views[1], operate(operation, views[0], RECIPE, Draw(batch.indices, 3, 1)))


def test_without_operations_both_views_are_the_same_crop(batch: ImageBatch) -> None:
    first, second = OneSidedViews(RECIPE, [], seed=3)(batch)[0]
    assert torch.equal(first, second)


def test_two_operations_run_in_their_order(batch: ImageBatch) -> None:
    first, second = OneSidedViews(RECIPE, ["noise", "sobel"], seed=3)(batch)[0]
    draw = Draw(batch.indices, 3, 1)
    torch.testing.assert_close(second, operate("sobel", operate("noise", first, RECIPE, draw), RECIPE, draw))
    assert not torch.allclose(second, OneSidedViews(RECIPE, ["sobel", "noise"], seed=3)(batch)[0][1], atol=0.1)


def test_the_second_crop_is_not_drawn_with_the_numbers_of_the_first() -> None:
    """A picture of its own coordinates tells where each crop lies: the two are as good as independent."""
    number = 2000
    rows = torch.linspace(0, 1, 64).view(1, 1, 64, 1).expand(1, 1, 64, 64)
    recipe = dataclasses.replace(
        ViewRecipe("grayscale"), size=16, flip=0.0, crop_area=(0.2, 0.2), crop_ratio=(1.0, 1.0)
    )
    unlabelled = torch.full((number,), -1)
    pictures = ImageBatch(rows.expand(number, -1, -1, -1), None, unlabelled, torch.arange(number))
    first, second = OneSidedViews(recipe, ["crop"])(pictures)[0].mean((2, 3, 4))
    # The crop within the crop lies at first + extent * (share - 1/2), its share drawn anew.
    within = second - first
    assert abs(torch.corrcoef(torch.stack([first, within]))[0, 1]) < 4 / number**0.5
    assert within.std() > 0.02


def test_ready_crops_of_loaders_serve_as_the_first_crop(batch: ImageBatch) -> None:
    pictures = list(torch.randint(0, 256, (NUMBER, 3, 30, 36), dtype=torch.uint8))
    crops = crop_views(pictures, [RECIPE], batch.indices, seed=3, epoch=1)
    (views,) = OneSidedViews(RECIPE, ["cutout"], seed=3)(batch._replace(images=None, crops=crops))
    first = crops[0].pixels[0] / 255
    torch.testing.assert_close(views[0], first)
    torch.testing.assert_close(views[1], operate("cutout", first, RECIPE, Draw(batch.indices, 3, 1)))


def test_clean_pictures_alone_have_no_views(batch: ImageBatch) -> None:
    assert OneSidedViews(RECIPE, ["cutout"])(batch._replace(epoch=None)) == ()


def test_normalisation_comes_last_and_to_both(batch: ImageBatch) -> None:
    normalised = dataclasses.replace(RECIPE, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    (views,) = OneSidedViews(normalised, ["colour"], seed=3)(batch)
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (normalised.mean, normalised.std))
    torch.testing.assert_close(views * std + mean, OneSidedViews(RECIPE, ["colour"], seed=3)(batch)[0])


def test_no_crop_is_enlarged() -> None:
    recipe = ViewRecipe(size=32)
    side = shorter_side(recipe)
    assert side == math.ceil(32 / math.sqrt(0.08 * 0.75))
    size = torch.tensor([side, 2 * side])
    boxes = draw_parameters(recipe, torch.arange(2000), size, seed=0, epoch=0).boxes
    smallest = int(boxes[..., 2:].min())
    assert smallest >= 32 - 1  # sides are rounded


@pytest.mark.parametrize("side", [24, None], ids=["equal", "different"])
def test_the_data_module_serves_one_sided_views_of_any_pictures(
    side: int | None, write_tree: Callable[..., Path]
) -> None:
    root = write_tree("photos", [f"{label}/{n}.png" for label in ("cat", "dog") for n in range(8)], side=side)
    recipe = dataclasses.replace(RECIPE, size=16)
    data = AblationDataModule("folder", root, 8, recipe, val_fraction=0.25, num_workers=0, seed=4)
    data.setup()
    splits = data.splits
    assert splits.val is not None
    assert isinstance(splits.train.pictures, InMemoryPictures) == (side is not None)
    assert splits.train.pictures is splits.val.pictures  # they are read once
    assert splits.test is None

    def served(operations: list[str], seed: int) -> list[ViewBatch]:
        own = data.one_sided(operations, seed)
        return [own.on_after_batch_transfer(batch, 0) for batch in own.train_dataloader()]

    batches, again, other = served(["sobel"], 1), served(["sobel"], 1), served(["sobel"], 2)
    assert len(batches) == 1
    (batch,) = batches
    (views,) = batch.views
    assert torch.equal(views, again[0].views[0])
    assert not torch.equal(views, other[0].views[0])
    torch.testing.assert_close(views[1], operate("sobel", views[0], recipe, Draw(batch.indices, 1, 0)))
    (plain_batch,) = served([], 1)  # the first crops of a seed are the same for all operations
    assert torch.equal(plain_batch.views[0][0], views[0])
    assert data.seed == 4


def test_pictures_that_cannot_be_read_are_left_out(write_tree: Callable[..., Path]) -> None:
    root = write_tree("photos", [f"{label}/{n}.png" for label in ("cat", "dog") for n in range(8)])
    (root / "cat" / "3.png").write_bytes(b"no picture")
    data = AblationDataModule("folder", root, 8, RECIPE, val_fraction=0.25, num_workers=0, on_bad_picture="skip")
    with pytest.warns(UserWarning, match=r"cat/3\.png.*left out"):
        data.setup()
    assert data.splits.val is not None
    assert data.splits.labelled is not None
    served = torch.cat([data.splits.labelled.positions, data.splits.val.positions]).tolist()
    assert sorted(served) == [place for place in range(16) if place != 3]
    for number in (1, 2):
        (root / "dog" / f"{number}.png").write_bytes(b"no picture")
    data = AblationDataModule("folder", root, 8, RECIPE, val_fraction=0.25, num_workers=0, on_bad_picture="skip")
    with pytest.warns(UserWarning, match="left out"), pytest.raises(BadPictureError, match="max_bad_share"):
        data.setup()


def test_unlabelled_data_keep_what_they_lack(write_tree: Callable[..., Path]) -> None:
    data = AblationDataModule("folder", write_tree("photos", ["a.png", "b.png"]), 2, RECIPE, num_workers=0)
    data.setup()
    data.setup()
    missing: Any = (data.splits.labelled, data.splits.val, data.splits.test)
    assert missing == (None, None, None)
    assert data.num_pictures == 2
