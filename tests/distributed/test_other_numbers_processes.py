"""A checkpoint of one process goes on in two, and one of two in one: the same pictures, and the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.callbacks.test_other_numbers import fit
from tests.distributed.harness import run_in_processes
from tests.distributed.test_training_processes import Recorder

from simclr_lightning.distributed import world_size
from simclr_lightning.losses import NTXentLoss


def run(folder: Path, resume: bool) -> dict[str, Any]:
    torch.manual_seed(0)
    model = Recorder(loss=NTXentLoss(0.5), optimizer="sgd", learning_rate=0.1)
    strategy = "ddp" if world_size() > 1 else "auto"
    options: dict[str, Any] = {"model": model, "devices": world_size(), "strategy": strategy, "precision": "64-true"}
    seen = fit(folder, resume=resume, **options)
    return {"weights": dict(model.state_dict()), "seen": [seen.epochs[epoch] for epoch in (0, 1)]}


@pytest.mark.filterwarnings("ignore:The checkpoint is of . process:UserWarning")
def test_another_number_of_processes_goes_on(tmp_path: Path) -> None:
    alone, pair = (run_in_processes(run, number, tmp_path / str(number), False) for number in (1, 2))
    for number, origin in ((2, 1), (1, 2)):
        found = run_in_processes(run, number, tmp_path / str(origin), True)
        for rank, (own, whole) in enumerate(zip(found, pair if number == 2 else alone, strict=True)):
            share = 3 * 12 // number
            assert own["seen"] == [whole["seen"][0][share:], whole["seen"][1]], rank
            for name, value in own["weights"].items():
                # Views are float32, and made for the pictures of a process together.
                torch.testing.assert_close(value, alone[0]["weights"][name], rtol=1e-5, atol=1e-7)
