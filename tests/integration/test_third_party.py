"""Another project's subclass goes through the whole command: run, save, resume, load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
import torch

from simclr_lightning import SimCLR

PACKAGE = """
    from torch import nn
    from simclr_lightning import SimCLR

    class Flat(nn.Module):
        def __init__(self, features):
            super().__init__()
            self.feature_dim = features
            self.net = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16, features), nn.ReLU())

        def forward(self, images):
            return self.net(images)

    class TheirSimCLR(SimCLR):
        def __init__(self, *args, breadth: int = 8, **kwargs):
            super().__init__(*args, **kwargs)

        def build_encoder(self):
            return Flat(self.hparams["breadth"])
"""
CONFIG = """
    model:
      class_path: their_package.models.TheirSimCLR
      init_args: {breadth: 24, loss: {class_path: simclr_lightning.NTXentLoss, init_args: {temperature: 0.3}}}
    data: {class_path: simclr_lightning.SimCLRDataModule, init_args: {dataset: digits, batch_size: 128}}
    trainer:
      max_epochs: 1
      accelerator: cpu
      limit_train_batches: 3
      logger: {class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: runs, name: theirs}}
"""


def test_subclass_is_run_resumed_and_loaded(
    simclr: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_package").mkdir()
    (tmp_path / "their_package" / "__init__.py").touch()
    (tmp_path / "their_package" / "models.py").write_text(dedent(PACKAGE))
    (tmp_path / "theirs.yaml").write_text(dedent(CONFIG))
    monkeypatch.syspath_prepend(str(tmp_path))

    simclr("fit", "--config", "theirs.yaml")
    last = Path("runs/theirs/version_0/checkpoints/last.ckpt")
    simclr("fit", "--config", "theirs.yaml", "--trainer.max_epochs", "2", "--ckpt_path", last)

    checkpoint = torch.load(last, weights_only=True)
    assert checkpoint["epoch"] == 1
    assert checkpoint["global_step"] == 6
    from their_package.models import TheirSimCLR  # type: ignore[import-not-found]

    model = TheirSimCLR.load_from_checkpoint(last, weights_only=True)
    assert isinstance(model, SimCLR)
    assert model.hparams["breadth"] == 24
    assert model.loss.temperature == 0.3
    assert model(torch.rand(2, 1, 16, 16)).shape == (2, 24)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, checkpoint["state_dict"][name])
