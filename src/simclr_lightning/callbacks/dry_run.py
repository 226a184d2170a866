"""``DryRun``: a few steps of a training, what they took, and what the training would write."""

from __future__ import annotations

import secrets
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, LearningRateMonitor, ProgressBar
from lightning.pytorch.loggers import Logger
from torch import Tensor

from simclr_lightning.callbacks.epoch_estimate import estimate
from simclr_lightning.callbacks.run_folder import folder_by
from simclr_lightning.callbacks.step_memory import gib
from simclr_lightning.callbacks.view_grid import ViewGrid
from simclr_lightning.compat import EndTraining

_STEPS, _SECONDS = 8, 20.0  # that are measured, whichever comes first
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


class DryRun(Callback):
    """Ends a training after a few steps, all processes together, and prints the time and the memory that they took.

    Everything is built and the steps are real: batches of the loader's workers, forward and backward pass, optimizer.
    The first step is not measured, unless it is the only one of an epoch. A Trainer by :func:`dry_settings`, as that of
    ``simclr fit --dry_run``, writes nothing.

    Args:
        folder: in which the training would write.
        loggers: that it would have.
        checkpoints: whether it would write them.

    Attributes:
        folder: as it was given.

    Example:
        >>> options = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
        >>> trainer = Trainer(callbacks=[DryRun(Path("runs/mine"))], **options)
    """

    def __init__(self, folder: Path, loggers: Iterable[Logger] = (), *, checkpoints: bool = True) -> None:
        super().__init__()
        self.folder, self.checkpoints = folder, checkpoints
        self.loggers = [type(own).__name__ for own in loggers]
        self._scratch = Path(gettempdir(), f"simclr-dry-run-{secrets.token_hex(8)}")  # made by whoever writes
        self._begun, self._batches = 0.0, 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count memory from here."""
        self._batches = 0
        self._memory = PeakMemory(trainer.strategy.root_device)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Begin with the first step, where there is no second one."""
        if not self._batches:
            self._begun = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print what was found after the last of them, and end."""
        self._memory.wait()
        is_last = batch_idx + 1 >= trainer.num_training_batches
        if not self._batches and not is_last:
            self._batches, self._begun = 1, time.perf_counter()
            return
        measured, seconds = max(1, self._batches), time.perf_counter() - self._begun
        self._batches += 1
        enough = measured >= _STEPS or seconds >= _SECONDS
        enough = (enough and measured >= trainer.accumulate_grad_batches) or is_last
        if not trainer.strategy.broadcast(enough):  # the first process decides
            return
        lines = [
            f"Dry run: {measured} step(s) measured, nothing is written.",
            estimate(trainer, seconds / measured),
            self._memory.told(),
            f"The run would write {', '.join(self._files(trainer, pl_module))}.",
        ]
        if trainer.is_global_zero:
            print("\n".join(lines))
            sys.stdout.flush()
        raise EndTraining

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remove what callbacks have written into the folder in the place of the run's."""
        shutil.rmtree(self._scratch, ignore_errors=True)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Likewise."""
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _files(self, trainer: Trainer, pl_module: LightningModule) -> list[str]:
        told = [f"into {self.folder}: config.yaml, what callbacks draw"]
        told += [f"metrics by {name}" for name in self.loggers]
        if self.checkpoints:
            tensors = [*pl_module.state_dict().values()]
            states = [own for optimizer in trainer.optimizers for own in optimizer.state.values()]
            tensors += [value for own in states for value in own.values() if isinstance(value, Tensor)]
            size = sum(own.numel() * own.element_size() for own in tensors if isinstance(own, Tensor))
            told.append(f"checkpoints of about {gib(size)} each")
        return told


def dry_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a Trainer that writes nothing, with ``DryRun`` among its callbacks.

    Args:
        settings: of the training: callbacks, logger, default_root_dir, enable_checkpointing, and any others.

    Example:
        >>> typed = {"callbacks": None, "logger": False, "default_root_dir": "mine", "enable_checkpointing": None}
        >>> changed = dry_settings({**typed, "max_epochs": 100})
        >>> changed["callbacks"][0].folder.as_posix(), changed["enable_checkpointing"], changed["max_epochs"]
        ('mine', False, 100)
    """
    logger, root = settings["logger"], settings["default_root_dir"] or "."
    if logger is None or logger is True:  # Lightning chooses one
        logger = Trainer(accelerator="cpu", enable_checkpointing=False, default_root_dir=root).loggers
    loggers = [own for own in (logger if isinstance(logger, list) else [logger]) if isinstance(own, Logger)]
    writes = (Checkpoint, LearningRateMonitor, ProgressBar, ViewGrid)
    given = settings["callbacks"] or []
    kept = [own for own in (given if isinstance(given, list) else [given]) if not isinstance(own, writes)]
    run = DryRun(folder_by(loggers, root), loggers, checkpoints=settings["enable_checkpointing"] is not False)
    nothing = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    return {**settings, **nothing, "default_root_dir": str(run._scratch), "callbacks": [*kept, run]}


class PeakMemory:
    """The largest memory that a process takes from now on, on its accelerator or, without one, on the host.

    Example:
        >>> PeakMemory(torch.device("cpu")).told().startswith("Memory of a process")
        True

    Args:
        device: of the process.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._module: Any = None if device.type == "cpu" else torch.get_device_module(device)
        if self._module is not None and hasattr(self._module, "reset_peak_memory_stats"):
            self._module.reset_peak_memory_stats(device)
        else:
            _restart_peak()
        self._before = self._now("memory_allocated", "VmRSS")

    def wait(self) -> None:
        """Until the device has done what it was told."""
        if hasattr(self._module, "synchronize"):
            self._module.synchronize(self._device)

    def grown(self) -> int | None:
        """Bytes that the peak is above what was taken at the beginning; None where the system does not tell."""
        peak = self._now("max_memory_allocated", "VmHWM")
        return None if peak is None or self._before is None else max(0, peak - self._before)

    def told(self) -> str:
        """In words."""
        grown = self.grown()
        if grown is None or self._before is None:
            return "Memory: this system does not tell."
        where = "on its device" if hasattr(self._module, "max_memory_allocated") else "without the loader's workers"
        peak = gib(self._before + grown)
        return f"Memory of a process, {where}: {peak} at most, {gib(grown)} more than before the first step."

    def _now(self, of_device: str, of_host: str) -> int | None:
        if hasattr(self._module, of_device):
            return int(getattr(self._module, of_device)(self._device))
        try:
            lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
            return int(lines[of_host].split()[0]) * 1024
        except (OSError, KeyError, ValueError):
            return None


def _restart_peak() -> None:
    """Let Linux count the peak of this process from now on; elsewhere it is that of its life."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return
