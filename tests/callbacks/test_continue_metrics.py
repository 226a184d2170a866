"""Of what a training logs nothing is lost by a kill, nor there twice, wherever it falls."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset

from simclr_lightning.callbacks.continue_metrics import ContinueMetrics, write_at_once
from simclr_lightning.callbacks.save_when_stopped import SaveWhenStopped

pytestmark = pytest.mark.filterwarnings(
    *(f"ignore:{text}" for text in (".*many workers", ".*is not empty", ".*not resumable"))  # Lightning's
)


class Mean(LightningModule):
    """Logs at every step, and at the end of epochs, whatever the data are."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        loss = (self.mean - 1).square()
        self.log("loss", loss)
        return loss

    def on_train_epoch_end(self) -> None:
        self.log("mean", self.mean)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class KilledError(Exception):
    """Stands for a kill."""


class KilledWhenSaved(ModelCheckpoint):
    """Saves at every second step, and is killed as soon as the one of a step is on the disk."""

    def __init__(self, folder: Path, step: int | None) -> None:
        super().__init__(folder, every_n_train_steps=2, save_top_k=-1, filename="{step}")
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *arguments: Any) -> None:
        super().on_train_batch_end(trainer, *arguments)
        if trainer.global_step == self.step:
            raise KilledError


def fit(folder: Path, step: int | None = None, resumed: int | None = None) -> None:
    logger = CSVLogger(folder, name="", version="run")
    callbacks = [ContinueMetrics([logger]), KilledWhenSaved(folder, step), SaveWhenStopped()]
    options: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}
    trainer = Trainer(accelerator="cpu", logger=logger, callbacks=callbacks, max_epochs=2, **options)
    loader = DataLoader(TensorDataset(torch.arange(5.0)))
    trainer.fit(Mean(), loader, ckpt_path=None if resumed is None else folder / f"step={resumed}.ckpt")


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "run" / "metrics.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


def test_the_row_of_a_step_whose_checkpoint_was_the_last_thing_that_was_done(tmp_path: Path) -> None:
    fit(tmp_path / "whole")
    for step in (4, 10):  # in the middle of an epoch, and at the end of the last one
        folder = tmp_path / str(step)
        with pytest.raises(KilledError):
            fit(folder, step=step)
        assert [row["step"] for row in rows(folder) if "loss" in row] == [str(own) for own in range(step - 1)]
        fit(folder, resumed=step)
        assert rows(folder) == rows(tmp_path / "whole")


def test_a_file_that_gets_a_column_is_never_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = CSVLogger(tmp_path, name="", version="run")
    write_at_once(logger)
    logger.log_metrics({"a": 1.0}, step=0)
    logger.save()

    def killed(*_: Any) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(csv.DictWriter, "writerows", killed)
        logger.log_metrics({"b": 2.0}, step=1)
        with pytest.raises(KilledError):
            logger.save()
    assert rows(tmp_path) == [{"a": "1.0", "step": "0"}]
    logger.save()
    assert rows(tmp_path) == [{"a": "1.0", "step": "0"}, {"b": "2.0", "step": "1"}]
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["metrics.csv"]


def test_a_row_without_its_end(tmp_path: Path) -> None:
    fit(tmp_path)
    whole = rows(tmp_path)
    file = tmp_path / "run" / "metrics.csv"
    text = file.read_text().splitlines(keepends=True)
    file.write_text("".join(text[:4]) + text[4].rstrip("\r\n")[:-1])  # of the step, a digit is missing perhaps
    fit(tmp_path, resumed=4)
    assert rows(tmp_path) == whole
