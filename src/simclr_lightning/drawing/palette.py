"""Colours and markers that everybody can tell apart: the only ones that pictures of this package use."""

from __future__ import annotations

from typing import NamedTuple

COLOURS = (
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"),
    *("#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"),
)
"""Ten colours by Petroff 2021 (arXiv 2107.02270), made for classes that colour-blind people tell apart, too.

Any two are at least 17 apart (CIE76) to everybody; matplotlib's own ten are 4.6 apart under protanopia.
"""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
"""Of ten classes each has its own, for those who see no colours, and for prints."""

RIGHT, WRONG = COLOURS[0], COLOURS[2]
UNKNOWN, INK, FAINT = "#000000", "#333333", "#767676"
"""Pictures without a label; text; what is beside the point."""

QUANTITIES = "viridis"
"""Colour map of numbers: brightness rises with them, so it reads without colours."""

MOST_NAMED = 20
"""Classes that colours and markers tell apart at a glance; more are coloured by their numbers."""


class Style(NamedTuple):
    """How a class or a curve is drawn.

    Attributes:
        color: of its line or its points, as matplotlib calls it.
        marker: at its points.

    Example:
        >>> Style(*style(0))._asdict()
        {'color': '#3f90da', 'marker': 'o'}
    """

    color: str
    marker: str


def style(number: int) -> Style:
    """Colour and marker of a class or a curve; the pair is another for each of a hundred.

    Args:
        number: from 0 on.

    Example:
        >>> style(0), style(10)
        (Style(color='#3f90da', marker='o'), Style(color='#3f90da', marker='s'))
    """
    return Style(COLOURS[number % len(COLOURS)], MARKERS[(number + number // len(COLOURS)) % len(MARKERS)])
