from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, DistributedSampler

from simclr_lightning.data import GlobalBatchSampler, InMemoryPictures, Key, Pictures
from simclr_lightning.data.folder import scan
from simclr_lightning.data.loaders import PictureLoader, as_it_is, make_loader
from simclr_lightning.data.serving import BatchDataset
from simclr_lightning.data.worker_processes import handed_over, warn_of_workers
from simclr_lightning.errors import InputError, MissingFileError
from simclr_lightning.views import ViewRecipe

WriteTree = Callable[..., Path]
RECIPE = ViewRecipe("cifar10", size=8)


def loader(
    pictures: Pictures, *, num_workers: int | None = 0, resumable: bool = True, **options: Any
) -> PictureLoader[Any]:
    data = BatchDataset(pictures, torch.arange(len(pictures)), [RECIPE], random=True, training=True)
    sampler = GlobalBatchSampler(data, 4, num_replicas=1, rank=0, shuffle=True, drop_last=True)
    defaults = {"devices": 1, "pin_memory": False, "prefetch_factor": None, "persistent_workers": None}
    return make_loader(data, sampler, resumable=resumable, num_workers=num_workers, **{**defaults, **options})


def in_memory() -> InMemoryPictures:
    images = torch.arange(16, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4).contiguous()
    return InMemoryPictures(images, torch.arange(16))


def epoch(loader: Any, number: int) -> list[tuple[list[int], Tensor]]:
    loader.sampler.set_epoch(number)
    return [
        (batch.indices.tolist(), batch.crops[0].pixels if batch.images is None else batch.images) for batch in loader
    ]


def same(first: list[tuple[list[int], Tensor]], second: list[tuple[list[int], Tensor]]) -> bool:
    return len(first) == len(second) and all(
        a == b and torch.equal(c, d) for (a, c), (b, d) in zip(first, second, strict=True)
    )


def cores(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(number)))
    monkeypatch.setattr(os, "cpu_count", lambda: number)


def test_workers_serve_what_the_main_process_would_in_every_epoch(write_tree: WriteTree) -> None:
    pictures = scan(write_tree("photos", [f"{i}.png" for i in range(10)]))
    alone, helped = loader(pictures), loader(pictures, num_workers=2)
    assert helped.persistent_workers
    epochs = [epoch(alone, number) for number in (0, 1)]
    assert same(epochs[0], epoch(helped, 0))
    assert same(epochs[1], epoch(helped, 1))  # by the same workers, which keep their copy of the data set
    assert {len(indices) for indices, _ in epochs[0]} == {4}
    assert [indices for indices, _ in epochs[0]] != [indices for indices, _ in epochs[1]]


def test_skipped_pictures_are_known_to_all_workers(write_tree: WriteTree) -> None:
    root = write_tree("photos", [f"{i}.png" for i in range(8)])
    (root / "3.png").write_bytes(b"")
    pictures = scan(root)
    data = BatchDataset(pictures, torch.arange(8), [RECIPE], random=True, training=True, on_bad_picture="skip")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the worker's
        batches = list(DataLoader(data, 8, num_workers=1, collate_fn=lambda batch: batch))
    assert batches[0].indices.tolist() == [0, 1, 2, 4, 4, 5, 6, 7]
    assert torch.nonzero(pictures.bad)[:, 0].tolist() == [3]


class Complaining(Dataset[int]):
    """Complains of its second item."""

    def __len__(self) -> int:
        return 4

    @handed_over
    def __getitem__(self, position: int) -> int:
        if position == 1:
            raise MissingFileError("There is no picture 1: choose another.")
        return position


@pytest.mark.parametrize("num_workers", [0, 1])
def test_input_errors_arrive_as_they_are(num_workers: int) -> None:
    served = iter(PictureLoader(Complaining(), batch_size=None, num_workers=num_workers))
    assert next(served) == 0
    with pytest.raises(MissingFileError) as caught:
        next(served)
    assert str(caught.value) == "There is no picture 1: choose another."


