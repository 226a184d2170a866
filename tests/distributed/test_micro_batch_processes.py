"""Two processes that take micro-batches train as one process with the whole global batch does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

WORKER = Path(__file__).parent / "micro_batches_worker.py"
Results = dict[str, dict[str, Tensor]]  # name of a training -> state


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Results]:
    """Of one process, then of each of two."""
    folder = tmp_path_factory.mktemp("micro_batches")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(WORKER), str(folder)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    return [torch.load(folder / f"{name}.pt") for name in ("1-0", "2-0", "2-1")]


@pytest.mark.parametrize("name", ["plain", "clipped", "accumulated"])
def test_weights_are_those_of_one_process_and_one_batch(results: list[Results], name: str) -> None:
    truth, *found = (result[name] for result in results)
    for weights in found:
        assert weights.keys() == truth.keys()
        for key, value in truth.items():
            torch.testing.assert_close(weights[key], value, rtol=1e-12, atol=1e-14, msg=f"{key}")


def test_trainings_differ(results: list[Results]) -> None:
    weights = [training["encoder.0.weight"] for training in results[0].values()]
    for number, weight in enumerate(weights):
        assert all((weight - other).abs().max() > 1e-5 for other in weights[:number])


def test_batch_norm_counts_every_micro_batch_once(results: list[Results]) -> None:
    one, *two = (result["BatchNorm"]["encoder.1.num_batches_tracked"] for result in results)
    assert one == 4 * 3  # four batches of twelve pictures
    assert [int(count) for count in two] == [4 * 2] * 2  # of six pictures
    first, second = (result["BatchNorm"]["encoder.0.weight"] for result in results[1:])
    assert torch.equal(first, second)
