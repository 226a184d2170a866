"""A NaN of one process ends all of them, with a message: none waits for one that has gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from tests.distributed.harness import run_in_processes
from torch import Tensor

from simclr_lightning import LARSWarmup, NTXentLoss, RepresentationHealth, SimCLR, SimCLRDataModule
from simclr_lightning.distributed import rank, world_size
from simclr_lightning.losses.watch import DivergedError

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


class OfOneProcess(SimCLR):
    """Its projections, or its loss, come to NaN in one step of the second process."""

    def __init__(self, where: str, **settings: Any) -> None:
        super().__init__("resnet8", width=0.125, stem="pooled", in_channels=1, optimizer="sgd", **settings)
        self.where = where

    def _embed(self, views: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        features, projections = super()._embed(views)
        if self.where == "validation":
            bad = rank() == 1 and not self.training
        else:
            bad = self.where == "projections" and self._is_bad()
        return features, projections * float("nan") if bad else projections

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        outputs = super().training_step(batch, batch_idx)
        if self.where == "loss" and self._is_bad():
            outputs["loss"] = outputs["loss"] * float("nan")
        return outputs

    def _is_bad(self) -> bool:
        return rank() == 1 and self.training and self.global_step == 3


def fit(where: str, gather: bool, folder: Path, every: int) -> tuple[str, list[str]]:
    torch.manual_seed(0)
    health = RepresentationHealth(pictures=16)
    saved: list[Callback] = [ModelCheckpoint(folder, every_n_train_steps=1, save_top_k=-1, save_weights_only=True)]
    trainer = Trainer(
        accelerator="cpu",
        strategy="ddp",
        devices=world_size(),
        max_epochs=1,
        limit_train_batches=6,
        limit_val_batches=2 if where == "validation" else 0,
        num_sanity_val_steps=0,
        log_every_n_steps=every,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[LARSWarmup(warmup_epochs=0), health, *(saved if every == 1 else [])],
        enable_checkpointing=every == 1,
    )
    data = SimCLRDataModule("digits", batch_size=32, val_fraction=0.1 if where == "validation" else 0.0)
    try:
        trainer.fit(OfOneProcess(where, loss=NTXentLoss(gather=gather)), data)
    except DivergedError as error:
        return str(error), sorted(path.name for path in folder.glob("*"))
    return "", []


def all_of_them(folder: Path) -> list[tuple[str, list[str]]]:
    """One group of processes for all cases: starting it takes longer than they do."""
    cases = [("projections", True, 2), ("projections", False, 2), ("loss", False, 2), ("validation", True, 50)]
    ends = [fit(where, gather, folder / f"{where}-{gather}", every) for where, gather, every in cases]
    return [*ends, fit("loss", False, folder / "saved", every=1), fit("projections", True, folder / "late", every=50)]


def test_all_processes_end_with_the_message(tmp_path: Path) -> None:
    ends = list(zip(*run_in_processes(all_of_them, 2, tmp_path, timeout=100), strict=True))
    for here, there in ends:
        assert "warm-up" in here[0], "the process without NaN ends as well"
        assert "warm-up" in there[0]
    first, *_, saved, late = ends
    assert first[0][0].startswith("The projections of process 1 are NaN or infinite")
    assert "pictures" in first[1][0]
    assert saved[0][1] == saved[1][1] == ["epoch=0-step=1.ckpt", "epoch=0-step=2.ckpt", "epoch=0-step=3.ckpt"]
    assert "loss of step 3 is nan" in late[0][0], "the loss of all projections was NaN everywhere"
