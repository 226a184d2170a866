"""The Trainer for what is computed on the way."""

from __future__ import annotations

import logging
import warnings

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities import rank_zero_info

from simclr_lightning.evaluation.quiet_trainer import device_settings, quiet_trainer


def test_it_writes_and_announces_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), quiet_trainer(accelerator="cpu", max_steps=3) as trainer:
        rank_zero_info("introduction")
        warnings.warn("The 'train_dataloader' does not have many workers which may be a bottleneck.", stacklevel=1)
        warnings.warn("You defined a `validation_step` but have no `val_dataloader`. Skipping val loop.", stacklevel=1)
        with pytest.warns(UserWarning, match="anything else"):
            warnings.warn("anything else", stacklevel=1)
    callbacks = trainer.callbacks  # type: ignore[attr-defined]  # which Lightning does not declare
    assert (trainer.loggers, callbacks, trainer.limit_val_batches) == ([], [], 0)
    assert (trainer.max_steps, trainer.max_epochs) == (3, -1)
    assert not caplog.messages


def test_it_leaves_levels_as_they_were() -> None:
    logger = logging.getLogger("lightning.pytorch")
    before = logger.level
    with quiet_trainer(accelerator="cpu"):
        assert logger.level == logging.WARNING
    assert logger.level == before
    with pytest.raises(MemoryError), quiet_trainer(accelerator="cpu"):
        raise MemoryError
    assert logger.level == before


def test_it_has_the_device_the_precision_and_the_callbacks_that_it_is_given() -> None:
    outer = Trainer(accelerator="cpu", precision="bf16-mixed", logger=False)
    timer = Timer()
    with quiet_trainer(**device_settings(outer), callbacks=[timer]) as trainer:
        assert trainer.strategy.root_device == outer.strategy.root_device
        assert trainer.precision == "bf16-mixed"
        assert trainer.callbacks == [timer]  # type: ignore[attr-defined]
