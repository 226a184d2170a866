"""What every test relies on."""

import pytest
import torch


@pytest.fixture(autouse=True)
def seed() -> None:
    """Random numbers that depend neither on the other tests nor on their order."""
    torch.manual_seed(0)
