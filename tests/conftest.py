"""What every test relies on: a seed; a data set and models that are just large enough to be judged."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from tests.simulated import own_process
from torch import Tensor, nn
from torch.utils.data import DataLoader

from simclr_lightning import LARSWarmup, SimCLR
from simclr_lightning.evaluation import SimCLRTrainer

for name in [name for name in os.environ if name.startswith("SLURM_")]:
    del os.environ[name]  # inside a job of SLURM, Lightning would take this process for a rank of a training


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """The simulated device must not be there for any other test."""
    if path == own_process.HERE and not own_process.is_alone(parent.config):
        return own_process.Folder.from_parent(parent, path=path)
    return None


@pytest.fixture(autouse=True)
def seed() -> None:
    """Random numbers that depend neither on the other tests nor on their order."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def benchmark_of_cudnn() -> Iterator[None]:
    """A Trainer sets it for the whole process and leaves it: the next test begins as this one did."""
    found = torch.backends.cudnn.benchmark
    yield
    torch.backends.cudnn.benchmark = found


class Batch(NamedTuple):
    images: Tensor
    targets: Tensor
    indices: Tensor


class Pictures(LightningDataModule):
    """Three classes of 4 x 4 pictures: noise, with a brighter column that tells the class."""

    def __init__(self, splits: dict[str, int], size: int = 4, labelled: bool = True) -> None:
        super().__init__()
        self.splits = splits
        self.size = size
        self.labelled = labelled
        self.class_names = ["left", "middle", "right"]
        self.num_classes = 3

    def clean_dataloader(self, split: str) -> DataLoader[Any]:
        if split not in self.splits:
            raise ValueError(f"There are no {split} pictures.")
        count = self.splits[split]
        generator = torch.Generator().manual_seed(len(split))
        targets = torch.arange(count) % 3
        images = torch.rand(count, 1, self.size, self.size, generator=generator)
        images[torch.arange(count), :, :, targets] += 0.5
        if not self.labelled:
            targets = torch.full_like(targets, -1)
        rows = list(zip((images * 100).to(torch.uint8), targets, torch.arange(count), strict=True))
        return DataLoader(rows, batch_size=7, collate_fn=collate)  # type: ignore[arg-type]

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        assert self.trainer is not None
        return batch._replace(images=batch.images.float() / 100)


def collate(rows: list[tuple[Tensor, Tensor, Tensor]]) -> Batch:
    images, targets, indices = (torch.stack(column) for column in zip(*rows, strict=True))
    return Batch(images, targets, indices)


class Columns(LightningModule):
    """Features are the brightness of the columns, once the convolution has learned to look at all rows alike."""

    def __init__(self, features: int = 4) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, features, 4), nn.BatchNorm2d(features), nn.Flatten())

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        return {"features": self.encoder(batch.images), "targets": batch.targets, "indices": batch.indices}


@pytest.fixture
def pictures() -> Callable[..., Pictures]:
    """Data module with 60 training and 30 test pictures, or as asked."""

    def make(splits: dict[str, int] | None = None, **settings: Any) -> Pictures:
        return Pictures(splits or {"train": 60, "test": 30}, **settings)

    return make


@pytest.fixture
def columns() -> Callable[..., Columns]:
    """Untrained model."""
    return Columns


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., SimCLRTrainer]:
    """Trainer on one CPU, without a logger."""

    def make(**settings: Any) -> SimCLRTrainer:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
        return SimCLRTrainer(**{"accelerator": "cpu", "devices": 1, "default_root_dir": tmp_path, **quiet, **settings})

    return make


@pytest.fixture
def pretrained() -> Callable[..., SimCLR]:
    """A small model; its BatchNorm layers have seen something, so that their statistics are not the initial ones."""

    def make(**settings: Any) -> SimCLR:
        small = {"encoder": "resnet10", "width": 0.125, "stem": "pooled", "in_channels": 1, "zero_init_residual": False}
        model = SimCLR(**{**small, **settings})
        with torch.no_grad():
            model.project(model(torch.rand(16, 1, 16, 16)))
        return model

    return make


@pytest.fixture
def quiet_trainer() -> Callable[..., Trainer]:
    """Trainer on one CPU that writes nothing, with the schedule of classifiers."""

    def make(**settings: Any) -> Trainer:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
        short = {"enable_model_summary": False, "num_sanity_val_steps": 0, "callbacks": [LARSWarmup(warmup_epochs=0)]}
        return Trainer(**{"accelerator": "cpu", "devices": 1, **quiet, **short, **settings})

    return make


@pytest.fixture
def save(quiet_trainer: Callable[..., Trainer], tmp_path: Path) -> Callable[..., Path]:
    """Writes the checkpoint of a model as a Trainer does."""

    def write(model: LightningModule, name: str = "model.ckpt") -> Path:
        trainer = quiet_trainer()
        trainer.strategy.connect(model)
        trainer.save_checkpoint(tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def checkpoint(tmp_path: Path, columns: Callable[..., Columns]) -> Path:
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
def address(tmp_path: Path) -> Iterator[str]:
    """Of a server on this machine that has the files of the temporary folder."""
    handler = partial(QuietHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass
