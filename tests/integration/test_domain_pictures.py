"""The sets that experiments/domains makes by formulas."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "experiments" / "domains" / "make_pictures.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("make_pictures", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("kind", "shape", "dtype", "top"),
    [
        ("satellite", (32, 32, 10), "uint16", 20_000),
        ("xray", (64, 64), "uint16", 4095),
        ("microscopy", (64, 64, 4), "uint16", 65_535),
        ("galaxy", (64, 64, 3), "float32", 100),
    ],
)
def test_pictures_are_those_of_their_seed(
    script: Any, kind: str, shape: tuple[int, ...], dtype: str, top: float
) -> None:
    few, more, other = script.make(kind, 8), script.make(kind, 12), script.make(kind, 8, seed=1)
    assert few["train_images"].shape == (8, *shape)
    assert few["test_images"].shape == (4, *shape)
    assert few["train_images"].dtype == dtype
    assert few["train_images"].max() <= top
    for name, values in few.items():
        assert np.array_equal(values, more[name][: len(values)])
    assert not np.array_equal(few["train_images"][0], other["train_images"][0])
    assert not np.array_equal(few["train_images"][0], few["test_images"][0])
    classes = script.KINDS[kind][1]
    assert more["train_labels"].tolist()[: len(classes)] == classes
