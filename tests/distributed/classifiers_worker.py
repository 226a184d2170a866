"""Trains and judges the same classifiers on one process and on two, and saves what each of them saw.

``python classifiers_worker.py FOLDER`` writes ``FOLDER/<processes>-<rank>.pt``; ``test_classifier_processes.py``
compares. The processes are forked, so that torch and Lightning are imported once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Trainer
from torch import nn
from torch.multiprocessing.spawn import start_processes

from simclr_lightning import LabelledDataModule, LARSWarmup, SimCLR
from simclr_lightning.classifiers import Classifier, FineTune, LinearEvaluation
from simclr_lightning.distributed import world_size


class Encoder(nn.Sequential):
    """A network that treats every picture by itself, without BatchNorm."""

    feature_dim = 196

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 4, 3, stride=2), nn.GroupNorm(1, 4), nn.Flatten())


class Model(SimCLR):
    def build_encoder(self) -> nn.Module:
        return Encoder()


def train(kind: type[LinearEvaluation] | type[FineTune]) -> dict[str, Any]:
    """Three epochs, then a validation on 143 pictures, which two processes cannot share equally."""
    torch.manual_seed(0)
    classifier: Classifier = kind.of(Model(), learning_rate=0.1)
    data = LabelledDataModule(batch_size=100, augmentation="none", val_fraction=143 / 1437)
    trainer = Trainer(
        accelerator="cpu",
        strategy="ddp" if world_size() > 1 else "auto",
        devices=world_size(),
        max_epochs=3,
        precision="64-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[LARSWarmup(warmup_epochs=0)],
    )
    trainer.fit(classifier, data)
    trainer.test(classifier, data, verbose=False)
    (figures,) = trainer.validate(classifier, data, verbose=False)
    return {
        "figures": {name: float(value) for name, value in figures.items()},
        "confusion": classifier.confusion_matrix,
        "weights": dict(classifier.state_dict()),
        "pictures": len(list(data.clean_dataloader("val").sampler)),
    }


def work(local_rank: int, processes: int, folder: Path) -> None:
    """One process: with another one where there are two."""
    if processes > 1:
        # As torchrun does; a file instead of a port, since ports may be taken.
        os.environ.update(LOCAL_RANK=str(local_rank), WORLD_SIZE=str(processes), NODE_RANK="0")
        dist.init_process_group("gloo", init_method=f"file://{folder / 'init'}", rank=local_rank, world_size=processes)
    results = {kind.__name__: train(kind) for kind in (LinearEvaluation, FineTune)}
    torch.save(results, folder / f"{processes}-{local_rank}.pt")
    if processes > 1:
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    for number in (1, 2):
        start_processes(work, args=(number, Path(sys.argv[1])), nprocs=number, start_method="fork")  # type: ignore[no-untyped-call]
