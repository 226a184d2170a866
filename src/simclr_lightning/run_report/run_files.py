"""What the folder of a run holds, read file by file: whatever is damaged or missing is told, and the rest is read."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from simclr_lightning.errors import InputError, MissingFileError
from simclr_lightning.run_report.flat_config import flattened, read_config
from simclr_lightning.run_report.judgements import Judgement, find_judgements, is_judgement
from simclr_lightning.run_report.metric_columns import Metrics, read_metrics
from simclr_lightning.run_report.picture_files import Found, find_pictures

_LARGEST = 2**20  # bytes of started.json


@dataclass
class Start:
    """How a run was started, or resumed.

    Attributes:
        file: of its configuration.
        config: options and their values.
        date: when, as far as is known.
        command: that was typed, "" where nobody knows.
        versions: of packages, by name.
        changed: options that are not their defaults; None where nobody knows.

    Example:
        >>> Start("config.yaml", {"seed_everything": "0"}).command
        ''
    """

    file: str
    config: dict[str, str]
    date: str = ""
    command: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    changed: dict[str, str] | None = None


@dataclass
class Run:
    """A folder, as it was read.

    Attributes:
        folder: as it was typed.
        starts: the first one first; empty where there is no configuration.
        metrics: None where there are none.
        pictures: by what they show.
        judgements: tables of evaluations.
        notes: what is missing or damaged.

    Example:
        >>> Run(Path("runs/quickstart/version_0")).config
        {}
    """

    folder: Path
    starts: list[Start] = field(default_factory=list)
    metrics: Metrics | None = None
    pictures: dict[str, list[Found]] = field(default_factory=dict)
    judgements: list[Judgement] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def config(self) -> dict[str, str]:
        """The configuration that it went on with at last."""
        return self.starts[-1].config if self.starts else {}

    @property
    def is_training(self) -> bool:
        """Whether it is more than the folder of an evaluation or a study."""
        return bool(self.starts) or self.metrics is not None or not self.judgements

    @property
    def temperature(self) -> float | None:
        """Of the loss, at the end where it is learned; None where it is not known."""
        learned = self.metrics.columns.get("train/contrast_temperature") if self.metrics else None
        if learned is not None:
            return float(learned.values[-1])
        try:
            return float(self.config["model.loss.temperature"])
        except (KeyError, ValueError):
            return None


def read_run(folder: Path) -> Run:
    """Read a folder.

    Raises:
        MissingFileError: if it is not there, or not the folder of a run, an evaluation or a study.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = Path(folder, "config.yaml").write_text("seed_everything: 0")
        ...     run = read_run(Path(folder))
        >>> run.config, run.notes[0]
        ({'seed_everything': '0'}, 'There is no metrics.csv: nothing was logged yet, or another logger was chosen.')
    """
    _check(folder)
    run = Run(folder)
    for file in _numbered(folder, "config", ".yaml"):
        try:
            run.starts.append(_start(file))
        except (OSError, ValueError) as error:
            run.notes.append(f"{file.name} cannot be read: {error}.")
    run.judgements, notes = find_judgements(folder)
    run.notes += notes
    run.pictures = find_pictures(folder)
    files = _numbered(folder, "metrics", ".csv")
    try:
        run.metrics = read_metrics(files) if files else None
    except OSError as error:
        run.notes.append(f"The metrics cannot be read: {error}.")
    if run.metrics is not None:
        run.notes += run.metrics.notes
    if run.judgements and not files and not run.starts:
        return run  # the folder of an evaluation, of which nothing else is expected
    if not run.starts:
        run.notes.append("There is no config.yaml that can be read: what was run is not known.")
    if not files:
        run.notes.append("There is no metrics.csv: nothing was logged yet, or another logger was chosen.")
    elif run.metrics is not None and not run.metrics.columns:
        run.notes.append("metrics.csv holds no numbers yet.")
    return run


def _check(folder: Path) -> None:
    if folder.is_file() and folder.name in ("config.yaml", "metrics.csv"):
        raise InputError(f"{folder} is a file: name its folder (simclr report {folder.parent}).")
    if not folder.is_dir():
        raise MissingFileError(f"There is no folder {folder}: name that of a run (simclr report runs/NAME/version_0).")
    if _is_run(folder) or any(is_judgement(file) for file in folder.glob("*.json")):
        return
    inside = sorted((own.parent for own in folder.glob("*/config.yaml")), key=lambda own: own.stat().st_mtime)
    inside = inside or sorted(own.parent for own in folder.glob("*/*/config.yaml"))
    meant = f"did you mean one in it, such as {inside[-1]}?" if inside else "name one such as runs/folder/version_0."
    raise MissingFileError(
        f"{folder} is no folder of a run, with a config.yaml or a metrics.csv, nor of an evaluation: {meant}"
    )


def _is_run(folder: Path) -> bool:
    return bool(_numbered(folder, "config", ".yaml") or _numbered(folder, "metrics", ".csv"))


def _numbered(folder: Path, stem: str, ending: str) -> list[Path]:
    """config.yaml, config-2.yaml, ...: those of a run that was resumed."""
    found = {}
    for file in folder.glob(f"{stem}*{ending}"):
        number = re.fullmatch(rf"{stem}(?:-(\d+))?", file.stem)
        if number and file.is_file():
            found[int(number[1] or 1)] = file
    return [found[number] for number in sorted(found)]


def _start(file: Path) -> Start:
    start = Start(file.name, read_config(file))
    record = _record(file.with_name(file.name.replace("config", "started").replace(".yaml", ".json")))
    start.date = str(
        record.get("date") or f"{datetime.fromtimestamp(file.stat().st_mtime):%Y-%m-%d %H:%M} (of the file)"
    )
    start.command = str(record.get("command") or "")
    versions = record.get("versions")
    start.versions = {str(name): str(own) for name, own in versions.items()} if isinstance(versions, dict) else {}
    start.changed = flattened(record["changed"]) if isinstance(record.get("changed"), dict) else None
    return start


def _record(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8")) if file.stat().st_size <= _LARGEST else None
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def labels_of(folders: Sequence[Path]) -> list[str]:
    """Short names of runs: what is not the same in all of their paths; numbered where nothing is left.

    Example:
        >>> labels_of([Path("runs/small/b64"), Path("runs/large/b64")]), labels_of([Path("runs/quickstart/version_0")])
        (['small/b64', 'large/b64'], ['quickstart/version_0'])
    """
    paths = [Path(os.path.abspath(folder)) for folder in folders]
    if len(paths) == 1:
        return ["/".join(paths[0].parts[-2:])]
    shared = Path(os.path.commonpath(paths))
    shared = shared.parent if shared in paths else shared
    labels = [path.relative_to(shared).as_posix() for path in paths]
    return [label if labels.count(label) == 1 else f"{label} ({number})" for number, label in enumerate(labels, 1)]
