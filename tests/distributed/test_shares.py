"""Processes ask each other how many pictures they have only where they can have different numbers."""

from __future__ import annotations

from typing import Any, cast
from unittest import mock

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LambdaCallback
from tests.distributed.harness import run_in_processes
from torch.utils.data import DataLoader

from simclr_lightning import SimCLR, SimCLRDataModule, distributed
from simclr_lightning.distributed import equal_shares, gather_rows, rank, row_counts, world_size
from simclr_lightning.losses import HardNegativeNTXent
from simclr_lightning.views import ViewBatch


class Uneven(SimCLRDataModule):
    """A subclass whose loader gives the first process more pictures than the others."""

    def train_dataloader(self) -> Any:
        part = self._served(self.splits.train, random=True, training=True)
        return DataLoader(
            part, batch_sampler=[list(range(8 if rank() == 0 else 4))] * 2, collate_fn=lambda batch: batch
        )


def train() -> dict[str, Any]:
    """Exchanges of numbers in two steps, and the losses."""
    found: dict[str, Any] = {}
    kinds = {"own": SimCLRDataModule, "uneven": Uneven}
    for name, kind in kinds.items():
        torch.manual_seed(0)
        model = SimCLR("resnet8", width=1 / 16, in_channels=1, image_size=16, loss=HardNegativeNTXent())
        trainer = Trainer(
            accelerator="cpu",
            strategy="ddp",
            devices=world_size(),
            max_steps=2,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        with mock.patch.object(distributed, "_hosts", wraps=distributed._hosts) as asked:
            # They ask once whether they were started alike.
            begin = LambdaCallback(on_train_start=lambda *_: asked.reset_mock())
            cast("Any", trainer).callbacks.append(begin)
            trainer.fit(model, kind("digits", batch_size=16 * world_size(), val_fraction=0.0))
        found[name] = asked.call_count
        found[f"{name} weights"] = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    return found


def ask() -> list[Any]:
    rows = torch.full((3, 1), rank())
    with mock.patch.object(distributed, "_hosts", side_effect=AssertionError("asked")), equal_shares(True):
        return [row_counts(rows), gather_rows(rows)[0][:, 0].tolist()]


def test_where_shares_are_equal_nobody_is_asked() -> None:
    for found in run_in_processes(ask, 2):
        assert found == [[3, 3], [0, 0, 0, 1, 1, 1]]


def test_a_training_asks_only_where_shares_may_differ() -> None:
    processes = run_in_processes(train, 2)
    for found in processes:
        assert found["own"] == 0
        assert found["uneven"] > 0
        for name in ("own weights", "uneven weights"):
            assert torch.equal(found[name], processes[0][name])


def test_somebody_elses_batches_are_asked_for() -> None:
    assert not ViewBatch.of(*torch.rand(2, 4, 3, 8, 8)).equal_shares
