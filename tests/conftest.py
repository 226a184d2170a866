"""What every test relies on."""

import os

import pytest
import torch

for name in [name for name in os.environ if name.startswith("SLURM_")]:
    del os.environ[name]  # inside a job of SLURM, Lightning would take this process for a rank of a training


@pytest.fixture(autouse=True)
def seed() -> None:
    """Random numbers that depend neither on the other tests nor on their order."""
    torch.manual_seed(0)
