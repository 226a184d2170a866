"""What travels between processes: the functions of distributed.py, where every rank r has r rows."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from tests.distributed.harness import run_in_processes

from simclr_lightning.distributed import (
    all_reduce_sum,
    gather_rows,
    gather_with_gradients,
    rank,
    row_counts,
    world_size,
)
from simclr_lightning.losses import nt_xent


def communicate() -> dict[str, Any]:
    """Results of every function, on ``rank()`` rows (none on the first process)."""
    rows = 10 * rank() + torch.arange(2 * rank()).view(-1, 2)
    counts = row_counts(rows)
    summand = torch.tensor([1.0, float(rank())])
    with mock.patch.object(dist, "all_gather", wraps=dist.all_gather) as all_gather:
        gather_rows(rows, counts)
        gathers_of_rows = all_gather.call_count
        views = torch.ones(2, 1 + rank(), 6, requires_grad=True)
        torch.autograd.backward(nt_xent(*views, gather=True))
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


@pytest.mark.parametrize("processes", [2, 3, 4])
def test_communication(processes: int) -> None:
    # Process r contributes r rows (none for the first): 10 r, 10 r + 1, ...
    everything = torch.cat([10 * r + torch.arange(2 * r).view(-1, 2) for r in range(processes)])
    strided = torch.cat([torch.tensor([[0, 3], [1, 4], [2, 5]]) + 10 * r for r in range(processes)])
    ranks = torch.arange(float(processes))
    for number, found in enumerate(run_in_processes(communicate, processes)):
        assert (found["world_size"], found["rank"]) == (processes, number)
        assert found["counts"] == list(range(processes))
        for rows, start in (found["integers"], found["counted"]):
            assert torch.equal(rows, everything)
            assert start == sum(range(number))
        assert found["gathers"] == (1, 3)  # of the loss: the counts once, the views, and one number a view
        assert torch.equal(found["floats"][0], everything.double())
        assert found["floats"][0].dtype == torch.float64
        assert torch.equal(found["equal"][0], torch.arange(processes).repeat_interleave(2).view(-1, 1))
        assert found["equal"][1] == 2 * number
        assert torch.equal(found["strided"][0], strided)
        assert found["needs gradient"] is False
        assert found["sum"].tolist() == [processes, ranks.sum()]
        assert found["summand"].tolist() == [1, number]  # not changed


def own_loss() -> dict[str, Any]:
    """A loss of this process's rows against everybody's, and its gradient; ``rank() + 1`` rows of float64."""
    rows = own_rows(rank()).requires_grad_()
    everybodys, start = gather_with_gradients(rows)
    loss = cubic(rows, everybodys)
    torch.autograd.backward(loss)
    assert rows.grad is not None
    return {"everybodys": everybodys.detach(), "start": start, "gradient": rows.grad}


def own_rows(number: int) -> torch.Tensor:
    return torch.randn(number + 1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(number))


def cubic(rows: torch.Tensor, everybodys: torch.Tensor) -> torch.Tensor:
    return (rows @ everybodys.T).pow(3).sum() + everybodys.square().sum()


@pytest.mark.parametrize("processes", [1, 3])
def test_gradients_come_back_from_all_processes(processes: int) -> None:
    shares = [own_rows(number).requires_grad_() for number in range(processes)]
    everything = torch.cat(shares)
    torch.autograd.backward([cubic(share, everything) for share in shares])
    for number, found in enumerate(run_in_processes(own_loss, processes)):
        assert torch.equal(found["everybodys"], everything)
        assert found["start"] == sum(len(share) for share in shares[:number])
        torch.testing.assert_close(found["gradient"], shares[number].grad, rtol=1e-12, atol=1e-12)


def count_on_hosts() -> dict[str, Any]:
    """Numbers of rows that lie where nothing can be read, in a group that is said to be one of devices."""
    found: dict[str, Any] = {}
    new_group = mock.patch.object(dist, "new_group", wraps=dist.new_group)
    with mock.patch.object(dist, "get_backend", return_value="nccl"), new_group as made:
        row_counts(torch.empty(rank()))  # the processes agree that they have one, on the device of the rows
        found["counts"] = [row_counts(torch.empty(n, 4, device="meta")) for n in (rank(), 5 - rank(), 3)]
        found["gathered"] = gather_rows(torch.full((1 + rank(), 2), rank()))[0][:, 0]
        found["groups"] = made.call_count
        views = torch.ones(2, 1 + rank(), 6, requires_grad=True)
        torch.autograd.backward(nt_xent(*views, gather=True))
    return found


def count_without_hosts() -> dict[str, Any]:
    """One process cannot talk to the hosts of the others."""
    group = mock.patch.object(dist, "new_group", side_effect=RuntimeError if rank() == 1 else [dist.group.WORLD])
    with mock.patch.object(dist, "get_backend", return_value="nccl"), group as made:
        counts = [row_counts(torch.empty(n, 4)) for n in (rank(), 5 - rank())]
        with pytest.raises(NotImplementedError, match="meta"):  # they are exchanged on the device of the rows
            row_counts(torch.empty(3, device="meta"))
        return {"counts": counts, "tries": made.call_count}


def test_numbers_of_rows_never_wait_for_the_device() -> None:
    for found in run_in_processes(count_on_hosts, 3):
        assert found["counts"] == [[0, 1, 2], [5, 4, 3], [3, 3, 3]]
        assert found["gathered"].tolist() == [0, 1, 1, 2, 2, 2]
        assert found["groups"] == 1


def test_without_a_group_of_hosts_all_processes_use_their_devices() -> None:
    for found in run_in_processes(count_without_hosts, 2):
        assert found == {"counts": [[0, 1], [5, 4]], "tries": 1}
