"""Classifiers on two processes are trained and judged as on one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

WORKER = Path(__file__).parent / "classifiers_worker.py"
Results = list[dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Of one process, then of each of two."""
    folder = tmp_path_factory.mktemp("classifiers")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(WORKER), str(folder)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    assert "Features are cached on a single device only" in run.stderr
    assert "sync_dist" not in run.stderr  # nothing that is logged differs between the processes
    assert "eval mode" not in run.stderr  # a frozen encoder is meant to be in evaluation mode
    return [torch.load(folder / f"{name}.pt") for name in ("1-0", "2-0", "2-1")]


@pytest.mark.parametrize("name", ["LinearEvaluation", "FineTune"])
def test_weights_are_those_of_one_process(results: Results, name: str) -> None:
    truth, *found = (result[name]["weights"] for result in results)
    for weights in found:
        assert weights.keys() == truth.keys()
        for key, value in truth.items():
            torch.testing.assert_close(weights[key], value, rtol=1e-9, atol=1e-12, msg=key)


@pytest.mark.parametrize("name", ["LinearEvaluation", "FineTune"])
def test_every_picture_is_judged_once(results: Results, name: str) -> None:
    truth, *found = (result[name] for result in results)
    assert truth["confusion"].sum() == 143
    assert truth["confusion"].diag().sum() > 30  # it has learned something
    for result in found:
        assert result["pictures"] == 72  # one of the two is repeated
        assert torch.equal(result["confusion"], truth["confusion"])
        assert result["figures"].keys() == truth["figures"].keys()
        for key, value in truth["figures"].items():
            assert result["figures"][key] == pytest.approx(value, rel=1e-5), key
