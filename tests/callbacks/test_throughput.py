"""The time of a step is told apart, by a clock that the parts of the step turn themselves."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.profilers import SimpleProfiler
from PIL import Image
from torch import Tensor

from simclr_lightning import LARSWarmup, NTXentLoss, RepresentationHealth, SimCLR, SimCLRDataModule
from simclr_lightning.callbacks import Throughput, stage_clock
from simclr_lightning.classifiers import Supervised
from simclr_lightning.data import LabelledDataModule, worker_processes
from simclr_lightning.data.serving import BatchDataset
from simclr_lightning.stages import STAGES


class Clock:
    """Seconds that each part is said to take."""

    now = 0.0
    data = 1.0

    def perf_counter(self) -> float:
        return self.now

    def turn(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    fetch = BatchDataset.__getitems__

    def slowly(self: BatchDataset, keys: Any) -> Any:
        made.turn(made.data)
        return fetch(self, keys)

    monkeypatch.setattr(stage_clock, "time", made)
    monkeypatch.setattr(BatchDataset, "__getitems__", slowly)
    return made


class Data(SimCLRDataModule):
    clock: Clock

    def transfer_batch_to_device(self, *arguments: Any) -> Any:
        self.clock.turn(2)
        return super().transfer_batch_to_device(*arguments)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.clock.turn(4)
        return super().on_after_batch_transfer(batch, dataloader_idx)


class Model(SimCLR):
    clock: Clock

    def _embed_at_once(self, views: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        self.clock.turn(8)
        return super()._embed_at_once(views)

    def backward(self, loss: Tensor, *arguments: Any, **options: Any) -> None:
        self.clock.turn(32)
        super().backward(loss, *arguments, **options)

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        super().optimizer_step(*arguments, **options)
        self.clock.turn(64)


class Loss(NTXentLoss):
    clock: Clock

    def forward(self, projections: Tensor, groups: Tensor | None = None, large: int | None = None) -> Tensor:
        self.clock.turn(16)
        return super().forward(projections, groups, large)


class Others(Callback):
    """What is in a step, and what is not."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def on_train_batch_end(self, *_: Any) -> None:
        self.clock.turn(128)

    def on_validation_batch_end(self, *_: Any) -> None:
        self.clock.turn(10_000)

    def on_train_epoch_end(self, *_: Any) -> None:
        self.clock.turn(10_000)

    def on_save_checkpoint(self, *_: Any) -> None:
        self.clock.turn(10_000)


def fit(
    folder: Path, clock: Clock | None, *callbacks: Callback, model: Any = None, data: Any = None, **settings: Any
) -> tuple[Throughput, Trainer]:
    throughput = Throughput()
    trainer = Trainer(
        **{
            "accelerator": "cpu",
            "max_epochs": 2,
            "limit_train_batches": 8,
            "limit_val_batches": 2,
            "logger": False,
            "log_every_n_steps": 2,
            "default_root_dir": folder,
            "enable_checkpointing": any(isinstance(own, ModelCheckpoint) for own in callbacks),
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [throughput, LARSWarmup(warmup_epochs=0), *callbacks],
            **settings,
        }
    )
    if model is None:
        model = Model("resnet8", width=0.125, stem="pooled", in_channels=1, loss=Loss())
    if data is None:
        data = Data("digits", batch_size=32, val_fraction=0.1)
    if clock is not None:
        model.clock = data.clock = model.loss.clock = clock
    trainer.fit(model, data)
    return throughput, trainer


def test_stages(tmp_path: Path, clock: Clock) -> None:
    """Validations within and after the epoch, checkpoints and what happens between epochs are no part of a step."""
    saves = ModelCheckpoint(tmp_path, save_on_train_epoch_end=True)
    throughput, trainer = fit(tmp_path, clock, Others(clock), saves, val_check_interval=0.5)
    parts = dict(zip(STAGES, (1, 2, 4, 8, 16, 32, 64, 128), strict=True))
    whole = sum(parts.values())
    for name, seconds in parts.items():
        assert throughput.shares[name] == pytest.approx(seconds / whole), name
        assert trainer.callback_metrics[f"time/{name}"].item() == pytest.approx(seconds / whole), name
    assert throughput.pictures_per_second == pytest.approx(32 / whole)
    assert trainer.callback_metrics["time/pictures_per_second"].item() == pytest.approx(32 / whole)


