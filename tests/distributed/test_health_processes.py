"""Health and kNN of several processes are those of one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from tests.distributed.harness import run_in_processes
from torch import Tensor, nn

from simclr_lightning import LARSWarmup, OnlineKNN, OnlineLinearProbe, RepresentationHealth, SimCLR, SimCLRDataModule
from simclr_lightning.callbacks import EpochLines, Throughput
from simclr_lightning.distributed import world_size


class Plain(SimCLR):
    """Without BatchNorm, whose statistics are those of each process."""

    def build_encoder(self) -> nn.Module:
        encoder: Any = nn.Sequential(nn.Conv2d(1, 8, 5, stride=2), nn.ReLU(), nn.Flatten())
        encoder.feature_dim = 8 * 36
        return encoder  # type: ignore[no-any-return]

    def build_head(self) -> nn.Module:
        return nn.Linear(8 * 36, 32)


def train(labelled: bool) -> dict[str, Tensor]:
    torch.manual_seed(0)
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
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[
            LARSWarmup(warmup_epochs=0),
            *probe,
            Throughput(),
            EpochLines(),  # one process prints, and none waits for it
            RepresentationHealth(pictures=100),
            OnlineKNN(bank=101, queries=51, k=5),
        ],
    )
    trainer.fit(model, data)
    return dict(trainer.callback_metrics)


def both() -> list[dict[str, Tensor]]:
    return [train(labelled=True), train(labelled=False)]


def test_two_processes_give_the_values_of_one() -> None:
    (one,) = run_in_processes(both, 1)
    ranks = run_in_processes(both, 2)
    for rank in ranks:
        for found, expected in zip(rank, one, strict=True):
            names = [name for name in expected if name.startswith(("health/", "knn/"))]
            assert len(names) == 2 * 8 + 3
            for name in names:
                assert found[name].item() == pytest.approx(expected[name].item(), rel=1e-6), name
    for first, second in zip(*ranks, strict=True):
        times = {name: value.item() for name, value in first.items() if name.startswith("time/")}
        assert times == {name: second[name].item() for name in times}, "it is that of all processes"
        speed = times.pop("time/pictures_per_second")
        assert speed > 0
        assert sum(times.values()) == pytest.approx(1)
