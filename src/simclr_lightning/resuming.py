"""Where a run goes on: from which checkpoint, in which folder, and in which run of a tracker."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from jsonargparse import Namespace
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from simclr_lightning.checkpoints import is_address, newest_checkpoint, run_of
from simclr_lightning.errors import InputError, MissingFileError
from simclr_lightning.trackers import (
    call_and_group,
    go_on,
    has_folders,
    id_of_wandb,
    loggers_of,
    project_of,
    require_trackers,
)

LAST = "last"
"""As ``--ckpt_path``: the newest checkpoint of the run, or of the newest run."""

NAMED = ("best", "hpc", "registry")
"""As ``--ckpt_path``: what Lightning finds later."""


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
    require_trackers(loggers_of(chosen))
    runs = _Runs(chosen)
    renames = subcommand == "fit" and not chosen.get("dry_run")
    begins = subcommand == "fit" and chosen.get("ckpt_path") is None
    if begins and runs.arguments is not None and runs.version is None and SLURMEnvironment.detect():
        runs.arguments["version"] = runs.version = _job()  # two jobs never take each other's checkpoints
    if _goes_on_by_itself(chosen, subcommand):
        found = _newest([runs.folder_of_this_run()], renames=renames)
        if found is not None:
            chosen["ckpt_path"] = str(found)
    elif chosen.get("ckpt_path") == LAST:
        folders = runs.folders() if runs.version is None else [runs.folder_of_this_run()]
        found = _newest(folders, renames=renames)
        if found is None:
            where = runs.root / "*" if runs.version is None and runs.arguments is not None else folders[0]
            raise MissingFileError(
                f"There is no checkpoint in {where / 'checkpoints'} to go on from: begin without --ckpt_path last, or "
                "let --auto_resume true begin where there is none."
            )
        chosen["ckpt_path"] = str(found)
    call_and_group(chosen)
    path = chosen.get("ckpt_path")
    if subcommand == "fit" and path is not None and path not in NAMED:
        runs.go_on_from(path)


def check_folder_is_free(chosen: Namespace) -> None:
    """Refuse to train in the folder of another run, which the names of its files would be taken for later.

    A start that was interrupted before it had a checkpoint or a record is no run: its folder is used again. Lightning
    counts versions by itself where none is typed, and a run that goes on is where it belongs. Every process asks,
    before they know each other: on a file system that they share, all of them end.

    Args:
        chosen: settings of ``simclr fit``, as :func:`resolve` left them.

    Raises:
        InputError: naming the folder, what is in it, and what to type.

    Example:
        >>> logger = Namespace(class_path="CSVLogger", init_args=Namespace(save_dir="runs", name="a", version="new"))
        >>> check_folder_is_free(Namespace(trainer=Namespace(logger=logger)))
    """
    runs, trainer, path = _Runs(chosen), chosen.trainer, chosen.get("ckpt_path")
    has_no_folder = not runs.without_logger if runs.arguments is None else runs.version is None
    if has_no_folder or trainer.get("fast_dev_run") or trainer.get("barebones"):
        return
    if runs.without_logger and trainer.get("enable_checkpointing") is False:
        return
    found_later = path is not None and (path in NAMED or is_address(path))
    folder = runs.folder_of_this_run()
    run = None if path is None else run_of(path)
    goes_on = run is not None and run.resolve() == folder.resolve()
    if goes_on or found_later or _goes_on_by_itself(chosen, "fit"):
        return
    found = list(_of_value(folder, only_checkpoints=runs.without_logger))
    if found:
        other = "--trainer.default_root_dir" if runs.without_logger else "--trainer.logger.version"
        last = "go on with it (--ckpt_path last), " if "checkpoint" in found[0] else ""
        raise InputError(
            f"The folder {folder} is that of another run, with {' and '.join(found)}, and nothing is mixed with it:\n"
            f"{last}name another one ({other} NAME), or delete it."
        )


def _of_value(folder: Path, *, only_checkpoints: bool) -> Iterator[str]:
    """What a run has left in its folder, in words."""
    checkpoints = [file.name for file in (folder / "checkpoints").glob("[!.]*")]
    if checkpoints:
        more = f" and {len(checkpoints) - 1} more" if len(checkpoints) > 1 else ""
        name = f"{LAST}.ckpt" if f"{LAST}.ckpt" in checkpoints else sorted(checkpoints)[0]
        yield f"the checkpoint {name}{more}"
    if not only_checkpoints:
        for pattern in ("metrics*.csv", ".metrics.csv.aside", "evaluation*.json", "label_curve*.json"):
            yield from (file.name.lstrip(".") for file in folder.glob(pattern) if file.stat().st_size)


def _goes_on_by_itself(chosen: Namespace, subcommand: str) -> bool:
    """Whether ``--auto_resume`` was typed, or this is a job of SLURM that was requeued."""
    asked = chosen.get("auto_resume")
    requeued = subcommand == "fit" and int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0
    return requeued if asked is None else bool(asked)


class _Runs:
    """Folders of the runs of a configuration.

    Attributes:
        arguments: of the first logger, None where its runs are no folders.
        root: the folder of all of them.
        version: of this run, None where it was not typed.
    """

    def __init__(self, chosen: Namespace) -> None:
        self.loggers = loggers_of(chosen)
        logger = self.loggers[0] if self.loggers else None
        self.without_logger = chosen.trainer.get("logger") is False
        self.arguments: Namespace | None = logger.init_args if logger is not None and has_folders(logger) else None
        self.version: str | int | None = None
        self.root = Path(chosen.trainer.get("default_root_dir") or ".")
        if self.arguments is not None:
            self.root = Path(self.arguments.get("save_dir") or ".", self.arguments.get("name") or "")
            self.version = self.arguments.get("version")
        if logger is not None and (project := project_of(logger)) is not None:  # W&B: the version is the run's id
            self.root = Path(logger.init_args.get("save_dir") or logger.init_args.get("dir") or ".", project)
            self.version = self.version or id_of_wandb(logger)

    def folder_of_this_run(self) -> Path:
        """Of the run whose version was typed."""
        if self.without_logger:
            return self.root
        self._require_folders("auto_resume")
        if self.version is None:
            raise InputError("auto_resume needs to know which run goes on: name it", "trainer.logger.version NAME")
        return self.root / (self.version if isinstance(self.version, str) else f"version_{self.version}")

    def folders(self) -> list[Path]:
        """Of all runs."""
        self._require_folders("ckpt_path last")
        return [self.root] if self.arguments is None else sorted(self.root.glob("*"))

    def _require_folders(self, asked: str) -> None:
        """Complain of a logger, such as MLflow's, that names the folder of a run only when it begins."""
        if self.arguments is None and self.loggers:
            name = self.loggers[0].class_path.rpartition(".")[2]
            raise InputError(
                f"{asked} cannot tell in which folder the runs of {name} are: it names it when a run begins.\n"
                "Name the checkpoint (--ckpt_path FILE), or let the recipe's logger name the folder: add the other one "
                "with --trainer.logger+="
            )

    def go_on_from(self, path: str) -> None:
        """Continue a run in its own folder and in its own runs of trackers, unless another version was typed."""
        folder = None if is_address(path) else run_of(path)
        if self.arguments is not None and folder is not None:
            is_one_of_these = folder.resolve().parent == self.root.resolve()
            if self.version is None and is_one_of_these:
                self.arguments["version"] = folder.resolve().name
            elif self.version is not None and folder.resolve() != self.folder_of_this_run().resolve():
                return  # a run of its own, that begins where the other one was
            elif not is_one_of_these and project_of(self.loggers[0]) is None:
                return
        go_on(self.loggers, path, folder)


def _newest(folders: list[Path], *, renames: bool) -> Path | None:
    """The newest whole checkpoint of the newest of some runs; a training puts damaged ones out of the way."""
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
    for file in damaged if renames and _writes() else []:
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
