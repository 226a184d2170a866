"""What ``metrics.csv`` holds, as columns of numbers."""

from __future__ import annotations

import csv
import math
import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Column(NamedTuple):
    """Values of a metric.

    Attributes:
        steps: (N,) at which it was logged, ascending.
        values: (N,).

    Example:
        >>> Column(np.array([0.0, 9.0]), np.array([4.8, 4.1])).values.tolist()
        [4.8, 4.1]
    """

    steps: Floats
    values: Floats


@dataclass
class Metrics:
    """All columns of a run.

    Attributes:
        columns: by name, those without any number left out.
        ends: last step of every epoch.
        notes: what was wrong with the file.

    Example:
        >>> metrics = Metrics(ends={0: 9, 1: 19})
        >>> metrics.epochs(np.array([4, 9, 19])).tolist()
        [0.5, 1.0, 2.0]
    """

    columns: dict[str, Column] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def epochs(self, steps: Floats) -> Floats:
        """Epochs that were done after steps; an epoch that is not over counts as long as the one before."""
        places, bounds = [0.0], [-1.0]
        for epoch, end in sorted(self.ends.items()):
            places.append(epoch + 1.0)
            bounds.append(float(end))
        if len(places) > 2:
            length = (bounds[-2] - bounds[-3]) / (places[-2] - places[-3])
            bounds[-1] = max(bounds[-1], bounds[-2] + length * (places[-1] - places[-2]))
        return np.interp(steps, np.maximum.accumulate(bounds), places)


def read_metrics(files: Sequence[Path]) -> Metrics:
    """Read files of ``CSVLogger`` one after the other; rows of steps that were done again take the place of the first.

    A last line without its end is left out: it may be half of one.

    Raises:
        OSError: if one cannot be read.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = Path(folder, "metrics.csv")
        ...     _ = file.write_text(chr(10).join(["epoch,step,train/loss", "0,9,4.8", "0,19,4.1", "0,9,4.7", "0,2"]))
        ...     metrics = read_metrics([file])
        >>> metrics.columns["train/loss"].values.tolist(), metrics.notes
        ([4.7], ['The last line of metrics.csv is cut off, and left out.'])
    """
    metrics = Metrics()
    steps: dict[str, array[float]] = {}
    values: dict[str, array[float]] = {}
    for file in files:
        _read(file, metrics, steps, values)
    for name, found in values.items():
        at = np.array(steps[name])
        # A row is done again where a later one has the same step or an earlier one.
        later = np.minimum.accumulate(at[::-1])[::-1]
        kept = np.append(at[:-1] < later[1:], True)
        metrics.columns[name] = Column(at[kept], np.array(found)[kept])
    return metrics


def _read(file: Path, metrics: Metrics, steps: dict[str, array[float]], values: dict[str, array[float]]) -> None:
    with file.open(newline="", encoding="utf-8", errors="replace") as lines:
        rows = _whole(csv.reader(lines), file, metrics)
        names = next(rows, [])
        if "step" not in names:
            metrics.notes.append(f"{file.name} has no column step, and cannot be read.")
            return
        step_at, epoch_at = names.index("step"), names.index("epoch") if "epoch" in names else None
        for row in rows:
            step = _number(row[step_at]) if step_at < len(row) else None
            if step is None or not math.isfinite(step):
                continue
            epoch = _number(row[epoch_at]) if epoch_at is not None and epoch_at < len(row) else None
            if epoch is not None and math.isfinite(epoch):
                metrics.ends[int(epoch)] = max(int(step), metrics.ends.get(int(epoch), 0))
            for place, (name, text) in enumerate(zip(names, row, strict=False)):
                if text and name and place not in (step_at, epoch_at):
                    value = _number(text)
                    if value is not None:
                        values.setdefault(name, array("d")).append(value)
                        steps.setdefault(name, array("d")).append(step)


def _whole(rows: Iterator[list[str]], file: Path, metrics: Metrics) -> Iterator[list[str]]:
    """Rows up to the first that cannot be read, without a last one that does not end."""
    before: list[str] | None = None
    try:
        for row in rows:
            if before is not None:
                yield before
            before = row
    except csv.Error as error:
        metrics.notes.append(f"{file.name} is damaged ({error}): what follows in it is left out.")
        return
    if before is None:
        return
    if _ends(file):
        yield before
    else:
        metrics.notes.append(f"The last line of {file.name} is cut off, and left out.")


def _ends(file: Path) -> bool:
    with file.open("rb") as content:
        content.seek(-1, os.SEEK_END)
        return content.read(1) == b"\n"


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def thinned(x: Floats, y: Floats, most: int = 400) -> tuple[Floats, Floats]:
    """Points of a curve, of which a picture is the same: the smallest and largest value of each stretch.

    Args:
        x: (N,) ascending.
        y: (N,).
        most: points that are left.

    Example:
        >>> x = np.arange(10_000.0)
        >>> places, values = thinned(x, np.where(x == 5_000, 7.0, 0.0), most=100)
        >>> len(places) <= 100, values.max().item(), places[0].item(), places[-1].item()
        (True, 7.0, 0.0, 9999.0)
    """
    if len(x) <= most:
        return x, y
    kept = {0, len(x) - 1}
    for part in np.array_split(np.arange(len(x)), most // 2 - 1):
        known = part[~np.isnan(y[part])]  # where none is, the curve has a gap
        kept |= {int(known[y[known].argmin()]), int(known[y[known].argmax()])} if len(known) else {int(part[0])}
    chosen = np.array(sorted(kept))
    return x[chosen], y[chosen]
