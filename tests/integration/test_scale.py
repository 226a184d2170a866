"""The formulas of docs/scale.md, where they can be counted."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from tests.distributed.harness import run_in_processes
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from simclr_lightning.distributed import rank
from simclr_lightning.losses import NTXentLoss, tiles
from simclr_lightning.views import ViewBatch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def scale() -> Iterator[ModuleType]:
    before = set(sys.modules)
    sys.path.insert(0, str(BENCHMARKS))
    yield import_module("scale")
    sys.path.remove(str(BENCHMARKS))
    for name in {path.stem for path in BENCHMARKS.glob("*.py")} - before:
        sys.modules.pop(name, None)


class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts additions and multiplications of matrix products."""

    operations = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        factors = {"aten::mm": args[:2], "aten::addmm_": args[1:3]}.get(function._schema.name)
        if factors is not None:
            self.operations += 2 * factors[0].numel() * factors[1].shape[1]
        return function(*args, **(kwargs or {}))


def counted(pictures: int, views: int) -> tuple[int, int]:
    """Bytes that this process receives, and operations of its matrix products; no similarity is kept for backward."""
    tiles.CPU = tiles.CPU._replace(kept=0, side=16)  # as in a batch that is large for its tiles
    torch.manual_seed(rank())
    projections = torch.randn(views, pictures, 128, requires_grad=True)
    batch = ViewBatch((projections.detach(),), torch.zeros(pictures), torch.arange(pictures), equal_shares=True)
    received, all_gather = 0, dist.all_gather

    def counting(tensors: list[Tensor], tensor: Tensor, group: Any = None) -> Any:
        nonlocal received
        received += sum(own.numel() * own.element_size() for own in tensors) - tensor.numel() * tensor.element_size()
        return all_gather(tensors, tensor, group=group)

    loss = NTXentLoss(temperature=0.1)
    with mock.patch.object(dist, "all_gather", counting), Products() as products:  # type: ignore[no-untyped-call]
        torch.autograd.grad(loss.of_batch(projections, batch), projections)
    return received, products.operations


@pytest.mark.parametrize(("processes", "pictures", "views"), [(1, 256, 2), (2, 128, 2), (2, 64, 4)])
def test_bytes_are_exact_and_operations_nearly(scale: ModuleType, processes: int, pictures: int, views: int) -> None:
    shape = scale.Shape(processes, pictures, views)
    for received, operations in run_in_processes(counted, processes, pictures, views):
        assert received == scale.gathered_bytes(shape)
        assert operations == pytest.approx(scale.loss_flops(shape), rel=0.1)  # whole tiles on the diagonal


@pytest.mark.parametrize("packed", [False, True])
def test_an_order_takes_so_many_bytes(scale: ModuleType, packed: bool) -> None:
    pictures = 200_000
    held, most = scale.held_of_an_epoch(pictures, packed=packed)
    expected_held, expected_most = scale.order_bytes(pictures, packed=packed)
    assert held == pytest.approx(expected_held, rel=0.1)
    assert most == pytest.approx(expected_most, rel=0.1)


def test_time_and_traffic(scale: ModuleType) -> None:
    alone, many = scale.Shape(1, 4096), scale.Shape(64, 64)
    assert scale.gathered_bytes(alone) == scale.gradient_bytes(10**6, 1) == 0
    assert scale.loss_flops(alone) == 128 * 4 * 8192**2  # two products of the whole matrix
    assert scale.loss_flops(many) < scale.loss_flops(alone) / 40  # 64 times 6/4 of a whole one
    assert scale.gathered_bytes_with_gradients(many) > 2.9 * scale.gathered_bytes(many)
    link = scale.Link(speed=1e9, latency=1e-3)
    assert scale.step_seconds(alone, 0.5, 10**6, 1e12, link) == pytest.approx(0.5 + 128 * 4 * 8192**2 / 1e12)
    assert scale.step_seconds(many, 0.5, 10**6, 1e30, link) == pytest.approx(
        0.5 + (4 * 129 * (8192 - 128) + 4e6 * 2 * 63 / 64) / 1e9 + 4e-3, rel=1e-6
    )


def test_rates_are_fitted_and_predictions_told(scale: ModuleType) -> None:
    def run(processes: int) -> dict[str, Any]:
        shape = scale.Shape(processes, 128)
        spent = scale.loss_flops(shape) / 2e9
        loss = {"shape": shape, "cpu": spent, "memory": 3e6, "received": scale.gathered_bytes(shape)}
        step = {"cpu": 0.5, "memory": 5e6, "encoder": 0.4, "parameters": 10**5, "predicted memory": 4e6}
        return {"losses": [loss], "step": step, "all-reduce": scale.gradient_bytes(4 * 2**20, processes) * 1e-9}

    runs = {1: run(1), 2: run(2), 8: run(8)}
    rates = scale.fitted(runs)
    assert rates.flops == pytest.approx(2e9)
    assert rates.seconds_a_byte == pytest.approx(1e-9)
    rows = scale.compared(runs, rates)
    assert len(rows) == 6
    losses = [row for row in rows if row[0].startswith("loss")]
    assert all(row[2] == row[3] and row[6] == row[7] for row in losses)  # predicted as it was measured
    assert [row[1] for row in scale.predictions()] == ["8,192", "131,072", "131,072", "32,768"]
