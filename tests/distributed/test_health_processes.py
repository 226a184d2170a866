"""Health, kNN and pictures of several processes are those of one."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import pytest
import torch
from lightning.pytorch import Trainer
from tests.distributed.harness import run_in_processes
from torch import Tensor, nn

from simclr_lightning import (
    EmbeddingPictures,
    LARSWarmup,
    OnlineKNN,
    OnlineLinearProbe,
    RepresentationHealth,
    SimCLR,
    SimCLRDataModule,
)
from simclr_lightning.callbacks import EpochLines, Throughput, embedding_pictures
from simclr_lightning.callbacks.picture_sample import PictureSample, picture_sample
from simclr_lightning.distributed import rank as own_rank
from simclr_lightning.distributed import world_size


class Plain(SimCLR):
    """Without BatchNorm, whose statistics are those of each process."""

    def build_encoder(self) -> nn.Module:
        encoder: Any = nn.Sequential(nn.Conv2d(1, 8, 5, stride=2), nn.ReLU(), nn.Flatten())
        encoder.feature_dim = 8 * 36
        return encoder  # type: ignore[no-any-return]

    def build_head(self) -> nn.Module:
        return nn.Linear(8 * 36, 32)


def train(labelled: bool, folder: str) -> dict[str, Tensor]:
    torch.manual_seed(0)
    drawn_from: list[PictureSample] = []

    def noted(*arguments: Any, **settings: Any) -> PictureSample:
        drawn_from.append(picture_sample(*arguments, **settings))
        return drawn_from[-1]

    model = Plain(optimizer="sgd", learning_rate=0.01)
    data = SimCLRDataModule("digits", batch_size=64)
    data.setup("fit")
    if not labelled:
        data._splits = data.splits._replace(labelled=None, val=None, num_classes=None)
    probe = [OnlineLinearProbe()] if labelled else []
    trainer = Trainer(
        accelerator="cpu",
        strategy="ddp" if world_size() > 1 else "auto",
        devices=world_size(),
        precision="64-true",
        max_epochs=1,
        limit_train_batches=5,
        limit_val_batches=0,
        log_every_n_steps=2,
        logger=False,
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[
            LARSWarmup(warmup_epochs=0),
            *probe,
            Throughput(),
            EpochLines(),  # one process prints, and none waits for it
            RepresentationHealth(pictures=100),
            OnlineKNN(bank=101, queries=51, k=5),
            EmbeddingPictures(pictures=101, queries=2),
        ],
    )
    with mock.patch.object(embedding_pictures, "picture_sample", noted):
        trainer.fit(model, data)
    assert len(list(Path(folder).rglob("*.png"))) == (3 if own_rank() == 0 else 0), "one process draws"
    pictures = {f"pictures/{name}": value for name, value in drawn_from[0]._asdict().items()}
    return {**trainer.callback_metrics, **pictures}


def both() -> list[dict[str, Tensor]]:
    with TemporaryDirectory() as first, TemporaryDirectory() as second:
        return [train(True, first), train(False, second)]


def test_two_processes_give_the_values_of_one() -> None:
    (one,) = run_in_processes(both, 1)
    ranks = run_in_processes(both, 2)
    for rank in ranks:
        for found, expected in zip(rank, one, strict=True):
            names = [name for name in expected if name.startswith(("health/", "knn/"))]
            assert len(names) == 2 * 8 + 3
            for name in names:
                assert found[name].item() == pytest.approx(expected[name].item(), rel=1e-6), name
            drawn_from = [name for name in expected if name.startswith("pictures/")]
            assert len(drawn_from) == len(PictureSample._fields)
            assert expected["pictures/features"].shape == (101, 288)
            for name in drawn_from:
                torch.testing.assert_close(found[name], expected[name], rtol=1e-6, atol=1e-6)
    for first, second in zip(*ranks, strict=True):
        times = {name: value.item() for name, value in first.items() if name.startswith("time/")}
        assert times == {name: second[name].item() for name in times}, "it is that of all processes"
        speed = times.pop("time/pictures_per_second")
        assert speed > 0
        assert sum(times.values()) == pytest.approx(1)
