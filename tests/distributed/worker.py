"""Computes the same losses, gradients and trainings on 1, 2, 3 and 4 processes, and saves what each of them saw.

``python worker.py FOLDER`` writes ``FOLDER/<processes>-<rank>.pt``; ``test_processes.py`` compares. The processes are
forked, so that torch and Lightning are imported once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.multiprocessing.spawn import start_processes
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from simclr_lightning.distributed import all_reduce_sum, gather_rows, rank, row_counts, world_size
from simclr_lightning.losses import contrastive_metrics, nt_xent, tiles
from simclr_lightning.simclr import SimCLR
from simclr_lightning.views import ViewBatch

WORLD_SIZES = (1, 2, 3, 4)
PICTURES = 12  # of a global batch
EVEN, UNEVEN = "even", "uneven"


def sizes(split: str, processes: int) -> list[int]:
    """Pictures of each process; two at least, so that every process has negatives of its own."""
    if split == EVEN:
        return [PICTURES // processes] * processes
    return [PICTURES - 2 * (processes - 1), *[2] * (processes - 1)]


# --- the loss function ---


def function_cases() -> dict[str, dict[str, Any]]:
    """Arguments of nt_xent, how many rows and columns a tile has, and how many numbers are kept for backward."""
    return {
        "default": {},
        "summed gradients": {"gradient_reduction": "sum"},
        "official scale": {"official_scale": True},
        "cold": {"temperature": 0.0125},  # with a running maximum
        # Similarities of at most 10, as in the default case. Those of 156 at a temperature of 0.5 would be rounded by
        # 8e-6 in float32, in an order that depends on the processor.
        "raw dot products": {"normalize": False, "temperature": 8.0},
        "several tiles": {"tile": 3},
        "several tiles, cold": {"tile": 3, "temperature": 0.0125},
        "nothing kept": {"tile": 3, "most_kept": 0},
        "nothing kept, cold": {"tile": 3, "most_kept": 0, "temperature": 0.0125},
    }


def loss_and_gradient(
    pictures: Tensor,
    *,
    gather: bool,
    tile: int = 256,
    most_kept: int = 2**22,
    gradient_reduction: str = "mean",
    **arguments: Any,
) -> tuple[Tensor, Tensor]:
    """Loss of this process's pictures (2, n, 6), and the gradient of a linear head, reduced over the processes."""
    generator = torch.Generator().manual_seed(1)
    head = torch.randn(6, 5, dtype=torch.float64, generator=generator).to(pictures.dtype).requires_grad_()
    first, second = pictures @ head
    with mock.patch.object(tiles, "_TILE", tile), mock.patch.object(tiles, "_MOST_KEPT", most_kept):
        loss = nt_xent(first, second, gather=gather, gradient_reduction=gradient_reduction, **arguments)  # type: ignore[arg-type]
        (gradient,) = torch.autograd.grad(loss, head)
    gradient = all_reduce_sum(gradient)
    return loss.detach(), gradient / world_size() if gradient_reduction == "mean" else gradient


def function_results() -> dict[Any, Any]:
    """Everything that the loss function is judged by."""
    results: dict[Any, Any] = {}
    for dtype in (torch.float32, torch.float64):
        generator = torch.Generator().manual_seed(0)
        everything = torch.randn(2, PICTURES, 6, dtype=torch.float64, generator=generator).to(dtype)
        for name, arguments in function_cases().items():
            if world_size() == 1:
                results[name, dtype] = loss_and_gradient(everything, gather=True, **arguments)
            else:
                for split in (EVEN, UNEVEN):
                    own = torch.split(everything, sizes(split, world_size()), dim=1)[rank()]
                    results[name, dtype, split] = loss_and_gradient(own, gather=True, **arguments)
        for processes in WORLD_SIZES[1:]:
            for split in (EVEN, UNEVEN):
                parts = torch.split(everything, sizes(split, processes), dim=1)
                if world_size() == 1:  # what each process should find where nothing is gathered
                    alone = [loss_and_gradient(part, gather=False) for part in parts]
                    results["alone", dtype, split, processes] = alone
                    metrics = contrastive_metrics(*everything)
                    results["metrics", dtype] = torch.stack(metrics)
                elif world_size() == processes:
                    results["alone", dtype, split] = loss_and_gradient(parts[rank()], gather=False)
                    metrics = contrastive_metrics(*parts[rank()], gather=True)
                    results["metrics", dtype, split] = torch.stack(metrics) * parts[rank()].shape[1] / PICTURES
    return results


# --- what travels between processes ---


def communication_results() -> dict[str, Any]:
    """Results of the functions of distributed.py, on ``rank()`` rows (none on the first process)."""
    rows = 10 * rank() + torch.arange(2 * rank()).view(-1, 2)
    counts = row_counts(rows)
    summand = torch.tensor([1.0, float(rank())])
    with mock.patch.object(dist, "all_gather", wraps=dist.all_gather) as all_gather:
        gather_rows(rows, counts)
        gathers_of_rows = all_gather.call_count
        loss_and_gradient(torch.ones(2, 1 + rank(), 6), gather=True)
        gathers_of_loss = all_gather.call_count - gathers_of_rows
    return {
        "world_size": world_size(),
        "rank": rank(),
        "counts": counts,
        "gathers": (gathers_of_rows, gathers_of_loss),
        "integers": gather_rows(rows),
        "counted": gather_rows(rows, counts),
        "floats": gather_rows(rows.double()),
        "equal": gather_rows(torch.full((2, 1), rank())),
        "strided": gather_rows(torch.arange(6).view(2, 3).T + 10 * rank()),
        "needs gradient": gather_rows(torch.ones(1, 1, requires_grad=True))[0].requires_grad,
        "sum": all_reduce_sum(summand),
        "summand": summand,
    }


