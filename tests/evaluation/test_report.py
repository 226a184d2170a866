"""Tables and JSON hold the same figures, and what it takes to get them again."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import sklearn
import torch
from rich.console import Console

from simclr_lightning.evaluation import Evaluation
from simclr_lightning.evaluation.report import Result, Row


@pytest.fixture
def evaluation() -> Evaluation:
    rows = [
        Row("linear", "logistic regression", "top1", {"strengths": [1e-3]}, "simclr evaluate --protocols linear"),
        Row("linear@1%", "from few labels", "top1", {}, None),
        Row("finetune@1%", "fine-tuning", "mean per class", {"epochs": 60}, None),
    ]
    results = [
        Result("raw pixels", "linear", 1437, [96.944], [{}]),
        Result("raw pixels", "linear@1%", 14, [60.0, 66.0, 63.0], [{}, {}, {}]),
        Result("pre-trained encoder", "linear", 1437, [98.06], [{}]),
        Result("pre-trained encoder", "linear@1%", 14, [75.0, 75.5, 76.6], [{}, {}, {}]),
        Result("pre-trained encoder", "finetune@1%", 14, [80.0], [{"top5": 0.9}]),
    ]
    checkpoints = {"pre-trained encoder": "runs/a/checkpoints/last.ckpt"}
    return Evaluation(rows, results, "test", 360, 4, checkpoints, ["A note."])


def printed(evaluation: Evaluation) -> str:
    stream = io.StringIO()
    evaluation.print(Console(file=stream, width=120))
    return stream.getvalue()


def cells(text: str, row: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if f"│ {row} " in line]


def test_several_draws_give_mean_and_sample_standard_deviation() -> None:
    result = Result("raw pixels", "linear@1%", 14, [60.0, 66.0, 63.0], [])
    assert result.accuracy == 63.0
    assert result.standard_deviation == 3.0
    assert str(result) == "63.0 ± 3.0"


def test_one_draw_has_no_standard_deviation() -> None:
    result = Result("raw pixels", "linear", 1437, [96.944], [])
    assert result.standard_deviation is None
    assert str(result) == "96.9"


def test_the_interval_is_students() -> None:
    result = Result("raw pixels", "linear@1%", 15, [60.0, 66.0, 63.0])
    reach = 4.302653 * 3 / math.sqrt(3)  # 97.5 % quantile of Student's t with 2 degrees of freedom, from a table
    assert result.interval == pytest.approx((63 - reach, 63 + reach), abs=1e-4)
    assert (str(result), result.interval_text) == ("63.0 ± 3.0", "[55.5, 70.5]")
    single = Result("raw pixels", "linear", 40, [60.0])
    assert (single.interval, single.interval_text) == (None, "")


def test_the_interval_covers_the_mean_nineteen_times_in_twenty() -> None:
    samples = np.random.default_rng(0).normal(70, 4, (2000, 5)).tolist()
    intervals = [Result("", "", 1, sample).interval for sample in samples]
    covered = [low <= 70 <= high for low, high in filter(None, intervals)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_the_table_has_a_row_a_protocol_and_a_column_an_encoder(evaluation: Evaluation) -> None:
    text = printed(evaluation)
    assert cells(text, "linear") == [["linear", "1437", "96.9", "98.1"]]
    assert cells(text, "linear@1%") == [["linear@1%", "14", "63.0 ± 3.0", "75.7 ± 0.8"]]
    assert cells(text, "finetune@1%") == [["finetune@1%", "14", "–", "80.0"]]
    assert text.index("raw pixels") < text.index("pre-trained encoder ")
    for part in (
        "360 test pictures, seed 4",
        "± standard deviation over draws of labels",
        "pre-trained encoder: runs/a/checkpoints/last.ckpt",
        "A note.",
    ):
        assert part in text


def test_every_protocol_is_described_with_its_command(evaluation: Evaluation) -> None:
    lines = printed(evaluation).splitlines()
    place = lines.index("linear: logistic regression; top1, 1437 labels, 1 draw, test split, seed 4")
    assert lines[place + 1] == "    simclr evaluate --protocols linear"
    assert "linear@1%: from few labels; top1, 14 labels, 3 draws, test split, seed 4" in lines
    assert "finetune@1%: fine-tuning; mean per class, 14 labels, 1 draw, test split, seed 4" in lines


def test_a_protocol_without_any_figure_is_listed(evaluation: Evaluation) -> None:
    evaluation.results[:] = [result for result in evaluation.results if result.protocol != "finetune@1%"]
    assert cells(printed(evaluation), "finetune@1%") == [["finetune@1%", "–", "–", "–"]]


def test_the_json_has_every_figure_with_its_circumstances(evaluation: Evaluation, tmp_path: Path) -> None:
    evaluation.write_json(tmp_path / "evaluation.json")
    content = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    assert content["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert content["versions"]["scikit-learn"] == sklearn.__version__
    assert content["notes"] == ["A note."]
    assert content["interval"] == "95 % t-interval of the mean over the draws of labels"
    assert len(content["figures"]) == 5
    assert content["figures"][1] == {
        "encoder": "raw pixels",
        "protocol": "linear@1%",
        "accuracy": 63.0,
        "standard_deviation": 3.0,
        "interval": pytest.approx([55.5476, 70.4524], abs=1e-4),
        "accuracies": [60.0, 66.0, 63.0],
        "also": [{}, {}, {}],
        "metric": "top1",
        "what": "from few labels",
        "labels": 14,
        "draws": 3,
        "seed": 4,
        "settings": {},
        "train_split": "train",
        "test_split": "test",
        "test_pictures": 360,
        "checkpoint": None,
        "command": None,
    }
    last = content["figures"][4]
    assert last["checkpoint"] == "runs/a/checkpoints/last.ckpt"
    assert (last["settings"], last["also"]) == ({"epochs": 60}, [{"top5": 0.9}])
    assert content["figures"][0]["command"] == "simclr evaluate --protocols linear"


def test_a_figure_is_found_by_encoder_and_protocol(evaluation: Evaluation) -> None:
    assert evaluation.accuracy("pre-trained encoder", "linear") == 98.06
    with pytest.raises(KeyError, match="no figure for 'pre-trained encoder' and 'knn'"):
        evaluation.accuracy("pre-trained encoder", "knn")


def test_loggers_get_a_name_a_figure(evaluation: Evaluation) -> None:
    metrics = evaluation.metrics()
    assert len(metrics) == 5
    assert metrics["evaluate/raw pixels/linear@1%"] == 63.0
