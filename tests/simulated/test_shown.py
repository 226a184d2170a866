"""Nothing that is shown or measured makes the host wait between logged steps, and what is shown is true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ThroughputMonitor, TQDMProgressBar
from tests.simulated.device import recorded
from tests.simulated.pretraining import EVERY, QUIET, SMALL, Own, pretrain, waits
from tests.simulated.training import Steps, on_simulated_device

from simclr_lightning import EmbeddingPictures, LARSWarmup, OnlineLinearProbe, SimCLR, SimCLRDataModule
from simclr_lightning.callbacks import EpochLines, Throughput, TrainingBar

pytestmark = QUIET


def test_no_wait_for_lines_of_a_log_file(tmp_path: Path) -> None:
    _, steps = pretrain(tmp_path, EpochLines(minutes=0))
    assert waits(steps) == []


def test_no_wait_for_pictures_of_the_embedding(tmp_path: Path) -> None:
    pictures = EmbeddingPictures(every_n_epochs=1, pictures=32, queries=2)
    _, steps = pretrain(tmp_path, pictures, max_steps=-1, max_epochs=2, limit_train_batches=7, limit_val_batches=0)
    assert waits(steps) == []
    assert len(list(tmp_path.rglob("embedding-*/*.png"))) == 2 * 3


@pytest.mark.parametrize("bar", [TrainingBar, TQDMProgressBar])
def test_no_wait_for_a_progress_bar(bar: type[Callback], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, steps = pretrain(tmp_path, bar(), model=Own(**SMALL))
    assert waits(steps) == []
    shown = capsys.readouterr()
    for name in ("train/loss", "own/spread", "own/epoch_step"):
        assert name in shown.out + shown.err


class Shown(TQDMProgressBar):
    """What somebody's bar shows after each step, and the loss of that step."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[Any] = []
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self.values.append(self.get_metrics(trainer, pl_module)["train/loss"])
        self.losses.append(outputs["loss"].item())


def test_the_bar_shows_the_first_loss_and_then_those_of_logged_steps(tmp_path: Path) -> None:
    shown = Shown()
    pretrain(tmp_path, shown, model=Own(**SMALL))
    assert len(set(shown.values[: EVERY - 1])) == 1, "the first one, until a step is logged"
    assert shown.values[0] == shown.losses[0]
    assert shown.values[EVERY - 1] == shown.losses[EVERY - 1]
    assert len(set(shown.values[EVERY - 1 : 2 * EVERY - 1])) == 1
    assert shown.values[2 * EVERY - 1] == shown.losses[2 * EVERY - 1]


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to create the checkpoint")
def test_a_resumed_run_waits_as_little_and_shows_its_first_loss(tmp_path: Path) -> None:
    trainer, _ = pretrain(tmp_path, max_steps=6)
    path = tmp_path / "half.ckpt"
    trainer.save_checkpoint(path)
    shown = Shown()
    with recorded() as record:
        steps = Steps(record)
        resumed = on_simulated_device(
            max_steps=17,
            log_every_n_steps=EVERY,
            logger=False,
            default_root_dir=tmp_path,
            enable_model_summary=False,
            callbacks=[LARSWarmup(warmup_steps=1), OnlineLinearProbe(), TQDMProgressBar(), steps],
        )
        resumed.fit(SimCLR(**SMALL), SimCLRDataModule("digits", batch_size=32, val_fraction=0.1), ckpt_path=path)
    assert resumed.global_step == 17
    assert waits(steps) == []
    pretrain(tmp_path, shown, max_steps=3)
    assert shown.values == [shown.losses[0]] * 3


class LastShown(TQDMProgressBar):
    """Remembers the bar's loss at the end of each epoch, and that of the epoch's last step."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Any, float]] = []
        self._loss = torch.zeros(())

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self._loss = outputs["loss"]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        self.seen.append((self.get_metrics(trainer, pl_module)["train/loss"], self._loss.item()))


@pytest.mark.parametrize("every", [0, 50])
def test_the_bar_shows_the_last_step_of_an_epoch_that_is_shorter_than_the_time_between_logged_ones(
    tmp_path: Path, every: int
) -> None:
    bar = LastShown()
    pretrain(tmp_path, bar, max_steps=-1, max_epochs=2, limit_train_batches=3, log_every_n_steps=every)
    assert [shown for shown, _ in bar.seen] == [last for _, last in bar.seen]
    assert len(bar.seen) == 2


def test_throughput_is_monitored_without_a_wait(tmp_path: Path) -> None:
    monitor = ThroughputMonitor(batch_size_fn=lambda batch: len(batch.targets), window_size=4)
    _, steps = pretrain(tmp_path, monitor)
    assert waits(steps) == []


def test_where_the_time_goes_is_measured_without_a_wait_or_a_kernel(tmp_path: Path) -> None:
    short: dict[str, Any] = {"max_steps": -1, "max_epochs": 2, "limit_train_batches": 12}
    (_, plain), (trainer, timed) = (pretrain(tmp_path, timed=own, **short) for own in (False, True))
    assert len(timed.record.waits) == len(plain.record.waits)
    assert [step.waits for step in timed.between] == [[] for _ in plain.between]
    assert [step.kernels for step in timed.steps] == [step.kernels for step in plain.steps]
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    (throughput,) = (own for own in callbacks if isinstance(own, Throughput))
    assert all(share > 0 for share in throughput.shares.values())
    assert sum(throughput.shares.values()) == pytest.approx(1)
    assert trainer.callback_metrics["time/data"].device.type == "cpu", "no logger waits for it"


def test_an_epoch_of_which_nothing_has_passed_is_waited_for(tmp_path: Path) -> None:
    """Where nobody else waits at its end."""
    throughput = Throughput()
    with recorded() as record:
        trainer = on_simulated_device(
            max_epochs=1,
            limit_train_batches=1,
            limit_val_batches=0,
            log_every_n_steps=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
            callbacks=[throughput],
        )
        trainer.fit(SimCLR(**SMALL), SimCLRDataModule("digits", batch_size=32))
    assert throughput.pictures_per_second
    assert [wait.what for wait in record.waits].count("synchronize an event") <= 1
