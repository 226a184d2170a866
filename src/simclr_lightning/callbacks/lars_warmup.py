"""Linear warm-up and cosine decay of the learning rate."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from simclr_lightning.errors import InputError
from simclr_lightning.optim.schedule import ScalingRule, scaled_learning_rate, warmup_cosine, warmup_steps_for


class LARSWarmup(Callback):
    """Scales the learning rate with the global batch, warms it up and lets it decay along a cosine.

    Works with any optimizer of any LightningModule under automatic optimisation. The rates in the optimizer are the
    base rates; each parameter group keeps its own. The rate is a function of ``trainer.global_step`` alone, and a
    resumed run follows the rates and the length of run that are typed now. Where it goes on with another batch size,
    and its length is one of epochs, the schedule goes on after as many pictures as were trained on before.

    A warm-up that was given in epochs and is longer than the whole run (a quick trial), or whose data never end, is a
    tenth of the run, with a warning; one that was given in steps is an error, except under ``fast_dev_run``.

    List it before ``LearningRateMonitor``, which otherwise logs the rate of the step before.

    Example:
        >>> from lightning.pytorch.callbacks import LearningRateMonitor
        >>> callbacks = [LARSWarmup(warmup_epochs=10), LearningRateMonitor()]
        >>> trainer = Trainer(max_epochs=100, callbacks=callbacks, accelerator="cpu")

    Args:
        warmup_epochs: length of the warm-up in passes over the training data.
        warmup_steps: length of the warm-up in optimizer steps; overrides ``warmup_epochs``.
        scaling: how the base rate grows with the global batch, see
            :func:`~simclr_lightning.optim.scaled_learning_rate`.
        batch_size: pictures per optimizer step over all processes and accumulated batches. Default: number of processes
            x ``accumulate_grad_batches`` x the batch size of the training loader.
        num_pictures: training pictures, for ``warmup_epochs``. Default: ``num_pictures`` of the data module where it
            has one, else the length of the loader's data set.

    Attributes:
        base_learning_rates: per parameter group, as the optimizer was created; set when fitting starts.
        peak_learning_rates: per parameter group, at the end of the warm-up; this and the following are set by
            ``on_train_start``.
        warmup_steps_: optimizer steps of warm-up.
        total_steps_: optimizer steps of the whole run.
        global_batch_size_: pictures per optimizer step.

    Raises:
        InputError: if an argument is out of range; when fitting starts, if there is a second scheduler, if the module
            optimises manually, or if something cannot be found out.

    Source: Chen et al. (2020), arXiv:2002.05709, section 2.2 and appendix B.1.
    """

    base_learning_rates: list[float]
    peak_learning_rates: list[float]
    warmup_steps_: int
    total_steps_: int
    global_batch_size_: int

    def __init__(
        self,
        warmup_epochs: float = 10,
        warmup_steps: int | None = None,
        scaling: ScalingRule = "linear",
        batch_size: int | None = None,
        num_pictures: int | None = None,
    ) -> None:
        super().__init__()
        # the functions check the rest, so that a mistake shows here and not when the data are loaded
        scaled_learning_rate(0.0, 1 if batch_size is None else batch_size, scaling)
        warmup_steps_for(warmup_epochs, 1 if num_pictures is None else num_pictures, 1)
        if warmup_steps is not None and warmup_steps < 0:
            raise InputError(f"warmup_steps must be at least 0, got {warmup_steps}.")
        self.warmup_epochs = warmup_epochs
        self.warmup_steps = warmup_steps
        self.scaling = scaling
        self.batch_size = batch_size
        self.num_pictures = num_pictures
        self._ahead = 0.0  # of global_step, in steps: those before had batches of another size
        self._before: tuple[int, float] | None = None
        self._planned: tuple[int, int] | None = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep what a run with another batch size needs."""
        if hasattr(self, "global_batch_size_"):
            checkpoint["schedule"] = {"batch_size": self.global_batch_size_, "ahead": self._ahead}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take it over."""
        if "schedule" in checkpoint:
            self._before = checkpoint["schedule"]["batch_size"], checkpoint["schedule"]["ahead"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reads the base rates of the new optimizer, before a checkpoint overwrites them."""
        if not pl_module.automatic_optimization:
            raise InputError(
                f"LARSWarmup needs automatic optimisation, but {type(pl_module).__name__} optimises manually: the "
                "number of its optimizer steps is not known. Remove LARSWarmup, or leave automatic_optimization alone."
            )
        if trainer.lr_scheduler_configs:
            names = ", ".join(type(config.scheduler).__name__ for config in trainer.lr_scheduler_configs)
            raise InputError(
                f"Two schedules set the learning rate: LARSWarmup and {names}. Remove LARSWarmup from the Trainer's "
                f"callbacks, or return only the optimizer from {type(pl_module).__name__}.configure_optimizers()."
            )
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by one of its connectors
        if any(isinstance(callback, GradientAccumulationScheduler) for callback in callbacks):
            raise InputError(
                "LARSWarmup needs a constant global batch, but GradientAccumulationScheduler changes it. Remove it, "
                "and use Trainer(accumulate_grad_batches=...)."
            )
        self.base_learning_rates = [float(group["lr"]) for group in _parameter_groups(trainer)]
        self._planned = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finds out the length of the run and the peak rates, and sets the first rate.

        Not in ``on_fit_start``: asking for the training loader there would create it before the checkpoint is restored,
        and a loader with a state of its own would not get it back.
        """
        self.plan(trainer)
        if trainer.global_step < self.total_steps_:  # else no step is left, and the rate stays that of the last one
            self._set_learning_rates(trainer)

    def plan(self, trainer: Trainer) -> None:
        """Find out the length of the run and the peak rates; whoever shows them before the training starts asks here.

        Args:
            trainer: that has restored its checkpoint, if there is one. Its training loader is made.
        """
        if trainer.train_dataloader is None:  # else Lightning says that it makes it
            trainer.fit_loop.setup_data()
        numbers = _total_steps(trainer), _global_batch_size(trainer) if self.batch_size is None else self.batch_size
        if self._before is None and numbers == self._planned:
            return
        self.total_steps_, self.global_batch_size_ = self._planned = numbers
        if self._before is not None:
            (batch_size, self._ahead), self._before, step = self._before, None, trainer.global_step
            if batch_size != self.global_batch_size_ and trainer.max_steps == -1:
                self._ahead = (step + self._ahead) * batch_size / self.global_batch_size_ - step
        self.warmup_steps_ = self._resolve_warmup_steps(trainer)
        self.peak_learning_rates = [
            scaled_learning_rate(base, self.global_batch_size_, self.scaling) for base in self.base_learning_rates
        ]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Sets the rate of the coming step."""
        self._set_learning_rates(trainer)

    def _set_learning_rates(self, trainer: Trainer) -> None:
        step = trainer.global_step + self._ahead if self._ahead else trainer.global_step
        factor = warmup_cosine(step, self.warmup_steps_, self.total_steps_)
        groups = _parameter_groups(trainer)
        if len(groups) != len(self.peak_learning_rates):
            raise InputError(
                f"The optimizer had {len(self.peak_learning_rates)} parameter groups when fitting started and has "
                f"{len(groups)} now. LARSWarmup needs all groups from the start: create them in configure_optimizers()."
            )
        for group, peak in zip(groups, self.peak_learning_rates, strict=True):
            if isinstance(group["lr"], Tensor):  # torch allows it, for compiled optimizers
                group["lr"].fill_(factor * peak)
            else:
                group["lr"] = factor * peak

    def _resolve_warmup_steps(self, trainer: Trainer) -> int:
        total = self.total_steps_
        if self.warmup_steps is not None:
            warmup, typed = self.warmup_steps, f"warmup_steps={self.warmup_steps}"
        elif self.warmup_epochs == 0:
            return 0
        else:
            pictures = _num_pictures(trainer) if self.num_pictures is None else self.num_pictures
            if pictures is None:
                rank_zero_warn(
                    f"LARSWarmup: a stream has no epochs that {self.warmup_epochs:g} of them could warm up. It takes "
                    f"{total // 10} steps, a tenth of the run. Pass warmup_steps to choose it."
                )
                return total // 10
            warmup = warmup_steps_for(self.warmup_epochs, pictures, self.global_batch_size_)
            typed = f"warmup_epochs={self.warmup_epochs:g}"
        if warmup <= total:
            return warmup
        smoke_test = bool(trainer.fast_dev_run)  # type: ignore[attr-defined]  # set by one of its connectors
        if self.warmup_steps is not None and not smoke_test:
            raise InputError(
                f"LARSWarmup: the warm-up of {warmup} steps is longer than the whole run of {total} steps. Choose a "
                "smaller warmup_steps, or train longer."
            )
        rank_zero_warn(
            f"LARSWarmup: the warm-up of {warmup} steps ({typed}) is longer than the whole run of {total} steps. It is "
            f"cut to {total // 10} steps, a tenth of the run. Pass a smaller {typed.partition('=')[0]} to choose it."
        )
        return total // 10


