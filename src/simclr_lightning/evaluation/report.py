"""The figures as a table to read and a file to keep."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

NO_FIGURE = "–"
_PACKAGES = ("simclr-lightning", "lightning", "torch", "torchvision", "scikit-learn")


class Column(NamedTuple):
    """A protocol, as a reader of its figures must know it.

    Attributes:
        protocol: as it was typed.
        what: what it is, in a few words.
        metric: what the percentage is: top-1, mean per class, ...
        settings: of the protocol.
        command: gives the figures of this column again; None where they were asked for in Python.
    """

    protocol: str
    what: str
    metric: str
    settings: dict[str, Any]
    command: str | None


class Result(NamedTuple):
    """One figure of the table.

    Attributes:
        encoder: its row: raw pixels, random encoder, ...
        protocol: its column, as it was typed.
        labels: training labels that were learned from (by each draw).
        accuracies: one for each draw of labels, in percent.
        also: for each draw, what else was found: a chosen strength, top-5, ...; as it is, not in percent.
    """

    encoder: str
    protocol: str
    labels: int
    accuracies: list[float]
    also: list[dict[str, float]]

    @property
    def accuracy(self) -> float:
        """Mean over the draws, in percent."""
        return fmean(self.accuracies)

    @property
    def standard_deviation(self) -> float | None:
        """Sample standard deviation over the draws, in percentage points; None for a single one."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else None

    def __str__(self) -> str:
        spread = self.standard_deviation
        return f"{self.accuracy:.1f}" if spread is None else f"{self.accuracy:.1f} ± {spread:.1f}"


def package_versions() -> dict[str, str]:
    """What figures may depend on besides the settings."""
    return {package: version(package) for package in _PACKAGES}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file that people read, too."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Evaluation:
    """All figures of one evaluation, and what it takes to get them again.

    Attributes:
        columns: the protocols, in the order of the table.
        results: the figures, row by row; an encoder that a protocol does not fit has none for it.
        split: where the accuracies are measured; labels to learn from are always those of train.
        pictures: how many pictures that are.
        seed: of the first draw of labels; draw d has seed + d.
        checkpoints: path of the checkpoint of every encoder that is from one.
        notes: what a reader of the figures must know.
    """

    columns: list[Column]
    results: list[Result]
    split: str
    pictures: int
    seed: int
    checkpoints: dict[str, str]
    notes: list[str]

    def accuracy(self, encoder: str, protocol: str) -> float:
        """Accuracy, in percent, by row and column of the table.

        Raises:
            KeyError: if there is no such figure.
        """
        for result in self.results:
            if (result.encoder, result.protocol) == (encoder, protocol):
                return result.accuracy
        raise KeyError(f"There is no figure for {encoder!r} and {protocol!r}.")

    def metrics(self) -> dict[str, float]:
        """The figures for a logger: percent, by ``evaluate/<encoder>/<protocol>``."""
        return {f"evaluate/{result.encoder}/{result.protocol}": result.accuracy for result in self.results}

    def print(self, console: Console) -> None:
        """Both tables, and the commands, each on a line of its own."""
        console.print(self.table())
        console.print(self.protocol_table())
        for column in self.columns:
            if column.command is not None:
                console.print(Text(column.command), soft_wrap=True)

    def table(self) -> Table:
        """One row an encoder, one column a protocol, in percent."""
        checkpoints = "\n".join(f"{encoder}: {path}" for encoder, path in self.checkpoints.items()) or "no checkpoint"
        table = Table(
            title=Text(f"Accuracy (%) on {self.pictures} {self.split} pictures\n{checkpoints}"),
            caption=Text("\n".join(self.notes)),
            caption_justify="left",
        )
        table.add_column("features of", no_wrap=True)
        for column in self.columns:
            table.add_column(re.sub("([@_])", r"\n\1", column.protocol), justify="right")
        figures = {(result.encoder, result.protocol): str(result) for result in self.results}
        for encoder in dict.fromkeys(result.encoder for result in self.results):
            row = (figures.get((encoder, column.protocol), NO_FIGURE) for column in self.columns)
            table.add_row(encoder, *row)
        return table

    def protocol_table(self) -> Table:
        """One row a protocol: what it is, and what its figures come from."""
        table = Table()
        table.add_column("protocol", no_wrap=True)
        for name in ("what it is", "%", "labels", "draws", "on", "seed"):
            table.add_column(name)
        for column in self.columns:
            judged = [result for result in self.results if result.protocol == column.protocol]
            counts = (str(judged[0].labels), str(len(judged[0].accuracies))) if judged else (NO_FIGURE, NO_FIGURE)
            table.add_row(column.protocol, column.what, column.metric, *counts, self.split, str(self.seed))
        return table

    def write_json(self, path: Path) -> None:
        """Write every figure, with all that it takes to get it again."""
        columns = {column.protocol: column for column in self.columns}
        content = {
            "unit": "percent",
            "versions": package_versions(),
            "notes": self.notes,
            "figures": [self._figure(result, columns[result.protocol]) for result in self.results],
        }
        write_json(path, content)

    def _figure(self, result: Result, column: Column) -> dict[str, Any]:
        return {
            "encoder": result.encoder,
            "protocol": result.protocol,
            "accuracy": result.accuracy,
            "standard_deviation": result.standard_deviation,
            "accuracies": result.accuracies,
            "also": result.also,
            "metric": column.metric,
            "what": column.what,
            "labels": result.labels,
            "draws": len(result.accuracies),
            "seed": self.seed,
            "settings": column.settings,
            "train_split": "train",
            "test_split": self.split,
            "test_pictures": self.pictures,
            "checkpoint": self.checkpoints.get(result.encoder),
            "command": column.command,
        }
