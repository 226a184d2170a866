"""Pictures of an evaluation: features in two dimensions, and accuracy against labels per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import NullLocator

from simclr_lightning.drawing.embedding_map import name_classes, scatter_classes, two_dimensional
from simclr_lightning.drawing.figure_image import as_image
from simclr_lightning.drawing.palette import FAINT, INK, Style, style
from simclr_lightning.evaluation.candidates import AS_IT_IS, PRETRAINED, RANDOM, RAW_PIXELS
from simclr_lightning.evaluation.report import Result
from simclr_lightning.features import Features

_MOST_PICTURES = 2000
_NUMBERS = {PRETRAINED: 0, RANDOM: 1, AS_IT_IS: 1, RAW_PIXELS: 8}
"""Styles of the encoders that every evaluation has; the others follow from 2 on."""

_LINE_HEIGHT = 0.05  # of a curve's name, as a share of the axis


def plot_features(
    panels: Mapping[str, Features],
    path: Path,
    *,
    split: str,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
) -> None:
    """Draw a t-SNE (van der Maaten and Hinton 2008) of the same pictures for several encoders, side by side.

    Features are compared by their directions, as kNN does. At most 2,000 pictures are drawn, evenly spread over the
    split. Classes are named where there are at most 20, and coloured by their numbers where there are more.

    Args:
        panels: title of each panel, and features of the same pictures in the same order.
        path: of the PNG.
        split: where the pictures are from.
        class_names: names of the classes, their numbers by default.
        seed: of the t-SNE.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> features = Features(torch.rand(20, 4), torch.arange(20) % 2)
        >>> with TemporaryDirectory() as folder:
        ...     plot_features({"encoder": features}, Path(folder, "tsne.png"), split="test", class_names=["cat", "dog"])
        ...     Path(folder, "tsne.png").read_bytes()[1:4]
        b'PNG'
    """
    targets = next(iter(panels.values())).targets
    chosen = torch.linspace(0, len(targets) - 1, min(len(targets), _MOST_PICTURES)).round().long()
    if targets.ndim == 2:  # a picture may show several classes: the first of them
        targets = (targets == 1).int().argmax(1)
    labels = targets[chosen].numpy()
    names = class_names or [str(label) for label in range(labels.max() + 1)]
    figure = Figure(figsize=(6 * len(panels) + 2, 6.5), layout="constrained")
    every = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, features) in zip(every, panels.items(), strict=True):
        found = two_dimensional(features.features[chosen], "tsne", seed=seed)
        scatter_classes(axes, found.points, labels, names, size=16)
        axes.set(title=title, xticks=[], yticks=[], xlabel=found.axes[0], ylabel=found.axes[1])
    figure.suptitle(f"t-SNE of the features of {len(labels):,} {split} pictures")
    name_classes(figure, every[-1], labels, names)
    as_image(figure, dpi=120).save(path)


def plot_label_curve(
    curves: Mapping[str, Sequence[Result]], path: Path, *, classes: int, dataset: str, split: str, what: str
) -> None:
    """Draw accuracy against labels per class on a logarithmic axis: a band is the interval, names are at the curves.

    Args:
        curves: points by encoder, by rising numbers of labels, that of all labels last.
        path: of the PNG.
        classes: number of classes.
        dataset: what the pictures are.
        split: where they are from.
        what: what is measured and what learns, in a few words.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> few = Result("raw pixels", "linear@1", 2, [60.0, 64.0], per_class=1)
        >>> every = Result("raw pixels", "linear", 200, [90.0])
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "curve.png")
        ...     plot_label_curve({"raw pixels": [few, every]}, path, classes=2, dataset="cat", split="test", what="kNN")
        ...     path.read_bytes()[1:4]
        b'PNG'
    """
    figure = Figure(figsize=(9, 5.6), layout=ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15))
    axes = figure.subplots()
    styles = _styles(list(curves))
    for encoder, points in curves.items():
        _draw(axes, points, classes, styles[encoder], strong=encoder == PRETRAINED)
    chance = 100 / classes
    axes.axhline(chance, color=FAINT, linewidth=1, linestyle=(0, (4, 4)), zorder=1)
    axes.margins(x=0.03)
    lowest = min(min(point.interval or (point.accuracy,)) for points in curves.values() for point in points)
    axes.set_ylim(max(0.0, min(chance, lowest) - 6), 102)
    first = next(iter(curves.values()))
    _label_axes(axes, first, classes)
    axes.set_ylabel(f"{split} accuracy (%)", fontsize=12)
    axes.set_title(f"What a label is worth: {dataset}", loc="left", fontsize=16, fontweight="bold", pad=34)
    draws = max(len(point.accuracies) for point in first)
    axes.text(
        0,
        1.02,
        f"{what}.\n"
        f"Mean of {draws} class-balanced draws of labels; band: 95 % t-interval of the mean. Hollow: all labels.",
        transform=axes.transAxes,
        fontsize=9.5,
        color=INK,
        va="bottom",
    )
    _name_curves(axes, {name: points[-1].accuracy for name, points in curves.items()}, styles)
    axes.annotate(
        f"chance, {chance:.3g} %",
        (0.995, chance),
        xycoords=("axes fraction", "data"),
        xytext=(0, 4),
        textcoords="offset points",
        ha="right",
        color=FAINT,
        fontsize=10,
    )
    figure.savefig(path, dpi=200)


def _styles(encoders: Sequence[str]) -> dict[str, Style]:
    others = count(2)
    return {encoder: style(_NUMBERS[encoder] if encoder in _NUMBERS else next(others)) for encoder in encoders}


def _position(point: Result, classes: int) -> float:
    return point.labels / classes if point.per_class is None else point.per_class


def _draw(axes: Axes, points: Sequence[Result], classes: int, own: Style, *, strong: bool) -> None:
    positions = [_position(point, classes) for point in points]
    means = [point.accuracy for point in points]
    drawn = [(at, *point.interval) for at, point in zip(positions, points, strict=True) if point.interval]
    if drawn:
        places, low, high = zip(*drawn, strict=True)
        axes.fill_between(places, low, high, color=own.color, alpha=0.2, linewidth=0, zorder=2)
    axes.plot(positions, means, color=own.color, linewidth=3 if strong else 2, zorder=3)
    axes.plot(positions[:-1], means[:-1], linestyle="", markersize=7 if strong else 6, zorder=4, **own._asdict())
    # All labels: there is one draw, hence no band.
    hollow: dict[str, Any] = {"markerfacecolor": "white", "markeredgewidth": 2, "markersize": 8}
    axes.plot(positions[-1:], means[-1:], zorder=5, **own._asdict(), **hollow)


def _label_axes(axes: Axes, points: Sequence[Result], classes: int) -> None:
    axes.set_xscale("log")
    places = [_position(point, classes) for point in points]
    names = [f"{point.per_class:,}" for point in points[:-1]] + [f"all\n({places[-1]:,.0f})"]
    axes.set_xticks(places, names)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("labels per class", fontsize=12)
    axes.tick_params(labelsize=11, length=0)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _name_curves(axes: Axes, last: Mapping[str, float], styles: Mapping[str, Style]) -> None:
    """Names to the right of the last points, pushed apart where they would overlap, each behind its marker."""
    lowest, highest = axes.get_ylim()
    ends = sorted((accuracy, encoder) for encoder, accuracy in last.items())
    height = _LINE_HEIGHT * (highest - lowest)
    places = _apart([accuracy for accuracy, _ in ends], height, highest)
    beside = axes.get_yaxis_transform()  # x in shares of the axes, y in data
    for (accuracy, encoder), place in zip(ends, places, strict=True):
        axes.plot(1.025, place, transform=beside, clip_on=False, markersize=8, **styles[encoder]._asdict())
        axes.annotate(
            f"{encoder} {accuracy:.1f}",
            (1.045, place),
            xycoords=("axes fraction", "data"),
            va="center",
            color=INK,
            fontsize=12,
            fontweight="bold" if encoder == PRETRAINED else "normal",
            annotation_clip=False,
        )


def _apart(values: Sequence[float], distance: float, highest: float) -> list[float]:
    """Move ascending values as little down as it takes for them to be ``distance`` apart and below ``highest``."""
    placed: list[float] = []
    above = highest + distance
    for value in reversed(values):
        above = min(value, above - distance)
        placed.append(above)
    return placed[::-1]
