from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.plugins.precision import HalfPrecision, MixedPrecision, Precision
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils import pin_memory

from simclr_lightning.views.batch import Crops, ImageBatch, ViewBatch, sent
from simclr_lightning.views.draw import ViewParameters
from simclr_lightning.views.recipe import ViewRecipe
from simclr_lightning.views.workers import crop_views

RECIPES = [ViewRecipe(size=24), ViewRecipe(size=16, count=3)]


def cropped() -> ImageBatch:
    pictures = [torch.full((3, 20 + n, 30), n, dtype=torch.uint8) for n in range(4)]
    indices = torch.arange(4)
    images = torch.stack([picture[:, :16, :16] for picture in pictures])
    crops = crop_views(pictures, RECIPES, indices, seed=0, epoch=3)
    return ImageBatch(images, crops, torch.tensor([0, 1, -1, 0]), indices, epoch=3, clean=True)


def assert_same(actual: ImageBatch, expected: ImageBatch) -> None:
    assert type(actual) is ImageBatch
    assert (actual.epoch, actual.clean) == (expected.epoch, expected.clean)
    assert actual.images is not None
    assert expected.images is not None
    assert actual.crops is not None
    assert expected.crops is not None
    for name in ("images", "targets", "indices"):
        assert torch.equal(getattr(actual, name), getattr(expected, name)), name
    for ours, theirs in zip(actual.crops, expected.crops, strict=True):
        assert type(ours) is Crops
        assert type(ours.parameters) is ViewParameters
        assert torch.equal(ours.pixels, theirs.pixels)
        assert ours.pixels.stride() == theirs.pixels.stride()
        assert all(map(torch.equal, ours.parameters, theirs.parameters))


class Batches(Dataset[ImageBatch]):
    def __len__(self) -> int:
        return 4

    def __getitems__(self, keys: list[int]) -> ImageBatch:
        return cropped()


def itself(batch: Any) -> Any:
    return batch


def pinned(batch: Any) -> Any:
    """What the thread of a loader with ``pin_memory`` does."""
    return pin_memory.pin_memory(batch)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_loaders_hand_over_every_type_and_value(num_workers: int) -> None:
    loader = DataLoader(Batches(), batch_size=2, num_workers=num_workers, collate_fn=itself)
    batches = list(loader)
    assert len(batches) == 2
    for batch in batches:
        assert_same(batch, cropped())


def test_pickle_keeps_every_type_and_value() -> None:
    assert_same(pickle.loads(pickle.dumps(cropped())), cropped())


def test_pinning_keeps_every_type_and_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor, *_: tensor)  # no accelerator is needed to see it
    assert_same(pinned(cropped()), cropped())
    views = ViewBatch.of(torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8), torch.rand(2, 3, 4, 4))
    again = pinned(views)
    assert type(again) is ViewBatch
    assert [tuple(own.shape) for own in again.views] == [(2, 2, 3, 8, 8), (1, 2, 3, 4, 4)]


def test_lightning_sends_pixels_and_targets_and_leaves_what_the_host_needs() -> None:
    batch = cropped()
    moved = move_data_to_device(batch, torch.device("meta"))
    assert type(moved) is ImageBatch
    assert moved.images is not None
    assert {moved.images.device.type, moved.targets.device.type} == {"meta"}
    assert type(moved.crops) is tuple
    for ours, theirs in zip(moved.crops, batch.crops or (), strict=True):
        assert type(ours) is Crops
        assert ours.pixels.device.type == "meta"
        assert ours.parameters is theirs.parameters
    assert moved.indices is batch.indices
    assert (moved.epoch, moved.clean) == (3, True)


@pytest.mark.parametrize("precision", [HalfPrecision("bf16-true"), MixedPrecision("bf16-mixed", "cpu")])
def test_half_precision_leaves_what_was_drawn_as_it_is(precision: Precision) -> None:
    assert_same(precision.convert_input(cropped()), cropped())


def test_sending_to_the_device_where_a_batch_is_changes_nothing() -> None:
    assert_same(cropped().to("cpu"), cropped())


def test_sending_keeps_what_is_missing_missing() -> None:
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    on_meta = ImageBatch(images, None, torch.zeros(2), torch.arange(2), epoch=None).to("meta")
    assert on_meta.crops is None
    assert on_meta.epoch is None
    assert cropped()._replace(images=None).to("meta").images is None


def test_a_batch_of_ones_own_views_is_unlabelled_by_default() -> None:
    first, second = torch.rand(2, 5, 3, 8, 8)
    batch = ViewBatch.of(first, second)
    assert len(batch.views) == 1
    assert torch.equal(batch.views[0], torch.stack([first, second]))
    assert batch.targets.tolist() == [-1] * 5
    assert batch.indices.tolist() == [0, 1, 2, 3, 4]
    assert batch.images is None
    labelled = ViewBatch.of(first, second, targets=torch.arange(5))
    assert labelled.targets.tolist() == [0, 1, 2, 3, 4]


def test_consecutive_views_of_one_size_are_stacked() -> None:
    sizes = [8, 8, 8, 4, 6, 6]
    views = [torch.rand(5, 3, size, size) for size in sizes]
    batch = ViewBatch.of(*views)
    assert [tuple(own.shape[:2]) for own in batch.views] == [(3, 5), (1, 5), (2, 5)]
    flat = [view for own in batch.views for view in own]
    assert all(map(torch.equal, flat, views))


def test_views_of_other_pictures_and_labels_without_a_name_are_errors() -> None:
    first, second = torch.rand(2, 5, 3, 8, 8)
    for wrong in ([], [first, second[:3]], [first, second, torch.arange(5)], [first[0]]):
        with pytest.raises(ValueError, match=r"same N pictures. Labels are given by name"):
            ViewBatch.of(*wrong)


def test_a_host_without_accelerator_is_not_asked_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch 2.6 answers by an error."""

    def fail() -> None:
        raise RuntimeError("Cannot access accelerator device when none is available.")

    monkeypatch.setattr(torch.accelerator, "current_accelerator", fail)
    values = torch.arange(3)
    assert sent(values, torch.device("cpu")) is values
