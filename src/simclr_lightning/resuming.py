"""Where a run goes on: from which checkpoint, in which folder, and with which records."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, cast

from jsonargparse import Namespace
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer, loggers
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from simclr_lightning.callbacks.run_folder import run_folder, unused_name
from simclr_lightning.checkpoints import is_address, newest_checkpoint, run_of
from simclr_lightning.compat import epoch_record
from simclr_lightning.errors import InputError, MissingFileError

LAST = "last"
"""As ``--ckpt_path``: the newest checkpoint of the run, or of the newest run."""

EARLIER = "metrics-earlier.csv"
"""Records of a training that another one in its folder did not continue."""


def resolve(chosen: Namespace, subcommand: str) -> None:
    """Put the checkpoint and the folder in the place of ``--ckpt_path last`` and ``--auto_resume``.

    Args:
        chosen: settings of the sub-command, which are changed.
        subcommand: of ``simclr``; ``fit`` goes on in the folder of the run that it continues.

    Raises:
        InputError: if there is nothing to go on from, or nobody says which run is meant.

    Example:
        >>> logger = Namespace(class_path="CSVLogger", init_args=Namespace(save_dir="runs", name="a", version=None))
        >>> chosen = Namespace(ckpt_path="runs/a/one/checkpoints/last.ckpt", trainer=Namespace(logger=logger))
        >>> resolve(chosen, "fit")
        >>> chosen.trainer.logger.init_args.version
        'one'
    """
    runs = _Runs(chosen)
    begins = subcommand == "fit" and chosen.get("ckpt_path") is None
    if begins and runs.arguments is not None and runs.version is None and SLURMEnvironment.detect():
        runs.arguments["version"] = _job()  # two jobs never take each other's checkpoints
    automatic = chosen.get("auto_resume")
    if automatic is None:
        automatic = subcommand == "fit" and int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0
    if automatic:
        found = _newest([runs.folder_of_this_run()], subcommand)
        if found is not None:
            chosen["ckpt_path"] = str(found)
    elif chosen.get("ckpt_path") == LAST:
        folders = [runs.folder_of_this_run()] if runs.version is not None else runs.folders()
        found = _newest(folders, subcommand)
        if found is None:
            where = runs.root / "*" if runs.version is None and runs.arguments is not None else folders[0]
            raise MissingFileError(
                f"There is no checkpoint in {where / 'checkpoints'} to go on from: begin without --ckpt_path last, or "
                "let --auto_resume true begin where there is none."
            )
        chosen["ckpt_path"] = str(found)
    path = chosen.get("ckpt_path")
    if subcommand == "fit" and path is not None and not is_address(path):
        runs.go_on_in(run_of(path))


class _Runs:
    """Folders of the runs of a configuration.

    Attributes:
        arguments: of the first logger, None where its runs are no folders.
        root: the folder of all of them.
        version: of this run, None where it was not typed.
    """

    def __init__(self, chosen: Namespace) -> None:
        loggers = chosen.trainer.get("logger")
        logger = loggers[0] if isinstance(loggers, list) and loggers else loggers
        known = isinstance(logger, Namespace) and _has_folders(logger.class_path)
        self.without_logger = logger is False
        self.arguments: Namespace | None = logger.init_args if known else None
        self.version: str | int | None = None
        self.root = Path(chosen.trainer.get("default_root_dir") or ".")
        if self.arguments is not None:
            self.root = Path(self.arguments.save_dir, self.arguments.get("name") or "")
            self.version = self.arguments.get("version")

    def folder_of_this_run(self) -> Path:
        """Of the run whose version was typed."""
        if self.without_logger:
            return self.root
        version = None if self.arguments is None else self.arguments.get("version")
        if version is None:
            raise InputError("auto_resume needs to know which run goes on: name it", "trainer.logger.version NAME")
        return self.root / (version if isinstance(version, str) else f"version_{version}")

    def folders(self) -> list[Path]:
        """Of all runs."""
        return [self.root] if self.arguments is None else sorted(self.root.glob("*"))

    def go_on_in(self, folder: Path | None) -> None:
        """Continue one of these runs in its own folder, unless another one was typed."""
        if folder is None or self.arguments is None or self.version is not None:
            return
        if folder.resolve().parent == self.root.resolve():
            self.arguments["version"] = folder.resolve().name


def _has_folders(class_path: str) -> bool:
    """Whether the runs of a logger are folders save_dir/name/version."""
    kind: Any = resolve_name(class_path) if "." in class_path else getattr(loggers, class_path, None)
    return isinstance(kind, type) and issubclass(kind, (CSVLogger, TensorBoardLogger))


def _newest(folders: list[Path], subcommand: str) -> Path | None:
    """The newest whole checkpoint of the newest of some runs; ``fit`` puts damaged ones out of the way."""
    ages = {folder: [file.stat().st_mtime_ns for file in _files(folder)] for folder in folders}
    begun = [folder for folder in folders if ages[folder]]
    if not begun:
        return None
    folder = max(begun, key=lambda own: max(ages[own])) / "checkpoints"
    path, damaged = newest_checkpoint(folder)
    names = ", ".join(file.name for file in damaged)
    if path is None:
        raise InputError(
            f"No checkpoint in {folder} can be read ({names}): name another one (--ckpt_path), or begin anew."
        )
    if damaged:
        rank_zero_warn(f"{names} in {folder} cannot be read: the run goes on from the one before, {path.name}.")
    for file in damaged if subcommand == "fit" and _writes() else []:
        file.rename(file.with_name(f"{file.name}.damaged"))  # the names that the run wants are free
    return path


def _writes() -> bool:
    """Whether this is the first process, which alone does."""
    return bool(cast("Any", rank_zero_only).rank == 0)


def _files(folder: Path) -> Iterator[Path]:
    return (folder / "checkpoints").glob("*.ckpt")


def _job() -> str:
    """Name of a job of SLURM, the same after it was requeued."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"job_{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else f"job_{os.environ['SLURM_JOB_ID']}"


class ContinueMetrics(Callback):
    """Keeps the ``metrics.csv`` of a run that is resumed in its folder, where Lightning begins the file anew.

    In the folder of a training there is one whatever loggers were chosen, unless none was.

    Rows of steps after the checkpoint are left out: these steps are taken again. Where a training begins anew, the file
    of the one before stays as metrics-earlier.csv.

    Args:
        loggers: of the Trainer, before it has begun; the file is set aside at once.

    Example:
        >>> ContinueMetrics([]).files
        {}
    """

    def __init__(self, loggers: list[Any]) -> None:
        super().__init__()
        self.files: dict[Path, CSVLogger] = {}
        self._continued: list[Path] = []
        self._record: dict[str, float] = {}
        for logger in loggers:
            self._set_aside(logger)

    def _set_aside(self, logger: Any) -> None:
        """Put a file out of the way of the logger, which would delete it."""
        if isinstance(logger, CSVLogger) and _writes():
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

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep an epoch's record, which is logged after the checkpoint of its end: the run may be killed in between."""
        checkpoint["epoch_record"] = epoch_record(trainer)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take that record over."""
        self._record = checkpoint.get("epoch_record", {})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the rows back that the checkpoint knows of."""
        self._put_back(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Put them back where nothing was left to train; a validation that was made again has its row once."""
        if stage != "fit":
            return
        self._put_back(trainer)
        for file in self._continued:
            with file.open(newline="") as lines:
                reader = csv.DictReader(lines)
                names, rows = list(reader.fieldnames or []), list(reader)
            if len(kept := _different(rows)) < len(rows):
                _write(file, names, kept)

    def _put_back(self, trainer: Trainer) -> None:
        for file, logger in self.files.items():
            aside = _aside(file)
            if not aside.exists():
                continue
            if trainer.global_step == 0:
                aside.rename(unused_name(file.with_name(EARLIER)))
                continue
            with aside.open(newline="") as lines:
                reader = csv.DictReader(lines)
                names = list(reader.fieldnames or [])
                rows = _different(row for row in reader if _is_before(row, trainer.global_step))
            record = {name: str(value) for name, value in self._record.items()}
            if record and not any(record.items() <= row.items() for row in rows):
                names = sorted({*names, *record})
                rows.append(record)
            _write(file, names, rows)
            self._continued.append(file)
            logger.experiment.metrics_keys = names
            aside.unlink()


def _different(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without those that are there before, in their order."""
    return list({tuple(row.items()): row for row in rows}.values())


def _write(file: Path, names: list[str], rows: list[dict[str, Any]]) -> None:
    """Put a table in the place of a file when it is complete."""
    part = file.with_suffix(".part")
    with part.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, names)
        writer.writeheader()
        writer.writerows(rows)
    part.replace(file)


def _aside(file: Path) -> Path:
    return file.with_name(f".{file.name}.aside")


def _is_before(row: dict[str, Any], step: int) -> bool:
    """Whether a row is whole, which the last one of a killed run may not be, and of a step before."""
    told = row.get("step")
    return None not in row and None not in row.values() and str(told).isdigit() and int(str(told)) < step
