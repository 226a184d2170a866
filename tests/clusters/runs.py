"""The training of these tests, and what is compared of it."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

EPOCHS = 8
RUN = ["--config", "quickstart", "--trainer.accelerator", "cpu", "--trainer.max_epochs", str(EPOCHS)]
RUN += ["--model.width", "0.25", "--trainer.log_every_n_steps", "1"]
PARTS = ("global_step", "epoch", "state_dict", "optimizer_states", "lr_schedulers", "callbacks")
HERE = {**os.environ, "PYTHONPATH": f"{Path(__file__).parents[2] / 'src'}:{os.environ.get('PYTHONPATH', '')}"}
"""The environment in which this clone is what runs, whatever is installed."""


def fit(*arguments: str, cwd: Path) -> None:
    """Without a cluster."""
    command = [sys.executable, "-m", "simclr_lightning", "fit", *RUN, *arguments]
    subprocess.run(command, cwd=cwd, check=True, env=HERE, capture_output=True, timeout=600)


def outcome(folder: Path) -> tuple[Any, list[dict[str, str]]]:
    """Of a run's folder: the final state, and the rows of its metrics without what they took."""
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    state = {name: content[name] for name in PARTS}
    # Of this one: paths.
    state["callbacks"] = {name: own for name, own in state["callbacks"].items() if "ModelCheckpoint" not in name}
    with (folder / "metrics.csv").open(newline="") as lines:
        rows = [
            {name: value for name, value in row.items() if value and not name.startswith("time/")}
            for row in csv.DictReader(lines)
        ]
    return state, rows
