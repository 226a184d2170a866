"""Curves as SVG that stands in a page: the colours are those of the page, and every name in it is its own."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from simclr_lightning.run_report.metric_columns import Floats, thinned

COLOURS = 6
"""That curves have: ``--c0`` to ``--c5`` in the style of the page."""

DASHES = ("solid", "dashed", "dotted")
"""Of curves; with the colours, as many as this can be told apart: ``COLOURS * len(DASHES)``."""

_INK, _RULE = "#fe0001", "#fe0002"  # which stand for colours of the page until the picture is drawn
_CURVES = [f"#fe01{number:02x}" for number in range(COLOURS)]
_NAMED = {_INK: "--muted", _RULE: "--rule"} | {colour: f"--c{number}" for number, colour in enumerate(_CURVES)}
_PATTERNS = {"solid": "solid", "dashed": (0, (4, 2)), "dotted": (0, (1.2, 1.4))}
_PEAK = 1000.0  # of a curve, over its median, which hides the rest of it but on a logarithmic axis
_FEW = 25  # points of a curve that are marked
_REFERENCE = re.compile(r"(^|url\()#(?!fe0)")


class Curve(NamedTuple):
    """A curve to draw.

    Attributes:
        x: (N,) ascending.
        y: (N,); what is not finite is a gap.
        look: its number, which chooses colour and dashes.

    Example:
        >>> Curve(np.array([1.0, 2.0]), np.array([4.8, 4.1]), look=0).look
        0
    """

    x: Floats
    y: Floats
    look: int


def look_of(number: int) -> tuple[int, str]:
    """Colour and dashes of a curve; neighbours differ in both.

    Example:
        >>> look_of(0), look_of(1), look_of(6)
        ((0, 'solid'), (1, 'dashed'), (0, 'dashed'))
    """
    return number % COLOURS, DASHES[(number + number // COLOURS) % len(DASHES)]


def chart(curves: Sequence[Curve], name: str, described: str, x_label: str, x_end: float | None = None) -> Markup:
    """Draw curves, small: 360 x 200 units.

    Args:
        curves: at least one.
        name: of the picture, unlike any other on the page, of letters and digits.
        described: for those who cannot see it.
        x_label: what x is.
        x_end: where x ends, from 0; by default both ends are those of the curves.

    Example:
        >>> drawn = chart([Curve(np.array([1.0, 2.0]), np.array([4.8, 4.1]), 0)], "loss", "falls", "epoch")
        >>> drawn.startswith("<svg"), "var(--c0)" in drawn, "http" in drawn
        (True, True, False)
    """
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "text.parse_math": False,
        "font.sans-serif": ["DejaVu Sans"],
    }
    with mpl.rc_context(settings):
        figure = Figure(figsize=(5.0, 2.8), layout="constrained")
        axes = figure.subplots()
        _draw(axes, curves)
        if x_end:
            axes.set_xlim(-0.01 * x_end, 1.01 * x_end)
        axes.set_xlabel(x_label, fontsize=11, color=_INK)
        content = io.StringIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    return _for_the_page(content.getvalue(), name, described)


def _draw(axes: Axes, curves: Sequence[Curve]) -> None:
    values = []
    for curve in curves:
        colour, dashes = look_of(curve.look)
        x, y = thinned(curve.x, np.where(np.isfinite(curve.y), curve.y, np.nan))
        known = y[~np.isnan(y)]
        values.append(known)
        style: dict[str, Any] = {"marker": "o", "markersize": 3 if len(known) > 1 else 5} if len(known) <= _FEW else {}
        axes.plot(x, y, color=_CURVES[colour], linestyle=_PATTERNS[dashes], linewidth=1.8, **style)
    found = np.concatenate(values)
    if len(found) and found.min() > 0 and found.max() > _PEAK * np.median(found):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=5))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:,.6g}"))
    axes.tick_params(colors=_INK, labelsize=11, length=0)
    axes.grid(color=_RULE, linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_RULE)
    axes.patch.set_visible(False)
    axes.figure.patch.set_visible(False)


def printable(text: str) -> str:
    """Text without characters that neither HTML nor UTF-8 may hold, such as those that colour a terminal.

    Example:
        >>> printable("a run" + chr(27) + "[1m")
        'a run�[1m'
    """
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in text)


def _for_the_page(drawn: str, name: str, described: str) -> Markup:
    """Without what belongs into a file, with colours of the page, and with names of its own."""
    root = ElementTree.fromstring(drawn)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for attribute, value in list(element.attrib.items()):
            del element.attrib[attribute]
            changed = f"{name}-{value}" if attribute == "id" else _REFERENCE.sub(rf"\1#{name}-", value)
            for colour, named in _NAMED.items():
                changed = changed.replace(colour, f"var({named})")
            element.set(attribute.rpartition("}")[2], changed)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.attrib |= {"role": "img", "aria-label": printable(described)}
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # numbers, and what is escaped by it
