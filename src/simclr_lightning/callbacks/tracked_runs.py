"""``TrackedRuns``: the run of a tracker and the folder of a run know each other, and go on together."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger

from simclr_lightning.callbacks.run_folder import run_folder
from simclr_lightning.callbacks.tracker_metrics import TRACKERS, metrics_of

RECORD = "trackers.json"
"""File in the folder of a run: its runs in the trackers."""

KEY = "trackers"
"""The same in a checkpoint."""


class TrackedRuns(Callback):
    """Keeps the ids of a run's trackers in its checkpoints, and in ``trackers.json`` in its folder from the start.

    By these ids ``simclr fit --ckpt_path last`` goes on in the same run of W&B and of MLflow. See
    :class:`~simclr_lightning.callbacks.tracker_metrics.TrackerMetrics` for what becomes of their metrics. Artifacts of
    W&B (``WandbLogger(log_model=True)``) have the alias ``epoch-N``, too.

    Args:
        named: whether runs of W&B have a name already; otherwise they are called like the folder.

    Example:
        >>> TrackedRuns().on_save_checkpoint(Trainer(logger=False, accelerator="cpu"), LightningModule(), {})
    """

    def __init__(self, named: bool = False) -> None:
        super().__init__()
        self.named = named
        self._record: list[dict[str, Any]] = []
        self._epoch = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Name the runs, and write down which they are, before the first step."""
        if stage != "fit" or not any(isinstance(own, TRACKERS) for own in trainer.loggers):
            return
        folder = run_folder(trainer)  # on every process
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            metrics_of(logger)
            if isinstance(logger, WandbLogger):
                run: Any = logger.experiment
                if not self.named:
                    run.name = folder.name
                run.log_artifact = self._with_epoch(run.log_artifact)
        self._record = record_of(trainer.loggers)
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{RECORD}.part"
        part.write_text(json.dumps(self._record, indent=2) + "\n", encoding="utf-8")
        part.replace(folder / RECORD)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the ids."""
        if self._record:
            checkpoint[KEY] = self._record
        self._epoch = checkpoint.get("epoch", 0)

    def _with_epoch(self, log_artifact: Any) -> Any:
        """``log_artifact``, which gives checkpoints an alias more."""

        def log(artifact: Any, *arguments: Any, aliases: list[str] | None = None, **options: Any) -> Any:
            name = artifact.metadata.get("original_filename") if artifact.type == "model" else None
            if name is not None:  # last.ckpt is the one that was saved last
                found = re.search(r"epoch=(\d+)", name)
                aliases = [*(aliases or []), f"epoch-{int(found[1]) if found else self._epoch}"]
            return log_artifact(artifact, *arguments, aliases=aliases, **options)

        return log


def record_of(loggers: Iterable[Logger]) -> list[dict[str, Any]]:
    """Class, name and version of loggers: of W&B the project and the run's id, of MLflow the ids.

    Example:
        >>> record_of([CSVLogger("runs", "digits", version="one")])
        [{'logger': 'CSVLogger', 'name': 'digits', 'version': 'one'}]
    """
    return [
        {"logger": type(logger).__name__, "name": str(logger.name or ""), "version": _version_of(logger)}
        for logger in loggers
        if isinstance(logger, (*TRACKERS, CSVLogger)) and logger.version is not None
    ]


def _version_of(logger: Logger) -> str:
    """As the folder is called; of others the id."""
    return logger.version if isinstance(logger.version, str) else f"version_{logger.version}"


def read_record(folder: Path) -> list[dict[str, Any]]:
    """What a run's folder tells of its trackers; nothing where there is no such file, or another one of its name.

    Example:
        >>> read_record(Path("no/such/run"))
        []
    """
    try:
        return plain_record(json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return []


def plain_record(found: Any) -> list[dict[str, Any]]:
    """A record from a file or a checkpoint, without whatever is none.

    Example:
        >>> plain_record([{"logger": "WandbLogger", "name": "views", "version": "1abc"}, {"logger": 3}, "x"])
        [{'logger': 'WandbLogger', 'name': 'views', 'version': '1abc'}]
    """
    if not isinstance(found, list):
        return []
    return [own for own in found if isinstance(own, dict) and _is_whole(own)]


def _is_whole(own: dict[str, Any]) -> bool:
    return isinstance(own.get("logger"), str) and isinstance(own.get("version"), str)
