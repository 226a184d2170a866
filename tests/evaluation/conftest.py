"""What several tests of the evaluation look at."""

from __future__ import annotations

import pytest

from simclr_lightning.evaluation.report import Result


@pytest.fixture
def points() -> list[Result]:
    """Two label curves: of the pixels, and of an encoder."""
    return [
        Result("raw pixels", "linear", 10, [40.0, 50.0], per_class=1),
        Result("raw pixels", "linear", 1000, [90.0, 92.0], per_class=100),
        Result("raw pixels", "linear", 1437, [96.4]),
        Result("pre-trained encoder", "linear", 10, [80.0, 84.0], per_class=1),
        Result("pre-trained encoder", "linear", 1000, [97.0, 97.0], per_class=100),
        Result("pre-trained encoder", "linear", 1437, [97.8]),
    ]
