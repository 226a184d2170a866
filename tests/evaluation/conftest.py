"""A checkpoint to evaluate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule

from simclr_lightning.evaluation.report import Result


@pytest.fixture
def checkpoint(tmp_path: Path, columns: Callable[..., LightningModule]) -> Path:
    """Checkpoint of a trained ``Columns``, in a run folder."""
    weights = columns().state_dict()
    weights["encoder.0.weight"] = torch.eye(4)[:, None, None, :].repeat(1, 1, 4, 1)
    weights["encoder.1.running_mean"] += 2
    weights["encoder.1.num_batches_tracked"] += 10
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    torch.save({"state_dict": weights, "pytorch-lightning_version": "2.6.0"}, path)
    return path


@pytest.fixture
def points() -> list[Result]:
    """Two label curves: of the pixels, and of an encoder."""
    return [
        Result("raw pixels", "linear", 10, [40.0, 50.0], per_class=1),
        Result("raw pixels", "linear", 1000, [90.0, 92.0], per_class=100),
        Result("raw pixels", "linear", 1437, [96.4]),
        Result("pre-trained encoder", "linear", 10, [80.0, 84.0], per_class=1),
        Result("pre-trained encoder", "linear", 1000, [97.0, 97.0], per_class=100),
        Result("pre-trained encoder", "linear", 1437, [97.8]),
    ]
