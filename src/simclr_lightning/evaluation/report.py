"""The figures as tables to read and files to keep."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text
from scipy.stats import t as student_t  # type: ignore[import-untyped]

from simclr_lightning.evaluation.records import package_versions, write_json

CONFIDENCE = 0.95
ALL = "all"
NO_FIGURE = "–"
INTERVAL = "95 % t-interval of the mean over the draws of labels"


class Result(NamedTuple):
    """Accuracies of one encoder by one protocol.

    Attributes:
        encoder: raw pixels, random encoder, ...
        protocol: as it was typed.
        labels: training labels that were learned from (by each draw).
        accuracies: one for each draw of labels, in percent.
        also: for each draw, what else is worth keeping: a chosen strength, top-5, ...; as it is, not in percent.
        per_class: labels of every class, where a number of them was asked for.

    Example:
        >>> result = Result("raw pixels", "linear@1%", 14, [60.0, 66.0, 63.0])
        >>> print(result, result.interval_text)
        63.0 ± 3.0 [55.5, 70.5]
    """

    encoder: str
    protocol: str
    labels: int
    accuracies: list[float]
    also: list[dict[str, float]] = []  # noqa: RUF012  # nobody adds to it
    per_class: int | None = None

    @property
    def accuracy(self) -> float:
        """Mean over the draws, in percent."""
        return fmean(self.accuracies)

    @property
    def standard_deviation(self) -> float | None:
        """Sample standard deviation over the draws, in percentage points; None for a single one."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % t-interval of the mean over the draws, in percent; None for a single one.

        It tells how much the choice of the labels matters. Test pictures and encoder are the same for all draws, so it
        says nothing of other test pictures, nor of another pre-training.
        """
        draws = len(self.accuracies)
        if draws < 2:
            return None
        reach = float(student_t.ppf((1 + CONFIDENCE) / 2, draws - 1)) * stdev(self.accuracies) / math.sqrt(draws)
        return self.accuracy - reach, self.accuracy + reach

    @property
    def interval_text(self) -> str:
        """The interval in brackets; nothing for a single draw."""
        return "" if self.interval is None else f"[{self.interval[0]:.1f}, {self.interval[1]:.1f}]"

    def __str__(self) -> str:
        """Mean ± standard deviation: what ± means in every table of the package."""
        spread = self.standard_deviation
        return f"{self.accuracy:.1f}" if spread is None else f"{self.accuracy:.1f} ± {spread:.1f}"


class Row(NamedTuple):
    """A protocol, as a reader of its figures must know it.

    Attributes:
        protocol: as it was typed.
        what: what it is, in a few words.
        metric: what the percentage is: top1, mean_per_class, ...
        settings: of the protocol.
        command: gives the figures of this row again; None where they were asked for in Python.

    Example:
        >>> Row("knn", "cosine kNN", "top1", {"k": 20}, "simclr evaluate --protocols knn").settings
        {'k': 20}
    """

    protocol: str
    what: str
    metric: str
    settings: dict[str, Any]
    command: str | None


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

    Example:
        >>> rows = [Row("knn", "cosine kNN", "top1", {}, None)]
        >>> evaluation = Evaluation(rows, [Result("raw pixels", "knn", 1437, [93.25])], "test", 360, 0, {}, [])
        >>> evaluation.accuracy("raw pixels", "knn")
        93.25
        >>> evaluation.metrics()
        {'evaluate/raw pixels/knn': 93.25}
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
        several = any(len(result.accuracies) > 1 for result in self.results)
        spread = "\n± standard deviation over draws of labels" if several else ""
        table = Table(
            title=Text(f"Accuracy (%) on {self.pictures} {self.split} pictures, seed {self.seed}{spread}{checkpoints}"),
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

    def content(self) -> dict[str, Any]:
        """Every figure, with all that it takes to get it again, for a JSON file."""
        rows = {row.protocol: row for row in self.rows}
        return {
            "unit": "percent",
            "versions": package_versions(),
            "notes": self.notes,
            "interval": INTERVAL,
            "figures": [self._figure(result, rows[result.protocol]) for result in self.results],
        }

    def write_json(self, path: Path) -> None:
        """Write the content into a file."""
        write_json(path, self.content())

    def _figure(self, result: Result, row: Row) -> dict[str, Any]:
        return {
            "encoder": result.encoder,
            "protocol": result.protocol,
            "accuracy": result.accuracy,
            "standard_deviation": result.standard_deviation,
            "interval": result.interval,
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
