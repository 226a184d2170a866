"""The private names of Lightning that this package relies on, each with its reason, and the versions of packages.

No other file uses any of these names.
"""

from __future__ import annotations

import csv
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers.csv_logs import CSVLogger, ExperimentWriter
from lightning.pytorch.trainer.connectors.logger_connector.result import _METRICS, _ResultCollection, _ResultMetric
from torch import Tensor

CLASS_PATH = "_class_path"
"""Hyperparameter in which LightningCLI leaves the class that it made: the only place where a checkpoint tells it."""

INSTANTIATOR = "_instantiator"
"""Hyperparameter that names a function which ``load_from_checkpoint`` would call: nothing is run because a file names
it, so it is dropped."""


def version_of(package: str) -> str:
    """Version of a package, "unknown" where it is on the path without being installed, as a clone of this one can be.

    Example:
        >>> version_of("no-such-package")
        'unknown'
    """
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


class CommandLine(LightningCLI):
    """LightningCLI, with a way to its sub-commands' parsers, and without its own reading of checkpoints."""

    def parser_of(self, subcommand: str) -> LightningArgumentParser:
        """Parser of a sub-command: its defaults depend on the class that is chosen, and on a checkpoint."""
        return self._subcommand_parsers[subcommand]

    def chosen(self, config: Any, key: str) -> Any:
        """A setting of the sub-command that is run."""
        return self._get(config, key)

    def leave_out_where_resumed(self, argument: str) -> None:
        """Drop an argument of the model where a checkpoint is named, which has what it would fetch.

        Lightning trains anew where it finds no checkpoint for the word last.
        """
        chosen = self.config[self.config.subcommand]
        if chosen.get("ckpt_path") not in (None, "last") and chosen.model.init_args.get(argument) is not None:
            chosen.model.init_args[argument] = None

    def _parse_ckpt_path(self) -> None:
        """Lightning lets the checkpoint overrule configuration and command line here."""


_TOLD_TO_EVERYBODY = ("💡 Tip: ", "GPU available: False", "TPU available: False")
_WARNED_OF = (
    # Lightning 2.6 with torch 2.14 says so at every batch; no user can do anything about it.
    ("`isinstance.treespec, LeafSpec.` is deprecated", FutureWarning),
    # Pictures in memory need no workers, and files have as many as there are cores (warn_of_workers).
    (".*does not have many workers", Warning),
    # Pictures to watch a training by are nobody's duty.
    ("Total length of `list` across ranks is zero", Warning),
    # What is typed is parsed a second time, without --print_config or with stand-ins for odd names.
    ("LightningCLI's args parameter is intended", Warning),
)


@contextmanager
def without_noise() -> Iterator[None]:
    """Leave out what Lightning tells everybody and nobody can act on: advertising, and some warnings.

    Example:
        >>> from lightning.pytorch.utilities import rank_zero_info
        >>> with without_noise():
        ...     rank_zero_info("💡 Tip: try our shop")
    """
    log = logging.getLogger("lightning.pytorch.utilities.rank_zero")

    def is_of_use(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(_TOLD_TO_EVERYBODY)

    log.addFilter(is_of_use)
    try:
        with warnings.catch_warnings():
            for pattern, category in _WARNED_OF:
                warnings.filterwarnings("ignore", pattern, category)
            yield
    finally:
        log.removeFilter(is_of_use)


def trainer_of(module: LightningModule) -> Trainer | None:
    """The Trainer that runs a module; None in somebody else's training loop, where Lightning answers by an error.

    Example:
        >>> trainer_of(LightningModule())
    """
    try:
        trainer = module.trainer
    except RuntimeError:
        return None
    return trainer if isinstance(trainer, Trainer) else None  # Fabric puts something else in its place


def read_bar_at_logged_steps(trainer: Trainer | None) -> None:
    """Let the host wait for the progress bar's values at logged steps only, where it waits for the loggers' anyway.

    Lightning reads every value of ``self.log(..., prog_bar=True)`` after every batch (its issue 21232), so that an
    accelerator has nothing to do while the host prepares the next one. Afterwards the bar shows a value from its first
    step on, and renews it at logged steps and at the last one of an epoch. Values on the CPU are renewed at every step.

    Args:
        trainer: before it trains. Whatever bar it has, and whatever module logs. None: nobody's bar.

    Example:
        >>> read_bar_at_logged_steps(Trainer(accelerator="cpu", logger=False, enable_checkpointing=False))
    """
    if trainer is None:
        return
    loop = trainer.fit_loop.epoch_loop
    if not isinstance(loop._results, _BarReadAtLoggedSteps):
        loop._results = _BarReadAtLoggedSteps(trainer)


class _BarReadAtLoggedSteps(_ResultCollection):
    """What is logged in training."""

    def __init__(self, trainer: Trainer) -> None:
        super().__init__(training=True)
        self._trainer = trainer

    def metrics(self, on_step: bool) -> _METRICS:
        """Values by where they go; those that the bar keeps are left out of its own."""
        kept = [metric for metric in self.values() if self._is_kept(metric)] if on_step and self._keeps() else []
        for metric in kept:
            metric.meta.prog_bar = False
        try:
            return super().metrics(on_step)
        finally:
            for metric in kept:
                metric.meta.prog_bar = True

    def _keeps(self) -> bool:
        loop, every = self._trainer.fit_loop, self._trainer.log_every_n_steps  # type: ignore[attr-defined]
        step = loop.epoch_loop._batches_that_stepped + 1
        is_logged = step % (every or _DEFAULT_PERIOD) == 0 and not loop._should_accumulate()
        is_last = loop.epoch_loop.batch_progress.is_last_batch  # of the epoch, whose values are read anyway
        return not (is_logged or is_last or self._trainer.should_stop)

    def _is_kept(self, metric: _ResultMetric) -> bool:
        value: Any = metric._forward_cache
        if not metric.meta.prog_bar or not isinstance(value, Tensor) or value.device.type == "cpu":
            return False
        return self._forked_name(metric, True)[1] in self._trainer._logger_connector._progress_bar_metrics


class AppendingCSVLogger(CSVLogger):
    """CSVLogger in a folder that has files already: a metrics.csv that is there goes on, and nothing is deleted.

    Lightning's deletes it, with a warning about any file.
    """

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """What writes the file."""
        if self._experiment is None:
            self._experiment = _AppendingWriter(self.log_dir)
        return self._experiment


class _AppendingWriter(ExperimentWriter):
    def _check_log_dir_exists(self) -> None:
        """Take over the columns that are there."""
        if self._fs.isfile(self.metrics_file_path):
            with self._fs.open(self.metrics_file_path, "r", newline="") as file:
                self.metrics_keys = list(csv.DictReader(file).fieldnames or ())

    def log_hparams(self, params: dict[str, Any]) -> None:
        """Not at all: config.yaml has them."""


_DEFAULT_PERIOD = 50
"""Steps, for whoever logs none: Lightning's own."""
