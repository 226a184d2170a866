"""A pre-training on the simulated device with everything that the command line brings by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint, ProgressBar
from lightning.pytorch.loggers import CSVLogger
from tests.simulated.device import Wait, recorded
from tests.simulated.training import Steps, on_simulated_device
from torch import Tensor

from simclr_lightning import LARSWarmup, OnlineLinearProbe, SimCLR, SimCLRDataModule, ViewGrid
from simclr_lightning.callbacks import RepresentationHealth, RunSummary, Throughput

QUIET = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:Experiment logs directory .* exists"),
    pytest.mark.filterwarnings("ignore:Total length of `list` across ranks is zero"),
    pytest.mark.filterwarnings("ignore:When using the `ThroughputMonitor`, you need to define a `flops_per_batch`"),
]

SMALL: dict[str, Any] = {"encoder": "resnet10", "width": 0.125, "stem": "pooled", "in_channels": 1}

EVERY = 4  # steps between two logged ones


def pretrain(
    folder: Path,
    *callbacks: Callback,
    model: LightningModule | None = None,
    data: LightningDataModule | None = None,
    timed: bool = True,
    **settings: Any,
) -> tuple[Trainer, Steps]:
    """Eleven steps or as many as are asked for, with everything that the command line brings by itself."""
    data = SimCLRDataModule("digits", batch_size=32, val_fraction=0.1) if data is None else data
    with recorded() as record:
        steps = Steps(record)
        usual = (
            LARSWarmup(warmup_steps=1),
            OnlineLinearProbe(),
            RunSummary(),
            ViewGrid(),
            RepresentationHealth(),
            *([Throughput()] if timed else []),
            *([] if settings.get("logger") is False else [LearningRateMonitor("step")]),
            ModelCheckpoint(save_last=True, every_n_train_steps=settings.get("log_every_n_steps", EVERY) or 50),
        )
        shows = any(isinstance(callback, ProgressBar) for callback in callbacks)
        trainer = on_simulated_device(
            **{
                "max_steps": 11,
                "log_every_n_steps": EVERY,
                "enable_progress_bar": shows,
                "default_root_dir": folder,
                "logger": CSVLogger(folder),
                "callbacks": [*usual, *callbacks, steps],
                "enable_model_summary": False,
                **settings,
            }
        )
        trainer.fit(SimCLR(**SMALL) if model is None else model, data)
    return trainer, steps


def waits(steps: Steps) -> list[Wait]:
    assert len(steps.between) >= 4
    return [wait for step in steps.between for wait in step.waits]


class Own(SimCLR):
    """Somebody's model, that shows numbers of its own."""

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        outputs = super().training_step(batch, batch_idx)
        number = len(batch.targets)
        self.log("own/spread", outputs["projections"].std(), prog_bar=True, batch_size=number)
        self.log("own/epoch", outputs["loss"], prog_bar=True, on_step=True, on_epoch=True, batch_size=number)
        return outputs
