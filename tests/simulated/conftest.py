"""The device is there before any test of this folder; on a torch that cannot simulate one, all are skipped."""

from __future__ import annotations

import pytest
from tests.simulated.device import is_supported
from tests.simulated.training import register_training

if is_supported():
    register_training()


@pytest.fixture(autouse=True)
def _device() -> None:
    if not is_supported():
        pytest.skip("This torch cannot be extended by a device in Python.")