@pytest.mark.filterwarnings("ignore:Cannot read the picture")
@pytest.mark.parametrize("num_workers", [0, 1])
def test_unreadable_pictures_are_counted_once_at_the_end(write_tree: WriteTree, num_workers: int) -> None:
    root = write_tree("photos", [f"{i}.png" for i in range(5)])
    (root / "3.png").write_bytes(b"")
    pictures = scan(root)
    data = BatchDataset(pictures, torch.arange(5), [RECIPE], random=False, training=False, on_bad_picture="skip")
    options: Any = {"batch_size": 2, "num_workers": num_workers, "collate_fn": as_it_is}
    with pytest.warns(UserWarning, match="1 of these 5 pictures cannot be read"):
        list(PictureLoader(data, **options))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(PictureLoader(data, **options))) == 3


def test_epoch_is_read_when_the_first_batch_is_asked_for(write_tree: WriteTree) -> None:
    helped = loader(scan(write_tree("photos", [f"{i}.png" for i in range(8)])), num_workers=1)
    iterator = iter(helped)
    helped.sampler.set_epoch(3)  # type: ignore[attr-defined]
    assert next(iterator).indices.tolist() == epoch(helped, 3)[0][0]


def test_state_leaves_out_what_was_served_in_that_epoch_only() -> None:
    first: Any = loader(in_memory())
    complete = [epoch(first, number) for number in (0, 1)]
    for number, _ in enumerate(first):
        if number == 1:
            break
    size = first.sampler.batch_size
    assert first.state_dict() == {"epoch": 1, "pictures": 2 * size, "batch_size": size}
    resumed: Any = loader(in_memory())
    resumed.load_state_dict(first.state_dict())
    assert same(epoch(resumed, 1), complete[1][2:])
    assert resumed.state_dict() == {"epoch": 1, "pictures": 4 * size, "batch_size": size}
    assert same(epoch(resumed, 1), complete[1])
    resumed.load_state_dict({"epoch": 0, "pictures": 2 * size, "batch_size": size})
    assert same(epoch(resumed, 1), complete[1])
    resumed.load_state_dict({"epoch": 1, "batches": 2})  # as checkpoints told before pictures were counted
    assert same(epoch(resumed, 1), complete[1][2:])


def test_only_training_loaders_have_a_state() -> None:
    assert not hasattr(loader(in_memory(), resumable=False), "state_dict")


@pytest.mark.parametrize(
    ("available", "devices", "expected"), [(1, 1, 1), (4, 1, 3), (12, 1, 11), (64, 1, 32), (16, 4, 3), (4, 8, 1)]
)
def test_number_of_workers(
    write_tree: WriteTree, monkeypatch: pytest.MonkeyPatch, available: int, devices: int, expected: int
) -> None:
    cores(monkeypatch, available)
    files = loader(scan(write_tree("photos", ["a.png"])), num_workers=None, devices=devices)
    assert files.num_workers == expected
    assert files.persistent_workers
    in_place = loader(in_memory(), num_workers=None, devices=devices)
    assert in_place.num_workers == 0
    assert not in_place.persistent_workers


def test_what_is_typed_wins() -> None:
    chosen = loader(in_memory(), num_workers=1, prefetch_factor=5, persistent_workers=False)
    assert (chosen.num_workers, chosen.prefetch_factor, chosen.persistent_workers) == (1, 5, False)
    for asked in ({"prefetch_factor": 5}, {"persistent_workers": True}):
        with pytest.raises(InputError, match=r"no workers load the pictures.*--data\.num_workers 1"):
            loader(in_memory(), num_workers=0, **asked)
        assert (
            loader(in_memory(), resumable=False, num_workers=0, **asked).num_workers == 0
        )  # beside a training that has workers


def test_more_workers_than_cores_is_a_warning_that_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    cores(monkeypatch, 4)
    with pytest.warns(UserWarning, match=r"num_workers is 3 for each of 2 .* 4 core.*--data\.num_workers 2"):
        warn_of_workers(3, 2)
    warn_of_workers(2, 2)
    loader(in_memory(), num_workers=64)  # torch's own warning is not heard as well


