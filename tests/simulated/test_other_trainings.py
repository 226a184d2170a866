"""The command line, classifiers, somebody's own module and validation do not wait for the device either."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger
from tests.simulated.device import NAME, Record, Wait, recorded
from tests.simulated.pretraining import EVERY, QUIET, SMALL, waits
from tests.simulated.training import Steps, on_simulated_device
from torch import Tensor, nn

from simclr_lightning import LabelledDataModule, LARSWarmup, OnlineLinearProbe, SimCLR, SimCLRDataModule, cli, console
from simclr_lightning.callbacks import ClassReport
from simclr_lightning.classifiers import FineTune, LinearEvaluation, Supervised
from simclr_lightning.default_callbacks import chosen_callbacks

pytestmark = QUIET


class Linear(LightningModule):
    """A module that knows nothing of this package."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(256, 10)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = nn.functional.cross_entropy(self.layer(batch.views[0][0].flatten(1)), batch.targets)
        self.log("theirs", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters())


@pytest.mark.filterwarnings("ignore")  # much code that is not ours
@pytest.mark.parametrize("model", ["SimCLR", "Supervised", f"{__name__}.Linear"])
def test_the_command_trains_without_waiting(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of its default callbacks, among them the Rich bar."""
    monkeypatch.chdir(tmp_path)
    chosen = chosen_callbacks
    with recorded() as record, contextlib.redirect_stdout(io.StringIO()):
        steps = Steps(record)
        monkeypatch.setattr(cli, "chosen_callbacks", lambda *given, **options: [*chosen(*given, **options), steps])
        small = ["--model.encoder", "resnet10", "--model.width", "0.125"] if not model.endswith("Linear") else []
        data = "LabelledDataModule" if model == "Supervised" else "SimCLRDataModule"
        command = f"fit --model {model} --data {data} --data.batch_size 64 --trainer.max_steps 14"
        device = f"--trainer.accelerator {NAME} --trainer.strategy single_{NAME} --trainer.log_every_n_steps {EVERY}"
        probe = ["--trainer.callbacks+=OnlineLinearProbe"] if model == "SimCLR" else []
        monkeypatch.setattr(sys, "argv", ["simclr", *command.split(), *small, *device.split(), *probe])
        console.main()
    assert waits(steps) == []


@pytest.mark.parametrize("kind", [LinearEvaluation, FineTune, Supervised])
@pytest.mark.parametrize("augmentation", ["crop_flip", "none"])
def test_classifiers_do_not_wait(kind: type[Any], augmentation: Any, tmp_path: Path) -> None:
    classifier = Supervised(**SMALL) if kind is Supervised else kind.of(SimCLR(**SMALL))
    data = LabelledDataModule("digits", batch_size=64, augmentation=augmentation, val_fraction=0.1)
    with recorded() as record:
        steps = Steps(record)
        trainer = on_simulated_device(
            max_epochs=1,
            log_every_n_steps=EVERY,
            default_root_dir=tmp_path,
            logger=CSVLogger(tmp_path),
            callbacks=[LARSWarmup(warmup_epochs=0), ClassReport(), TQDMProgressBar(), steps],
            enable_model_summary=False,
        )
        trainer.fit(classifier, data)
    assert waits(steps) == []
    assert trainer.callback_metrics["val/top1"] >= 0


class Batches(Callback):
    """Waits of each validation batch."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record, self.waits, self.start = record, list[list[Wait]](), 0

    def on_validation_batch_start(self, *_: Any) -> None:
        self.start = len(self.record.waits)

    def on_validation_batch_end(self, *_: Any) -> None:
        self.waits.append(self.record.waits[self.start :])


@pytest.mark.parametrize("classifies", [False, True])
def test_validation_waits_in_its_first_batch_alone(classifies: bool, tmp_path: Path) -> None:
    with recorded() as record:
        batches = Batches(record)
        data = (LabelledDataModule if classifies else SimCLRDataModule)("digits", batch_size=32, val_fraction=0.2)
        trainer = on_simulated_device(
            callbacks=[OnlineLinearProbe(), batches], logger=False, default_root_dir=tmp_path, enable_progress_bar=False
        )
        trainer.validate(Supervised(**SMALL) if classifies else SimCLR(**SMALL), data, verbose=False)
    assert len(batches.waits) > 3
    assert [found for found in batches.waits[1:] if found] == []
