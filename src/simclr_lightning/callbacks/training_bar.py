"""``TrainingBar``: Lightning's bar, with what somebody who waits for a training wants to know."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

from simclr_lightning.callbacks.time_left import TimeLeft, duration, pictures_per_second, rate


class TrainingBar(RichProgressBar):
    """Lightning's ``RichProgressBar``, which in training also shows the rate, pictures a second, and time left.

    The time behind the batches is that of the epoch; the one at the end is that of the whole training. The loss and the
    probe are there because their modules log them for the bar. The command line takes it where standard output is a
    terminal.

    Example:
        >>> trainer = Trainer(callbacks=[TrainingBar()], accelerator="cpu", logger=False, enable_checkpointing=False)

    Args:
        settings: of ``RichProgressBar``.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._left: TimeLeft | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to measure the time."""
        super().on_train_start(trainer, pl_module)
        self._left = TimeLeft(trainer)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """What stands behind the bar; the number of the run's folder does not."""
        shown: dict[str, Any] = super().get_metrics(trainer, pl_module)
        shown.pop("v_num", None)
        if not trainer.training:
            return shown
        seconds, speed = None if self._left is None else self._left.seconds, pictures_per_second(trainer)
        told = {
            "rate": rate(trainer),
            "pictures/s": None if speed is None else f"{speed:,.0f}",
            "left": None if seconds is None else duration(seconds),
        }
        return {**shown, **{name: text for name, text in told.items() if text is not None}}