# --- training through the Trainer ---


class Encoder(nn.Module):
    """A network that treats every picture by itself, without BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_dim = 48
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 12, 2), nn.Flatten()
        )

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)
        return features


class Recorder(SimCLR):
    """Records losses and gradients; may imitate processes that do not gather."""

    imitated_sizes: list[list[int]] | None = None

    def build_encoder(self) -> nn.Module:
        return Encoder()

    def build_head(self) -> nn.Module:
        return nn.Sequential(nn.Linear(48, 12), nn.ReLU(), nn.Linear(12, 5, bias=False))

    def on_fit_start(self) -> None:
        self.losses: list[Tensor] = []
        self.gradients: list[dict[str, Tensor]] = []

    def contrast(self, first: Tensor, second: Tensor) -> Tensor:
        if self.imitated_sizes is None:
            return super().contrast(first, second)
        parts = self.imitated_sizes[len(self.losses) % 2]
        pairs = zip(torch.split(first, parts), torch.split(second, parts), strict=True)
        return torch.stack([nt_xent(*pair, temperature=0.5) for pair in pairs]).mean()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.losses.append(self.trainer.callback_metrics["train/loss"].clone())
        self.gradients.append(
            {name: value.grad.clone() for name, value in self.named_parameters() if value.grad is not None}
        )


def batches(part: Callable[[Tensor, int], Tensor]) -> list[ViewBatch]:
    """Two batches of this process; ``part(pictures, step)`` cuts its pictures out of those of all processes."""
    generator = torch.Generator().manual_seed(2)
    result = []
    for step in range(2):
        first, second, clean = torch.randn(3, PICTURES, 3, 8, 8, generator=generator)
        batch = ViewBatch.of(part(first, step), part(second, step))
        result.append(batch._replace(images=part(clean, step)))
    return result


def train(*, gather: bool, precision: str, imitated_processes: int | None = None) -> dict[str, Any]:
    """Two steps of SGD and a validation; the last batch is spread unevenly over the processes."""
    splits = (EVEN, UNEVEN)

    def part(pictures: Tensor, step: int) -> Tensor:
        return torch.split(pictures, sizes(splits[step], world_size()))[rank()]

    torch.manual_seed(0)
    model = Recorder(gather=gather, temperature=0.5, optimizer="sgd", learning_rate=0.01, weight_decay=0.0)
    if imitated_processes is not None:
        model.imitated_sizes = [sizes(split, imitated_processes) for split in splits]
    trainer = Trainer(
        accelerator="cpu",
        strategy="ddp" if world_size() > 1 else "auto",
        devices=world_size(),
        precision=precision,  # type: ignore[arg-type]
        max_epochs=1,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # each process has its own pictures already
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    training: DataLoader[ViewBatch] = DataLoader(batches(part), batch_size=None)  # type: ignore[arg-type]
    validation: DataLoader[ViewBatch] = DataLoader(batches(part)[:1], batch_size=None)  # type: ignore[arg-type]
    trainer.fit(model, training, validation)
    return {
        "losses": model.losses,
        "gradients": model.gradients,
        "weights": dict(model.state_dict()),
        "metrics": trainer.callback_metrics,
        "strategy": type(trainer.strategy).__name__,
    }


def training_results() -> dict[Any, Any]:
    """Trainings in both precisions, with and without gathering."""
    results: dict[Any, Any] = {}
    for precision in ("32-true", "64-true"):
        results[precision, "gather"] = train(gather=True, precision=precision)
        if world_size() > 1:
            results[precision, "alone"] = train(gather=False, precision=precision)
        else:
            for processes in WORLD_SIZES[1:]:
                imitation = train(gather=False, precision=precision, imitated_processes=processes)
                results[precision, "alone", processes] = imitation
    return results


def work(local_rank: int, processes: int, folder: Path) -> None:
    """One process: with others where there is more than one."""
    if processes > 1:
        # As torchrun does; a file instead of a port, since ports may be taken.
        os.environ.update(LOCAL_RANK=str(local_rank), WORLD_SIZE=str(processes), NODE_RANK="0")
        init = f"file://{folder / f'{processes}.init'}"
        dist.init_process_group("gloo", init_method=init, rank=local_rank, world_size=processes)
        assert LightningEnvironment().creates_processes_externally
    results = {
        "communication": communication_results(),
        "function": function_results(),
        "training": training_results(),
    }
    torch.save(results, folder / f"{processes}-{local_rank}.pt")
    if processes > 1:
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    for number in WORLD_SIZES:
        start_processes(work, args=(number, Path(sys.argv[1])), nprocs=number, start_method="fork")  # type: ignore[no-untyped-call]