def sampler(
    pictures: int,
    batch_size: int,
    *,
    processes: int = 1,
    rank: int = 0,
    train: bool = True,
    seed: int = 0,
    epoch: int = 0,
) -> GlobalBatchSampler:
    return GlobalBatchSampler(
        range(pictures),
        batch_size,
        num_replicas=processes,
        rank=rank,
        shuffle=train,
        drop_last=train,
        seed=seed,
        epoch=epoch,
    )


def batches(sampler: Any) -> Any:
    return list(BatchSampler(sampler, sampler.batch_size // sampler.num_replicas, drop_last=False))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(("pictures", "batch_size", "processes"), [(100, 12, 2), (101, 12, 3), (64, 16, 4), (37, 6, 6)])
def test_a_step_of_all_processes_is_the_step_of_one(
    pictures: int, batch_size: int, processes: int, train: bool
) -> None:
    alone = batches(sampler(pictures, batch_size, train=train, epoch=3))
    together = [
        batches(sampler(pictures, batch_size, processes=processes, rank=rank, train=train, epoch=3))
        for rank in range(processes)
    ]
    assert {len(part) for part in together} == {len(alone)}
    for step, whole in enumerate(alone):
        parts = [part[step] for part in together]
        assert len({len(part) for part in parts}) == 1  # collectives need equal shapes
        served = [key.place for key in chain(*parts) if not key.repeated]
        assert sorted(served) == sorted(key.place for key in whole)


def test_two_processes_see_disjoint_halves() -> None:
    first, second = ({key.place for key in sampler(64, 16, processes=2, rank=rank)} for rank in (0, 1))
    assert len(first) == len(second) == 32
    assert first | second == set(range(64))


def test_training_drops_the_tail_and_evaluation_serves_every_picture_once() -> None:
    training = [key.place for key in sampler(103, 10)]
    assert len(training) == len(set(training)) == len(sampler(103, 10)) == 100
    keys = [key for rank in range(4) for key in sampler(103, 12, processes=4, rank=rank, train=False)]
    assert sorted(key.place for key in keys if not key.repeated) == list(range(103))
    assert len(keys) == 104
    assert sum(key.repeated for key in keys) == 1


def test_more_processes_than_pictures_all_get_a_batch() -> None:
    keys = [list(sampler(2, 4, processes=4, rank=rank, train=False)) for rank in range(4)]
    assert [len(part) for part in keys] == [1, 1, 1, 1]
    assert [part[0].repeated for part in keys] == [False, False, True, True]


def test_order_depends_on_seed_and_epoch_and_is_their_permutation() -> None:
    orders = {}
    for seed in (0, 1):
        for epoch in (0, 1):
            keys = list(sampler(50, 50, seed=seed, epoch=epoch))
            assert {key.epoch for key in keys} == {epoch}
            orders[seed, epoch] = tuple(key.place for key in keys)
    assert len(set(orders.values())) == 4  # torch's own sampler mixes up (0, 1) and (1, 0)
    assert orders[0, 1] == tuple(np.random.default_rng((0, 1)).permutation(50))


def test_set_epoch_reorders_training_and_leaves_evaluation_alone() -> None:
    training = sampler(50, 10)
    before = list(training)
    training.set_epoch(1)
    assert [key.place for key in training] != [key.place for key in before]
    evaluation = sampler(50, 10, train=False, epoch=7)
    evaluation.set_epoch(1)
    assert list(evaluation) == [Key(place, 7) for place in range(50)]


def test_start_leaves_out_whole_steps() -> None:
    complete = sampler(64, 16, processes=2, rank=1)
    resumed = sampler(64, 16, processes=2, rank=1)
    resumed.start = 3 * 16
    assert list(resumed) == list(complete)[3 * 8 :]


def test_lightning_leaves_it_alone() -> None:
    assert isinstance(sampler(4, 2), DistributedSampler)


@pytest.mark.parametrize("batch_size", [0, -4, 9])
def test_batch_size_must_be_shared_equally(batch_size: int) -> None:
    with pytest.raises(ValueError, match=f"batch_size is {batch_size}.*2 processes"):
        sampler(100, batch_size, processes=2)
