"""A pickle that shows that it was run."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Hostile:
    """Makes a file where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)
