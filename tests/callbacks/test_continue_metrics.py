"""Of what a training logs nothing is lost by a kill, nor there twice, wherever it falls."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset

from simclr_lightning.callbacks.continue_metrics import ContinueMetrics, write_at_once
from simclr_lightning.callbacks.save_when_stopped import SaveWhenStopped
from simclr_lightning.loop_progress import accumulates

pytestmark = pytest.mark.filterwarnings(
    *(f"ignore:{text}" for text in (".*many workers", ".*is not empty", ".*not resumable"))  # Lightning's
)


class Mean(LightningModule):
    """Logs at every step, in validation, and at the end of epochs, whatever the data are."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        loss = (self.mean - 1).square()
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: list[torch.Tensor], index: int) -> None:
        self.log("val", self.mean)

    def on_train_epoch_end(self) -> None:
        self.log("mean", self.mean)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 0.1)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)]


class KilledError(Exception):
    """Stands for a kill."""


class Kill(ModelCheckpoint):
    """Saves at every second step, and is killed as soon as a checkpoint is on the disk, or a validation has its row."""

    def __init__(self, folder: Path, step: int | None, *, validated: bool) -> None:
        super().__init__(folder, every_n_train_steps=2, save_top_k=-1, filename="{step}")
        self.step, self.validated = step, validated

    def on_train_batch_end(self, trainer: Trainer, *arguments: Any) -> None:
        if not accumulates(trainer):
            super().on_train_batch_end(trainer, *arguments)
        if trainer.global_step == self.step and not self.validated:
            raise KilledError

    def on_validation_end(self, trainer: Trainer, *arguments: Any) -> None:
        super().on_validation_end(trainer, *arguments)
        if trainer.global_step == self.step and self.validated:
            raise KilledError


def fit(
    folder: Path, step: int | None = None, resumed: int | None = None, *, validated: bool = False, accumulated: int = 1
) -> None:
    logger = CSVLogger(folder, name="", version="run")
    callbacks = [ContinueMetrics([logger]), LearningRateMonitor("step")]
    callbacks += [Kill(folder, step, validated=validated), SaveWhenStopped()]
    options: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}
    options |= {"num_sanity_val_steps": 0, "accumulate_grad_batches": accumulated}
    trainer = Trainer(accelerator="cpu", logger=logger, callbacks=callbacks, max_epochs=2, **options)
    loader = DataLoader(TensorDataset(torch.arange(4.0 * accumulated)))
    checkpoint = None if resumed is None else folder / f"step={resumed}.ckpt"
    trainer.fit(Mean(), loader, DataLoader(TensorDataset(torch.zeros(1))), ckpt_path=checkpoint)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "run" / "metrics.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_kill_just_after_a_checkpoint_or_a_validation(tmp_path: Path, accumulated: int) -> None:
    fit(tmp_path / "whole", accumulated=accumulated)
    whole = rows(tmp_path / "whole")
    assert [row["step"] for row in whole if "val" in row] == ["3", "7"]
    for step, validated in ((2, False), (4, False), (4, True), (8, True)):  # of four in an epoch
        folder = tmp_path / f"{step} {validated}"
        for resumed in (None, step - 2 or None):
            with pytest.raises(KilledError):
                fit(folder, step=step, resumed=resumed, validated=validated, accumulated=accumulated)
        killed = rows(folder)
        assert ("val" in killed[-1]) == validated
        assert validated or f"{step - 1}" not in [row["step"] for row in killed if "loss" in row]
        fit(folder, resumed=step, accumulated=accumulated)
        assert rows(folder) == whole, (step, validated)


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
