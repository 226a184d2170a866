"""What the progress bar shows on the CPU, where nobody waits for a number: the values of every step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import TQDMProgressBar

from simclr_lightning import LARSWarmup, SimCLR, SimCLRDataModule
from simclr_lightning.compat import read_bar_at_logged_steps


class Shown(TQDMProgressBar):
    """Remembers the bar's loss and that of the step."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Any, float]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self.seen.append((self.get_metrics(trainer, pl_module)["train/loss"], outputs["loss"].item()))


@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
def test_the_bar_shows_every_step_on_the_cpu_and_a_second_fit_begins_anew(tmp_path: Path) -> None:
    shown = Shown()
    trainer = Trainer(
        accelerator="cpu",
        max_steps=5,
        log_every_n_steps=3,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=[LARSWarmup(warmup_steps=0), shown],
    )
    read_bar_at_logged_steps(trainer)
    results = trainer.fit_loop.epoch_loop._results
    model = SimCLR("resnet8", width=0.125, stem="pooled", in_channels=1)
    trainer.fit(model, SimCLRDataModule("digits", batch_size=32))
    assert trainer.fit_loop.epoch_loop._results is results, "the module asks for what is done already"
    assert [bar for bar, _ in shown.seen] == [loss for _, loss in shown.seen]
    assert len(shown.seen) == 5
