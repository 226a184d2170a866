"""``EpochLines``: progress for log files, where a bar would write over itself."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar

from simclr_lightning.callbacks.linear_probe import OnlineLinearProbe
from simclr_lightning.callbacks.time_left import TimeLeft, duration, pictures_per_second, rate
from simclr_lightning.errors import check_number


class EpochLines(ProgressBar):
    """Prints a line at the end of every training epoch: epoch, loss, probe, rate, pictures a second, and time left.

    In an epoch that takes longer than ``minutes`` there are lines within, at logged steps, where the host waits for
    numbers anyway. It takes the place of a progress bar; the command line does so where standard output is no terminal.

    Example:
        >>> trainer = Trainer(callbacks=[EpochLines()], accelerator="cpu", logger=False, enable_checkpointing=False)

    Args:
        minutes: between two lines of one epoch, at least; 0: a line at every logged step.

    Raises:
        InputError: if the minutes are below 0.
    """

    def __init__(self, minutes: float = 10.0) -> None:
        super().__init__()
        check_number("minutes", minutes, least=0)
        self.minutes = minutes
        self._enabled = True

    def disable(self) -> None:
        """Print nothing; Lightning calls it on all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Print again."""
        self._enabled = True

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what is waited for."""
        if self._enabled:
            print(f"Validation is tried first, with {trainer.num_sanity_val_steps} batches at most.", flush=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to measure the time."""
        self._printed, self._left = time.monotonic(), TimeLeft(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print a line where there was none for long."""
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by one of its connectors
        is_logged = every > 0 and trainer.global_step % every == 0
        if is_logged and time.monotonic() - self._printed > 60 * self.minutes:
            self._print_line(trainer, f", batch {batch_idx + 1:,}{_of(trainer.num_training_batches)}")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the epoch's line."""
        self._print_line(trainer)

    def _print_line(self, trainer: Trainer, within: str = "") -> None:
        self._printed = time.monotonic()
        metrics = trainer.callback_metrics  # on every process: means over them are computed here
        if not self._enabled:
            return
        parts = [f"epoch {trainer.current_epoch + 1:,}{_of(trainer.max_epochs)}{within}"]
        if "train/loss" in metrics:
            parts.append(f"loss {float(metrics['train/loss']):.4f}")
        for probe in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(probe, OnlineLinearProbe):
                told = {split: metrics.get(f"{probe.name}/{split}_top1") for split in ("train", "val")}
                shares = [f"{split} {float(value):.1%}" for split, value in told.items() if value is not None]
                parts += [f"{probe.name} {', '.join(shares)}"] if shares else []
        found, speed, seconds = rate(trainer), pictures_per_second(trainer), self._left.seconds
        parts += [] if found is None else [f"rate {found}"]
        parts += [] if speed is None else [f"{speed:,.0f} pictures/s"]
        parts += [] if seconds is None else [f"{duration(seconds)} left"]
        print(" | ".join(parts), flush=True)


def _of(total: float | None) -> str:
    return "" if total is None or total < 0 or total == float("inf") else f"/{total:,}"
