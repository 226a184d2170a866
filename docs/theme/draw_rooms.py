"""Draws docs/images/rooms.svg from the floors of tests/test_architecture.py: python docs/theme/draw_rooms.py."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
_COLOURS = ("#fde8c8", "#fbdcd6", "#e4dcf3", "#cfe3f5", "#d5ecd4", "#f3efc9")
_WIDTH, _HEIGHT, _GAP = 960, 40, 10


def drawn(floors: Sequence[set[str]]) -> str:
    """An SVG of the rooms, a row for each floor.

    Args:
        floors: from the top.
    """
    height = len(floors) * (_HEIGHT + _GAP) + _GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
        'font-size="12" role="img" aria-label="The rooms of simclr_lightning, floor by floor">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for number, rooms in enumerate(floors):
        width = (_WIDTH - _GAP * (len(rooms) + 1)) / len(rooms)
        top, colour = _GAP + number * (_HEIGHT + _GAP), _COLOURS[number * len(_COLOURS) // len(floors)]
        for place, room in enumerate(sorted(rooms)):
            left = _GAP + place * (width + _GAP)
            parts += [
                f'<rect x="{left:.0f}" y="{top}" width="{width:.0f}" height="{_HEIGHT}" rx="5" fill="{colour}" '
                'stroke="#555555"/>',
                f'<text x="{left + width / 2:.0f}" y="{top + 25}" text-anchor="middle" fill="#222222">{room}</text>',
            ]
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from tests.test_architecture import FLOORS

    (ROOT / "docs/images/rooms.svg").write_text(drawn(FLOORS))
