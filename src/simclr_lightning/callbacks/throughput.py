"""``Throughput``: pictures a second, and where the time of a step goes."""

from __future__ import annotations

from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.data import extract_batch_size
from torch import Tensor

from simclr_lightning.callbacks.stage_clock import StageClock, StageProfiler
from simclr_lightning.data.faster import faster_loading
from simclr_lightning.distributed import all_reduce_sum, world_size
from simclr_lightning.metrics.health_words import waiting_word
from simclr_lightning.stages import STAGES

_FIRST_STEPS = 5  # of a fit: workers start, memory is taken, kernels are chosen or compiled
_WORTH_A_WORD = 10.0  # seconds that a run has waited for data


class Throughput(Callback):
    """Measures pictures a second, and the share of each stage in the time of the steps; says so if data are too slow.

    At the end of every training epoch it logs ``time/pictures_per_second``, of all processes together, and as shares
    between 0 and 1 that add up to 1, averaged over the processes:

    * ``time/data``: waiting for the next batch.
    * ``time/copy``: sending it to the device.
    * ``time/views``: making its views there, or whatever ``on_after_batch_transfer`` does.
    * ``time/encoder``: ``training_step`` but for the loss: encoder and head.
    * ``time/loss``: the loss of ``SimCLR``, in several processes with the exchange of projections.
    * ``time/backward``: gradients. Under DDP this includes their exchange, and with ``micro_batch_size`` the second
      forward pass, which happens there.
    * ``time/optimizer``: the update, clipping, and what callbacks do between backward and update.
    * ``time/rest``: callbacks and loggers after the step, and Lightning's own work.

    Validation, what happens between epochs (most checkpoints), and the first five steps of a fit are not in it. Where
    waiting is more than a fifth of an epoch, and was ten seconds in all, a warning says what to type, once.

    On an accelerator these are times of the device, between events that are recorded among its work: what the host
    does while the device computes takes no time, and no step waits for anything. On the CPU, and on devices whose
    module of torch has no ``Event``, it is the host's clock.

    Lightning tells its profiler what it does; this listens there, and hands on what it hears to the profiler that
    ``--trainer.profiler`` chose.

    Example:
        >>> trainer = Trainer(callbacks=[Throughput()], accelerator="cpu", logger=False, enable_checkpointing=False)

    Attributes:
        pictures_per_second: of the epoch that goes on, renewed at logged steps; None until it is known.
        shares: of the stages in the last epoch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pictures_per_second: float | None = None
        self.shares: dict[str, float] = {}
        self._profiler: StageProfiler | None = None
        self._left_out, self._waited, self._told = 0, 0.0, False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to listen."""
        self._stop_listening(trainer)  # to a fit that failed
        clock = StageClock(trainer.strategy.root_device)
        lightning: Any = trainer  # whose attribute is set by one of its parts
        self._profiler = lightning.profiler = StageProfiler(clock, lightning.profiler)
        self._left_out = int(min(_FIRST_STEPS, trainer.num_training_batches // 2))
        self._waited, self._told, self.pictures_per_second, self.shares = 0.0, False, None, {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the pictures; at logged steps read the clock."""
        if self._profiler is None:
            return
        clock = self._profiler.clock
        self._profiler.end_step(_pictures(batch))
        if self._left_out:
            self._left_out -= 1
            if not self._left_out:
                clock.forget()
            return
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by one of its connectors
        if every > 0 and trainer.global_step % every == 0:
            clock.collect()
            if clock.steps:
                self.pictures_per_second = world_size() * clock.pictures / sum(clock.seconds.values())

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A validation is no part of a step."""
        if self._profiler is not None:
            self._profiler.hold()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The epoch goes on."""
        if self._profiler is not None:
            self._profiler.go_on()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what the epoch took, and say what to do if it took it for data."""
        if self._profiler is None:
            return
        clock = self._profiler.clock
        clock.collect()
        if not clock.steps:  # an epoch of which the device has done nothing yet
            clock.collect(wait=True)
        found = [float(clock.pictures), *(clock.seconds[stage] for stage in STAGES)]
        clock.clear()
        if world_size() > 1:
            found = all_reduce_sum(torch.tensor(found, device=trainer.strategy.root_device)).tolist()
        pictures, seconds = found[0], dict(zip(STAGES, found[1:], strict=True))
        whole = sum(seconds.values())
        if not pictures or not whole:
            return
        self.pictures_per_second = world_size() * pictures / whole
        self.shares = {stage: spent / whole for stage, spent in seconds.items()}
        self._waited += seconds["data"] / world_size()
        values = {"pictures_per_second": self.pictures_per_second, **self.shares}
        several = world_size() > 1
        for name, value in values.items():
            # On the host, where nobody waits for it. Of several processes all have the same, but for sync_dist=False
            # Lightning would warn, and devices talk about what they have.
            pl_module.log(f"time/{name}", value if several else torch.tensor(value), on_epoch=True, sync_dist=several)
        self._say(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give Lightning its profiler back."""
        self._stop_listening(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give Lightning its profiler back."""
        self._stop_listening(trainer)

    def _stop_listening(self, trainer: Trainer) -> None:
        lightning: Any = trainer
        if self._profiler is not None and lightning.profiler is self._profiler:
            lightning.profiler = self._profiler.other
        self._profiler = None

    def _say(self, trainer: Trainer) -> None:
        if self._told or self._waited < _WORTH_A_WORD:
            return
        word = waiting_word(self.shares["data"], faster_loading(trainer))
        if word is not None:
            self._told = True
            rank_zero_warn(f"{word.name[0].upper()}{word.name[1:]} (epoch {trainer.current_epoch}): {word.text}")


def _pictures(batch: Any) -> int:
    targets = getattr(batch, "targets", None)
    if isinstance(targets, Tensor):
        return len(targets)
    try:
        return extract_batch_size(batch)
    except MisconfigurationException:  # somebody's batch without a tensor: nothing is counted
        return 0
