"""What another package adds goes through the whole command: named by its class path, run, saved, resumed, loaded."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from simclr_lightning.console import main
from simclr_lightning.data import SOURCES

HERE = Path(__file__).parent
BASE = """
model: {class_path: simclr_lightning.SimCLR, init_args: {encoder: resnet8, width: 0.125, projection_dim: 16}}
data: {class_path: simclr_lightning.SimCLRDataModule, init_args: {dataset: digits, batch_size: 128}}
trainer:
  accelerator: cpu
  max_epochs: 1
  limit_train_batches: 3
  limit_val_batches: 1
  log_every_n_steps: 1
  enable_progress_bar: false
  logger: {class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: runs, name: theirs}}
"""
PARTS = {
    "a loss with a hardness weight": "model: {init_args: {loss: {class_path: their_simclr.hard.HardLoss, "
    "init_args: {beta: 0.5}}}}",
    "a loss with a queue": "model: {init_args: {loss: {class_path: their_simclr.queue.QueueLoss}}}",
    "four views": "data: {init_args: {views: {preset: digits, count: 4}}}",
    "two views of different size": "data: {init_args: {views: [{preset: digits, count: 1}, "
    "{preset: digits, size: 8, count: 1}]}}",
    "a data source by name": "data: {init_args: {dataset: rings}}",
    "a stream": "data: {init_args: {dataset: their_simclr.rings.RingStream}}\ntrainer: {max_steps: 3, max_epochs: -1}",
    "an encoder without pooling": "model: {class_path: their_simclr.unpooled.MapSimCLR, init_args: {channels: 3}}",
    "a callback that logs a picture": "trainer: {callbacks: [{class_path: their_simclr.portrait.Portrait}], logger: "
    "{class_path: their_simclr.portrait.AlbumLogger, init_args: {save_dir: runs, name: theirs}}}",
}

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def simclr(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., None]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(HERE))
    (tmp_path / "base.yaml").write_text(BASE)

    def run(*words: str | Path) -> None:
        monkeypatch.setattr(sys, "argv", ["simclr", *map(str, words)])
        main()

    yield run
    SOURCES.pop("rings", None)
    for name in [name for name in sys.modules if name.partition(".")[0] == "their_simclr"]:
        del sys.modules[name]


def class_of(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


@pytest.mark.parametrize("part", PARTS)
def test_part_is_run_saved_resumed_and_loaded(part: str, simclr: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "part.yaml").write_text(PARTS[part])
    configs = ("--config", "base.yaml", "--config", "part.yaml")
    longer = ("--trainer.max_steps", "6") if part == "a stream" else ("--trainer.max_epochs", "2")
    simclr("fit", *configs)
    first = tmp_path / "runs/theirs/version_0"
    simclr("fit", *configs, *longer, "--ckpt_path", first / "checkpoints/last.ckpt")

    last = tmp_path / "runs/theirs/version_0/checkpoints/last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    assert checkpoint["global_step"] == 6
    config = yaml.safe_load((first / "config.yaml").read_text())
    model = class_of(config["model"]["class_path"]).load_from_checkpoint(last, weights_only=True)
    assert model.state_dict().keys() == checkpoint["state_dict"].keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, checkpoint["state_dict"][name]), name
    asked = config["model"]["init_args"]["loss"]
    assert isinstance(model.loss, class_of(asked["class_path"]))
    assert model.hparams["loss"]["init_args"] == asked["init_args"]
    assert model(torch.rand(2, 1, 16, 16)).shape == (2, model.feature_dim)
    if "queue" in part:
        assert model.loss.queue.any(dim=1).all()
    if "callback" in part:
        assert (first / "portrait.png").exists()
        assert (first / "views.png").exists()
    with (first / "metrics.csv").open() as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert len(losses) == 6  # of both runs, in one folder


def test_without_their_package_a_checkpoint_gives_features_and_keeps_the_loss(
    simclr: Callable[..., None], tmp_path: Path
) -> None:
    (tmp_path / "part.yaml").write_text(PARTS["a loss with a queue"])
    simclr("fit", "--config", "base.yaml", "--config", "part.yaml")
    path = tmp_path / "runs/theirs/version_0/checkpoints/last.ckpt"
    program = f"""
import sys, torch
from simclr_lightning import SimCLR
model = SimCLR.load_from_checkpoint({str(path)!r}, weights_only=True)
assert model(torch.rand(2, 1, 16, 16)).shape == (2, model.feature_dim)
assert model.loss.queue.any() and "their_simclr" not in sys.modules
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("file", sorted((HERE / "their_simclr").glob("*.py")), ids=lambda path: path.stem)
def test_each_part_is_short(file: Path) -> None:
    for part in file.read_text().split("\n\n\n"):
        assert len(part.splitlines()) < 30
