"""A training on packed pictures that is killed goes on exactly, also with another number of processes."""

from __future__ import annotations

import time
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image
from tests.distributed.harness import run_in_processes
from torch import nn

from simclr_lightning import SimCLR, SimCLRDataModule
from simclr_lightning.data import packed_writer as writer
from simclr_lightning.data.packed_writer import pack_pictures
from simclr_lightning.distributed import world_size

pytest.importorskip("litdata")

PICTURES, BATCH, EPOCHS = 96, 12, 2  # eight steps an epoch
STEPS = PICTURES // BATCH * EPOCHS
GOES_ON_AT = 12  # in the middle of the second epoch


class Recorder(SimCLR):
    """A network without BatchNorm, whose statistics would depend on the processes; writes down what it has seen."""

    seen: list[list[int]]
    pause = 0.0

    def build_encoder(self) -> nn.Module:
        layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.GroupNorm(2, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        )
        layers.feature_dim = 32  # type: ignore[assignment]
        return layers

    def build_head(self) -> nn.Module:
        return nn.Sequential(nn.Linear(32, 12), nn.ReLU(), nn.Linear(12, 5, bias=False))

    def on_train_start(self) -> None:
        self.seen = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        time.sleep(self.pause)
        self.seen.append(batch.indices.tolist())
        return super().training_step(batch, batch_idx)


def train(packed: Path, checkpoints: Path, ckpt_path: Path | None = None, pause: float = 0.0) -> Any:
    """Positions of the pictures of this process, step by step, and the weights at the end."""
    torch.manual_seed(0)
    data = SimCLRDataModule("packed", packed, batch_size=BATCH, views="cifar10", num_workers=0, chunk_window=4, seed=3)
    model = Recorder(optimizer="sgd", learning_rate=0.5, weight_decay=0.0)
    model.pause = pause
    keep = ModelCheckpoint(checkpoints, filename="{step}", every_n_train_steps=3, save_top_k=-1)
    trainer = Trainer(
        accelerator="cpu",
        strategy="ddp" if world_size() > 1 else "auto",
        devices=world_size(),
        precision="64-true",  # rounding of single precision grows over the steps
        max_epochs=EPOCHS,
        limit_val_batches=0,
        logger=False,
        callbacks=[keep],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
    return {"seen": model.seen, "weights": dict(model.state_dict()), "steps": trainer.global_step}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("packed"), np.random.default_rng(0)
    (root / "photos").mkdir()
    for number in range(PICTURES):
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(root / "photos" / f"{number:02d}.png")
    plan = writer._Plan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "_Plan", lambda split, source, _: plan(split, source, 12_000))
        pack_pictures(root / "photos", root / "packed")
    assert len(list((root / "packed" / "train").glob("*.bin"))) >= 8
    return root / "packed"


@pytest.fixture(scope="module")
def whole(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The training that nobody disturbs."""
    (result,) = run_in_processes(train, 1, packed, tmp_path_factory.mktemp("whole"))
    assert result["steps"] == len(result["seen"]) == STEPS
    for epoch in range(EPOCHS):
        seen = result["seen"][epoch * STEPS // EPOCHS : (epoch + 1) * STEPS // EPOCHS]
        assert sorted(chain(*seen)) == list(range(PICTURES))
    return result


@pytest.fixture(scope="module")
def checkpoint(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training leaves that is killed some steps later."""
    folder = tmp_path_factory.mktemp("killed")
    process = get_context("spawn").Process(target=train, args=(packed, folder, None, 0.3))
    process.start()
    deadline = time.monotonic() + 200
    while not (folder / f"step={GOES_ON_AT}.ckpt").exists():
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.45)  # a step or two later
    assert process.is_alive()
    process.kill()
    process.join()
    assert process.exitcode == -9
    return folder / f"step={GOES_ON_AT}.ckpt"


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_a_killed_training_goes_on_with_any_number_of_processes(
    processes: int, packed: Path, whole: Any, checkpoint: Path, tmp_path: Path
) -> None:
    ranks = run_in_processes(train, processes, packed, tmp_path, checkpoint)
    together = [list(chain(*parts)) for parts in zip(*(result["seen"] for result in ranks), strict=True)]
    assert together == whole["seen"][GOES_ON_AT:]
    assert ranks[0]["steps"] == STEPS
    for name, value in whole["weights"].items():
        torch.testing.assert_close(ranks[0]["weights"][name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_train_as_one(processes: int, packed: Path, whole: Any, tmp_path: Path) -> None:
    ranks = run_in_processes(train, processes, packed, tmp_path)
    together = [list(chain(*parts)) for parts in zip(*(result["seen"] for result in ranks), strict=True)]
    assert together == whole["seen"]
    for name, value in whole["weights"].items():
        torch.testing.assert_close(ranks[0]["weights"][name], value, rtol=1e-5, atol=1e-6)
