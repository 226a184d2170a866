"""``ContinueMetrics``: every run has a ``metrics.csv``, and a run that goes on keeps it."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from simclr_lightning.callbacks.run_folder import run_folder, unused_name
from simclr_lightning.callbacks.tracker_metrics import better, metrics_of, summary_of
from simclr_lightning.checkpoints import is_address, newest_checkpoint, read_checkpoint
from simclr_lightning.loop_progress import record_to_come

EARLIER = "metrics-earlier.csv"
"""Records of a training that another one in its folder did not continue."""


class ContinueMetrics(Callback):
    """Keeps the ``metrics.csv`` of a run that is resumed in its folder, where Lightning begins the file anew.

    In the folder of a training there is one whatever loggers were chosen, unless none was.

    A checkpoint tells how many rows there were: later ones are left out, since their steps and validations are made
    again. W&B, TensorBoard and MLflow take nothing back; they are given what they do not have. Where a training begins
    anew, the file of the one before stays as metrics-earlier.csv.

    Args:
        loggers: of the Trainer, before it has begun; the file is set aside at once.

    Example:
        >>> ContinueMetrics([]).files
        {}
    """

    def __init__(self, loggers: list[Any]) -> None:
        super().__init__()
        self.files: dict[Path, CSVLogger] = {}
        self._known: dict[str, Any] = {}
        self._before_validation: list[int] = []
        for logger in loggers:
            self._set_aside(logger)

    def _set_aside(self, logger: Any) -> None:
        """Put a file out of the way of the logger, which would delete it."""
        if isinstance(logger, CSVLogger) and _is_first():
            file = Path(logger.log_dir, "metrics.csv")
            self.files[file] = logger
            if file.exists() and not _aside(file).exists():  # from a run that was killed before its first step
                file.rename(_aside(file))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Log to a file, too, where no logger does."""
        if stage == "fit" and trainer.loggers and not any(isinstance(own, CSVLogger) for own in trainer.loggers):
            folder = run_folder(trainer)
            logger = CSVLogger(folder.parent, name="", version=folder.name)
            self._set_aside(logger)
            trainer.loggers = [*trainer.loggers, logger]

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count: from a checkpoint that is saved in a validation, this is made again."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._before_validation = self._written()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep how many rows there are, and what is logged just after: the run may be killed in between."""
        rows = self._before_validation if trainer.validating else self._written()
        checkpoint["records"] = {"rows": rows, "to_come": record_to_come(trainer)}

    def _written(self) -> list[int]:
        """Rows of each file, and now all of them are in it."""
        for logger in self.files.values():
            logger.save()
        return [file.read_bytes().count(b"\n") - 1 if file.exists() else 0 for file in self.files]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take that over."""
        self._known = checkpoint.get("records", {})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the rows back that the checkpoint knows of."""
        self._put_back(trainer)
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger) and _is_first():
                write_at_once(logger)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave what was there where a training was refused before it began."""
        for file in self.files:
            if _aside(file).exists() and not file.exists():
                _aside(file).rename(file)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Put them back where nothing was left to train."""
        if stage == "fit":
            self._put_back(trainer)

    def _put_back(self, trainer: Trainer) -> None:
        for place, (file, logger) in enumerate(self.files.items()):
            aside = _aside(file)
            if not aside.exists():
                continue
            if trainer.global_step == 0:
                aside.rename(unused_name(file.with_name(EARLIER)))
                continue
            writer = logger.experiment  # deletes what is there when it is made
            names, found = _read(aside)
            known = [int(row["step"]) < trainer.global_step for row in found]
            if place < len(told := self._known.get("rows", [])):
                known = [number < told[place] for number in range(len(found))]
            rows = [row for row, is_known in zip(found, known, strict=True) if is_known]
            after = [row for row, is_known in zip(found, known, strict=True) if not is_known]
            _tell_best(trainer, found)
            _hold_back(trainer, after)
            record = {name: str(value) for name, value in self._known.get("to_come", {}).items()}
            if record:
                names = sorted({*names, *record})
                rows.append(record)
                if not any(record.items() <= row.items() for row in after):
                    self._tell_trackers(trainer)
            _write(file, names, rows)
            writer.metrics_keys = names
            aside.unlink()

    def _tell_trackers(self, trainer: Trainer) -> None:
        record = dict(self._known["to_come"])
        step = int(record.pop("step"))
        for logger in trainer.loggers:
            if not isinstance(logger, CSVLogger):
                logger.log_metrics(record, step)


