from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from simclr_lightning import LabelledDataModule, SimCLRDataModule
from simclr_lightning.data.chosen import choose_source
from simclr_lightning.data.pictures import InMemoryPictures
from simclr_lightning.errors import InputError


def black() -> InMemoryPictures:
    return InMemoryPictures(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.arange(4))


def black_somewhere(root: str) -> InMemoryPictures:
    return black()


@pytest.mark.parametrize(
    ("arguments", "name", "root"),
    [
        ({}, "digits", "data"),
        ({"root": "photos"}, "folder", "photos"),
        ({"root": Path("photos")}, "folder", "photos"),
        ({"root": ["a", "null"]}, "folder", "[a, 'null']"),
        ({"labels": "labels.csv"}, "folder", "data"),
        ({"dataset": "cifar10", "root": "x"}, "cifar10", "x"),
        ({"dataset": "folder"}, "folder", "data"),
        ({"dataset": "digits", "root": "data"}, "digits", "data"),  # as configurations of earlier versions have it
        ({"dataset": black_somewhere, "root": "x"}, f"{__name__}.black_somewhere", "x"),
    ],
)
def test_a_root_alone_means_a_folder(arguments: dict[str, Any], name: str, root: str) -> None:
    assert choose_source(**{"dataset": None, **arguments})[1:] == (name, root)
    for module in (SimCLRDataModule, LabelledDataModule):
        held = module(**arguments).hparams
        assert (held["dataset"], held["root"]) == (name, root)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": "digits", "root": "photos"}, r"root is 'photos'.*digits is in no folder.*--data\.dataset folder"),
        ({"dataset": black, "root": "photos"}, r"black is in no folder"),
        ({"dataset": "digits", "labels": "l.csv"}, r"labels is 'l\.csv'.*digits has its own.*--data\.dataset folder"),
        ({"dataset": "cifar10", "labels": "l.csv"}, r"cifar10 has its own"),
        ({"dataset": "cifar10", "root": ["a", "b"]}, r"root is '\[a, b\]'.*cifar10 is in one folder.*--data\.root"),
    ],
)
def test_nothing_that_is_typed_is_without_effect(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SimCLRDataModule(**arguments)


def test_the_seed_of_python_is_as_it_was() -> None:
    assert SimCLRDataModule().seed == SimCLRDataModule().hparams["seed"] == 0
    assert SimCLRDataModule(seed=3).hparams["seed"] == LabelledDataModule(seed=3).seed == 3