def test_micro_batches_and_accumulated_gradients(tmp_path: Path, clock: Clock) -> None:
    model = Model("resnet8", width=0.125, stem="pooled", in_channels=1, loss=Loss(), micro_batch_size=8)
    throughput, _ = fit(tmp_path, clock, model=model, limit_val_batches=0, accumulate_grad_batches=2)
    parts = {"data": 1, "copy": 2, "views": 4, "encoder": 4 * 8, "loss": 16, "backward": 32 + 3 * 8, "optimizer": 32}
    whole = sum(parts.values())
    assert throughput.shares == pytest.approx({**{name: each / whole for name, each in parts.items()}, "rest": 0})
    assert throughput.pictures_per_second == pytest.approx(32 / whole)


def test_the_first_steps_are_left_out(tmp_path: Path, clock: Clock) -> None:
    class Slow(Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
            clock.turn(1000 if trainer.global_step < 4 else 0)

    throughput, _ = fit(tmp_path, clock, Slow(), limit_val_batches=0, max_epochs=1)
    assert throughput.shares["rest"] == 0


class Bad(Callback):
    def on_train_batch_end(self, *_: Any) -> None:
        raise ZeroDivisionError


def test_the_profiler_of_the_trainer_hears_all_and_comes_back(tmp_path: Path, clock: Clock) -> None:
    profiler = SimpleProfiler()
    _, trainer = fit(tmp_path, clock, profiler=profiler, max_epochs=1)
    assert vars(trainer)["profiler"] is profiler
    heard = profiler.recorded_durations
    assert len(heard["[stage].loss"]) == 8 + 2 + 2  # of the check before a training, and of validation
    assert len(heard["run_training_epoch"]) == 1
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path, clock, Bad(), profiler=profiler)
    assert vars(trainer)["profiler"] is profiler


def test_who_waits_for_data_is_told_once_what_to_type(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_processes, "cores", lambda: 8)
    for number in range(64):
        Image.new("RGB", (20, 20), (number, 0, 0)).save(tmp_path / f"{number}.png")
    clock.data = 200
    data = Data("folder", tmp_path, batch_size=8, num_workers=0, views="cifar10")
    model = Model("resnet8", width=0.125, stem="cifar", loss=Loss())
    with pytest.warns(UserWarning, match="Waiting for data") as told:
        fit(tmp_path, clock, data=data, model=model, limit_val_batches=0)
    (message,) = (str(own.message) for own in told if "Waiting" in str(own.message))
    assert "(epoch 0): in 61 % of the time" in message
    for part in ("--data.num_workers 7", "--data.scaled_decoding true", f"simclr pack {tmp_path} packed"):
        assert part in message


def test_whom_a_slow_encoder_stops_is_told_nothing(tmp_path: Path, clock: Clock) -> None:
    clock.data = 30  # of 156
    fit(tmp_path, clock, limit_val_batches=0)


def test_a_classifier(tmp_path: Path) -> None:
    model = Supervised("resnet8", width=0.125, stem="pooled", in_channels=1)
    throughput, _ = fit(tmp_path, None, model=model, data=LabelledDataModule("digits", batch_size=32, val_fraction=0.1))
    assert throughput.shares["loss"] == 0
    assert all(throughput.shares[name] > 0 for name in ("data", "views", "encoder", "backward", "optimizer"))


def test_all_other_columns_stay_as_they_are(tmp_path: Path) -> None:
    rows = []
    for timed in (True, False):
        torch.manual_seed(0)
        logger = CSVLogger(tmp_path / str(timed), "", "")
        callbacks = [Throughput()] if timed else []
        model = SimCLR("resnet8", width=0.125, stem="pooled", in_channels=1)
        fit_with = Trainer(
            accelerator="cpu",
            max_epochs=2,
            limit_train_batches=4,
            log_every_n_steps=1,
            logger=logger,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[LARSWarmup(warmup_epochs=0), RepresentationHealth(), *callbacks],
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*does not have many workers")
            fit_with.fit(model, SimCLRDataModule("digits", batch_size=64, val_fraction=0.1))
        with (tmp_path / str(timed) / "metrics.csv").open() as file:
            rows.append(
                [{name: own[name] for name in own if not name.startswith("time/")} for own in csv.DictReader(file)]
            )
            file.seek(0)
            assert ("time/data" in file.readline()) == timed
    assert rows[0] == rows[1]
