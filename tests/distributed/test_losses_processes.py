"""Every loss of several processes with different pictures is that of one process with all of them, gradients, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.distributed.harness import run_in_processes
from torch import Tensor

from simclr_lightning.distributed import all_reduce_sum, rank, world_size
from simclr_lightning.losses import (
    ContrastiveLoss,
    DecoupledNTXent,
    HardNegativeNTXent,
    LearnedTemperatureNTXent,
    NTXentLoss,
    SupConNTXent,
)

PICTURES = 12  # of a global batch
WORLD_SIZES = (2, 3)
LOSSES: dict[str, Callable[[], ContrastiveLoss]] = {
    "nt_xent": lambda: NTXentLoss(0.2),
    "decoupled": lambda: DecoupledNTXent(0.2),
    "weighted": lambda: DecoupledNTXent(0.2, mises_fisher_sigma=0.5),
    "hard": lambda: HardNegativeNTXent(0.2, beta=1.0, tau_plus=0.02),
    "debiased": lambda: HardNegativeNTXent(0.2, beta=0.0, tau_plus=0.02),
    "supcon": lambda: SupConNTXent(0.2),
    "learned temperature": lambda: LearnedTemperatureNTXent(0.2),
}
LABELS = torch.tensor([0, 1, -1, 0, 2, 1, -1, 0, -1, 2, 0, 1])  # of classes, or of groups
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
Results = dict[int, list[dict[Any, Any]]]


def parts(split: str, processes: int) -> list[int]:
    """Pictures of each process."""
    few = 2 * (processes - 1)
    return [PICTURES // processes] * processes if split == "even" else [PICTURES - few, *[2] * (processes - 1)]


def cases() -> list[tuple[str, int, dict[str, Any]]]:
    """Loss, number of views, and what it is given beside the projections."""
    given: list[tuple[str, int, dict[str, Any]]] = []
    for kind in LOSSES:
        if kind == "supcon":
            given += [(kind, views, {"targets": LABELS}) for views in (2, 3)]
            given.append((kind, 2, {"targets": LABELS, "groups": torch.arange(12) % 5}))
            continue
        groups = LABELS.where(LABELS >= 0, torch.arange(100, 112))
        given += [(kind, 2, {}), (kind, 3, {"groups": groups}), (kind, 4, {"large": 2, "groups": groups})]
    return given


def compute() -> dict[Any, Any]:
    """Loss and gradient of a linear head, of every case, type and split."""
    results: dict[Any, Any] = {}
    for number, (kind, views, given) in enumerate(cases()):
        for dtype in TOLERANCE:
            generator = torch.Generator().manual_seed(number)
            everything = torch.randn(views, PICTURES, 6, dtype=torch.float64, generator=generator).to(dtype)
            weights = torch.randn(6, 5, dtype=torch.float64, generator=generator).to(dtype)
            for split in ("even", "uneven"):
                sizes = parts(split, world_size())
                head = weights.clone().requires_grad_()
                own = {
                    name: torch.split(value, sizes)[rank()] if isinstance(value, Tensor) else value
                    for name, value in given.items()
                }
                contrastive = LOSSES[kind]().to(dtype)
                loss = contrastive(torch.split(everything, sizes, dim=1)[rank()] @ head, **own)
                gradients = torch.autograd.grad(loss, [head, *contrastive.parameters()])
                gradient = torch.cat([own.flatten() for own in gradients])
                results[number, dtype, split] = loss.detach(), all_reduce_sum(gradient) / world_size()
    return results


@pytest.fixture(scope="module")
def results() -> Results:
    return {processes: run_in_processes(compute, processes) for processes in (1, *WORLD_SIZES)}


def relative_error(value: Tensor, expected: Tensor) -> float:
    assert value.dtype == expected.dtype
    return float((value - expected).norm() / expected.norm())


@pytest.mark.parametrize("processes", WORLD_SIZES)
@pytest.mark.parametrize("split", ["even", "uneven"])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", range(len(cases())), ids=[f"{kind}-{views}" for kind, views, _ in cases()])
def test_loss_and_gradient_are_those_of_the_global_batch(
    results: Results, case: int, dtype: torch.dtype, split: str, processes: int
) -> None:
    loss, gradient = results[1][0][case, dtype, split]
    for found in results[processes]:
        own_loss, own_gradient = found[case, dtype, split]
        assert relative_error(own_loss, loss) < TOLERANCE[dtype]
        assert relative_error(own_gradient, gradient) < TOLERANCE[dtype]
