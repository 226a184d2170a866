"""Several processes with different pictures compute what one process computes with all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

WORKER = Path(__file__).parent / "worker.py"
Results = dict[int, list[dict[str, Any]]]  # number of processes -> what each rank saved

WORLD_SIZES = (2, 3, 4)
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
PRECISIONS = {"32-true": torch.float32, "64-true": torch.float64}
SPLITS = ("even", "uneven")
FUNCTION_CASES = (
    "default",
    "summed gradients",
    "official scale",
    "cold",
    "raw dot products",
    "several tiles",
    "several tiles, cold",
    "nothing kept",
    "nothing kept, cold",
)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("processes")
    command = [sys.executable, "-W", "error:It is recommended to use:UserWarning", str(WORKER)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [*command, str(folder)], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "FutureWarning" not in run.stderr, run.stderr
    return {
        processes: [torch.load(folder / f"{processes}-{rank}.pt") for rank in range(processes)]
        for processes in (1, *WORLD_SIZES)
    }


def relative_error(value: Tensor, expected: Tensor) -> float:
    """Length of the difference, relative to the length of what was expected."""
    assert value.dtype == expected.dtype
    assert value.shape == expected.shape
    return float((value - expected).norm() / expected.norm())


@pytest.mark.parametrize("processes", WORLD_SIZES)
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", FUNCTION_CASES)
def test_gathered_loss_and_gradient_are_those_of_the_global_batch(
    results: Results, case: str, dtype: torch.dtype, split: str, processes: int
) -> None:
    loss, gradient = results[1][0]["function"][case, dtype]
    for rank in results[processes]:
        own_loss, own_gradient = rank["function"][case, dtype, split]
        assert relative_error(own_loss, loss) < TOLERANCE[dtype]
        assert relative_error(own_gradient, gradient) < TOLERANCE[dtype]


@pytest.mark.parametrize("processes", WORLD_SIZES)
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_without_gather_every_process_contrasts_its_own_pictures(
    results: Results, dtype: torch.dtype, split: str, processes: int
) -> None:
    alone = results[1][0]["function"]["alone", dtype, split, processes]
    mean_gradient = torch.stack([gradient for _, gradient in alone]).mean(0)
    for rank, (loss, _) in zip(results[processes], alone, strict=True):
        own_loss, own_gradient = rank["function"]["alone", dtype, split]
        assert torch.equal(own_loss, loss)
        assert relative_error(own_gradient, mean_gradient) < TOLERANCE[dtype]


def test_gather_makes_a_difference(results: Results) -> None:
    gathered, _ = results[2][0]["function"]["default", torch.float64, "even"]
    alone, _ = results[2][0]["function"]["alone", torch.float64, "even"]
    assert abs(gathered - alone) > 0.1


@pytest.mark.parametrize("processes", WORLD_SIZES)
@pytest.mark.parametrize("split", SPLITS)
def test_contrastive_metrics_of_all_processes_add_up(results: Results, split: str, processes: int) -> None:
    # The workers weight their own metrics by their share of the pictures.
    total = sum(rank["function"]["metrics", torch.float32, split] for rank in results[processes])
    torch.testing.assert_close(total, results[1][0]["function"]["metrics", torch.float32])


@pytest.mark.parametrize("processes", WORLD_SIZES)
def test_communication(results: Results, processes: int) -> None:
    # Process r contributes r rows (none for the first): 10 r, 10 r + 1, ...
    everything = torch.cat([10 * r + torch.arange(2 * r).view(-1, 2) for r in range(processes)])
    strided = torch.cat([torch.tensor([[0, 3], [1, 4], [2, 5]]) + 10 * r for r in range(processes)])
    ranks = torch.arange(float(processes))
    for number, rank in enumerate(results[processes]):
        found = rank["communication"]
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


@pytest.mark.parametrize("processes", WORLD_SIZES)
@pytest.mark.parametrize("gather", ["gather", "alone"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_trainer_with_ddp_trains_as_one_process_does(
    results: Results, precision: str, gather: str, processes: int
) -> None:
    key = (precision, "gather") if gather == "gather" else (precision, "alone", processes)
    expected = results[1][0]["training"][key]
    tolerance = TOLERANCE[PRECISIONS[precision]]
    for rank in results[processes]:
        found = rank["training"][precision, gather]
        assert found["strategy"] == "DDPStrategy"
        assert len(found["losses"]) == len(expected["losses"]) == 2
        for value, truth in zip(found["losses"], expected["losses"], strict=True):
            assert abs(value / truth - 1) < tolerance
        for value, truth in zip(found["gradients"], expected["gradients"], strict=True):
            assert value.keys() == truth.keys() == expected["weights"].keys()
            for name in truth:
                assert relative_error(value[name], truth[name]) < tolerance, name
        for name, truth in expected["weights"].items():
            assert relative_error(found["weights"][name], truth) < tolerance, name


@pytest.mark.parametrize("processes", WORLD_SIZES)
def test_logged_validation_is_that_of_the_global_batch(results: Results, processes: int) -> None:
    expected = results[1][0]["training"]["64-true", "gather"]["metrics"]
    for rank in results[processes]:
        found = rank["training"]["64-true", "gather"]["metrics"]
        assert found.keys() == expected.keys()
        for name in ("val/loss", "val/contrast_top1", "val/contrast_top5", "val/contrast_entropy"):
            torch.testing.assert_close(found[name], expected[name], rtol=1e-6, atol=0)
