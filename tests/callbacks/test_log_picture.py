"""A picture is kept once, and goes to whatever takes pictures."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from PIL import Image

from simclr_lightning.callbacks import log_picture

IMAGE = Image.new("RGB", (4, 3), (255, 0, 9))


def trainer(folder: Path, **settings: Any) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return Trainer(**{"accelerator": "cpu", "default_root_dir": folder, "logger": False, **quiet, **settings})


def test_the_file_lies_in_the_folder_of_the_run(tmp_path: Path) -> None:
    expected = tmp_path / "mine" / "one" / "pictures" / "embedding-map" / "epoch=0-step=0.png"
    own = trainer(tmp_path, logger=CSVLogger(tmp_path, name="mine", version="one"))
    assert log_picture(own, "embedding/map", IMAGE) == expected
    assert log_picture(own, "embedding/map", IMAGE) == expected, "again: the same file"
    assert [path.name for path in expected.parent.iterdir()] == [expected.name]
    with Image.open(expected) as image:
        assert np.array_equal(np.asarray(image), np.asarray(IMAGE))


def test_mlflow_is_told_by_its_client(tmp_path: Path) -> None:
    """Its client has the method, and wants to know which run."""
    told: list[Any] = []
    client = SimpleNamespace(log_image=lambda run, image, key, step: told.append((run, image.size, key, step)))
    log_picture(trainer(tmp_path), "views", IMAGE, loggers=[SimpleNamespace(experiment=client, run_id="r1")])  # type: ignore[list-item]
    assert told == [("r1", (4, 3), "views", 0)]


@pytest.mark.parametrize("settings", [{"fast_dev_run": True}, {"keep": False}, {"rank": 1}])
def test_no_file(settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep = settings.pop("keep", True)
    if settings.pop("rank", 0):
        monkeypatch.setattr(Trainer, "is_global_zero", False)
    assert log_picture(trainer(tmp_path, **settings), "views", IMAGE, keep=keep) is None
    assert not list(tmp_path.iterdir())
