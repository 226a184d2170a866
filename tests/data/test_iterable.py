from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from torch.utils.data import IterableDataset

from simclr_lightning import SimCLR, SimCLRDataModule
from simclr_lightning.data import BadPictureError, IterableStream
from simclr_lightning.data.bad_pictures import Reading
from simclr_lightning.errors import InputError
from simclr_lightning.views import ImageBatch, ViewEngine, ViewRecipe, centre_view, crop_views

RECIPES = [ViewRecipe("cifar10", size=8), ViewRecipe("cifar10", size=6, count=1)]
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:num_workers is",
    "ignore:Total length of `list` across ranks is zero",
)


class Photos(IterableDataset[Any]):
    """Pictures of different sizes, with labels, in another order in every epoch."""

    classes = ("even", "odd")

    def __init__(self, number: int = 22) -> None:
        self.number = number
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        for number in range(self.number):
            shade = (number + self.epoch) % self.number
            yield Image.new("RGB", (10 + shade, 12), (shade, 0, 0)), shade % 2


def tensors(number: int = 10) -> list[torch.Tensor]:
    return [torch.full((1, 5, 4), value, dtype=torch.uint8) for value in range(number)]


def batches(stream: IterableStream, split: str = "train", **asked: int) -> list[ImageBatch]:
    return list(stream.batches(split, **{"rank": 0, "world_size": 1, "batch_size": 4, "epoch": 0, **asked}))


def test_tensors_are_handed_over_whole() -> None:
    stream = IterableStream({"train": tensors()})
    assert (stream.in_channels, stream.class_names) == (1, None)
    first, second = batches(stream)  # the last two do not fill a batch
    assert first.images is not None
    assert torch.equal(first.images, torch.stack(tensors()[:4]))
    assert (first.crops, first.targets.tolist(), second.indices.tolist()) == (None, [-1] * 4, [4, 5, 6, 7])


def test_pil_pictures_are_cropped_by_every_recipe() -> None:
    stream = IterableStream({"train": Photos()}, RECIPES, seed=2)
    assert (stream.in_channels, stream.class_names) == (3, ("even", "odd"))
    batch = batches(stream, epoch=3)[1]
    assert batch.images is None
    assert batch.indices.tolist() == [4, 5, 6, 7]
    assert batch.targets.tolist() == [1, 0, 1, 0]  # the set was told the epoch
    pictures = [torch.from_numpy(np.array(picture)).permute(2, 0, 1) for picture, _ in list(stream.sets["train"])[4:8]]
    expected = crop_views(pictures, RECIPES, torch.arange(4, 8), seed=2, epoch=3)
    assert batch.crops is not None
    for ours, theirs in zip(batch.crops, expected, strict=True):
        assert torch.equal(ours.pixels, theirs.pixels)


def test_validation_serves_every_picture_once_and_clean() -> None:
    stream = IterableStream({"train": Photos(), "val": Photos(6)}, RECIPES)
    first, second = batches(stream, "val")
    assert first.images is not None
    assert first.crops is not None
    picture = torch.from_numpy(np.array(next(iter(Photos(6)))[0])).permute(2, 0, 1)
    assert torch.equal(first.images[0], centre_view(picture, RECIPES[0]))
    assert second.indices.tolist() == [4, 5]
    assert batches(stream, "test") == []


@pytest.mark.parametrize("number", [1, 5, 6, 7, 8, 9])
@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_every_batch(number: int, processes: int) -> None:
    stream = IterableStream({"train": Photos(number), "val": Photos(number)}, RECIPES)
    for split in ("train", "val"):
        whole = batches(stream, split)
        shares = [batches(stream, split, rank=rank, world_size=processes) for rank in range(processes)]
        assert {len(share) for share in shares} == {len(whole)}
        for step, batch in enumerate(whole):
            parts = [share[step] for share in shares]
            assert len({len(part.targets) for part in parts}) == 1  # collectives need equal shapes
            counted = torch.cat([part.indices[part.targets >= 0] for part in parts])
            assert sorted(counted.tolist()) == batch.indices.tolist()
            for part in parts:
                assert part.crops is not None
                assert batch.crops is not None
                for place, index in enumerate(part.indices.tolist()):
                    same = batch.indices.tolist().index(index)
                    assert torch.equal(part.crops[0].pixels[:, place], batch.crops[0].pixels[:, same])


def test_only_what_is_asked_for_is_decoded() -> None:
    class Guarded(Photos):
        def __iter__(self) -> Iterator[Any]:
            for number, (picture, label) in enumerate(super().__iter__()):
                yield (picture if number in (0, 9, 11) else Image.new("F", (9, 9))), label  # of no known range

    asked: Any = {"rank": 1, "world_size": 2, "start": 2, "step": 2}
    (batch,) = batches(IterableStream({"train": Guarded(12)}, RECIPES), **asked)
    assert batch.indices.tolist() == [9, 11]


