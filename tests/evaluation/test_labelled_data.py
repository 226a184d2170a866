"""What an evaluation asks of a data module: labels, splits, the metric."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule
from PIL import Image

from simclr_lightning import SimCLRDataModule
from simclr_lightning.evaluation.labelled_data import has_own_validation, labels_to_learn_from, metric_of

Make = Callable[..., Any]


@pytest.fixture
def digits() -> SimCLRDataModule:
    data = SimCLRDataModule("digits")
    data.setup()
    return data


def test_labels_are_known_before_pictures_are_read(trainer: Make, digits: SimCLRDataModule, pictures: Make) -> None:
    targets = labels_to_learn_from(trainer(), digits)
    assert torch.equal(targets, torch.cat([batch.targets for batch in digits.clean_dataloader("train")]))
    assert labels_to_learn_from(trainer(), pictures()).tolist() == [number % 3 for number in range(60)]


def test_pictures_without_labels_are_named_before_anything_is_computed(tmp_path: Path, trainer: Make) -> None:
    for number in range(4):
        Image.fromarray(np.full((8, 8, 3), number, dtype=np.uint8)).save(tmp_path / f"{number}.png")
    data = SimCLRDataModule("folder", root=tmp_path)
    data.setup()
    with pytest.raises(ValueError, match="No training picture has a label"):
        labels_to_learn_from(trainer(), data)


def test_test_pictures_that_also_validate_choose_nothing(digits: SimCLRDataModule, pictures: Make) -> None:
    assert not has_own_validation(digits, "test")
    held_out = SimCLRDataModule("digits", val_fraction=0.1)
    held_out.setup()
    assert has_own_validation(held_out, "test")
    assert not has_own_validation(held_out, "val")
    assert not has_own_validation(pictures({"train": 6, "val": 3, "test": 3}), "test")


def test_test_pictures_are_recognised_when_their_classes_were_renumbered(tmp_path: Path) -> None:
    for folder in ("train/a", "train/b", "test/b"):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(np.full((8, 8, 3), number, dtype=np.uint8)).save(tmp_path / folder / f"{number}.png")
    data = SimCLRDataModule("folder", root=tmp_path)
    data.setup()
    assert not has_own_validation(data, "test")


def test_the_metric_is_the_data_sets() -> None:
    class Pets(LightningDataModule):
        metric = "mean_per_class"

    assert (metric_of(Pets()), metric_of(LightningDataModule())) == ("mean_per_class", "top1")
