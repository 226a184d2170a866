from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.logger import DummyLogger

from simclr_lightning.callbacks.run_folder import run_folder


class Elsewhere(DummyLogger):
    """A logger without a folder of its own, whose version is a string."""

    @property
    def name(self) -> str:
        return "project"

    @property
    def version(self) -> str:
        return "id7"


@pytest.mark.parametrize("logger", ["csv", "two", "elsewhere", "none"])
def test_it_is_where_model_checkpoint_makes_its_folder(logger: str, tmp_path: Path) -> None:
    loggers: Any = {
        "csv": CSVLogger(tmp_path / "runs", name="a"),
        "two": [CSVLogger(tmp_path / "runs", name="a", version="first"), CSVLogger(tmp_path / "other")],
        "elsewhere": Elsewhere(),
        "none": False,
    }[logger]
    checkpoint = ModelCheckpoint()
    trainer = Trainer(accelerator="cpu", default_root_dir=tmp_path / "root", logger=loggers, callbacks=[checkpoint])
    checkpoint.setup(trainer, BoringModel(), "fit")
    folder = run_folder(trainer)
    assert checkpoint.dirpath is not None
    assert folder == Path(checkpoint.dirpath).parent
    expected = {"csv": "runs/a/version_0", "two": "runs/a/first", "elsewhere": "root/project/id7", "none": "root"}
    assert folder == tmp_path / expected[logger]
    assert not folder.exists()


def test_other_processes_take_the_folder_of_rank_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(accelerator="cpu", logger=CSVLogger(tmp_path, version=3))
    asked = []

    def broadcast(value: str, src: int = 0) -> str:
        asked.append((value, src))
        return "what rank zero says"

    monkeypatch.setattr(trainer.strategy, "broadcast", broadcast)
    assert run_folder(trainer) == Path("what rank zero says")
    assert asked == [(str(tmp_path / "lightning_logs" / "version_3"), 0)]
