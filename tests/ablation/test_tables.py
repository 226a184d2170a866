"""The tables and the heat map show the same figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from simclr_lightning.ablation import Matrix
from simclr_lightning.ablation.tables import markdown, plot_matrix

MakeMatrix = Callable[..., Matrix]

FIGURES = {
    ("crop", "crop"): [30.0, 32.0],
    ("crop", "colour"): [50.0, 50.0],
    ("colour", "crop"): [40.0, 41.0],
    ("colour", "colour"): [20.0, 23.0],
}
SETTINGS: dict[str, Any] = {
    "dataset": "folder",
    "root": "somewhere/photos",
    "encoder": "resnet8",
    "width": 0.5,
    "steps": 60,
    "batch_size": 128,
    "training_pictures": 1300,
    "labelled_pictures": 1100,
    "held_out_pictures": 200,
    "classes": 5,
    "views": {"size": 32},
}


def test_the_tables_have_means_spreads_and_averages_of_rows(make_matrix: MakeMatrix) -> None:
    text = markdown(make_matrix(FIGURES), SETTINGS, advice="Crop.", command="simclr ablate --root photos")
    lines = text.splitlines()
    assert "| crop | 31.0 ± 1.4 | 50.0 ± 0.0 | 40.5 |" in lines
    assert "| colour | 40.5 ± 0.7 | 21.5 ± 2.1 | 31.0 |" in lines
    assert "| crop | 21.0 ± 1.4 | 40.0 ± 0.0 | 30.5 |" in lines  # kNN
    assert "The untrained encoder has 10.0 ± 0.0." in lines
    for part in (
        "# Augmentations for photos",
        "60 steps of 128 pictures (6 epochs of 1300)",
        "seeds 0, 1",
        "200 held-out pictures of 5 classes",
        "learn from 1100",
        "Crop.",
        "simclr ablate --root photos",
    ):
        assert part in text


def test_one_seed_has_no_spread(make_matrix: MakeMatrix) -> None:
    matrix = make_matrix({pair: values[:1] for pair, values in FIGURES.items()})
    text = markdown(matrix, {**SETTINGS, "dataset": "cifar10"}, advice="", command="")
    assert "| crop | 30.0 | 50.0 | 40.0 |" in text
    assert "±" not in text
    assert "Augmentations for cifar10" in text


def test_the_heat_map_shows_figures_averages_and_the_best_cell(
    make_matrix: MakeMatrix, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **settings: Any) -> None:
        figures.append(figure)
        save(figure, *arguments, **settings)

    monkeypatch.setattr(Figure, "savefig", keep)
    plot_matrix(make_matrix(FIGURES), tmp_path / "matrix.png", SETTINGS)
    cells, average = figures[0].axes[:2]
    np.testing.assert_allclose(np.asarray(cells.images[0].get_array(), dtype=np.float64), [[31.0, 50.0], [40.5, 21.5]])
    np.testing.assert_allclose(np.asarray(average.images[0].get_array(), dtype=np.float64), [[40.5], [31.0]])
    assert [text.get_text() for text in cells.texts] == ["31.0\n± 1.4", "50.0\n± 0.0", "40.5\n± 0.7", "21.5\n± 2.1"]
    assert [text.get_text() for text in average.texts] == ["40.5", "31.0"]
    frames = [patch for patch in cells.patches if isinstance(patch, Rectangle)]
    assert [frame.get_xy() for frame in frames] == [(0.5, -0.5)] * 2  # first crop (row 0), second colour (column 1)
    title = figures[0].get_suptitle()
    for part in ("photos", "200 held-out", "untrained 10.0", "60 steps", "seeds 0, 1"):
        assert part in title
    with Image.open(tmp_path / "matrix.png") as image:
        assert min(image.size) > 300
