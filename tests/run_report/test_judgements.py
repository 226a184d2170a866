"""Tables of what the other commands write, from files as they write them."""

from __future__ import annotations

from pathlib import Path

from simclr_lightning.ablation.matrix import Matrix, Record, Scores
from simclr_lightning.evaluation.label_curve import LabelCurve
from simclr_lightning.evaluation.records import write_json
from simclr_lightning.evaluation.report import Evaluation, Result, Row
from simclr_lightning.run_report import report_runs
from simclr_lightning.run_report.judgements import find_judgements


def test_files_of_the_commands(tmp_path: Path) -> None:
    rows = [Row("linear@1%", "logistic regression", "top1", {}, "simclr evaluate"), Row("ft", "all", "top1", {}, None)]
    results = [
        Result("raw pixels", "linear@1%", 14, [60.0, 66.0, 63.0]),
        Result("pre-trained encoder", "linear@1%", 14, [90.0]),
        Result("pre-trained encoder", "ft", 1437, [99.0]),
    ]
    checkpoints = {"pre-trained encoder": "last.ckpt"}
    Evaluation(rows, results, "test", 360, 0, checkpoints, ["Few pictures."]).write_json(tmp_path / "evaluation.json")
    points = [Result("raw pixels", "linear", 10, [60.0, 62.0], per_class=1), Result("raw pixels", "linear", 90, [81.0])]
    curve = LabelCurve(points, "digits", "test", 360, 10, "logistic regression", {}, 0, {}, None, [])
    write_json(tmp_path / "curve" / "label_curve.json", curve.content())
    matrix = Matrix(("crop", "colour"), seeds=(0, 1))
    for number, run in enumerate(matrix.runs()[:3]):
        matrix.scores[run] = Scores(50.0 + number, 40.0, 1.0)
    Record(tmp_path / "a" / "study", {"steps": 100}).write(matrix, "simclr ablate")

    tables, notes = find_judgements(tmp_path)
    assert not notes
    study, label_curve, evaluation = tables
    assert evaluation.header == ["protocol", "labels", "draws", "raw pixels", "pre-trained encoder"]
    assert evaluation.rows == [
        ["linear@1%", "14", "3", "63.0 ± 3.0 [55.5, 70.5]", "90.0"],
        ["ft", "1437", "1", "–", "99.0"],
    ]
    assert evaluation.commands == ["simclr evaluate"]
    assert evaluation.facts[0].startswith("Accuracy (%) on 360 test pictures, seed 0; mean ± standard deviation over")
    assert {"pre-trained encoder: last.ckpt.", "Few pictures."} < set(evaluation.facts)
    assert label_curve.rows == [["1", "10", "61.0 ± 1.4 [48.3, 73.7]"], ["all", "90", "81.0"]]
    assert study.header[1:] == ["crop", "colour"]
    assert "–" in (cell for row in study.rows for cell in row)
    assert "The study is not finished." in study.facts

    page = report_runs([str(tmp_path)]).read_text()
    assert "63.0 ± 3.0 [55.5, 70.5]" in page
    assert 'id="health"' not in page  # nothing was trained here


def test_a_study_by_its_pairs(tmp_path: Path) -> None:
    matrix = Matrix(("crop", "colour"), seeds=(0, 1))
    for run in matrix.runs():
        matrix.scores[run] = Scores({"crop": 60.0, "colour": 40.0}.get(run.first, 20.0) + 2 * run.seed, 30.0, 1.0)
    Record(tmp_path, {}).write(matrix, None, "Use crop.")
    ((table,), _) = find_judgements(tmp_path)
    assert table.rows == [["crop", "61.0 ± 1.4", "61.0 ± 1.4"], ["colour", "41.0 ± 1.4", "41.0 ± 1.4"]]
    assert table.facts[1:] == ["The untrained encoder has 21.0 ± 1.4.", "Use crop."]
