"""The matrix of a study: which runs it has, what they gave, and the file that keeps them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import lightning
import numpy as np
import sklearn
import torch
from numpy.typing import NDArray

from simclr_lightning.errors import InputError

Metric = Literal["linear", "knn"]
METRICS: tuple[Metric, ...] = ("linear", "knn")

UNTRAINED = "untrained"
"""Stands for both operations of the run that judges the encoder as it was initialised."""


class Cell(NamedTuple):
    """One run that is asked for.

    Attributes:
        first: operation of the row, which is applied first.
        second: operation of the column; the same as ``first`` where a single operation is applied.
        seed: of the run.

    Example:
        >>> str(Cell("crop", "colour", 0)), Cell("crop", "crop", 0).operations
        ('crop, then colour, seed 0', ('crop',))
    """

    first: str
    second: str
    seed: int

    @property
    def operations(self) -> tuple[str, ...]:
        """What the second views go through."""
        return (self.first,) if self.first == self.second else (self.first, self.second)

    def __str__(self) -> str:
        return f"{in_words((self.first, self.second))}, seed {self.seed}"


def in_words(pair: tuple[str, str]) -> str:
    """How to call a cell.

    Example:
        >>> in_words(("crop", "colour")), in_words(("crop", "crop"))
        ('crop, then colour', 'crop alone')
    """
    first, second = pair
    if first == UNTRAINED:
        return "untrained encoder"
    return f"{first} alone" if first == second else f"{first}, then {second}"


class Scores(NamedTuple):
    """What a run gave.

    Attributes:
        linear: accuracy of a linear classifier on the frozen features, in percent.
        knn: accuracy of kNN, in percent.
        seconds: that training and judgement took.

    Example:
        >>> Scores(linear=61.5, knn=58.0, seconds=3.2).linear
        61.5
    """

    linear: float
    knn: float
    seconds: float


@dataclass(frozen=True)
class Matrix:
    """All pairs of some operations, and the runs that are finished.

    Attributes:
        operations: rows and columns.
        seeds: of every cell.
        symmetric: whether (a, b) stands for (b, a) too.
        scores: of the finished runs, also of such as are not asked for.

    Example:
        >>> matrix = Matrix(("crop", "colour"), seeds=(0, 1), symmetric=True)
        >>> matrix.pairs()
        [('crop', 'crop'), ('crop', 'colour'), ('colour', 'colour')]
        >>> matrix.scores.update({run: Scores(50.0 + run.seed, 40.0, 1.0) for run in matrix.runs()})
        >>> matrix.of_pair("colour", "crop"), matrix.accuracies().shape
        ([50.0, 51.0], (2, 2, 2))
    """

    operations: tuple[str, ...]
    seeds: tuple[int, ...]
    symmetric: bool = False
    scores: dict[Cell, Scores] = field(default_factory=dict)

    def runs(self) -> list[Cell]:
        """What is to be run: all cells, and the untrained encoder of every seed."""
        return [*self.cells(), *(Cell(UNTRAINED, UNTRAINED, seed) for seed in self.seeds)]

    def cells(self) -> Iterator[Cell]:
        """The cells: a whole matrix for each seed, so that an interrupted one is of use."""
        for seed in self.seeds:
            for row, first in enumerate(self.operations):
                for second in self.operations[row if self.symmetric else 0 :]:
                    yield Cell(first, second, seed)

    def pairs(self) -> list[tuple[str, str]]:
        """What is compared: operations of the cells that are run, (a, a) for a single one."""
        return [(cell.first, cell.second) for cell in self.cells() if cell.seed == self.seeds[0]]

    def of_pair(self, first: str, second: str, metric: Metric = "linear") -> list[float]:
        """Accuracies of a cell in percent, one for each seed, all of which must be finished."""
        if self.symmetric and first != second and self.operations.index(first) > self.operations.index(second):
            first, second = second, first
        return [getattr(self.scores[Cell(first, second, seed)], metric) for seed in self.seeds]

    def untrained(self, metric: Metric = "linear") -> list[float]:
        """Accuracies of the untrained encoder in percent, one for each seed."""
        return self.of_pair(UNTRAINED, UNTRAINED, metric)

    def accuracies(self, metric: Metric = "linear") -> NDArray[np.float64]:
        """Accuracies (rows, columns, seeds) in percent; all runs must be finished."""
        return np.array(
            [[self.of_pair(first, second, metric) for second in self.operations] for first in self.operations]
        )


class Record:
    """The file matrix.json in the folder of a study.

    Args:
        folder: of the study; it is made when the first run is written.
        settings: whatever a run depends on beside its operations and its seed: primitives.

    Raises:
        InputError: if the folder holds a study with other settings, or its file is not one of ours.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> matrix = Matrix(("crop", "colour"), (0,), scores={Cell("crop", "colour", 0): Scores(50.0, 40.0, 1.0)})
        >>> with TemporaryDirectory() as folder:
        ...     Record(Path(folder), {"steps": 100}).write(matrix, None)
        ...     Record(Path(folder), {"steps": 100}).scores
        {Cell(first='crop', second='colour', seed=0): Scores(linear=50.0, knn=40.0, seconds=1.0)}
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.path = folder / "matrix.json"
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))  # tuples become lists, as in the file
        self.scores: dict[Cell, Scores] = {}
        if self.path.exists():
            self._read()

    def write(self, matrix: Matrix, command: str | None, recommendation: str | None = None) -> None:
        """Write everything that is known, in one stroke: an interruption leaves the file before it or after it.

        Args:
            matrix: with the runs that are finished.
            command: that asks for the matrix, None where it was a Python program.
            recommendation: in words, once the matrix is finished.
        """
        content = {
            "unit": "percent",
            "command": command,
            "recommendation": recommendation,
            "operations": matrix.operations,
            "seeds": matrix.seeds,
            "symmetric": matrix.symmetric,
            "settings": self.settings,
            "versions": {
                "lightning": lightning.__version__,
                "scikit-learn": sklearn.__version__,
                "torch": torch.__version__,
            },
            "runs": [{**cell._asdict(), **scores._asdict()} for cell, scores in matrix.scores.items()],
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".json.part")
        unfinished.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(unfinished, self.path)

    def _read(self) -> None:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            settings = content["settings"]
            runs = [(Cell(*_of(run, Cell._fields)), Scores(*_of(run, Scores._fields))) for run in content["runs"]]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self.path} is not the file of a study: name another folder (--output).") from error
        changed = [
            f"{name} was {settings.get(name)!r} and is {self.settings.get(name)!r}"
            for name in {**settings, **self.settings}
            if settings.get(name) != self.settings.get(name)
        ]
        if changed:
            raise InputError(
                f"{self.path} belongs to a study with other settings: {'; '.join(changed)}. Type the same again to go "
                "on with it, or name another folder (--output)."
            )
        self.scores = dict(runs)


def _of(run: dict[str, Any], names: Sequence[str]) -> list[Any]:
    return [run[name] for name in names]
