from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image
from tests.distributed.harness import run_in_processes
from torch import Tensor

from simclr_lightning import LabelledDataModule, LARSWarmup, ProgressiveResizing, SimCLRDataModule, ViewGrid, ViewRecipe
from simclr_lightning.callbacks import RunSummary, view_size
from simclr_lightning.data import IterableStream
from simclr_lightning.distributed import rank, world_size
from simclr_lightning.errors import InputError
from simclr_lightning.views import ViewBatch

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:num_workers is", "ignore:Total length of `list` across ranks is zero"
)
GREY = ViewRecipe("grayscale", size=16)
COLOUR = [ViewRecipe("cifar10", size=24), ViewRecipe("cifar10", size=12, count=1)]
STEPS: dict[str, Any] = {"start": 0.5, "steps": 2, "until": 0.5}  # of 4 epochs: 0.5, 0.75, 1, 1
Seen = dict[tuple[int, int], ViewBatch]


class Recorder(LightningModule):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: Seen = {}
        self.judged: list[ViewBatch] = []
        self.logged: dict[int, float] = {}
        self.rates: list[float] = []

    def training_step(self, batch: ViewBatch, batch_idx: int) -> Tensor:
        self.seen[self.trainer.current_epoch, batch_idx] = batch
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return self.weight * batch.views[0].mean()

    def validation_step(self, batch: ViewBatch, batch_idx: int) -> None:
        self.judged.append(batch)

    def on_train_epoch_end(self) -> None:
        self.logged[self.trainer.current_epoch] = float(self.trainer.callback_metrics.get("view_size", -1))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(data: Any, *callbacks: Any, ckpt_path: Path | None = None, **options: Any) -> Recorder:
    module = Recorder()
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    checkpoints = any(isinstance(callback, ModelCheckpoint) for callback in callbacks)
    trainer = Trainer(
        accelerator="cpu",
        callbacks=list(callbacks),
        enable_checkpointing=checkpoints,
        **{**quiet, "devices": 1, "max_epochs": 4, "num_sanity_val_steps": 0, **options},
    )
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
    return module


def digits(**options: Any) -> SimCLRDataModule:
    return SimCLRDataModule("digits", **{"views": GREY, "batch_size": 400, "val_fraction": 0.1, **options})


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(12):
        path = tmp_path / "photos" / "train" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*rng.integers(40, 70, 2), 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


def folder(root: Path, **options: Any) -> SimCLRDataModule:
    return SimCLRDataModule("folder", root, **{"views": COLOUR, "batch_size": 4, "num_workers": 0, **options})


def sizes(seen: Seen, recipe: int = 0) -> list[int]:
    """Of the epochs; all batches of an epoch agree."""
    found = {epoch: {own.views[recipe].shape[-1] for (e, _), own in seen.items() if e == epoch} for epoch, _ in seen}
    assert all(len(own) == 1 for own in found.values()), found
    return [own.pop() for own in found.values()]


def same(first: ViewBatch, second: ViewBatch) -> bool:
    return all(map(torch.equal, first.views, second.views)) and torch.equal(first.indices, second.indices)


@pytest.mark.parametrize("full", [1, 3, 16, 30, 32, 96, 224])
@pytest.mark.parametrize("epochs", [1, 3, 10, 100, 1000])
@pytest.mark.parametrize(("steps", "until"), [(1, 0.5), (4, 0.8), (10, 0.1), (7, 0.99)])
def test_view_size_rises_from_the_first_to_the_full_size(full: int, epochs: int, steps: int, until: float) -> None:
    found = [view_size(epoch, full, epochs=epochs, steps=steps, until=until) for epoch in range(2 * epochs)]
    assert found == sorted(found)
    assert all(size == full or size % 4 == 0 for size in found)
    assert found[0] == min(full, 4 * max(1, int(0.6 * full / 4 + 0.5)))
    assert found[epochs:] == [full] * epochs
    assert len(set(found)) <= steps + 1


def test_view_size_rises_at_equal_distances() -> None:
    found = [view_size(epoch, 100, epochs=10) for epoch in range(10)]
    assert found == [60, 60, 72, 72, 80, 80, 92, 92, 100, 100]  # 0.7 and 0.9 of 100 are between two multiples of 4
    assert [view_size(epoch, 80, epochs=30, until=0.1, steps=3, start=0.25) for epoch in range(4)] == [20, 40, 60, 80]
    assert view_size(9, 100, epochs=10, end=0.8) == 80


def test_digits_grow_and_what_is_judged_stays() -> None:
    data = digits()
    module = fit(data, ProgressiveResizing(**STEPS))
    assert sizes(module.seen) == [8, 12, 16, 16]
    assert module.logged == {0: 8, 1: 12, 2: 16, 3: 16}
    assert {tuple(own.views[0].shape[-2:]) for own in module.judged} == {(16, 16)}
    assert all(own.images is not None and own.images.shape[-1] == 16 for own in module.judged)
    plain = fit(digits())
    assert all(torch.equal(own.indices, plain.seen[key].indices) for key, own in module.seen.items())
    assert all(same(module.seen[key], plain.seen[key]) for key in plain.seen if key[0] >= 2)
    assert all(map(same, module.judged, plain.judged))


def test_rates_are_those_of_a_run_without_it() -> None:
    def rates(*callbacks: Any) -> list[float]:
        return fit(digits(), LARSWarmup(warmup_epochs=1), *callbacks).rates

    assert rates(ProgressiveResizing(**STEPS)) == rates()


