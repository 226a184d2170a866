"""The label-efficiency curve as a picture for a talk."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import NullLocator

from simclr_lightning.evaluation.label_curve import LabelCurve, Point
from simclr_lightning.evaluation.lineup import AS_IT_IS, PRETRAINED, RANDOM, RAW_PIXELS

_COLOURS = {RAW_PIXELS: "#8a8a8a", RANDOM: "#e69f00", AS_IT_IS: "#e69f00", PRETRAINED: "#0072b2"}
_OTHER_COLOURS = ("#009e73", "#cc79a7", "#d55e00", "#56b4e9")  # Okabe and Ito's, which everybody can tell apart
_LINE_HEIGHT = 0.05  # of a curve's name, as a share of the axis


def plot_label_curve(curve: LabelCurve, path: Path) -> None:
    """Draw accuracy against labels per class on a logarithmic axis: a band is the interval, names are at the curves.

    Args:
        curve: all figures.
        path: of the PNG.
    """
    figure = Figure(figsize=(9, 5.6), layout=ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15))
    axes = figure.subplots()
    colours = _colours(list(curve.curves))
    for encoder, points in curve.curves.items():
        _draw(axes, points, curve.classes, colours[encoder], strong=encoder == PRETRAINED)
    chance = 100 / curve.classes
    axes.axhline(chance, color="#555555", linewidth=1, linestyle=(0, (4, 4)), zorder=1)
    axes.margins(x=0.03)
    lowest = min(min(point.interval or (point.accuracy,)) for point in curve.points)
    axes.set_ylim(max(0.0, min(chance, lowest) - 6), 102)
    _label_axes(axes, next(iter(curve.curves.values())), curve)
    _name_curves(axes, curve, colours)
    axes.annotate(
        f"chance, {chance:.3g} %",
        (0.995, chance),
        xycoords=("axes fraction", "data"),
        xytext=(0, 4),
        textcoords="offset points",
        ha="right",
        color="#555555",
        fontsize=10,
    )
    figure.savefig(path, dpi=200)


def _colours(encoders: Sequence[str]) -> dict[str, str]:
    others = cycle(_OTHER_COLOURS)
    return {encoder: _COLOURS.get(encoder) or next(others) for encoder in encoders}


def _position(point: Point, classes: int) -> float:
    return point.labels / classes if point.per_class is None else point.per_class


def _draw(axes: Axes, points: list[Point], classes: int, colour: str, *, strong: bool) -> None:
    positions = [_position(point, classes) for point in points]
    means = [point.accuracy for point in points]
    drawn = [(at, *point.interval) for at, point in zip(positions, points, strict=True) if point.interval]
    if drawn:
        places, low, high = zip(*drawn, strict=True)
        axes.fill_between(places, low, high, color=colour, alpha=0.2, linewidth=0, zorder=2)
    axes.plot(positions, means, color=colour, linewidth=3 if strong else 2, zorder=3)
    axes.plot(positions[:-1], means[:-1], "o", color=colour, markersize=6 if strong else 4.5, zorder=4)
    # All labels: there is one draw, hence no band.
    ring: dict[str, Any] = {"markerfacecolor": "white", "markeredgewidth": 2, "markersize": 8}
    axes.plot(positions[-1:], means[-1:], "o", color=colour, zorder=5, **ring)


def _label_axes(axes: Axes, points: list[Point], curve: LabelCurve) -> None:
    axes.set_xscale("log")
    places = [_position(point, curve.classes) for point in points]
    names = [f"{point.per_class:,}" for point in points[:-1]] + [f"all\n({places[-1]:,.0f})"]
    axes.set_xticks(places, names)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("labels per class", fontsize=12)
    axes.set_ylabel(f"{curve.split} accuracy (%)", fontsize=12)
    axes.set_title(f"What a label is worth: {curve.dataset}", loc="left", fontsize=16, fontweight="bold", pad=34)
    axes.text(
        0,
        1.02,
        f"{curve.pictures:,} {curve.split} pictures, {curve.classes} classes; {curve.classifier}.\n"
        f"Mean of {curve.draws} class-balanced draws of labels; band: 95 % t-interval of the mean. Ring: all labels.",
        transform=axes.transAxes,
        fontsize=9.5,
        color="#444444",
        va="bottom",
    )
    axes.tick_params(labelsize=11, length=0)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _name_curves(axes: Axes, curve: LabelCurve, colours: dict[str, str]) -> None:
    """Names to the right of the last points, pushed apart where they would overlap."""
    lowest, highest = axes.get_ylim()
    ends = sorted((points[-1].accuracy, encoder) for encoder, points in curve.curves.items())
    height = _LINE_HEIGHT * (highest - lowest)
    places = _apart([accuracy for accuracy, _ in ends], height, highest)
    for (accuracy, encoder), place in zip(ends, places, strict=True):
        axes.annotate(
            f"{encoder} {accuracy:.1f}",
            (1.02, place),
            xycoords=("axes fraction", "data"),
            va="center",
            color=colours[encoder],
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