def write_at_once(logger: CSVLogger) -> None:
    """Let a file get a column by a new one that takes its place; Lightning empties it first, and may be killed then.

    Args:
        logger: of the first process, which alone writes.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_at_once(CSVLogger(folder))
    """
    writer: Any = logger.experiment
    save = writer.save

    def save_at_once() -> None:
        file, names = Path(writer.metrics_file_path), {*writer.metrics_keys}
        if (more := set().union(*writer.metrics) - names) and file.is_file():
            columns = sorted(names | more)
            _write(file, columns, _read(file)[1])
            writer.metrics_keys = columns
        save()

    writer.save = save_at_once


def _read(file: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and rows of a table, without a last line that has no end."""
    with file.open(newline="") as lines:
        whole = [line for line in lines if line.endswith("\n")]
    reader = csv.DictReader(whole)
    rows = [row for row in reader if None not in (*row, *row.values()) and row.get("step", "").isdigit()]
    return list(reader.fieldnames or []), rows


def _tell_best(trainer: Trainer, rows: list[dict[str, Any]]) -> None:
    """Let trackers know what was best before."""
    best: dict[str, float] = {}
    for row in rows:
        for name, told in row.items():
            if told and summary_of(name) != "last" and math.isfinite(float(told)):
                best[name] = better(name, best.get(name, float(told)), float(told))
    for logger in trainer.loggers:
        if (metrics := metrics_of(logger)) is not None:
            metrics.best = dict(best)


def _write(file: Path, names: list[str], rows: list[dict[str, Any]]) -> None:
    """Put a table in the place of a file when it is complete."""
    part = file.with_suffix(".part")
    with part.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, names)
        writer.writeheader()
        writer.writerows(rows)
    part.replace(file)


def _hold_back(trainer: Trainer, rows: list[dict[str, Any]]) -> None:
    """Let trackers, which take nothing back, not be given again what they have of steps that are taken again."""
    trackers = {logger: metrics for logger in trainer.loggers if (metrics := metrics_of(logger)) is not None}
    if not trackers or not rows:
        return
    if _goes_back(trainer):
        rank_zero_warn(
            f"This run goes back to step {trainer.global_step}, and its trackers keep what they have of later steps: "
            "for curves of its own, give it a --trainer.logger.version of its own."
        )
        return
    known: set[tuple[int | None, str]]
    known = {(int(row["step"]), name) for row in rows for name, value in row.items() if value and name != "step"}
    for logger, metrics in trackers.items():
        metrics.known = known
        run: Any = logger.experiment if isinstance(logger, WandbLogger) else None
        if run is not None and run.resumed:  # on a server, which knows what came through
            metrics.keep_to(int(run.summary.get("trainer/global_step", -1)))


def _goes_back(trainer: Trainer) -> bool:
    """Whether somebody chose an older checkpoint than the newest of the run."""
    path: Any = trainer.ckpt_path
    if path is None or is_address(path):
        return False
    newest = newest_checkpoint(Path(path).parent).path
    if newest is None or newest.resolve() == Path(path).resolve():
        return False
    return bool(read_checkpoint(newest, in_pieces=True).content.get("global_step", 0) > trainer.global_step)


def _aside(file: Path) -> Path:
    return file.with_name(f".{file.name}.aside")


def _is_first() -> bool:
    """Whether this is the first process, which alone writes."""
    return bool(cast("Any", rank_zero_only).rank == 0)
