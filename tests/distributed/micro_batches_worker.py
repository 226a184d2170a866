"""Trains on one and on two processes, with whole batches and with micro-batches, and saves what came of it.

``python micro_batches_worker.py FOLDER`` writes ``FOLDER/<processes>-<rank>.pt``; ``test_micro_batch_processes.py``
compares.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.multiprocessing.spawn import start_processes
from torch.utils.data import DataLoader

from simclr_lightning.distributed import rank, world_size
from simclr_lightning.simclr import SimCLR
from simclr_lightning.views import ViewBatch

PICTURES = 12  # of a global batch


class Encoder(nn.Sequential):
    """Treats every picture by itself, unless BatchNorm is asked for."""

    feature_dim = 48

    def __init__(self, norm: nn.Module) -> None:
        super().__init__(nn.Conv2d(3, 8, 3, stride=2), norm, nn.ReLU(), nn.Conv2d(8, 12, 2), nn.Flatten())


class Small(SimCLR):
    """Has that encoder."""

    def __init__(self, micro_batch_size: int | None, batch_norm: bool) -> None:
        super().__init__(temperature=0.5, optimizer="sgd", learning_rate=0.1)

    def build_encoder(self) -> nn.Module:
        return Encoder(nn.BatchNorm2d(8) if self.hparams["batch_norm"] else nn.GroupNorm(2, 8))

    def build_head(self) -> nn.Module:
        return nn.Sequential(nn.Linear(48, 12), nn.ReLU(), nn.Linear(12, 5, bias=False))


def train(micro_batch_size: int | None, *, batch_norm: bool = False, **options: Any) -> dict[str, Tensor]:
    """Weights and buffers after four batches, of which every process has its own part."""
    torch.manual_seed(0)
    model = Small(micro_batch_size, batch_norm)
    trainer = Trainer(
        accelerator="cpu",
        strategy="ddp" if world_size() > 1 else "auto",
        devices=world_size(),
        precision="64-true",
        max_epochs=1,
        use_distributed_sampler=False,  # each process has its own pictures already
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    generator = torch.Generator().manual_seed(1)
    batches = []
    for _ in range(4):
        own = torch.randn(2, PICTURES, 3, 8, 8, generator=generator).tensor_split(world_size(), dim=1)[rank()]
        batches.append(ViewBatch.of(*own))
    loader: DataLoader[ViewBatch] = DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
    trainer.fit(model, loader)
    return dict(model.state_dict())


def work(local_rank: int, processes: int, folder: Path) -> None:
    """One process: with another one where there are two."""
    if processes > 1:
        # As torchrun does; a file instead of a port, since ports may be taken.
        os.environ.update(LOCAL_RANK=str(local_rank), WORLD_SIZE=str(processes), NODE_RANK="0")
        dist.init_process_group("gloo", init_method=f"file://{folder / 'init'}", rank=local_rank, world_size=processes)
    size = None if processes == 1 else 4  # micro-batches of three pictures
    results = {
        "plain": train(size),
        "clipped": train(size, gradient_clip_val=0.05),
        "accumulated": train(size, accumulate_grad_batches=2),
        "BatchNorm": train(4, batch_norm=True),
    }
    torch.save(results, folder / f"{processes}-{local_rank}.pt")
    if processes > 1:
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    for number in (1, 2):
        start_processes(work, args=(number, Path(sys.argv[1])), nprocs=number, start_method="fork")  # type: ignore[no-untyped-call]
