"""After the first steps of a long epoch one line tells how long it will take; short epochs tell it by their end."""

from __future__ import annotations

from typing import Any

import pytest
from lightning.pytorch import Trainer

from simclr_lightning import SimCLR, SimCLRDataModule
from simclr_lightning.callbacks import EpochLines, epoch_estimate


@pytest.mark.parametrize(
    ("seconds", "settings", "told"),
    [
        (2.0, {}, "A step takes about 2 s, an epoch of 14 step(s) about 28 s, and what is left of the run"),
        (90.0, {"max_epochs": -1, "max_steps": 12}, "A step takes about 90 s, an epoch of 14 step(s) about 21 min 0 s"),
        (0.001, {}, None),  # fourteen steps are over before
        (2.0, {"limit_train_batches": 4}, None),
    ],
)
def test_one_line_in_the_first_epoch(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    seconds: float,
    settings: dict[str, Any],
    told: str | None,
) -> None:
    class Clock:
        moment = 0.0

        def monotonic(self) -> float:
            self.moment += seconds
            return self.moment

    monkeypatch.setattr(epoch_estimate, "time", Clock())
    trainer = Trainer(
        accelerator="cpu",
        **{"max_epochs": 2, "limit_val_batches": 1, "num_sanity_val_steps": 0, **settings},
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[epoch_estimate.EpochEstimate(), EpochLines()],
    )
    model = SimCLR("resnet8", width=0.125, stem="pooled", in_channels=1)
    trainer.fit(model, SimCLRDataModule("digits", batch_size=100))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("A step takes")]
    assert len(lines) == int(told is not None)
    assert told is None or lines[0].startswith(told)


def test_what_is_left_counts_both_limits() -> None:
    def told(batches: float, **settings: Any) -> str:
        trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **settings)
        trainer.fit_loop.max_batches = batches
        return epoch_estimate.estimate(trainer, 20.0)

    assert "what is left of the run 33 min 20 s" in told(10, max_epochs=10)
    assert "what is left of the run 1 min 0 s" in told(10, max_epochs=10, max_steps=3)
    assert "what is left of the run 4 min 0 s" in told(10, max_epochs=-1, max_steps=3, accumulate_grad_batches=4)
    assert told(float("inf"), max_epochs=-1) == "A step takes about 20 s, validation not counted."
    assert "what is left" not in told(10, max_epochs=-1)
