"""Every YAML in experiments/ runs as it is, scaled down by overrides."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
import yaml

from simclr_lightning import SimCLR

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
CONFIGS = sorted(EXPERIMENTS.rglob("*.yaml"))


def name_of(path: Path) -> str:
    return str(path.relative_to(EXPERIMENTS))


@pytest.fixture
def cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty pictures in CIFAR-10's own files; their checksums cannot be those of the real ones."""
    folder = tmp_path / "cifar" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        batch = {"data": rng.integers(0, 256, (20, 3072), dtype=np.uint8), "labels": [n % 10 for n in range(20)]}
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(
        torchvision.datasets.CIFAR10, "_load_meta", lambda self: setattr(self, "classes", list("abcdefghij"))
    )
    return tmp_path / "cifar"


def pretrained(path: Path, in_channels: int) -> Path:
    """Checkpoint of a tiny model, for the configurations that start from one."""
    model = SimCLR("resnet10", width=0.125, stem="cifar", in_channels=in_channels, projection_layers=3)
    content = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    torch.save({**content, "pytorch-lightning_version": "2.6.0"}, path)
    return path


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_experiment_runs(
    config: Path,
    simclr: Callable[..., None],
    write_pictures: Callable[..., Path],
    photos: Path,
    cifar10: Path,
    tmp_path: Path,
) -> None:
    model, data = (yaml.safe_load(config.read_text())[part]["init_args"] for part in ("model", "data"))
    root = {"folder": photos, "cifar10": cifar10}.get(data["dataset"], tmp_path)
    if data.get("cache"):  # which takes pictures of equal size
        root = write_pictures("equal", ["train/cat", "train/dog", "test/cat", "test/dog"], smallest=32, largest=32)
    small = ["--data.batch_size", "8", "--data.num_workers", "0", "--data.views.size", "24"]
    if "checkpoint" in model:
        checkpoint = pretrained(tmp_path / "pretrained.ckpt", in_channels=1 if data["dataset"] == "digits" else 3)
        small += ["--model.checkpoint", str(checkpoint)]
    else:
        small += ["--model.width", "0.125"]
    if data.get("label_fraction", 1) < 1:  # of so few pictures
        small += ["--data.label_fraction", "0.5"]
    short = ["--trainer.max_epochs", "1", "--trainer.max_steps", "2", "--trainer.limit_val_batches", "1"]
    here = ["--data.root", root, "--trainer.logger.save_dir", tmp_path / "runs", "--trainer.accelerator", "cpu"]
    simclr("fit", "--config", config, *small, *short, *here)
    (run,) = (tmp_path / "runs").glob("*/version_0")
    assert (run / "checkpoints" / "last.ckpt").exists()
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert saved["data"]["init_args"]["batch_size"] == 8


def test_every_experiment_is_in_the_index() -> None:
    index = (EXPERIMENTS / "README.md").read_text()
    assert not [name_of(path) for path in CONFIGS if name_of(path) not in index]