def _parameter_groups(trainer: Trainer) -> list[dict[str, Any]]:
    return [group for optimizer in trainer.optimizers for group in optimizer.param_groups]


def _total_steps(trainer: Trainer) -> int:
    steps = trainer.estimated_stepping_batches
    # -1: Lightning's answer for data of unknown length without max_steps
    if not 1 <= steps < float("inf"):
        raise InputError(
            "LARSWarmup needs to know the number of optimizer steps of the whole run, and the Trainer cannot tell. Set "
            "max_steps, or max_epochs if the training data have a length."
        )
    return int(steps)


def _global_batch_size(trainer: Trainer) -> int:
    loader = trainer.train_dataloader
    # a loader with a batch sampler of its own has batch_size None
    sampler = getattr(loader, "batch_sampler", None)
    per_process = getattr(sampler, "batch_size", None) or getattr(loader, "batch_size", None)
    if not isinstance(per_process, int):
        raise InputError(
            f"LARSWarmup cannot tell the batch size of the training loader ({type(loader).__name__}). Pass "
            "LARSWarmup(batch_size=...): the pictures per optimizer step over all processes and accumulated batches."
        )
    return per_process * trainer.world_size * trainer.accumulate_grad_batches


def _num_pictures(trainer: Trainer) -> int | None:
    """Of an epoch; None where the data module says that there is no end."""
    pictures = getattr(getattr(trainer, "datamodule", None), "num_pictures", 0)
    if pictures is None or pictures > 0:
        return cast("int | None", pictures)
    dataset = getattr(trainer.train_dataloader, "dataset", None)
    if not isinstance(dataset, Sized):
        raise InputError(
            "LARSWarmup cannot tell the number of training pictures, which it needs for warmup_epochs. Pass "
            "LARSWarmup(num_pictures=...) or LARSWarmup(warmup_steps=...)."
        )
    return len(dataset)
