from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

from simclr_lightning.callbacks.class_report import ClassReport, draw_confusion, write_classes
from simclr_lightning.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")
CONFUSION = torch.tensor([[8, 1, 1], [0, 0, 0], [2, 3, 5]])


class Judged(LightningModule):
    def __init__(self, confusion: Tensor | None = CONFUSION) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.confusion_matrix = confusion

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.weight * 1

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Nothing: the matrix is there."""

    test_step = validation_step

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        return batch

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Data(LightningDataModule):
    class_names = ("cat", "dog", "newt")

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader([0])  # type: ignore[arg-type]

    val_dataloader = test_dataloader = train_dataloader


def trainer(folder: Path, **settings: Any) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    defaults = {"logger": False, "max_epochs": 1, "default_root_dir": folder, "callbacks": [ClassReport()]}
    return Trainer(**{"accelerator": "cpu", "devices": 1, "log_every_n_steps": 1, **quiet, **defaults, **settings})


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_table_says_how_every_class_fares(tmp_path: Path) -> None:
    write_classes(CONFUSION, ["cat", "dog", "newt"], tmp_path / "classes.csv")
    cat, dog, newt = read(tmp_path / "classes.csv")
    assert cat == {"class": "cat", "pictures": "10", "right": "8", "accuracy": "0.8", "most_taken_for": "dog"}
    assert dog == {"class": "dog", "pictures": "0", "right": "0", "accuracy": "", "most_taken_for": ""}
    assert newt == {"class": "newt", "pictures": "10", "right": "5", "accuracy": "0.5", "most_taken_for": "dog"}


@pytest.mark.parametrize("classes", [2, 30, 200])
def test_picture_is_readable_however_many_classes(tmp_path: Path, classes: int) -> None:
    confusion = 10 * torch.eye(classes, dtype=torch.int64)
    names = [f"class {number}" for number in range(classes)]
    draw_confusion(confusion, names, tmp_path / "confusion.png", title="Test")
    with Image.open(tmp_path / "confusion.png") as picture:
        assert 400 < picture.width < 2000
        # The diagonal is dark blue, the rest is nearly white.
        colours = picture.convert("RGB").getcolors(maxcolors=2**24)
    assert colours is not None
    counts = {colour: count for count, colour in colours}
    assert counts[8, 48, 107] > 0.3 * counts[247, 251, 255] / (classes - 1)


@pytest.mark.parametrize(("action", "split"), [("fit", "val"), ("validate", "val"), ("test", "test")])
def test_report_lies_in_the_runs_folder(tmp_path: Path, action: str, split: str) -> None:
    logger = CSVLogger(tmp_path, name="run", version="mine")
    getattr(trainer(tmp_path, logger=logger), action)(Judged(), datamodule=Data())
    folder = tmp_path / "run" / "mine"
    assert {path.name for path in folder.glob("*_c*.*")} == {f"{split}_classes.csv", f"{split}_confusion.png"}
    assert [row["class"] for row in read(folder / f"{split}_classes.csv")] == ["cat", "dog", "newt"]


def test_classes_without_names_have_numbers(tmp_path: Path) -> None:
    trainer(tmp_path).test(Judged(), DataLoader([0]), verbose=False)  # type: ignore[arg-type]
    assert [row["class"] for row in read(tmp_path / "test_classes.csv")] == ["0", "1", "2"]


@pytest.mark.parametrize(("module", "settings"), [(Judged(None), {}), (Judged(), {"fast_dev_run": True})])
def test_nothing_is_written_where_there_is_nothing_to_report(
    tmp_path: Path, module: Judged, settings: dict[str, Any]
) -> None:
    trainer(tmp_path, **settings).fit(module, Data())
    assert not list(tmp_path.rglob("*"))


def test_loggers_get_the_picture(tmp_path: Path) -> None:
    logged = []

    class Pictures(CSVLogger):
        def log_image(self, key: str, images: list[Any], step: int | None = None) -> None:
            logged.append((key, images[0].mode, step))

    class Board(CSVLogger):
        @property
        def experiment(self) -> Any:
            return SimpleNamespace(add_image=lambda name, image, step: logged.append((name, len(image), step)))

        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            """Nothing."""

        def save(self) -> None:
            """Nothing."""

    loggers: list[Logger] = [Pictures(tmp_path, version=0), Board(tmp_path, version=1)]
    trainer(tmp_path, logger=loggers).test(Judged(), Data(), verbose=False)
    assert logged == [("test_confusion", "RGB", 0), ("test_confusion", 3, 0)]


def test_a_module_without_a_confusion_matrix_is_refused_at_once(tmp_path: Path) -> None:
    module = Judged()
    del module.confusion_matrix
    trainer(tmp_path).predict(module, DataLoader([0]))  # type: ignore[arg-type]  # which it has no part in
    with pytest.raises(InputError, match=r"needs the attribute `confusion_matrix`.*remove ClassReport"):
        trainer(tmp_path).fit(module, Data())
