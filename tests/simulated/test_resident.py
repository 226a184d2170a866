"""Pictures that stay on the device, beside pictures that travel there."""

from __future__ import annotations

import inspect
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from PIL import Image
from tests.simulated.device import recorded
from tests.simulated.training import Steps, on_simulated_device
from torch import Tensor

from simclr_lightning import LabelledDataModule, OnlineLinearProbe, SimCLR, SimCLRDataModule
from simclr_lightning.data import InMemoryPictures, PictureDataModule, PictureSets
from simclr_lightning.views import ViewRecipe
from simclr_lightning.views.batch import sent

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice about this machine
QUIET: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}


class Keeping(Callback):
    """What the module was given."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, list[Tensor]]] = []

    def _keep(self, kind: str, batch: Any) -> None:
        others = [values for values in (batch.images, batch.groups) if values is not None]
        tensors = [*batch.views, batch.targets, batch.indices, *others]
        assert all(tensor.device.type == "simgpu" for tensor in tensors)
        self.seen.append((kind, [tensor.cpu() for tensor in tensors]))

    def on_train_batch_end(
        self, trainer: Any, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._keep("train", batch)

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._keep("val", batch)


def fit(data: PictureDataModule, *callbacks: Callback, epochs: int = 2) -> list[tuple[str, list[Tensor]]]:
    torch.manual_seed(0)
    keeping = Keeping()
    model = SimCLR("resnet8", width=0.125, in_channels=data.in_channels)
    trainer = on_simulated_device(
        **QUIET, max_epochs=epochs, enable_checkpointing=False, callbacks=[*callbacks, keeping], num_sanity_val_steps=0
    )
    trainer.fit(model, data)
    return keeping.seen


def same(first: list[tuple[str, list[Tensor]]], second: list[tuple[str, list[Tensor]]]) -> bool:
    return len(first) == len(second) and all(
        a == b and len(c) == len(d) and all(map(torch.equal, c, d))
        for (a, c), (b, d) in zip(first, second, strict=True)
    )


def digits(**options: Any) -> SimCLRDataModule:
    return SimCLRDataModule("digits", batch_size=300, **options)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_batches_are_the_same_to_the_last_bit(num_workers: int) -> None:
    runs = [fit(digits(on_device=kept, num_workers=num_workers), epochs=2 - num_workers) for kept in (False, True)]
    assert {kind for kind, _ in runs[0]} == {"train", "val"}
    assert same(*runs)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.int16, torch.float32])
def test_pictures_of_other_types(dtype: torch.dtype) -> None:
    images = (torch.rand(60, 4, 16, 16) * 3000).to(dtype)
    recipe = ViewRecipe(size=16, jitter=0.0, grey=0.0)
    labels = torch.arange(60) % 2
    sets = PictureSets(InMemoryPictures(images, labels), InMemoryPictures(images[:20], labels[:20]))
    options: Any = {"batch_size": 20, "views": recipe, "scale": "percentile"}
    runs = [fit(SimCLRDataModule(lambda: sets, on_device=kept, **options)) for kept in (False, True)]
    assert same(*runs)


def test_few_labels_and_a_probe_with_a_loader_of_its_own() -> None:
    runs = []
    for kept in (False, True):
        probe = OnlineLinearProbe()
        runs.append(fit(digits(on_device=kept, label_fraction=0.1, val_fraction=0.2), probe))
    assert same(*runs)
    targets = torch.cat([tensors[1] for kind, tensors in runs[0] if kind == "train"])
    assert (targets == -1).any()
    assert (targets >= 0).any()


def test_a_cached_folder_with_its_labelled_probe(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in [*(f"all/{i}.png" for i in range(20)), *(f"probe/train/{k}/{i}.png" for k in "ab" for i in range(6))]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (10, 14, 3), dtype=np.uint8)).save(path)
    options: Any = {"root": tmp_path / "all", "probe": tmp_path / "probe", "cache": True, "val_fraction": 0.5}
    runs = [
        fit(SimCLRDataModule("folder", batch_size=8, views="cifar10", on_device=kept, **options), OnlineLinearProbe())
        for kept in (False, True)
    ]
    assert same(*runs)


@pytest.mark.parametrize("views", [None, [ViewRecipe("digits"), ViewRecipe("digits", size=8, count=1)]])
def test_pictures_that_belong_together(views: Any, tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("index,group\n" + "".join(f"{i},{i % 300}\n" for i in range(1000)))
    steps = []
    runs = []
    for kept in (False, True):
        with recorded() as record:
            steps.append(Steps(record))
            runs.append(fit(digits(on_device=kept, pairs=path, views=views), steps[-1]))
    assert same(*runs)
    waits = [wait for own in steps for step in own.between for wait in step.waits]
    assert steps[1].between
    assert not [wait for wait in waits if any(room in wait.where for room in ("data/", "views/", "losses/"))]


@pytest.mark.parametrize("augmentation", ["none", "crop_flip"])
def test_pictures_of_a_classifier(augmentation: Any) -> None:
    batches = []
    for kept in (False, True):
        data = LabelledDataModule("digits", batch_size=500, augmentation=augmentation, on_device=kept)
        data.trainer = on_simulated_device(**QUIET, max_epochs=1)
        data.setup("fit")
        own = []
        for loaded in data.train_dataloader():
            sent = data.transfer_batch_to_device(loaded, torch.device("simgpu:0"), 0)
            ready = data.on_after_batch_transfer(sent, 0)
            own.append(("train", [ready.images.cpu(), ready.targets.cpu(), ready.indices.cpu()]))
        batches.append(own)
    assert same(*batches)


def test_several_processes_fill_up_the_last_batch_by_pictures_without_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []
    for kept in (False, True):
        data = digits(on_device=kept)
        trainer = on_simulated_device(**QUIET, max_epochs=1)
        data.trainer = trainer
        data.setup("fit")
        own = []
        for rank in range(7):
            with monkeypatch.context() as patch:
                patch.setattr(
                    "simclr_lightning.data.clean_loaders.process_of", lambda trainer, size, rank=rank: (rank, 7)
                )
                data.batch_size = 301
                loader: Any = data.val_dataloader()
            for loaded in loader:
                sent = data.transfer_batch_to_device(loaded, torch.device("simgpu:0"), 0)
                ready = data.on_after_batch_transfer(sent, 0)
                own.append(("val", [*ready.views, ready.targets, ready.indices, ready.images]))
        shares.append([(kind, [tensor.cpu() for tensor in tensors]) for kind, tensors in own])
    assert same(*shares)
    assert sum(int((tensors[1] == -1).sum()) for _, tensors in shares[0]) == 4  # of 7 * 52 = 364 there are 360


def test_without_being_asked_where_the_device_tells_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = torch.get_device_module("simgpu")
    for free, kept in ((None, False), (10, False), (10**9, True)):
        if free is not None:
            monkeypatch.setattr(module, "mem_get_info", lambda device, free=free: (free, free), raising=False)
        data = digits()
        data.trainer = on_simulated_device(**QUIET, max_epochs=1)
        data.setup("fit")
        loader: Any = data.train_dataloader()
        assert loader.dataset.pixels is not kept


def test_pictures_are_copied_once_and_a_batch_brings_its_numbers_alone() -> None:
    # of the batches; what is drawn for their views travels by the function ``sent``, in the same file
    code, first = inspect.getsourcelines(sent)
    of_views = {f"simclr_lightning/views/batch.py:{first + number}" for number in range(len(code))}
    sizes = {}
    for kept in (False, True):
        with recorded() as record:
            fit(digits(on_device=kept))
        sizes[kept] = Counter(
            copy.bytes
            for copy in record.copies
            if copy.direction == "to_device"
            and ("views/batch.py" in copy.where or "data/" in copy.where)
            and copy.where not in of_views
        )
    train, val = 1437 * 64, 360 * 64
    steps = 2 * 4 + 2 * 2  # of training and validation, in two epochs
    assert sizes[False] == {300 * 64: 10, 60 * 64: 2, 300 * 8: 2 * 10, 60 * 8: 2 * 2}
    assert sizes[True] == {train: 1, val: 1, 300 * 8: 3 * 10, 60 * 8: 3 * 2}  # labels, and indices twice
    assert sizes[True].total() == 2 + 3 * steps


def test_the_host_does_not_wait_between_logged_steps() -> None:
    with recorded() as record:
        steps = Steps(record)
        fit(digits(on_device=True), steps, epochs=3)
    assert len(steps.between) >= 8
    waits = [wait for step in steps.between for wait in step.waits]
    assert not [wait for wait in waits if "data/" in wait.where or "views/batch.py" in wait.where]


def test_the_memory_is_free_after_the_fit() -> None:
    data = digits(on_device=True)
    fit(data, epochs=1)
    assert not data._resident._copies
    fit(data, epochs=1)
