"""Several processes that share the queries of kNN predict what one process predicts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

WORKER = Path(__file__).parent / "knn_worker.py"
Results = dict[int, list[dict[str, Tensor]]]  # number of processes -> what each rank saved


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("knn")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(WORKER), str(folder)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    return {
        processes: [torch.load(folder / f"{processes}-{rank}.pt") for rank in range(processes)]
        for processes in (1, 2, 3)
    }


@pytest.mark.parametrize("weights", ["similarity", "uniform"])
@pytest.mark.parametrize(("queries", "shares"), [(41, {2: [21, 20], 3: [14, 14, 13]}), (2, {2: [1, 1], 3: [1, 1, 0]})])
@pytest.mark.parametrize("processes", [2, 3])
def test_all_processes_get_all_predictions_in_order(
    results: Results, processes: int, queries: int, shares: dict[int, list[int]], weights: str
) -> None:
    case = f"{queries} {weights}"
    (alone,) = results[1]
    assert len(alone[case]) == int(alone[f"{case} share"]) == queries
    for rank in results[processes]:
        assert torch.equal(rank[case], alone[case])
        assert torch.equal(rank[f"{case} accuracy"], alone[f"{case} accuracy"])
    assert [int(rank[f"{case} share"]) for rank in results[processes]] == shares[processes]


def test_predictions_tell_order(results: Results) -> None:
    predicted = results[1][0]["41 uniform"]
    assert not torch.equal(predicted, predicted.flip(0))
    assert set(predicted.tolist()) == {0, 1, 2, 3}
