"""Tiny trees of pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

WriteTree = Callable[..., Path]


@pytest.fixture
def write_tree(tmp_path: Path) -> WriteTree:
    """Writes random pictures: `write_tree("photos", ["cat/1.png", "dog/2.jpg"], side=20)` returns the root."""

    def write(root: str, names: list[str], *, side: int | None = None) -> Path:
        rng = np.random.default_rng(0)
        for name in names:
            path = tmp_path / root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shape = (side, side) if side else rng.integers(18, 30, 2)
            Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)).save(path)
        return tmp_path / root

    return write
