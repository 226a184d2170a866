"""Labels of any form, from data sets in Python and arrays in memory; those that are none are named with their shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from simclr_lightning import SimCLRDataModule
from simclr_lightning.data import InMemoryPictures
from simclr_lightning.data.class_labels import class_indices
from simclr_lightning.errors import InputError

CLASSES = [0, 2, 1, 1, -1]
NAMES = ["cat", "dog", "owl"]
ONE_HOT = np.eye(4)[CLASSES][:, :3]  # the row of -1 is zeros


@pytest.mark.parametrize(
    "labels",
    [
        CLASSES,
        np.array(CLASSES, dtype=np.int8),
        torch.tensor(CLASSES),
        [0, 2, 1, 1, None],
        np.array(CLASSES)[:, None],
        torch.tensor(CLASSES)[:, None],
        [np.array([label]) for label in CLASSES],
        ONE_HOT,
        ONE_HOT.astype(np.uint16),
        ONE_HOT.astype(bool),
        torch.tensor(ONE_HOT),
        list(torch.tensor(ONE_HOT).float()),
        [*ONE_HOT[:4], None],
        ["cat", "owl", "dog", "dog", None],
        [b"cat", "owl", np.str_("dog"), "dog", None],
    ],
    ids=lambda labels: type(labels).__name__,
)
def test_every_form_gives_the_same_classes(labels: Any) -> None:
    targets, names = class_indices(labels, "Mine", NAMES)
    assert (targets.tolist(), targets.dtype, names) == (CLASSES, torch.int64, NAMES)


def test_names_are_numbered_in_alphabetical_order() -> None:
    targets, names = class_indices(["owl", "cat", None, "cat"], "Mine")
    assert (targets.tolist(), names) == ([1, 0, -1, 0], ["cat", "owl"])


def test_nothing_is_labelled() -> None:
    targets, names = class_indices([None, None], "Mine")
    assert (targets.tolist(), names) == ([-1, -1], None)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((4, 3, 2)), r"labels of Mine have the shape \(4, 3, 2\)"),
        (np.array([[1, 0, 1], [1, 0, 0]]), r"Mine have the shape \(2, 3\), and row 0 is not one-hot: \[1, 0, 1\]"),
        (np.array([[1, 0, 0], [0, 0.5, 0.5]]), r"\(2, 3\), and row 1 is not one-hot: \[0.0, 0.5, 0.5\]"),
        (np.array([[0, 1], [-1, 1]]), r"\(2, 2\), and row 1 is not one-hot"),
        ([np.array([1]), np.array([1, 0])], r"labels of Mine have the shapes \(1,\), \(2,\)"),
        ([0, 0.5], "should be integers, got 0"),
        (np.array([[0.5], [1.0]]), "should be integers, got"),
        ([{"label": 1}], "labels of Mine are {'label': 1} and the like"),
        (["cat", 3], "labels of Mine are names, but one is 3"),
        (["cat", "cow"], "label of Mine is 'cow', which is none of its classes: cat, dog, owl"),
    ],
)
def test_other_labels_are_errors_that_name_the_data_set(labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        class_indices(labels, "Mine", NAMES)
    assert str(error.value).count("\n") < 3


class Base:
    """64 or 16 pictures of three classes; the test has the classes in another order, and not all of them."""

    def __init__(self, train: bool = True) -> None:
        self.labels_of = [k % 3 for k in range(64)] if train else [2, 1] * 8

    def __len__(self) -> int:
        return len(self.labels_of)

    def label(self, k: int) -> Any:
        return k

    def __getitem__(self, k: int) -> Any:
        pixels = np.random.default_rng(k).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        return Image.fromarray(pixels), self.label(self.labels_of[k])


class Column(Base):
    def label(self, k: int) -> Any:
        return np.array([k])


class OneHot(Base):
    def label(self, k: int) -> Any:
        return np.eye(3)[k]


class Words(Base):
    def label(self, k: int) -> Any:
        return NAMES[k]


@pytest.mark.parametrize("dataset", [Base, Column, OneHot, Words])
def test_data_sets_in_python(dataset: Callable[..., Any]) -> None:
    data = SimCLRDataModule(dataset, batch_size=16, num_workers=0)
    data.setup()
    assert data.splits.train.pictures.targets.tolist() == [k % 3 for k in range(64)]
    test = data.splits.test
    assert test is not None
    assert test.pictures.targets.tolist() == [2, 1] * 8
    assert data.num_classes == 3
    assert data.class_names == (NAMES if dataset is Words else None)


@pytest.mark.parametrize("targets", [torch.tensor(CLASSES)[:, None], torch.tensor(ONE_HOT), ONE_HOT, CLASSES])
def test_arrays_in_memory(targets: Any) -> None:
    pictures = InMemoryPictures(torch.zeros(5, 3, 4, 4, dtype=torch.uint8), targets, NAMES)
    assert pictures.targets.tolist() == CLASSES
    with pytest.raises(InputError, match=r"labels of 5 pictures in memory have the shape \(5, 2, 2\)"):
        InMemoryPictures(torch.zeros(5, 3, 4, 4, dtype=torch.uint8), torch.zeros(5, 2, 2), NAMES)
