"""Where figures go: loggers, and what becomes of them when an evaluation is interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.logger import DummyLogger
from PIL import Image

from simclr_lightning.evaluation import records
from simclr_lightning.evaluation.records import kept_if_interrupted, log_figures, output_folder, remove_unfinished


class Recorder(DummyLogger):
    """Takes metrics and pictures, as Weights & Biases does."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[Any] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.taken.append((metrics, step))

    def log_image(self, key: str, images: list[Any], step: int | None = None) -> None:
        self.taken.append((key, images[0].size, step))

    def finalize(self, status: str) -> None:
        self.taken.append(status)


class Events(Recorder):
    """Stands for ``TensorBoardLogger``, which writes into a folder."""

    made: list[Events]

    def __init__(self, save_dir: Path, name: str, version: str) -> None:
        super().__init__()
        self.folder = save_dir / name / version
        type(self).made.append(self)

    @property
    def experiment(self) -> Any:
        raise AssertionError("The version of a training was opened.")


@pytest.fixture
def picture(tmp_path: Path) -> dict[str, Path]:
    Image.new("L", (4, 3)).save(tmp_path / "features.png")
    return {"features": tmp_path / "features.png"}


def test_figures_and_pictures_reach_a_logger(picture: dict[str, Path], tmp_path: Path) -> None:
    logger = Recorder()
    figures = {None: {"evaluate/raw pixels/knn": 93.0}, 5: {"label_curve/raw pixels": 80.0}}
    log_figures(Trainer(accelerator="cpu", logger=logger), tmp_path / "evaluate", figures, picture)
    assert logger.taken == [*((metrics, step) for step, metrics in figures.items()), ("features", (4, 3), 0), "success"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features.png"]


def test_a_training_keeps_its_metrics(picture: dict[str, Path], tmp_path: Path) -> None:
    rows = tmp_path / "runs" / "one" / "metrics.csv"
    rows.parent.mkdir(parents=True)
    rows.write_text("step,loss\n1,5.5\n")
    for version in ("one", None):
        trainer = Trainer(accelerator="cpu", logger=CSVLogger(tmp_path, "runs", version))
        log_figures(trainer, tmp_path / "evaluate", {None: {"knn": 93.0}}, picture)
    assert rows.read_text() == "step,loss\n1,5.5\n"
    assert [path.name for path in rows.parent.parent.iterdir()] == ["one"]


def test_tensorboard_writes_beside_the_figures(
    picture: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "TensorBoardLogger", Events)
    monkeypatch.setattr(Events, "made", [], raising=False)
    trainer = Trainer(accelerator="cpu", logger=Events(tmp_path, "runs", "one"))
    log_figures(trainer, tmp_path / "evaluate", {None: {"knn": 93.0}}, picture)
    of_the_training, beside = Events.made
    assert of_the_training.taken == []
    assert beside.folder == tmp_path / "evaluate"
    assert beside.taken == [({"knn": 93.0}, None), ("features", (4, 3), 0), "success"]


def test_the_folder_is_what_is_asked_for_the_checkpoints_run_or_this_run(tmp_path: Path) -> None:
    trainer = Trainer(accelerator="cpu", logger=CSVLogger(tmp_path, "runs", 3))
    in_a_run = tmp_path / "other" / "checkpoints" / "last.ckpt"
    assert output_folder(trainer, in_a_run, "here") == Path("here")
    assert output_folder(trainer, in_a_run, None) == tmp_path / "other"
    assert output_folder(trainer, tmp_path / "last.ckpt", None) == tmp_path / "runs" / "version_3"
    assert not list(tmp_path.iterdir())


def interrupted(path: Path, finished: list[int], asked: dict[str, Any]) -> None:
    with pytest.raises(MemoryError), kept_if_interrupted(finished, lambda: {"figures": finished}, path, asked):
        raise MemoryError


def test_a_second_interruption_leaves_the_first_ones_figures_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "figures" / "evaluation_unfinished.json"
    for seed in (0, 1):
        interrupted(path, [seed], {"seed": seed})
    first, second = path, path.with_name("evaluation_unfinished-2.json")
    assert [json.loads(file.read_text()) for file in (first, second)] == [
        {"asked": {"seed": seed}, "figures": [seed]} for seed in (0, 1)
    ]
    assert str(second) in capsys.readouterr().out.splitlines()[1]


def test_a_complete_evaluation_removes_what_the_same_one_left_unfinished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "evaluation_unfinished.json"
    for asked in ({"shares": (0.1, 1)}, {"shares": (0.2, 1)}, {"shares": (0.1, 1)}):
        interrupted(path, [1], asked)
    (tmp_path / "evaluation.json").write_text("{}")
    capsys.readouterr()
    remove_unfinished(path, {"shares": (0.1, 1)})
    other = tmp_path / "evaluation_unfinished-2.json"
    assert sorted(tmp_path.iterdir()) == [tmp_path / "evaluation.json", other]
    assert capsys.readouterr().out == f"Figures of another evaluation, which was interrupted: {other}\n"
