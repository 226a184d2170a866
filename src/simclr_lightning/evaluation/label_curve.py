"""How many labels an encoder saves: accuracy against labels per class."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.table import Table
from scipy.stats import t as student_t  # type: ignore[import-untyped]
from torch import Tensor

from simclr_lightning.evaluation.lineup import Subject
from simclr_lightning.evaluation.nested import Tell, told_within
from simclr_lightning.evaluation.report import package_versions, write_json

CONFIDENCE = 0.95
ALL = "all"

Accuracy = Callable[[Subject, Tensor, int, Tell], float]
"""Of a subject in [0, 1], from the labels at some positions (n,), for a seed; takes a progress callback, too."""


class Point(NamedTuple):
    """One point of a curve.

    Attributes:
        encoder: the curve it is on.
        per_class: labels per class; None for all labels there are.
        labels: labels that each draw learned from.
        accuracies: one for each draw of labels, in percent.
    """

    encoder: str
    per_class: int | None
    labels: int
    accuracies: list[float]

    @property
    def accuracy(self) -> float:
        """Mean over the draws, in percent."""
        return fmean(self.accuracies)

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

    def __str__(self) -> str:
        if self.interval is None:
            return f"{self.accuracy:.1f}"
        return f"{self.accuracy:.1f} ± {self.interval[1] - self.accuracy:.1f}"


def balanced_draw(targets: Tensor, per_class: int, seed: int = 0) -> Tensor:
    """The same number of pictures of every class, at random. Of the same seed, a smaller draw is part of a larger one.

    Args:
        targets: (N,) int64 class indices; -1 marks an unlabelled picture, which is never chosen.
        per_class: pictures of each class.
        seed: another seed, another draw.

    Returns:
        Positions of the chosen pictures, int64, ascending.

    Raises:
        ValueError: if a class has fewer pictures, or there are no labels.
    """
    labels = targets.cpu().numpy()
    classes, sizes = np.unique(labels[labels >= 0], return_counts=True)
    if not len(classes):
        raise ValueError("Labels per class are drawn, but no picture has a label (--data.probe names some that do).")
    if not 1 <= per_class <= sizes.min():
        raise ValueError(
            f"{per_class} labels per class are asked for: class {classes[sizes.argmin()]} has {sizes.min()}. Choose "
            f"from 1 to {sizes.min()} (--counts)."
        )
    shuffled = np.random.default_rng(seed).permutation(np.flatnonzero(labels >= 0))
    members = np.split(shuffled[np.argsort(labels[shuffled], kind="stable")], np.cumsum(sizes)[:-1])
    return torch.from_numpy(np.sort(np.concatenate([member[:per_class] for member in members])))


def default_counts(targets: Tensor) -> list[int]:
    """1, 2, 5, 10, 20, 50, ... labels per class, as long as every class has more.

    Args:
        targets: (N,) int64 class indices, -1 where unlabelled.
    """
    smallest = int(torch.unique(targets[targets >= 0], return_counts=True)[1].min())
    series = (step * 10**power for power in range(len(str(smallest))) for step in (1, 2, 5))
    return [count for count in series if count < smallest]


def measure(
    subject: Subject,
    targets: Tensor,
    accuracy: Accuracy,
    *,
    counts: Sequence[int],
    draws: int,
    seed: int,
    tell: Tell,
) -> Iterator[Point]:
    """The curve of one subject, point by point. Draw d of every count is ``balanced_draw(targets, count, seed + d)``.

    Args:
        subject: what is judged.
        targets: (N,) int64, of the labels there are to learn from.
        accuracy: learns from the labels at some positions.
        counts: labels per class; all labels, which are learned from once, are added to them.
        draws: for each count.
        seed: of the first draw.
        tell: takes a line about how far this is.
    """
    for count in [*counts, None]:
        subsets = [torch.arange(len(targets))]
        if count is not None:
            subsets = [balanced_draw(targets, count, seed + draw) for draw in range(draws)]
        accuracies = []
        for draw, subset in enumerate(subsets):
            progress = f"{ALL if count is None else count} labels per class, draw {draw + 1} of {len(subsets)}"
            tell(progress)
            tell_more = partial(told_within, tell, progress)
            accuracies.append(100 * accuracy(subject, subset, seed + draw, tell_more))
        yield Point(subject.name, count, len(subsets[0]), accuracies)


@dataclass(frozen=True)
class LabelCurve:
    """All curves, and what it takes to get them again.

    Attributes:
        points: curve by curve, by rising numbers of labels.
        dataset: what the pictures are.
        split: where the accuracies are measured; labels are those of train.
        pictures: how many pictures that are.
        classes: number of classes.
        classifier: what learns from the labels, in a few words.
        settings: of the classifier.
        seed: of the first draw of labels; draw d has seed + d.
        checkpoints: path of the checkpoint of every encoder that is from one.
        command: gives the curves again; None where they were asked for in Python.
        notes: what a reader must know.
    """

    points: list[Point]
    dataset: str
    split: str
    pictures: int
    classes: int
    classifier: str
    settings: dict[str, Any]
    seed: int
    checkpoints: dict[str, str]
    command: str | None
    notes: list[str]

    @property
    def curves(self) -> dict[str, list[Point]]:
        """Points by encoder."""
        curves: dict[str, list[Point]] = {}
        for point in self.points:
            curves.setdefault(point.encoder, []).append(point)
        return curves

    @property
    def draws(self) -> int:
        """Draws of labels at each point but the last."""
        return max(len(point.accuracies) for point in self.points)

    def metrics(self) -> dict[int, dict[str, float]]:
        """The figures for a logger: percent, by (mean) labels per class and ``label_curve/<encoder>``."""
        steps: dict[int, dict[str, float]] = {}
        for point in self.points:
            step = point.per_class or point.labels // self.classes
            steps.setdefault(step, {})[f"label_curve/{point.encoder}"] = point.accuracy
        return steps

    def describe(self) -> str:
        """What the figures are, in one sentence."""
        return (
            f"Accuracy (%) on {self.pictures} {self.split} pictures of {self.dataset} against labels per class: "
            f"{self.classifier}; mean over {self.draws} class-balanced draws (seed {self.seed}) with its 95 % "
            "t-interval, all labels once."
        )

    def rows(self) -> list[list[str]]:
        """The table: names of the encoders, then a row a number of labels."""
        curves = self.curves
        by_count = zip(*curves.values(), strict=True)
        header = ["labels per class", "labels", *curves]
        return [header, *([_count(row[0]), str(row[0].labels), *map(str, row)] for row in by_count)]

    def table(self) -> Table:
        """For the terminal."""
        header, *rows = self.rows()
        table = Table(title=self.describe(), caption="\n".join(self.notes), caption_justify="left")
        for name in header:
            table.add_column(name, justify="right")
        for row in rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For a README."""
        header, *rows = self.rows()
        lines = ["| " + " | ".join(row) + " |" for row in [header, ["---:"] * len(header), *rows]]
        command = [] if self.command is None else ["", f"```bash\n{self.command}\n```"]
        return "\n".join([self.describe(), "", *lines, *command, *("\n" + note for note in self.notes)]) + "\n"

    def write_json(self, path: Path) -> None:
        """Write every accuracy, with all that it takes to get it again."""
        content = {
            "unit": "percent",
            "dataset": self.dataset,
            "train_split": "train",
            "test_split": self.split,
            "test_pictures": self.pictures,
            "classes": self.classes,
            "classifier": self.classifier,
            "settings": self.settings,
            "seed": self.seed,
            "interval": "95 % t-interval of the mean over the draws of labels",
            "checkpoints": self.checkpoints,
            "command": self.command,
            "versions": package_versions(),
            "notes": self.notes,
            "points": [
                {
                    "encoder": point.encoder,
                    "labels_per_class": point.per_class or ALL,
                    "labels": point.labels,
                    "accuracy": point.accuracy,
                    "interval": point.interval,
                    "accuracies": point.accuracies,
                }
                for point in self.points
            ],
        }
        write_json(path, content)


def _count(point: Point) -> str:
    return ALL if point.per_class is None else str(point.per_class)
