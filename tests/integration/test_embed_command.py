"""``simclr embed`` needs a checkpoint and pictures, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import parquet

Simclr = Callable[..., None]
EXPERIMENTS = Path(__file__).parents[2] / "experiments"
TINY = ["--model.width", "0.125", "--data.batch_size", "8", "--data.num_workers", "0", "--trainer.accelerator", "cpu"]
SHORT = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "0"]
CHECKPOINT = Path("runs/folder/version_0/checkpoints/last.ckpt")


def test_features_of_a_folder(
    simclr: Simclr, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    views = ["--data.views.size", "16", "--data.views.eval_size", "24", "--data.views.interpolation", "bilinear"]
    simclr("fit", "--config", EXPERIMENTS / "folder.yaml", "--data.root", photos, *TINY, *SHORT, *views)
    (photos / "train" / "cat" / "broken.jpg").write_bytes(b"no picture")
    command = ["embed", "--ckpt_path", CHECKPOINT, "--root", photos, "--accelerator", "cpu", "--on_bad_picture", "skip"]
    simclr(*command, "--output", "features.npz")
    out = capsys.readouterr().out
    assert "49 pictures, 24 x 24 pixels (bilinear, values in [0, 1]), on 1 x cpu, 32-true" in out
    assert "train/cat/broken.jpg" in out.replace("\n", "")
    assert "Features: features.npz (48 pictures; 1 that could not be read are left out)" in out.replace("\n", " ")
    with np.load("features.npz") as archive:
        assert archive["features"].shape == (48, 64)
        assert archive["class_names"][archive["targets"]].tolist() == [f.split("/")[1] for f in archive["files"]]
        features = archive["features"]
    with pytest.raises(FileExistsError, match=r"features\.npz exists and is not overwritten"):
        simclr(*command, "--output", "features.npz")
    simclr(*command, "--output", "new/test.parquet", "--split", "test", "--normalize", "true", "--num_workers", "1")
    table = parquet.read_table("new/test.parquet")
    unit = torch.nn.functional.normalize(torch.from_numpy(features[-16:]))
    found = torch.from_numpy(np.array(table["features"].to_pylist(), np.float32))
    torch.testing.assert_close(found, unit, rtol=0, atol=1e-6)
    assert [path.name for path in Path("new").iterdir()] == ["test.parquet"]


def test_help_explains_the_options(simclr: Simclr, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        simclr("embed", "--help")
    assert done.value.code == 0
    text = capsys.readouterr().out
    assert "--on_bad_picture" in text
    assert "not found" not in text
    assert "--trainer" not in text
