"""What the harness promises to the tests that use it."""

from __future__ import annotations

import os
import threading
import warnings

import pytest
import torch
import torch.distributed as dist
from tests.distributed.harness import run_in_processes

from simclr_lightning.distributed import all_reduce_sum, rank, world_size


def total(summand: float) -> dict[str, torch.Tensor | int]:
    return {"total": all_reduce_sum(torch.tensor(summand + rank())), "rank": rank(), "of": world_size()}


def raise_in_the_last() -> None:
    if rank() == world_size() - 1:
        raise LookupError("nothing there")
    dist.barrier()


def crash() -> None:
    os.abort()


def wait_for_nobody() -> None:
    if rank() == 0:
        threading.Event().wait()


def warn() -> None:
    warnings.warn("careful", UserWarning, stacklevel=1)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_every_rank_returns_its_result(processes: int) -> None:
    results = run_in_processes(total, processes, 10.0)
    expected = 10.0 * processes + sum(range(processes))
    assert [result["total"].item() for result in results] == [expected] * processes
    assert [(result["rank"], result["of"]) for result in results] == [(r, processes) for r in range(processes)]


def test_an_exception_ends_all_processes_and_is_told() -> None:
    with pytest.raises(AssertionError, match=r"(?s)rank 1 ended with 1:.*test_harness\.py.*LookupError: nothing there"):
        run_in_processes(raise_in_the_last, 2)


def test_a_crash_is_told() -> None:
    with pytest.raises(AssertionError, match="rank 0 ended with -6"):
        run_in_processes(crash, 1)


def test_time_is_limited() -> None:
    with pytest.raises(AssertionError, match="Still running after 1 s: rank 0, rank 1"):
        run_in_processes(wait_for_nobody, 2, timeout=1)


def test_warnings_are_errors_as_in_the_test() -> None:
    with pytest.raises(AssertionError, match="UserWarning: careful"):
        run_in_processes(warn, 1)


@pytest.mark.filterwarnings("ignore:careful")
def test_warnings_are_ignored_as_in_the_test() -> None:
    assert run_in_processes(warn, 1) == [None]
