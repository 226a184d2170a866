"""The figures as a table to read and a file to keep."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import sklearn
import torch
from rich.table import Table
from rich.text import Text


class Result(NamedTuple):
    """One figure of the table.

    Attributes:
        encoder: its row: raw pixels, random encoder, ...
        protocol: its column, as it was typed.
        labels: training labels that were learned from (by each draw).
        accuracies: one for each draw of labels, in percent.
    """

    encoder: str
    protocol: str
    labels: int
    accuracies: list[float]

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


@dataclass(frozen=True)
class Evaluation:
    """All figures of one evaluation, and what it takes to get them again.

    Attributes:
        results: the figures, row by row.
        split: where the accuracies are measured; labels to learn from are always those of train.
        pictures: how many pictures that are.
        seed: of the first draw of labels; draw d has seed + d.
        checkpoint: path of the checkpoint that was evaluated, None without one.
        notes: what a reader of the figures must know.
    """

    results: list[Result]
    split: str
    pictures: int
    seed: int
    checkpoint: str | None
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

    def table(self) -> Table:
        """One row an encoder, one column a protocol, in percent."""
        rows: dict[str, list[Result]] = {}
        for result in self.results:
            rows.setdefault(result.encoder, []).append(result)
        checkpoint = "no checkpoint" if self.checkpoint is None else self.checkpoint
        table = Table(
            title=Text(f"Accuracy (%) on {self.pictures} {self.split} pictures\n{checkpoint}, seed {self.seed}"),
            caption=Text("\n".join(self.notes)),
            caption_justify="left",
        )
        table.add_column("features of")
        for result in next(iter(rows.values())):
            draws = f", {len(result.accuracies)} draws" if len(result.accuracies) > 1 else ""
            table.add_column(f"{result.protocol}\n{result.labels} labels{draws}", justify="right")
        for encoder, row in rows.items():
            table.add_row(encoder, *map(str, row))
        return table

    def write_json(self, path: Path) -> None:
        """Write every figure, with all that it takes to get it again."""
        content = {
            "unit": "percent",
            "versions": {"torch": torch.__version__, "scikit-learn": sklearn.__version__},
            "notes": self.notes,
            "figures": [self._figure(result) for result in self.results],
        }
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def _figure(self, result: Result) -> dict[str, Any]:
        return {
            "encoder": result.encoder,
            "protocol": result.protocol,
            "accuracy": result.accuracy,
            "standard_deviation": result.standard_deviation,
            "accuracies": result.accuracies,
            "labels": result.labels,
            "draws": len(result.accuracies),
            "seed": self.seed,
            "train_split": "train",
            "test_split": self.split,
            "test_pictures": self.pictures,
            "checkpoint": self.checkpoint,
        }
