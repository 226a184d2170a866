from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from simclr_lightning.data import GlobalBatchSampler, InMemoryPictures, Pictures, TrainingBatch
from simclr_lightning.data.folder import scan
from simclr_lightning.data.loaders import PictureLoader, make_loader, warn_of_workers
from simclr_lightning.data.loading import BatchDataset
from simclr_lightning.views import ViewRecipe

WriteTree = Callable[..., Path]


def loader(pictures: Pictures, *, num_workers: int | None = 0, resumable: bool = True, **options: Any) -> PictureLoader:
    data = BatchDataset(pictures, torch.arange(len(pictures)), TrainingBatch, ViewRecipe("cifar10", size=8))
    sampler = GlobalBatchSampler(data, 4, num_replicas=1, rank=0, shuffle=True, drop_last=True)
    defaults = {"devices": 1, "pin_memory": False, "prefetch_factor": None, "persistent_workers": None}
    return make_loader(data, sampler, resumable=resumable, num_workers=num_workers, **{**defaults, **options})


def in_memory() -> InMemoryPictures:
    images = torch.arange(16, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4).contiguous()
    return InMemoryPictures(images, torch.arange(16))


def epoch(loader: Any, number: int) -> list[tuple[list[int], Tensor]]:
    loader.sampler.set_epoch(number)
    return [(batch.indices.tolist(), batch.crops if batch.images is None else batch.images) for batch in loader]


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
    data = BatchDataset(pictures, torch.arange(8), TrainingBatch, ViewRecipe("cifar10", size=8), on_bad_picture="skip")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the worker's
        batches = list(DataLoader(data, 8, num_workers=1, collate_fn=lambda batch: batch))
    assert batches[0].indices.tolist() == [0, 1, 2, 4, 4, 5, 6, 7]
    assert torch.nonzero(pictures.bad)[:, 0].tolist() == [3]


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
    assert first.state_dict() == {"epoch": 1, "batches": 2}
    resumed: Any = loader(in_memory())
    resumed.load_state_dict(first.state_dict())
    assert same(epoch(resumed, 1), complete[1][2:])
    assert resumed.state_dict() == {"epoch": 1, "batches": 4}
    assert same(epoch(resumed, 1), complete[1])
    resumed.load_state_dict({"epoch": 0, "batches": 2})
    assert same(epoch(resumed, 1), complete[1])


def test_only_training_loaders_have_a_state() -> None:
    assert not hasattr(loader(in_memory(), resumable=False), "state_dict")


@pytest.mark.parametrize(
    ("available", "devices", "expected"), [(1, 1, 1), (4, 1, 3), (64, 1, 8), (16, 4, 3), (4, 8, 1)]
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
    with pytest.raises(ValueError, match="prefetch_factor"):
        loader(in_memory(), num_workers=0, prefetch_factor=5)


def test_more_workers_than_cores_is_a_warning_that_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    cores(monkeypatch, 4)
    with pytest.warns(UserWarning, match=r"num_workers is 3 for each of 2 .* 4 core.*--data\.num_workers 2"):
        warn_of_workers(3, 2)
    warn_of_workers(2, 2)
    loader(in_memory(), num_workers=64)  # torch's own warning is not heard as well