@pytest.mark.parametrize("scaled", [False, True])
def test_persistent_workers_of_a_folder_follow(photos: Path, scaled: bool) -> None:
    alone = fit(folder(photos, scaled_decoding=scaled), ProgressiveResizing(**STEPS))
    helped = fit(
        folder(photos, scaled_decoding=scaled, num_workers=2, persistent_workers=True), ProgressiveResizing(**STEPS)
    )
    assert sizes(helped.seen) == [12, 20, 24, 24]
    assert sizes(helped.seen, recipe=1) == [8, 8, 12, 12]
    assert helped.seen.keys() == alone.seen.keys()
    assert all(same(own, alone.seen[key]) for key, own in helped.seen.items())


@pytest.mark.parametrize("workers", [0, 2])
def test_streams_follow(photos: Path, workers: int) -> None:
    pictures = [Image.open(path).convert("RGB") for path in sorted(photos.rglob("*.jpg"))]
    data = SimCLRDataModule(
        IterableStream({"train": pictures}), views=COLOUR, batch_size=4, num_workers=workers, persistent_workers=None
    )
    module = fit(data, ProgressiveResizing(**STEPS))
    assert sizes(module.seen) == [12, 20, 24, 24]


@pytest.mark.parametrize("done", [3, 4])
def test_resumed_run_goes_on_with_the_sizes(photos: Path, tmp_path: Path, done: int) -> None:
    """At the end of the first of three batches' epochs, and within the second."""

    def run(ckpt_path: Path | None = None) -> Seen:
        saved = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=1)
        data = folder(photos, num_workers=2)
        return fit(data, ProgressiveResizing(**STEPS), saved, ckpt_path=ckpt_path).seen

    whole, resumed = run(), run(tmp_path / f"step={done}.ckpt")
    assert len(whole) - len(resumed) == done
    assert list(resumed) == list(whole)[done:]
    assert all(same(own, whole[key]) for key, own in resumed.items())


def of_process() -> dict[tuple[int, int], list[Tensor]]:
    strategy: dict[str, Any] = {"strategy": "ddp", "devices": world_size()} if world_size() > 1 else {}
    module = fit(digits(batch_size=200, val_fraction=0.0), ProgressiveResizing(**STEPS), **strategy)
    assert module.logged == {0: 8, 1: 12, 2: 16, 3: 16}, rank()
    return {key: [own.indices, *own.views] for key, own in module.seen.items() if key[1] < 2}


def test_two_processes_share_the_views_of_one() -> None:
    (whole,) = run_in_processes(of_process, 1)
    halves = run_in_processes(of_process, 2)
    for key, (indices, views) in whole.items():
        assert torch.equal(torch.cat([half[key][0] for half in halves]), indices)
        assert torch.equal(torch.cat([half[key][1] for half in halves], dim=1), views)


def test_data_module_is_left_as_it_was() -> None:
    class StoppedError(Exception):
        pass

    class Stopping(ProgressiveResizing):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            raise StoppedError

    data = digits()
    recipes = data.recipes
    with pytest.raises(StoppedError):
        fit(data, Stopping(**STEPS))
    assert data.recipes is recipes
    fit(data, ProgressiveResizing(**STEPS))
    assert data.recipes is recipes
    assert sizes(fit(data, max_epochs=2).seen) == [16, 16]
    assert sizes(fit(data, ProgressiveResizing(**STEPS), max_epochs=8).seen) == [8, 8, 12, 12, 16, 16, 16, 16]


def test_summary_and_grid_show_the_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    callbacks = [ProgressiveResizing(**STEPS), RunSummary(), ViewGrid(2, every_n_epochs=1)]
    fit(digits(), *callbacks, default_root_dir=tmp_path)
    assert "8 from epoch 0, 12 from epoch 1, 16 from epoch 2" in capsys.readouterr().out
    assert len(list(tmp_path.rglob("epoch=*.png"))) == 4


def test_run_too_short_for_the_last_size_is_a_warning_unless_it_is_a_trial() -> None:
    with pytest.warns(UserWarning, match=r"run of 1 epoch.*ends with views of 8 pixels"):
        assert sizes(fit(digits(), ProgressiveResizing(**STEPS), max_epochs=1).seen) == [8]
    fit(digits(), ProgressiveResizing(**STEPS), fast_dev_run=1)


def test_length_of_the_run_can_be_told() -> None:
    module = fit(digits(), ProgressiveResizing(**STEPS, epochs=4), max_epochs=-1, max_steps=9)
    assert sizes(module.seen) == [8, 12, 16]


@pytest.mark.parametrize(
    "arguments", [{"start": 0}, {"start": 0.9, "end": 0.8}, {"end": 1.1}, {"steps": 0}, {"until": 1.0}, {"epochs": 0}]
)
def test_arguments_out_of_range(arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=str(next(iter(arguments.values())))):
        ProgressiveResizing(**arguments)


def test_what_it_cannot_work_with() -> None:
    with pytest.raises(InputError, match=r"no max_epochs.*epochs="):
        fit(digits(), ProgressiveResizing(), max_epochs=-1, max_steps=4)
    with pytest.raises(InputError, match="the data module is a LabelledDataModule"):
        fit(LabelledDataModule("digits"), ProgressiveResizing())
    own = digits()
    own.engine = lambda batch: ()
    with pytest.raises(InputError, match=r"a function in place of data\.engine"):
        fit(own, ProgressiveResizing())
    trainer = Trainer(max_epochs=4, callbacks=[ProgressiveResizing()], logger=False, accelerator="cpu")
    with pytest.raises(InputError, match="there is no data module"):
        trainer.fit(Recorder(), train_dataloaders=[0], val_dataloaders=[0])