@pytest.mark.filterwarnings("ignore:Cannot read Picture")
@pytest.mark.parametrize("bad", [(1, 2), (3, 5, 6)])
def test_too_many_unreadable_pictures(tmp_path: Path, bad: tuple[int, ...]) -> None:
    class Damaged(Photos):
        def __iter__(self) -> Iterator[Any]:
            for number, (picture, label) in enumerate(super().__iter__()):
                yield (Image.new("F", (9, 9)) if number in bad else picture), label

    stream = IterableStream({"train": Damaged(8)}, RECIPES, on_bad_picture="skip")
    stream.reading = Reading(max_bad_share=0.01, file=tmp_path / "unreadable.txt")
    with pytest.raises(BadPictureError, match=r"2 of the \d pictures seen so far"):
        batches(stream)
    assert len((tmp_path / "unreadable.txt").read_text().splitlines()) == 2
    stream.reading = Reading(max_megapixels=1e-6)
    with pytest.raises(BadPictureError, match="megapixels"):
        batches(IterableStream.with_views(stream, RECIPES, seed=0, on_bad_picture="raise"))


@pytest.mark.filterwarnings("ignore:Cannot read Picture")
def test_unreadable_pictures() -> None:
    class Damaged(Photos):
        def __iter__(self) -> Iterator[Any]:
            for number, (picture, label) in enumerate(super().__iter__()):
                yield (Image.new("F", (9, 9)) if number == 1 else picture), label

    sets = {"train": Damaged(4), "val": Damaged(4)}
    with pytest.raises(BadPictureError, match=r"Picture 1 of the stream.*--data\.on_bad_picture skip"):
        batches(IterableStream(sets, RECIPES))
    stream = IterableStream(sets, RECIPES, on_bad_picture="skip")
    (learned,), (judged,) = batches(stream), batches(stream, "val")
    assert learned.indices.tolist() == judged.indices.tolist() == [0, 2, 3, 0]
    assert (learned.targets.tolist(), judged.targets.tolist()) == ([0, 0, 1, 0], [0, 0, 1, -1])


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "is empty"),
        ([torch.zeros(3, 4, 4).int()], r"Picture 0 of the stream is a \(3, 4, 4\) torch.int32"),
        ([{"image": 1}], "Picture 0 of the stream is a dict: the data set should return PIL pictures"),
        ([*tensors(1), torch.zeros(1, 9, 9, dtype=torch.uint8)] * 2, "Picture 1 of the stream has shape"),
        ([(picture, 0.5) for picture in tensors(4)], "labels of Picture 0 of the stream should be integers, got 0.5"),
        ([(picture, "cat") for picture in tensors(4)], "has the label 'cat', a name: give the data set an attribute"),
        (iter(tensors()), "list_iterator, which can be gone through once"),
    ],
)
def test_sets_that_do_not_fit(items: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        batches(IterableStream({"train": items}, RECIPES))


class Named(list[Any]):
    """Pictures with labels, and the names of the classes."""

    classes = ("cat", "dog", "owl")


@pytest.mark.parametrize("label", [2, np.int64(2), np.array([2]), torch.tensor([0, 0, 1]), np.eye(3)[2], "owl"])
def test_labels_of_a_stream_have_any_form(label: Any) -> None:
    found = batches(IterableStream({"train": Named((picture, label) for picture in tensors())}, RECIPES))
    assert set(torch.cat([batch.targets for batch in found]).tolist()) == {2}


def numbered(root: str, train: bool = True) -> Photos:
    return Photos(22 if train else 6)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_simclr_trains_on_an_iterable_data_set(num_workers: int, tmp_path: Path) -> None:
    data = SimCLRDataModule(numbered, batch_size=4, views=RECIPES[0], num_workers=num_workers)
    model = SimCLR("resnet8", width=0.125, image_size=8)
    trainer = Trainer(**QUIET, max_steps=7, max_epochs=-1)
    trainer.fit(model, data)
    assert trainer.global_step == 7
    assert "val/loss" in trainer.callback_metrics
    assert (data.num_pictures, data.num_classes, data.class_names) == (None, 2, ["even", "odd"])
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    held = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert held["datamodule_hyper_parameters"]["dataset"] == f"{__name__}.numbered"
    assert held["SimCLRDataModule"] == {"epoch": 1, "batches": 2, "batch_size": 4}


def test_a_stream_goes_on_with_another_batch_size_where_one_begins() -> None:
    data = SimCLRDataModule(numbered, batch_size=8, views=RECIPES[0], num_workers=0)
    data.setup("fit")
    data.load_state_dict({"epoch": 1, "batches": 2, "batch_size": 4})
    assert next(iter(data.train_dataloader())).indices.tolist() == list(range(8, 16))
    with pytest.raises(InputError, match=r"after 1 batches of 4 pictures of a stream, where no batch of 8 begins"):
        data.load_state_dict({"epoch": 1, "batches": 1, "batch_size": 4})


def test_views_of_a_set_do_not_depend_on_its_processes() -> None:
    stream = IterableStream({"train": Photos()}, RECIPES)
    whole = ViewEngine(RECIPES)(batches(stream)[2])
    parts = [ViewEngine(RECIPES)(batches(stream, rank=rank, world_size=2)[2]) for rank in (0, 1)]
    for views, first, second in zip(whole, *parts, strict=True):
        assert torch.equal(views[:, 0::2], first)
        assert torch.equal(views[:, 1::2], second)
