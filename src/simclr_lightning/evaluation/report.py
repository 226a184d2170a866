"""The figures as a table to read and a file to keep."""

from __future__ import annotations

import json
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


class Row(NamedTuple):
    """A protocol, as a reader of its figures must know it.

    Attributes:
        protocol: as it was typed.
        what: what it is, in a few words.
        metric: what the percentage is: top1, mean_per_class, ...
        settings: of the protocol.
        command: gives the figures of this row again; None where they were asked for in Python.
    """

    protocol: str
    what: str
    metric: str
    settings: dict[str, Any]
    command: str | None


class Result(NamedTuple):
    """One figure of the table.

    Attributes:
        encoder: its column: raw pixels, random encoder, ...
        protocol: its row, as it was typed.
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
        rows: the protocols, in the order of the table.
        results: the figures, encoder by encoder; an encoder that a protocol does not fit has none for it.
        split: where the accuracies are measured; labels to learn from are always those of train.
        pictures: how many pictures that are.
        seed: of the first draw of labels; draw d has seed + d.
        checkpoints: path of the checkpoint of every encoder that is from one.
        notes: what a reader of the figures must know.
    """

    rows: list[Row]
    results: list[Result]
    split: str
    pictures: int
    seed: int
    checkpoints: dict[str, str]
    notes: list[str]

    def accuracy(self, encoder: str, protocol: str) -> float:
        """Accuracy, in percent, by encoder and protocol.

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
        """The table, and for every protocol what it is and the command that gives its figures again."""
        console.print(self.table())
        for row in self.rows:
            console.print(Text(self.describe(row)))
            if row.command is not None:
                console.print(Text(f"    {row.command}"), soft_wrap=True)

    def table(self) -> Table:
        """One row a protocol, one column an encoder, in percent."""
        checkpoints = "".join(f"\n{encoder}: {path}" for encoder, path in self.checkpoints.items())
        table = Table(
            title=Text(f"Accuracy (%) on {self.pictures} {self.split} pictures, seed {self.seed}{checkpoints}"),
            caption=Text("\n".join(self.notes)),
            caption_justify="left",
        )
        encoders = list(dict.fromkeys(result.encoder for result in self.results))
        table.add_column("protocol", no_wrap=True)
        for name in ("labels", *encoders):
            table.add_column(name, justify="right")
        figures = {(result.protocol, result.encoder): str(result) for result in self.results}
        for row in self.rows:
            cells = (figures.get((row.protocol, encoder), NO_FIGURE) for encoder in encoders)
            table.add_row(row.protocol, self._labels(row)[0], *cells)
        return table

    def describe(self, row: Row) -> str:
        """What a protocol is, and what its figures come from."""
        labels, draws = self._labels(row)
        return (
            f"{row.protocol}: {row.what}; {row.metric}, {labels} labels, {draws}, {self.split} split, seed {self.seed}"
        )

    def _labels(self, row: Row) -> tuple[str, str]:
        for result in self.results:
            if result.protocol == row.protocol:
                draws = len(result.accuracies)
                return str(result.labels), f"{draws} draw{'s' if draws > 1 else ''}"
        return NO_FIGURE, "no draw"

    def write_json(self, path: Path) -> None:
        """Write every figure, with all that it takes to get it again."""
        rows = {row.protocol: row for row in self.rows}
        content = {
            "unit": "percent",
            "versions": package_versions(),
            "notes": self.notes,
            "figures": [self._figure(result, rows[result.protocol]) for result in self.results],
        }
        write_json(path, content)

    def _figure(self, result: Result, row: Row) -> dict[str, Any]:
        return {
            "encoder": result.encoder,
            "protocol": result.protocol,
            "accuracy": result.accuracy,
            "standard_deviation": result.standard_deviation,
            "accuracies": result.accuracies,
            "also": result.also,
            "metric": row.metric,
            "what": row.what,
            "labels": result.labels,
            "draws": len(result.accuracies),
            "seed": self.seed,
            "settings": row.settings,
            "train_split": "train",
            "test_split": self.split,
            "test_pictures": self.pictures,
            "checkpoint": self.checkpoints.get(result.encoder),
            "command": row.command,
        }
