"""Figures without a display: from matplotlib to a picture, and names as they are."""

from __future__ import annotations

import warnings
from io import BytesIO

from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

_LONGEST = 22  # letters of a name


def as_image(figure: Figure, *, dpi: int = 100) -> Image.Image:
    """The drawn figure, in RGB. No display is needed, and nothing stays open.

    Args:
        figure: made by ``Figure()``, not by pyplot, which would keep it.
        dpi: pixels an inch.

    Example:
        >>> as_image(Figure(figsize=(2, 1))).size
        (200, 100)
    """
    file = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a class's name in another script
        figure.savefig(file, format="png", dpi=dpi)
    return Image.open(file).convert("RGB")


def as_it_is(text: Text) -> None:
    """Let a name be shown as it is: dollars are no formulas.

    Example:
        >>> text = Figure().text(0, 0, "5$ to 9$")
        >>> as_it_is(text)
        >>> text.get_parse_math()
        False
    """
    text.set_parse_math(False)


def shortened(name: str) -> str:
    """A name of at most 22 letters.

    Example:
        >>> shortened("a very long name of some class")
        'a very long name of s…'
    """
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
