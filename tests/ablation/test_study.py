"""What is left out, and what takes its place; whole studies are run in tests/integration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.utils.data import IterableDataset

from simclr_lightning.ablation import ablate
from simclr_lightning.ablation.study import default_val_fraction, resolved_recipe
from simclr_lightning.data import SOURCES
from simclr_lightning.data.sources import FunctionSource
from simclr_lightning.errors import InputError
from simclr_lightning.views import ViewRecipe


def test_views_fit_the_data_set_and_are_small() -> None:
    assert resolved_recipe(None, "folder") == ViewRecipe(size=32)
    assert resolved_recipe(None, "digits") == ViewRecipe("digits")
    assert resolved_recipe("stl10", "folder") == ViewRecipe("stl10")
    assert resolved_recipe(ViewRecipe(size=50), "folder").size == 50
    with pytest.raises(InputError, match=r"has 4 views: a study compares two.* \(--views\.count 2\)"):
        resolved_recipe(ViewRecipe(count=4), "folder")


def test_validation_pictures_serve_and_test_pictures_do_not(tmp_path: Path) -> None:
    for name in ("with/train", "with/valid", "tested/train", "tested/test", "flat/cat", "flat/dog"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.png").touch()
    assert default_val_fraction("folder", tmp_path / "with", None) == 0
    assert default_val_fraction("folder", tmp_path / "tested", None) == 0.2
    assert default_val_fraction("folder", tmp_path / "flat", None) == 0.2
    assert default_val_fraction("folder", tmp_path / "flat", tmp_path / "with") == 0
    assert default_val_fraction("cifar10", tmp_path / "with", None) == 0.2


class Endless(IterableDataset[torch.Tensor]):
    """Pictures without a number."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        while True:
            yield torch.zeros(3, 8, 8, dtype=torch.uint8)


@pytest.mark.usefixtures("named")
def test_a_stream_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^endless is a stream, .* \(--dataset folder\)\.$"):
        ablate(dataset="endless", batch_size=4, val_fraction=0.0, output=tmp_path / "ablation")


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "endless", FunctionSource(Endless))
