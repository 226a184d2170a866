from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from simclr_lightning.data import InMemoryPictures, SimCLRDataModule, resident
from simclr_lightning.data.folder import scan
from simclr_lightning.data.global_batches import GlobalBatchSampler
from simclr_lightning.data.loaders import PictureLoader, make_loader
from simclr_lightning.data.resident import ResidentBatch, ResidentPictures, free_memory
from simclr_lightning.data.serving import BatchDataset
from simclr_lightning.errors import InputError
from simclr_lightning.views import ViewRecipe

WriteTree = Callable[..., Path]
RECIPE = ViewRecipe("cifar10", size=8)
CPU, META = torch.device("cpu"), torch.device("meta")  # meta stands for any accelerator: nothing is computed on it


def pictures(number: int = 10) -> InMemoryPictures:
    return InMemoryPictures(torch.randint(256, (number, 3, 8, 8), dtype=torch.uint8), torch.arange(number))


def served(source: Any, *, training: bool = True) -> BatchDataset:
    return BatchDataset(source, torch.arange(len(source)), [RECIPE], random=True, training=training)


def loader(source: Any, number: int | None, **options: Any) -> PictureLoader[Any]:
    data = served(source, training=False)
    data.pixels = number is None
    sampler = GlobalBatchSampler(data, 4, num_replicas=1, rank=0, shuffle=True, drop_last=False)
    return make_loader(data, sampler, resident=number, **options)


def memory(monkeypatch: pytest.MonkeyPatch, free: int | None) -> None:
    monkeypatch.setattr(resident, "free_memory", lambda device: free)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_picked_batches_are_those_that_travel(num_workers: int) -> None:
    source, kept = pictures(), ResidentPictures()
    kept.number(pictures())
    number = kept.number(source)
    travelling = list(loader(source, None))
    numbers = list(loader(source, number, num_workers=num_workers))
    assert [len(batch.targets) for batch in travelling] == [4, 4, 2]
    for expected, batch in zip(travelling, numbers, strict=True):
        assert isinstance(batch, ResidentBatch)
        assert batch.batch.images is None
        got = kept.picked(batch.to("cpu"))
        assert torch.equal(got.images, expected.images)  # type: ignore[arg-type]
        assert torch.equal(got.targets, expected.targets)
        assert torch.equal(got.indices, expected.indices)
        assert (got.epoch, got.clean, got.crops) == (expected.epoch, expected.clean, None)


def test_a_batch_that_was_not_sent_is_told() -> None:
    kept = ResidentPictures()
    batch = next(iter(loader(pictures(), kept.number(pictures()))))
    with pytest.raises(ValueError, match="send it to a device first"):
        kept.picked(batch)


def test_an_array_is_copied_once_whatever_its_labels() -> None:
    source, kept = pictures(), ResidentPictures()
    other = source.relabelled(torch.full((10,), -1), None)
    numbers = [kept.keep(served(part), META, asked=True) for part in (source, other, source)]
    assert numbers == [0, 0, 0]
    assert kept.copied(0, META) is kept.copied(0, META)
    assert kept.keep(served(pictures()), META, asked=True) == 1
    before = kept.copied(0, META)
    kept.clear()
    assert kept.copied(0, META) is not before


def test_only_what_is_on_the_device_leaves_its_pixels_out() -> None:
    for device, asked, expected in ((CPU, True, True), (META, False, True), (META, None, True), (META, True, False)):
        data = served(pictures())
        assert (ResidentPictures().keep(data, device, asked=asked) is None) == expected == data.pixels


@pytest.mark.parametrize(("free", "expected"), [(8 * 1920, True), (8 * 1920 - 1, False), (0, False), (None, False)])
def test_by_default_an_eighth_of_the_free_memory_at_most(
    monkeypatch: pytest.MonkeyPatch, free: int | None, expected: bool
) -> None:
    memory(monkeypatch, free)
    kept, data = ResidentPictures(), served(pictures())
    assert (kept.keep(data, META, asked=None) is not None) == expected
    if expected:
        memory(monkeypatch, 0)  # it is there
        assert kept.keep(served(data.pictures), META, asked=None) == 0


def test_what_is_asked_for_and_does_not_fit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    memory(monkeypatch, 1919)
    with pytest.raises(InputError, match=r"meta has 0\.0 GiB free.*--data\.on_device false"):
        ResidentPictures().keep(served(pictures()), META, asked=True)
    memory(monkeypatch, 1920)
    assert ResidentPictures().keep(served(pictures()), META, asked=True) == 0


def test_files_cannot_be_kept(write_tree: WriteTree) -> None:
    files = scan(write_tree("photos", ["a.png", "b.png"]))
    for device in (CPU, META):
        with pytest.raises(InputError, match=r"on_device is True.*--data\.cache true or --data\.on_device null"):
            ResidentPictures().keep(served(files), device, asked=True)
        assert ResidentPictures().keep(served(files, training=False), device, asked=True) is None
        assert ResidentPictures().keep(served(files), device, asked=None) is None
    data = SimCLRDataModule("folder", root=files.root, batch_size=2, views=RECIPE, num_workers=0, on_device=True)
    data.setup("fit")
    with pytest.raises(InputError, match="on_device is True"):
        data.train_dataloader()


def test_free_memory_where_the_device_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Module:
        @staticmethod
        def mem_get_info(device: torch.device) -> tuple[int, int]:
            asked.append(device)
            return 5, 9

    monkeypatch.setattr(torch, "get_device_module", lambda device: Module)
    assert free_memory(torch.device("cuda", 3)) == 5
    assert asked == [torch.device("cuda", 3)]
    monkeypatch.undo()
    assert free_memory(CPU) is None
    assert free_memory(META) is None  # it has no module at all
