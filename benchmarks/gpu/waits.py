"""Where does the host wait for the device between logged steps? CUDA says so itself."""

from __future__ import annotations

import traceback
import warnings
from collections import Counter
from contextlib import ExitStack
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

SYNCHRONISES = "called a synchronizing CUDA operation"
OURS = ("simclr_lightning", "lightning", "torchmetrics")


class Waits(Callback):
    """Watches the steps after batch ``first`` up to batch ``last``, between which nothing is logged.

    ``torch.cuda.set_sync_debug_mode`` warns of every read by the host, ``nonzero``, boolean mask and copy that blocks;
    explicit ``synchronize`` calls it does not see.

    Attributes:
        seen: how often, by the lines that led there.
        steps: that were watched.
    """

    last_run: Waits | None = None
    """The one that watched last, for whom the command line has made it."""

    def __init__(self, first: int = 2, last: int = 10) -> None:
        self.first, self.last = first, last
        self.seen: Counter[str] = Counter()
        self.steps = 0
        self._open = ExitStack()
        Waits.last_run = self

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == self.first:
            self.open(pl_module.device)
        elif batch_idx == self.last:
            self.close()
            self.steps = self.last - self.first

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.close()

    def open(self, device: torch.device) -> None:
        """Begin to watch."""
        self._open.enter_context(warnings.catch_warnings())
        warnings.simplefilter("always")
        before = warnings.showwarning

        def show(message: Warning | str, *rest: Any, **more: Any) -> None:
            if SYNCHRONISES in str(message):
                self.seen[_where()] += 1
            else:
                before(message, *rest, **more)  # type: ignore[arg-type]

        warnings.showwarning = show  # catch_warnings puts the other back
        if device.type == "cuda":
            mode = torch.cuda.get_sync_debug_mode()
            torch.cuda.set_sync_debug_mode("warn")
            self._open.callback(torch.cuda.set_sync_debug_mode, mode)

    def close(self) -> None:
        """Watch no longer."""
        self._open.close()


def _where() -> str:
    """The innermost line, and the innermost ones of this package, of Lightning and of torchmetrics."""
    frames = [frame for frame in traceback.extract_stack() if frame.filename not in (__file__, warnings.__file__)]
    shown = frames[-1:]
    for package in OURS:
        shown += [frame for frame in frames if f"/{package}/" in frame.filename][-1:]
    lines = [f"{'/'.join(frame.filename.split('/')[-3:])}:{frame.lineno} {frame.name}" for frame in shown]
    return " < ".join(dict.fromkeys(lines))
