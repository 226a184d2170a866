"""A run that is told to stop saves its state first: SIGTERM of a scheduler, Ctrl-C, the end of ``max_time``."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint, Timer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from simclr_lightning.callbacks.run_folder import run_folder, unused_name
from simclr_lightning.checkpoints import is_address
from simclr_lightning.distributed import largest_of_processes
from simclr_lightning.loop_progress import accumulates, between_batches, end_epoch_that_is_over, stop_between_batches

SIGNALS = ("SIGTERM", "SIGUSR1", "SIGHUP", "SIGINT")
"""What schedulers send before they kill, what a closed terminal sends, and Ctrl-C."""

_TIME_IS_UP = 1000
"""Stands for a signal where ``max_time`` is over."""


class SaveWhenStopped(Checkpoint):
    """Saves and ends the process after the step in which it is told to stop, so that a resumed run *is* the run.

    On SIGTERM, SIGUSR1, SIGHUP or the first Ctrl-C, in any of the processes of a training, all of them finish their
    step, gradients that are accumulated included; ``last.ckpt`` is written, and the process exits with 128 + the
    signal's number (143, 138, 129, 130), which schedulers take for a run to be started again. A validation is not
    waited for: the resumed run begins it anew. A second signal ends the process at once. At the end of
    ``Trainer(max_time=...)`` the same happens, with status 0, and the resumed run has as much time again; Lightning
    would end an epoch that is not over.

    Jobs of SLURM are requeued where the signal was SIGUSR1 (``#SBATCH --signal=USR1@90``), as Lightning does.

    Every other checkpoint of a training that has it is exact, too, wherever it was saved; where ``max_steps`` ends it
    within an epoch, a longer run goes on with the pictures that were left.

    It stands behind a ``ModelCheckpoint``, in whose folder it writes.

    Example:
        >>> trainer = Trainer(callbacks=[SaveWhenStopped()], accelerator="cpu", logger=False)
    """

    def __init__(self) -> None:
        super().__init__()
        self._received = 0
        self._agreed = 0
        self._began = False

    # --- signals ---

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen, instead of Lightning's handlers, which send messages between processes in the middle of a step."""
        self._listen()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen; Lightning puts back what was there when a fit is over."""
        self._began = True
        self._listen()
        end_epoch_that_is_over(trainer)

    def _listen(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for name in SIGNALS:
            number = getattr(signal, name, None)  # not all are on Windows
            if number is not None and not (name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN):  # nohup
                signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        name = signal.Signals(number).name
        for own in SIGNALS:
            if hasattr(signal, own):
                signal.signal(getattr(signal, own), signal.default_int_handler if own == "SIGINT" else signal.SIG_DFL)
        # Not print: the signal may have come in the middle of one.
        os.write(2, f"\n{name}: saving after this step. Once more ends at once.\n".encode())

    # --- agreement ---

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Ask all processes whether one of them was told to stop."""
        if not self._received and any((timer.time_remaining() or 1) <= 0 for timer in _timers(trainer)):
            self._received = _TIME_IS_UP
        self._agree(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave a validation to the resumed run."""
        if self._agreed and trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            raise SIGTERMException

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Break a validation off; several processes, which may have different numbers of batches, finish it."""
        if trainer.world_size == 1 and trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._agree(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask all processes."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._agree(trainer)

    def _agree(self, trainer: Trainer) -> None:
        if accumulates(trainer):  # a step that is not complete would be lost
            return
        if not self._agreed:
            self._agreed = largest_of_processes(self._received, trainer.strategy.root_device)
        if self._agreed:
            if self._agreed == _TIME_IS_UP:
                trainer.should_stop = False  # which would end the epoch
            stop_between_batches(trainer)

    # --- saving ---

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save, and give the exception, with which Lightning ends the process, its status."""
        if not self._agreed or not isinstance(exception, SIGTERMException):
            return
        path = self._path(trainer)
        trainer.save_checkpoint(path)
        number = self._agreed
        starts_others = isinstance(getattr(trainer.strategy, "cluster_environment", None), LightningEnvironment)
        if number == _TIME_IS_UP or (starts_others and not trainer.is_global_zero):
            exception.code = 0  # Lightning kills the first process where one of those that it has started fails
        else:
            exception.code = 128 + number
        reason = "the end of max_time" if number == _TIME_IS_UP else signal.Signals(number).name
        if number == getattr(signal, "SIGUSR1", None) and trainer.is_global_zero:
            _requeue(trainer)
        trainer.strategy.barrier()  # where one has ended, srun may kill the others
        step = trainer.global_step
        _tell(f"Stopped by {reason} after step {step}. To go on: the same command, with\n--ckpt_path {path}")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the state to between two batches, in whatever hook it is saved."""
        between_batches(trainer, checkpoint)
        if self._agreed == _TIME_IS_UP:  # the resumed run has as much time again
            for timer in _timers(trainer):
                checkpoint["callbacks"].pop(timer.state_key, None)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let ``last.ckpt`` be the last where nothing was left to train: a run may be killed just before it is."""
        if stage != "fit" or self._began or not trainer.is_global_zero or is_address(trainer.ckpt_path or ""):
            return
        newest = Path(trainer.ckpt_path or "")
        last = newest.with_name(f"{ModelCheckpoint.CHECKPOINT_NAME_LAST}.ckpt")
        if newest.is_file() and last.is_file() and last.stat().st_mtime_ns < newest.stat().st_mtime_ns:
            part = last.with_name(f".{last.name}.part")
            shutil.copyfile(newest, part)
            part.replace(last)

    def _path(self, trainer: Trainer) -> str:
        savers = [own for own in trainer.checkpoint_callbacks if isinstance(own, ModelCheckpoint)]
        savers.sort(key=lambda own: not own.save_last)
        folder = savers[0].dirpath if savers and savers[0].dirpath else run_folder(trainer) / "checkpoints"
        path = savers[0].last_model_path if savers else ""
        path = path or str(unused_name(Path(folder, f"{ModelCheckpoint.CHECKPOINT_NAME_LAST}.ckpt")))
        path = trainer.strategy.broadcast(path)
        if savers:
            savers[0].last_model_path = path  # so that the resumed run replaces it
        return path


def _requeue(trainer: Trainer) -> None:
    """Let SLURM start its job again, unless Lightning's own settings forbid it."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if SLURMEnvironment.detect() and getattr(environment, "auto_requeue", True):
        array = os.environ.get("SLURM_ARRAY_JOB_ID")
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
        done = subprocess.run(["scontrol", "requeue", job], check=False)
        if done.returncode:
            rank_zero_warn(f"`scontrol requeue {job}` failed: start the job again by hand.")


def _timers(trainer: Trainer) -> list[Timer]:
    return [own for own in trainer.callbacks if isinstance(own, Timer)]  # type: ignore[attr-defined]


@rank_zero_only
def _tell(text: str) -> None:
    os.write(2, f"{text}\n".encode())
