"""Which curves stand in one picture, in which section, and what is said of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from simclr_lightning.run_report.charts import Curve, chart
from simclr_lightning.run_report.metric_columns import Column, Floats, Metrics

SECTIONS = ("Loss and accuracy", "Health", "Time", "Schedule", "Other")
"""Of the curves, in their order."""

_MOST_CHARTS = 150
_VARIANTS = (
    re.compile(r"(?P<variant>train|val|test)/(?P<quantity>.+)"),
    re.compile(r"health/(?P<variant>features|projections)_(?P<quantity>.+)"),
    re.compile(r"(?P<of>[^/]+/)(?P<variant>train|val|test)_(?P<quantity>.+)"),
    re.compile(r"(?P<quantity>lr)-(?P<variant>.+)"),
    re.compile(r"(?P<quantity>time)/(?P<variant>data|copy|views|encoder|loss|backward|optimizer|rest)"),
)
_TOLD = {
    "loss": "Comparable between runs of the same loss, temperature, batch and views.",
    "contrast_top1": "Share of views whose other view is the most similar one of the batch.",
    "contrast_top5": "Share of views whose other view is among the five most similar.",
    "contrast_entropy": "Entropy of the similarities of a view to the rest of its batch, in nats.",
    "contrast_temperature": "That of the loss, where it is learned.",
    "probe/top1": "A linear classifier that learns beside the training, on features that it does not change.",
    "knn/top1": "Weighted votes of nearest neighbours, on clean pictures.",
    "health/std": "Of unit vectors: 1/√d is healthy for d dimensions, 0 is a collapse.",
    "health/rank": "Effective rank: how many dimensions are in use.",
    "health/cosine": "Mean cosine of different pictures: 1 is a collapse.",
    "health/alignment": "Mean squared distance of the two views of a picture.",
    "health/uniformity": "How evenly directions are spread: lower is more evenly.",
    "health/positive": "Similarity of the two views of a picture.",
    "health/hardest_negative": "Similarity of the most similar other picture.",
    "health/overtaken": "Share of views whose hardest negative is more similar than their positive.",
    "health/loss_above_floor": "Loss above what identical pairs and orthogonal negatives would have.",
    "health/gradient_norm": "Before clipping.",
    "lr": "Learning rate.",
    "time": "Share of each part of a step in its time; data is waiting for the next batch.",
    "time/pictures_per_second": "Of all processes together.",
}
_FIRST = ("loss", "probe/top1", "knn/top1", "contrast_top1", "health/std", "health/rank", "lr")
_MINOR = re.compile(r".*(top5|entropy|uniformity|positive|hardest_negative)|(probe|knn)/loss")


class Named(NamedTuple):
    """A curve in a picture.

    Attributes:
        label: that tells it from others: its run, or what it is of.
        look: its number.
        last: its last value, as text.

    Example:
        >>> Named("val", 1, "4.1").label
        'val'
    """

    label: str
    look: int
    last: str


class Picture(NamedTuple):
    """A picture of curves.

    Attributes:
        title: the metric.
        told: of it, in a sentence, or "".
        drawn: SVG.
        curves: in it.
        minor: whether it may stay folded.
    """

    title: str
    told: str
    drawn: Markup
    curves: list[Named]
    minor: bool


def quantity_of(name: str) -> tuple[str, str]:
    """What a metric measures, and of what.

    Example:
        >>> quantity_of("val/loss"), quantity_of("probe/val_top1"), quantity_of("health/features_std")
        (('loss', 'val'), ('probe/top1', 'val'), ('health/std', 'features'))
        >>> quantity_of("lr-SGD/pg1"), quantity_of("time/loss"), quantity_of("time/step")
        (('lr', 'SGD/pg1'), ('time', 'loss'), ('time/step', ''))
    """
    for pattern in _VARIANTS:
        if found := pattern.fullmatch(name):
            parts = found.groupdict()
            of = "health/" if name.startswith("health/") else parts.get("of", "")
            return f"{of}{parts['quantity']}", parts["variant"]
    return name, ""


def section_of(quantity: str) -> str:
    """Section that a quantity stands in.

    Example:
        >>> section_of("health/std"), section_of("time/step"), section_of("lr"), section_of("probe/top1")
        ('Health', 'Time', 'Schedule', 'Loss and accuracy')
    """
    if quantity.startswith("health/"):
        return "Health"
    if quantity.partition("/")[0] == "time":
        return "Time"
    if quantity == "lr" or quantity.startswith(("lr", "view_size", "momentum")):
        return "Schedule"
    known = quantity in _TOLD or re.search(r"(loss|top\d+|accuracy|consistency|contrast_\w+)$", quantity)
    return "Loss and accuracy" if known else "Other"


def draw_curves(labels: Sequence[str], metrics: Sequence[Metrics | None], axis: str) -> dict[str, list[Picture]]:
    """Pictures by section. One run: what it was measured on shares a picture; several: the runs do.

    Args:
        labels: of the runs.
        metrics: of the runs.
        axis: epoch or step.

    Example:
        >>> metrics = Metrics({"train/loss": Column(np.array([0.0, 9.0]), np.array([4.8, 4.1]))}, {0: 9})
        >>> drawn = draw_curves(["run"], [metrics], "epoch")
        >>> [(picture.title, picture.curves) for picture in drawn["Loss and accuracy"]]
        [('loss', [Named(label='train', look=0, last='4.1')])]
    """
    several = len(metrics) > 1
    x_end = max(
        (_places(own, column, axis)[-1] for own in metrics if own for column in own.columns.values()), default=0
    )
    together: dict[tuple[str, str], list[tuple[str, int, Metrics, Column]]] = {}
    for number, (label, own) in enumerate(zip(labels, metrics, strict=True)):
        for name, column in sorted(_without_copies(own.columns if own else {}).items()):
            quantity, variant = quantity_of(name)
            if quantity == "lr":
                variant = "" if several else variant
            place = together.setdefault((quantity, variant if several else ""), [])
            if several and any(look == number for _, look, _, _ in place):
                continue  # another group of parameters
            place.append((label if several else variant, number if several else len(place), own or Metrics(), column))
    order = {quantity: place for place, quantity in enumerate(_FIRST)}
    sections: dict[str, list[Picture]] = {}
    for key, found in together.items():
        if key[0] == "lr" and len(found) == 1 and not several:
            together[key] = [("", *found[0][1:])]
    names = sorted(together, key=lambda key: (order.get(key[0], len(order)), key[0] not in _TOLD))[:_MOST_CHARTS]
    for number, (quantity, variant) in enumerate(names):
        picture = _picture(f"chart{number}", quantity, variant, together[quantity, variant], axis, x_end)
        sections.setdefault(section_of(quantity), []).append(picture)
    return {section: sections[section] for section in SECTIONS if section in sections}


def _without_copies(columns: Mapping[str, Column]) -> dict[str, Column]:
    """Rates of several groups of parameters are mostly the same."""
    kept: dict[str, Column] = {}
    for name, own in columns.items():
        rates = [other for known, other in kept.items() if name.startswith("lr-") and known.startswith("lr-")]
        if not any(np.array_equal(own.values, other.values) for other in rates):
            kept[name] = own
    return kept


def _picture(
    name: str, quantity: str, variant: str, found: Sequence[tuple[str, int, Metrics, Column]], axis: str, x_end: float
) -> Picture:
    curves, named = [], []
    for label, look, metrics, column in found:
        curves.append(Curve(_places(metrics, column, axis), column.values, look))
        named.append(Named(label, look, as_figure(column.values[-1])))
    title = f"{quantity} ({variant})" if variant else quantity
    described = f"{title} by {axis}. " + " ".join(
        f"{curve.label or title}: {as_figure(column.values[0])} at first, {curve.last} at last."
        for curve, (*_, column) in zip(named, found, strict=True)
    )
    return Picture(
        title,
        _TOLD.get(quantity, ""),
        chart(curves, name, described, axis, x_end),
        named,
        bool(_MINOR.fullmatch(quantity)),
    )


def _places(metrics: Metrics, column: Column, axis: str) -> Floats:
    return metrics.epochs(column.steps) if axis == "epoch" else column.steps


def as_figure(value: float) -> str:
    """A number to read.

    Example:
        >>> as_figure(0.6881999969482422), as_figure(12345.678), as_figure(3.2e-7), as_figure(46.0)
        ('0.6882', '12,346', '3.2e-07', '46')
    """
    if not np.isfinite(value):
        return str(float(value))
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.4g}"
