"""Matrices whose figures are known, and tiny trees of pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simclr_lightning.ablation.matrix import UNTRAINED, Cell, Matrix, Scores

Figures = Mapping[tuple[str, str], list[float]]
MakeMatrix = Callable[..., Matrix]


@pytest.fixture
def make_matrix() -> MakeMatrix:
    """A finished matrix from the linear accuracies of its cells; kNN has 10 points less."""

    def make(figures: Figures, *, untrained: float = 10.0, symmetric: bool = False) -> Matrix:
        operations = tuple(dict.fromkeys(first for first, _ in figures))
        seeds = tuple(range(len(next(iter(figures.values())))))
        matrix = Matrix(operations, seeds, symmetric)
        for (first, second), values in {**figures, (UNTRAINED, UNTRAINED): [untrained] * len(seeds)}.items():
            for seed, value in zip(seeds, values, strict=True):
                matrix.scores[Cell(first, second, seed)] = Scores(value, value - 10, 1.0)
        return matrix

    return make


@pytest.fixture
def write_tree(tmp_path: Path) -> Callable[..., Path]:
    """Writes random pictures: `write_tree("photos", ["cat/1.png", "dog/2.png"], side=20)` returns the root."""

    def write(root: str, names: list[str], *, side: int | None = None) -> Path:
        rng = np.random.default_rng(0)
        for name in names:
            path = tmp_path / root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shape = (side, side) if side else rng.integers(18, 30, 2)
            Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)).save(path)
        return tmp_path / root

    return write
