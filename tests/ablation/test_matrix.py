"""Which runs there are, and the file that keeps them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simclr_lightning.ablation.matrix import UNTRAINED, Cell, Matrix, Record, Scores

SETTINGS: dict[str, Any] = {"epochs": 3, "views": {"crop_area": (0.2, 1.0)}}


def test_every_pair_is_run_in_both_orders_with_every_seed() -> None:
    matrix = Matrix(("crop", "blur"), (4, 5))
    assert matrix.pairs() == [("crop", "crop"), ("crop", "blur"), ("blur", "crop"), ("blur", "blur")]
    assert list(matrix.cells())[:2] == [Cell("crop", "crop", 4), Cell("crop", "blur", 4)]
    assert {cell.seed for cell in list(matrix.cells())[:4]} == {4}  # a whole matrix, then the next
    assert matrix.runs() == [*matrix.cells(), Cell(UNTRAINED, UNTRAINED, 4), Cell(UNTRAINED, UNTRAINED, 5)]


def test_a_symmetric_matrix_runs_each_pair_once_and_shows_it_twice() -> None:
    matrix = Matrix(("crop", "blur"), (0, 1), symmetric=True)
    assert matrix.pairs() == [("crop", "crop"), ("crop", "blur"), ("blur", "blur")]
    for number, cell in enumerate(matrix.runs()):
        matrix.scores[cell] = Scores(number, 0, 0)
    np.testing.assert_array_equal(matrix.accuracies(), [[[0, 3], [1, 4]], [[1, 4], [2, 5]]])
    assert matrix.untrained() == [6, 7]


def test_the_diagonal_has_one_operation_alone() -> None:
    assert Cell("crop", "crop", 0).operations == ("crop",)
    assert Cell("crop", "blur", 0).operations == ("crop", "blur")
    assert str(Cell("crop", "crop", 0)) == "crop alone, seed 0"
    assert str(Cell("crop", "blur", 1)) == "crop, then blur, seed 1"


def test_finished_runs_are_found_again(tmp_path: Path) -> None:
    record = Record(tmp_path / "study", SETTINGS)
    assert record.scores == {}
    matrix = Matrix(("crop", "blur"), (0,), scores=record.scores)
    matrix.scores[Cell("crop", "blur", 0)] = Scores(40.5, 30.25, 7.0)
    record.write(matrix, "simclr ablate", "Blur.")
    assert [path.name for path in (tmp_path / "study").iterdir()] == ["matrix.json"]
    assert Record(tmp_path / "study", SETTINGS).scores == {Cell("crop", "blur", 0): Scores(40.5, 30.25, 7.0)}
    content = json.loads((tmp_path / "study" / "matrix.json").read_text(encoding="utf-8"))
    assert content["command"] == "simclr ablate"
    assert content["recommendation"] == "Blur."
    assert content["settings"] == {"epochs": 3, "views": {"crop_area": [0.2, 1.0]}}
    assert content["runs"] == [
        {"first": "crop", "second": "blur", "seed": 0, "linear": 40.5, "knn": 30.25, "seconds": 7.0}
    ]


def test_other_settings_in_the_same_folder_are_refused_by_name(tmp_path: Path) -> None:
    Record(tmp_path, SETTINGS).write(Matrix(("crop", "blur"), (0,)), "simclr ablate")
    with pytest.raises(ValueError, match=r"epochs was 3 and is 4; width was None and is 2\. Type the same.*--output"):
        Record(tmp_path, {**SETTINGS, "epochs": 4, "width": 2})


@pytest.mark.parametrize("text", ["no json", "[]", '{"settings": {}}', '{"settings": {}, "runs": [{}]}'])
def test_a_foreign_file_is_not_overwritten(text: str, tmp_path: Path) -> None:
    (tmp_path / "matrix.json").write_text(text)
    with pytest.raises(ValueError, match="not the file of a study: name another folder"):
        Record(tmp_path, SETTINGS)
