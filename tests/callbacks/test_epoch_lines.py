"""A log file shows where a training is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar

from simclr_lightning import LARSWarmup, OnlineLinearProbe, SimCLR, SimCLRDataModule
from simclr_lightning.callbacks import EpochLines, Throughput, TrainingBar
from simclr_lightning.callbacks.time_left import duration


def fit(lines: ProgressBar, tmp_path: Path, **settings: Any) -> None:
    trainer = Trainer(
        **{
            "accelerator": "cpu",
            "max_epochs": 2,
            "limit_train_batches": 4,
            "limit_val_batches": 1,
            "logger": False,
            "log_every_n_steps": 2,
            "default_root_dir": tmp_path,
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "callbacks": [LARSWarmup(warmup_epochs=0), OnlineLinearProbe(), Throughput(), lines],
            **settings,
        }
    )
    trainer.fit(SimCLR("resnet8", width=0.125, stem="pooled", in_channels=1), SimCLRDataModule("digits", batch_size=64))


def test_a_line_an_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(EpochLines(), tmp_path)
    first, second = capsys.readouterr().out.splitlines()
    number = r"[\d.e-]+"
    probe = rf"probe train {number}%, val {number}%"
    pattern = rf"epoch 1/2 \| loss {number} \| {probe} \| rate {number} \| [\d,]+ pictures/s \| \d+ s left"
    assert re.fullmatch(pattern, first)
    assert second.startswith("epoch 2/2 | loss ")
    assert second.endswith(" | 0 s left")


def test_lines_within_a_long_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(EpochLines(minutes=0), tmp_path, max_epochs=-1, max_steps=4, limit_train_batches=8)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines] == ["epoch 1, batch 2/8", "epoch 1, batch 4/8", "epoch 1"]


def test_other_processes_are_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = EpochLines()
    lines.disable()
    fit(lines, tmp_path, max_epochs=1)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.2, "0 s"), (61, "1 min 1 s"), (3600, "1 h 0 min"), (90_061, "1 d 1 h")]
)
def test_durations(seconds: float, told: str) -> None:
    assert duration(seconds) == told


class Shown(TrainingBar):
    """Remembers what stood behind the bar at the end of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, Any]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        self.seen.append(self.get_metrics(trainer, pl_module))


def test_the_bar_shows_what_a_line_does(tmp_path: Path) -> None:
    bar = Shown()
    fit(bar, tmp_path, enable_progress_bar=True)
    first, last = bar.seen
    assert {"train/loss", "probe/train_top1", "rate", "pictures/s", "left"} <= first.keys()
    assert "v_num" not in first
    assert re.fullmatch(r"\d+ s", first["left"])
    assert last["left"] == "0 s"
    assert float(last["rate"]) < float(first["rate"])
