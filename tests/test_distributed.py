"""What distributed.py does on one process; see distributed/test_communication.py for several."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from simclr_lightning.distributed import all_reduce_sum, gather_rows, rank, row_counts, world_size


@pytest.fixture(params=["torch.distributed not started", "a group of one process"])
def alone(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    if request.param == "a group of one process":
        dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'init'}", rank=0, world_size=1)
        yield
        dist.destroy_process_group()
    else:
        yield


@pytest.mark.usefixtures("alone")
def test_one_process_is_the_first_of_one() -> None:
    assert (world_size(), rank()) == (1, 0)


@pytest.mark.usefixtures("alone")
def test_gather_rows_gives_the_rows_themselves_without_gradient() -> None:
    rows = torch.randn(3, 2, requires_grad=True)
    assert row_counts(rows) == [3]
    for gathered, start in (gather_rows(rows), gather_rows(rows, [3])):
        assert gathered.data_ptr() == rows.data_ptr()
        assert torch.equal(gathered, rows)
        assert not gathered.requires_grad
        assert start == 0


@pytest.mark.usefixtures("alone")
def test_sum_is_the_summand() -> None:
    summand = torch.randn(3)
    assert all_reduce_sum(summand) is summand
