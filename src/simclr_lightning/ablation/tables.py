"""A finished matrix to read and to show: tables in Markdown and a heat map. ± is a standard deviation over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from simclr_lightning.ablation.matrix import METRICS, Matrix, Metric
from simclr_lightning.ablation.recommendation import recommend
from simclr_lightning.drawing.palette import QUANTITIES

_COLOURS = colormaps[QUANTITIES]
_NAMES = {"linear": "Linear accuracy", "knn": "kNN accuracy"}


def markdown(matrix: Matrix, settings: Mapping[str, Any], *, advice: str, command: str | None) -> str:
    """Tables of the accuracies, what they were measured on and with, and what they mean.

    Args:
        matrix: with all runs finished.
        settings: of the study.
        advice: the recommendation.
        command: that makes the same matrix again, None where it was a Python program.

    Example:
        >>> from simclr_lightning.ablation.matrix import Scores
        >>> matrix = Matrix(("crop", "colour"), seeds=(0, 1))
        >>> for run in matrix.runs():
        ...     accuracy = {"crop": 60.0, "colour": 40.0}.get(run.first, 20.0) + (run.first != run.second) + run.seed
        ...     matrix.scores[run] = Scores(accuracy, accuracy - 5, 1.0)
        >>> settings = {"dataset": "digits", "encoder": "resnet8", "width": 0.5, "views": {"size": 16}, "steps": 60}
        >>> settings |= {"batch_size": 100, "training_pictures": 1000, "labelled_pictures": 1000}
        >>> settings |= {"held_out_pictures": 250, "classes": 10}
        >>> text = markdown(matrix, settings, advice="", command=None)
        >>> next(line for line in text.splitlines() if line.startswith("| crop"))
        '| crop | 60.5 ± 0.7 | 61.5 ± 0.7 | 61.0 |'
    """
    facts = [
        f"{settings['encoder']} of width {settings['width']:g}, pre-trained for {_budget(settings)} on views of "
        f"{settings['views']['size']} pixels; mean{_spread(matrix)} over {_seeds(matrix)}.",
        f"The features are judged on {settings['held_out_pictures']} held-out pictures of {settings['classes']} "
        f"classes; the classifiers learn from {settings['labelled_pictures']}.",
        "Both views start from the same random crop; the row's operation, then the column's, change the second view "
        "only. On the diagonal one operation is applied alone.",
    ]
    parts = [f"# Augmentations for {_name(settings)}", "\n".join(facts)]
    parts += [f"{_NAMES[metric]} (%):\n\n{_table(matrix, metric)}" for metric in METRICS]
    parts.append(f"## Recommendation\n\n{advice}")
    if command is not None:
        parts.append(f"```bash\n{command}\n```")
    return "\n\n".join(parts) + "\n"


def _table(matrix: Matrix, metric: Metric) -> str:
    rows = [["first \\ second", *matrix.operations, "average"], ["---", *["---:"] * (len(matrix.operations) + 1)]]
    for name, row in zip(matrix.operations, matrix.accuracies(metric), strict=True):
        rows.append([name, *(_figure(cell) for cell in row), f"{row.mean():.1f}"])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{table}\n\nThe untrained encoder has {_figure(np.array(matrix.untrained(metric)))}."


def _name(settings: Mapping[str, Any]) -> str:
    return Path(settings["root"]).name if settings["dataset"] == "folder" else str(settings["dataset"])


def _budget(settings: Mapping[str, Any]) -> str:
    steps, batch_size, pictures = (settings[key] for key in ("steps", "batch_size", "training_pictures"))
    epochs = steps / (pictures // batch_size)
    return f"{steps} steps of {batch_size} pictures ({epochs:.3g} epochs of {pictures})"


def _spread(matrix: Matrix) -> str:
    return " ± standard deviation" * (len(matrix.seeds) > 1)


def _seeds(matrix: Matrix) -> str:
    return f"seed{'s' * (len(matrix.seeds) > 1)} {', '.join(map(str, matrix.seeds))}"


def _figure(values: NDArray[np.float64], separator: str = " ") -> str:
    """Mean, and the sample standard deviation over seeds where there are several."""
    spread = f"{separator}± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{values.mean():.1f}{spread}"


def plot_matrix(matrix: Matrix, path: Path, settings: Mapping[str, Any]) -> None:
    """Draw the linear accuracies as a heat map, as the paper's Figure 5: rows first, columns second, averages beside.

    The best cell is framed.

    Args:
        matrix: with all runs finished.
        path: of the PNG.
        settings: of the study.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from simclr_lightning.ablation.matrix import Scores
        >>> matrix = Matrix(("crop", "colour"), seeds=(0, 1))
        >>> for run in matrix.runs():
        ...     accuracy = {"crop": 60.0, "colour": 40.0}.get(run.first, 20.0) + (run.first != run.second) + run.seed
        ...     matrix.scores[run] = Scores(accuracy, accuracy - 5, 1.0)
        >>> settings = {"dataset": "digits", "encoder": "resnet8", "width": 0.5, "views": {"size": 16}, "steps": 60}
        >>> settings |= {"batch_size": 100, "training_pictures": 1000, "labelled_pictures": 1000}
        >>> settings |= {"held_out_pictures": 250, "classes": 10}
        >>> with TemporaryDirectory() as folder:
        ...     plot_matrix(matrix, Path(folder, "matrix.png"), settings)
        ...     Path(folder, "matrix.png").read_bytes()[1:4]
        b'PNG'
    """
    accuracies, operations = matrix.accuracies(), list(matrix.operations)
    means, number = accuracies.mean(2), len(operations)
    averages = means.mean(1, keepdims=True)
    scale = Normalize(means.min(), max(means.max(), means.min() + 1e-6))
    figure = Figure(figsize=(max(7.0, 1.05 * number + 3.2), max(3.4, 0.78 * number + 2.2)), layout="constrained")
    cells, average = figure.subplots(1, 2, width_ratios=[number, 1])
    shown = cells.imshow(means, cmap=_COLOURS, norm=scale, aspect="auto")
    average.imshow(averages, cmap=_COLOURS, norm=scale, aspect="auto")
    for row in range(number):
        for column in range(number):
            _write(cells, row, column, _figure(accuracies[row, column], "\n"), scale(means[row, column]))
        _write(average, row, 0, f"{averages[row, 0]:.1f}", scale(averages[row, 0]))
    first, second = recommend(matrix).best
    corner = operations.index(second) - 0.5, operations.index(first) - 0.5
    for colour, width in (("black", 6), ("white", 2.5)):  # seen on any colour
        frame = Rectangle(corner, 1, 1, fill=False, edgecolor=colour, linewidth=width, clip_on=False, zorder=3)
        cells.add_patch(frame)
    cells.set(xlabel="second operation (the same: applied alone)", ylabel="first operation")
    cells.set_xticks(range(number), operations)
    cells.set_yticks(range(number), operations)
    average.set_xticks([0], ["average"])
    average.set_yticks([])
    for axes in (cells, average):
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    figure.colorbar(shown, ax=average, label="linear accuracy (%)", aspect=30, fraction=0.4)
    figure.suptitle(
        f"{_name(settings)}: linear accuracy (%) on {settings['held_out_pictures']} held-out pictures, untrained "
        f"{_figure(np.array(matrix.untrained()))}\n{settings['encoder']} of width {settings['width']:g}, "
        f"{_budget(settings)}; mean{_spread(matrix)} over {_seeds(matrix)}",
        fontsize=12,
    )
    figure.savefig(path, dpi=120)


def _write(axes: Axes, row: int, column: int, text: str, brightness: float) -> None:
    axes.text(column, row, text, ha="center", va="center", color="black" if brightness > 0.6 else "white", fontsize=11)
