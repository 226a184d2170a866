"""The private names of Lightning that this package relies on, each with its reason.

No other file uses any of these names; those of the loops' positions are in ``loop_progress``.
"""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.trainer.connectors.logger_connector.result import _METRICS, _ResultCollection, _ResultMetric
from lightning.pytorch.utilities.exceptions import _TunerExitException
from torch import Tensor

from simclr_lightning.errors import shown

CLASS_PATH = "_class_path"
"""Hyperparameter in which LightningCLI leaves the class that it made: the only place where a checkpoint tells it."""

INSTANTIATOR = "_instantiator"
"""Hyperparameter that names a function, which ``load_from_checkpoint`` would call: it is dropped."""

EndTraining = _TunerExitException
"""Raised in a hook on all processes it ends a training at once, and well, without the hooks of its end."""


_DEFAULT_PERIOD = 50  # Lightning's steps between records


class CommandLine(LightningCLI):
    """LightningCLI, with a way to its sub-commands' parsers, and without its own reading of checkpoints.

    Only the sub-command that is typed first gets its options: those of the others take a third of a second.
    """

    def __init__(self, model: type, data: type, *, args: ArgsType = None, **settings: Any) -> None:
        words = sys.argv[1:] if args is None else args
        first = words[0] if isinstance(words, list) and words else None
        self._typed_command = first if first in self.subcommands() else None
        super().__init__(model, data, args=args, **settings)

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **settings: Any) -> LightningArgumentParser:
        if self._typed_command in (None, subcommand):
            return super()._prepare_subcommand_parser(klass, subcommand, **settings)
        self._subcommand_method_arguments[subcommand] = []
        return self.init_parser(**settings)  # no more than its name

    def parser_of(self, subcommand: str) -> LightningArgumentParser:
        """Parser of a sub-command: its defaults depend on the class that is chosen, and on a checkpoint."""
        return self._subcommand_parsers[subcommand]

    def chosen(self, config: Any, key: str) -> Any:
        """A setting of the sub-command that is run."""
        return self._get(config, key)

    def leave_out_where_resumed(self, argument: str) -> None:
        """Drop an argument of the model where a checkpoint is named, which has what it would fetch."""
        chosen = self.config[self.config.subcommand]
        if chosen.get("ckpt_path") is not None and chosen.model.init_args.get(argument) is not None:
            chosen.model.init_args[argument] = None

    def _parse_ckpt_path(self) -> None:
        """Lightning lets the checkpoint overrule configuration and command line here."""


_TOLD_TO_EVERYBODY = re.compile(r"💡 Tip: |\w+ available: False, us")  # devices that there are not
_WARNED_OF = (
    # Lightning 2.6 with torch 2.14 says so at every batch; no user can do anything about it.
    ("`isinstance.treespec, LeafSpec.` is deprecated", FutureWarning),
    # Pictures in memory need no workers, and files have as many as there are cores (warn_of_workers).
    (".*does not have many workers", Warning),
    # Pictures to watch a training by are nobody's duty.
    ("Total length of `list` across ranks is zero", Warning),
    # A run that goes on in its folder keeps its records (ContinueMetrics).
    ("Experiment logs directory .* exists and is not empty", Warning),
    ("Checkpoint directory .* exists and is not empty", Warning),
    # Where SLURM is installed Lightning says so in every run without it.
    ("The `srun` command is available", Warning),
    # What is typed is parsed a second time.
    ("LightningCLI's args parameter is intended", Warning),
)


@contextmanager
def without_noise() -> Iterator[None]:
    """Leave out what Lightning tells everybody and nobody can act on: advertising, and some warnings.

    Control characters in what else is told are written out.

    Example:
        >>> from lightning.pytorch.utilities import rank_zero_info
        >>> with without_noise():
        ...     rank_zero_info("💡 Tip: try our shop")
    """
    log = logging.getLogger("lightning.pytorch.utilities.rank_zero")

    def is_of_use(record: logging.LogRecord) -> bool:
        record.msg, record.args = shown(record.getMessage()), ()
        return _TOLD_TO_EVERYBODY.match(record.msg) is None

    formatted = warnings.formatwarning
    log.addFilter(is_of_use)
    try:
        warnings.formatwarning = lambda message, *place: formatted(shown(message), *place)
        with warnings.catch_warnings():
            for pattern, category in _WARNED_OF:
                warnings.filterwarnings("ignore", pattern, category)
            yield
    finally:
        warnings.formatwarning = formatted
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


def explain_restoring(
    trainer: Trainer,
    check: Callable[[dict[str, Any]], None],
    explain: Callable[[Exception, dict[str, Any]], Exception | None],
) -> None:
    """Let somebody say what is wrong with a checkpoint where Lightning fails in restoring it, or would not notice.

    Args:
        trainer: before it restores anything.
        check: is given the content before the state of a training is restored, and may raise an error.
        explain: is asked with an error and the content, for another error to raise.

    Example:
        >>> trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        >>> explain_restoring(trainer, print, lambda error, content: ValueError(f"{error} in {sorted(content)}"))
        >>> trainer._checkpoint_connector._loaded_checkpoint = {"state_dict": {}}
        >>> trainer._checkpoint_connector.restore_model()  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: ... in ['state_dict']
    """
    connector: Any = trainer._checkpoint_connector

    def explained(restore: Callable[[], None]) -> Callable[[], None]:
        def call() -> None:
            content = connector._loaded_checkpoint
            try:
                if content and restore.__name__ == "restore_training_state":
                    check(content)
                restore()
            except Exception as error:
                raise explain(error, content) or error from error

        return call

    for name in ("restore_model", "restore_datamodule", "restore_callbacks", "restore_training_state"):
        setattr(connector, name, explained(getattr(connector, name)))
