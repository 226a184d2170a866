"""``simclr export`` needs the checkpoint of a run and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from simclr_lightning import SimCLR

Simclr = Callable[..., None]
QUICKSTART = Path(__file__).parents[2] / "experiments" / "quickstart.yaml"
TINY = ["--model.width", "0.125", "--data.batch_size", "128", "--trainer.accelerator", "cpu"]
SHORT = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "0"]


def test_checkpoint_of_a_run_is_enough(simclr: Simclr, capsys: pytest.CaptureFixture[str]) -> None:
    simclr("fit", "--config", QUICKSTART, *TINY, *SHORT)
    run = Path("runs/quickstart/version_0")
    checkpoint = run / "checkpoints" / "last.ckpt"
    simclr("export", "--ckpt_path", checkpoint, "--format", "torch_export")
    assert f"Encoder: {run / 'encoder.pt2'}" in capsys.readouterr().out
    encoder = SimCLR.load_encoder(checkpoint)
    side = torch.load(checkpoint, weights_only=True)["hyper_parameters"]["image_size"]
    images = torch.rand(3, 1, side, side)  # grey, as the digits are
    with torch.no_grad():
        torch.testing.assert_close(torch.export.load(run / "encoder.pt2").module()(images), encoder(images))
    assert "dataset: digits" in (run / "encoder.pt2.md").read_text(encoding="utf-8")
    with pytest.raises(FileExistsError, match="is not overwritten"):
        simclr("export", "--ckpt_path", checkpoint, "--format", "torch_export")


def test_subclass_is_asked_for_and_named(simclr: Simclr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from simclr_lightning import SimCLR\n\n\nclass TheirExported(SimCLR):\n    pass\n"
    (tmp_path / "their_export.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    simclr("fit", "--config", QUICKSTART, "--model", "their_export.TheirExported", *TINY, *SHORT)
    checkpoint = Path("runs/quickstart/version_0/checkpoints/last.ckpt")
    command = ["export", "--ckpt_path", checkpoint, "--format", "torchscript", "--output", "theirs/encoder.pt"]
    with pytest.raises(ValueError, match=r"--model their_export\.TheirExported"):
        simclr(*command)
    simclr(*command, "--model", "their_export.TheirExported")
    assert sorted(path.name for path in Path("theirs").iterdir()) == ["encoder.pt", "encoder.pt.md"]


def test_help_explains_the_formats(simclr: Simclr, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        simclr("export", "--help")
    assert done.value.code == 0
    text = capsys.readouterr().out
    assert "torch_export" in text
    assert "--data" not in text
