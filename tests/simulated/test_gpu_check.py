"""The parts of the GPU check leave no tensor on another device, which a rehearsal on the CPU would not tell."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", ["exactness", "loss", "lars", "views"])
def test_part_runs(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    check = import_module("gpu.check").Check(part, tmp_path / "rows", rehearse=True)
    check.device = torch.device("simgpu")
    import_module(f"gpu.{part}").run(check)
    rows = [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]
    # torchvision's pictures are tensors of a type of their own, which the simulated device cannot be
    wrong = [row for row in rows if row["verdict"] in ("FAULT", "WRONG") and "torchvision" not in row["name"]]
    assert not wrong
    assert sum(row["verdict"] != "not installed" for row in rows) > 3
