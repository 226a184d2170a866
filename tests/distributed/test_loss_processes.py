"""Losses and metrics of several processes with different pictures are those of one process with all of them."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from tests.distributed.harness import run_in_processes
from torch import Tensor

from simclr_lightning.distributed import all_reduce_sum, rank, world_size
from simclr_lightning.losses import NTXentLoss, contrastive_metrics, negatives, nt_xent, tiles

PICTURES = 12  # of a global batch
WORLD_SIZES = (2, 3, 4)
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
#: float32 rounds a similarity of 80 by up to 80 / 2**24, in an order that depends on the processor.
TOLERANCE_COLD = {torch.float32: 5e-6, torch.float64: 1e-12}
SPLITS = ("even", "uneven")
#: Name -> arguments of the loss, how many rows and columns a tile has, how many numbers are kept for backward.
CASES: dict[str, dict[str, Any]] = {
    "default": {},
    "summed gradients": {"gradient_reduction": "sum"},
    "official scale": {"official_scale": True},
    "cold": {"temperature": 0.0125},  # with a running maximum
    # With a running maximum too, and with similarities of at most 10, as in the default case.
    "raw dot products": {"normalize": False, "temperature": 8.0},
    "several tiles": {"tile": 3},
    "several tiles, cold": {"tile": 3, "temperature": 0.0125},
    "several tiles, raw dot products": {"tile": 3, "normalize": False, "temperature": 8.0},
    "nothing kept": {"tile": 3, "most_kept": 0},
    "nothing kept, raw dot products": {"tile": 3, "most_kept": 0, "normalize": False, "temperature": 8.0},
    "nothing kept, cold": {"tile": 3, "most_kept": 0, "temperature": 0.0125},
    "accelerator, one tile": {"accelerator": True, "whole": 2**24},
    "accelerator, several tiles": {"accelerator": True, "tile": 3},
    "accelerator, nothing kept": {"accelerator": True, "tile": 3, "most_kept": 0},
    "accelerator, wide tiles": {"accelerator": True, "tile": 2, "most_kept": 0, "whole": 10},
}
Results = dict[int, list[dict[Any, Any]]]  # number of processes -> what each rank returned


def parts(everything: Tensor, split: str, processes: int) -> tuple[Tensor, ...]:
    """The pictures (2, n, 6) of each process; two at least, so that every process has negatives of its own."""
    few = 2 * (processes - 1)
    sizes = {"even": [PICTURES // processes] * processes, "uneven": [PICTURES - few, *[2] * (processes - 1)]}
    return torch.split(everything, sizes[split], dim=1)


def loss_and_gradient(
    pictures: Tensor,
    kind: str,
    *,
    gather: bool,
    tile: int = 256,
    most_kept: int = 2**22,
    whole: int = 0,
    accelerator: bool = False,
    **arguments: Any,
) -> tuple[Tensor, Tensor]:
    """Loss of this process's pictures (2, n, 6), and the gradient of a linear head, reduced over the processes."""
    generator = torch.Generator().manual_seed(1)
    head = torch.randn(6, 5, dtype=torch.float64, generator=generator).to(pictures.dtype).requires_grad_()
    projections = pictures @ head
    device = (tiles.ACCELERATOR if accelerator else tiles.CPU)._replace(side=tile, kept=most_kept, whole=whole)
    ways = {True: device, False: device._replace(products=False, whole=0)}  # what is possible without a bound
    with mock.patch.object(negatives, "fitting", lambda views, bounded: ways[bounded]):
        if kind == "module":
            loss = NTXentLoss(gather=gather, **arguments)(projections)
        else:
            loss = nt_xent(*projections, gather=gather, **arguments)
        (gradient,) = torch.autograd.grad(loss, head)
    gradient = all_reduce_sum(gradient)
    return loss.detach(), gradient if arguments.get("gradient_reduction") == "sum" else gradient / world_size()


def compute() -> dict[Any, Any]:
    """Everything that losses and metrics are judged by."""
    results: dict[Any, Any] = {}
    for dtype in TOLERANCE:
        generator = torch.Generator().manual_seed(0)
        everything = torch.randn(2, PICTURES, 6, dtype=torch.float64, generator=generator).to(dtype)
        for split in SPLITS:
            own = parts(everything, split, world_size())[rank()]
            for kind in ("function", "module"):
                for case, arguments in CASES.items():
                    results[kind, case, dtype, split] = loss_and_gradient(own, kind, gather=True, **arguments)
                results[kind, "alone", dtype, split] = loss_and_gradient(own, kind, gather=False)
            metrics = torch.stack(contrastive_metrics(*own, gather=True))
            results["metrics", dtype, split] = metrics * own.shape[1] / PICTURES
            if world_size() == 1:  # what each process should find where nothing is gathered
                for processes in WORLD_SIZES:
                    each = parts(everything, split, processes)
                    results["each", dtype, split, processes] = [
                        loss_and_gradient(part, "function", gather=False) for part in each
                    ]
    return results


@pytest.fixture(scope="module")
def results() -> Results:
    return {processes: run_in_processes(compute, processes) for processes in (1, *WORLD_SIZES)}


def relative_error(value: Tensor, expected: Tensor) -> float:
    """Length of the difference, relative to the length of what was expected."""
    assert value.dtype == expected.dtype
    assert value.shape == expected.shape
    return float((value - expected).norm() / expected.norm())


@pytest.mark.parametrize("processes", WORLD_SIZES)
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["function", "module"])
def test_gathered_loss_and_gradient_are_those_of_the_global_batch(
    results: Results, kind: str, case: str, dtype: torch.dtype, split: str, processes: int
) -> None:
    loss, gradient = results[1][0]["function", case, dtype, split]
    tolerance = (TOLERANCE_COLD if "cold" in case else TOLERANCE)[dtype]
    for found in results[processes]:
        own_loss, own_gradient = found[kind, case, dtype, split]
        assert relative_error(own_loss, loss) < tolerance
        assert relative_error(own_gradient, gradient) < tolerance


@pytest.mark.parametrize("processes", WORLD_SIZES)
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", ["function", "module"])
def test_without_gather_every_process_contrasts_its_own_pictures(
    results: Results, kind: str, dtype: torch.dtype, split: str, processes: int
) -> None:
    each = results[1][0]["each", dtype, split, processes]
    mean_gradient = torch.stack([gradient for _, gradient in each]).mean(0)
    for found, (loss, _) in zip(results[processes], each, strict=True):
        own_loss, own_gradient = found[kind, "alone", dtype, split]
        assert torch.equal(own_loss, loss)
        assert relative_error(own_gradient, mean_gradient) < TOLERANCE[dtype]


def test_gather_makes_a_difference(results: Results) -> None:
    gathered, _ = results[2][0]["function", "default", torch.float64, "even"]
    alone, _ = results[2][0]["function", "alone", torch.float64, "even"]
    assert abs(gathered - alone) > 0.1


@pytest.mark.parametrize("processes", WORLD_SIZES)
@pytest.mark.parametrize("split", SPLITS)
def test_contrastive_metrics_of_all_processes_add_up(results: Results, split: str, processes: int) -> None:
    # Every process has weighted its own metrics by its share of the pictures.
    total = sum(found["metrics", torch.float32, split] for found in results[processes])
    torch.testing.assert_close(total, results[1][0]["metrics", torch.float32, split])
