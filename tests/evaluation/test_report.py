"""Table and JSON hold the same figures, and what it takes to get them again."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import sklearn
import torch
from rich.console import Console

from simclr_lightning.evaluation import Evaluation
from simclr_lightning.evaluation.report import Result


@pytest.fixture
def evaluation() -> Evaluation:
    results = [
        Result("raw pixels", "linear", 1437, [96.944]),
        Result("raw pixels", "linear@1%", 14, [60.0, 66.0, 63.0]),
        Result("pre-trained encoder", "linear", 1437, [98.06]),
        Result("pre-trained encoder", "linear@1%", 14, [75.0, 75.5, 76.6]),
    ]
    return Evaluation(results, "test", 360, 4, "runs/a/checkpoints/last.ckpt", ["A note."])


def printed(evaluation: Evaluation) -> str:
    stream = io.StringIO()
    Console(file=stream, width=120).print(evaluation.table())
    return stream.getvalue()


def test_several_draws_give_mean_and_sample_standard_deviation() -> None:
    result = Result("raw pixels", "linear@1%", 14, [60.0, 66.0, 63.0])
    assert result.accuracy == 63.0
    assert result.standard_deviation == 3.0
    assert str(result) == "63.0 ± 3.0"


def test_one_draw_has_no_standard_deviation() -> None:
    result = Result("raw pixels", "linear", 1437, [96.944])
    assert result.standard_deviation is None
    assert str(result) == "96.9"


def test_the_table_has_a_row_an_encoder_and_a_column_a_protocol(evaluation: Evaluation) -> None:
    text = printed(evaluation)
    for row in (("raw pixels", "96.9", "63.0 ± 3.0"), ("pre-trained encoder", "98.1", "75.7 ± 0.8")):
        (line,) = [line for line in text.splitlines() if row[0] in line]
        assert [cell.strip() for cell in line.split("│")[1:-1]] == list(row)


def test_the_table_names_what_it_takes_to_get_it_again(evaluation: Evaluation) -> None:
    text = printed(evaluation)
    for part in ("360 test pictures", "last.ckpt", "seed 4", "1437 labels", "14 labels, 3 draws", "A note."):
        assert part in text


def test_the_json_has_every_figure_with_its_circumstances(evaluation: Evaluation, tmp_path: Path) -> None:
    evaluation.write_json(tmp_path / "evaluation.json")
    content = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    assert content["versions"] == {"torch": torch.__version__, "scikit-learn": sklearn.__version__}
    assert content["notes"] == ["A note."]
    assert len(content["figures"]) == 4
    assert content["figures"][1] == {
        "encoder": "raw pixels",
        "protocol": "linear@1%",
        "accuracy": 63.0,
        "standard_deviation": 3.0,
        "accuracies": [60.0, 66.0, 63.0],
        "labels": 14,
        "draws": 3,
        "seed": 4,
        "train_split": "train",
        "test_split": "test",
        "test_pictures": 360,
        "checkpoint": "runs/a/checkpoints/last.ckpt",
    }


def test_a_figure_is_found_by_row_and_column(evaluation: Evaluation) -> None:
    assert evaluation.accuracy("pre-trained encoder", "linear") == 98.06
    with pytest.raises(KeyError, match="no figure for 'pre-trained encoder' and 'knn'"):
        evaluation.accuracy("pre-trained encoder", "knn")
