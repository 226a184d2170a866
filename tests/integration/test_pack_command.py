"""``simclr pack``, and every command that takes pictures on what it writes: the results are those of the folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("litdata")

Simclr = Callable[..., None]
EXPERIMENTS = Path(__file__).parents[2] / "experiments"
CHECKPOINT = Path("runs/folder/packed/checkpoints/last.ckpt")
TINY = ["--model.encoder", "resnet8", "--model.width", "0.125", "--data.batch_size", "8", "--data.num_workers", "0"]
VIEWS = ["--data.views.size", "16", "--trainer.accelerator", "cpu", "--trainer.devices", "1"]
SHORT = ["--trainer.max_epochs", "1", "--trainer.limit_val_batches", "1", "--trainer.logger.version", "packed"]


def test_fit_evaluate_and_embed_give_what_the_folder_gives(
    simclr: Simclr, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simclr("pack", photos, "packed")
    assert "Packed: packed (48 pictures in 3 chunks)" in capsys.readouterr().out
    fit = ["--config", EXPERIMENTS / "folder.yaml", "--data.dataset", "packed", "--data.root", "packed"]
    simclr("fit", *fit, *TINY, *VIEWS, *SHORT, "--data.label_fraction", "0.5")
    settings = ["--ckpt_path", CHECKPOINT, "--protocols", "linear,knn,linear@50%", "--draws", "2", "--picture", "false"]
    figures: dict[str, Any] = {}
    for dataset, root in (("folder", photos), ("packed", Path("packed"))):
        data = ["--data.dataset", dataset, "--data.root", root, "--data.num_workers", "0", *VIEWS]
        simclr("evaluate", *data, *settings)
        report = CHECKPOINT.parents[1] / "evaluation.json"
        told = json.loads(report.read_text())["figures"]
        figures[dataset] = [{key: value for key, value in figure.items() if key != "command"} for figure in told]
        report.unlink()
        options = ["--output", f"{dataset}.npz", "--accelerator", "cpu", "--num_workers", "0"]
        simclr("embed", "--ckpt_path", CHECKPOINT, "--dataset", dataset, "--root", root, *options)
    assert figures["packed"] == figures["folder"]
    assert len(figures["packed"]) == 9  # three protocols, three encoders
    with np.load("folder.npz") as there, np.load("packed.npz") as here:
        assert there["files"][0] == "train/cat/0.jpg"
        assert there.files == here.files
        for name in set(there.files) - {"settings"}:  # which name the data set
            assert np.array_equal(there[name], here[name]), name


def test_what_cannot_be_packed_is_told_in_a_line(simclr: Simclr, photos: Path) -> None:
    from simclr_lightning.errors import ExistingFileError, MissingFileError

    with pytest.raises(MissingFileError, match=r"There is no folder 'nowhere': correct its name\.$"):
        simclr("pack", "nowhere", "packed")
    with pytest.raises(ExistingFileError, match="exists and is not overwritten"):
        simclr("pack", photos, photos)
    with pytest.raises(MissingFileError, match=r"'photos' holds no complete packed set.*--data\.root"):
        simclr("fit", "--data.dataset", "packed", "--data.root", "photos", *TINY)
