from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from simclr_lightning.data import DatasetPictures, PictureSets, find_source
from simclr_lightning.errors import InputError


def test_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"Unknown data set 'cifar11'. Did you mean cifar10.*Choose one of digits, "):
        find_source("cifar11")
    with pytest.raises(ValueError, match=r"Choose one of digits, cifar10, .*, food101, .*, birdsnap, folder, or"):
        find_source("?")


class Squares:
    """A data set that is told where it is, as torchvision's are."""

    classes = ("red", "blue")

    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
        self.told = (root, train, download)
        self.targets = [0, 1] * (3 if train else 1)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, position: int) -> tuple[Image.Image, int]:
        return Image.new("RGB", (4, 4), self.classes[self.targets[position]]), self.targets[position]


def told(pictures: Any) -> Any:
    assert isinstance(pictures, DatasetPictures)
    return pictures.dataset.told


def test_callable_is_given_the_arguments_that_it_has() -> None:
    entry = find_source(Squares)
    assert entry.downloads
    assert entry.in_channels is None
    sets = entry.load("somewhere", True)
    assert told(sets.train) == ("somewhere", True, True)
    assert told(sets.test) == ("somewhere", False, True)
    assert sets.val is sets.test
    assert sets.train.class_names == ["red", "blue"]


def test_callable_without_arguments_has_training_pictures_only() -> None:
    sets = find_source(lambda: [torch.zeros(1, 2, 2, dtype=torch.uint8)]).load("", False)
    assert isinstance(sets, PictureSets)
    assert (len(sets.train), sets.val, sets.test) == (1, None, None)


@pytest.mark.parametrize("separator", [".", ":"])
def test_import_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, separator: str) -> None:
    code = "import torch\ndef two():\n    return [torch.zeros(1, 2, 2, dtype=torch.uint8)] * 2\n"
    (tmp_path / "my_pictures.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    assert len(find_source(f"my_pictures{separator}two").load("", False).train) == 2


@pytest.mark.parametrize("path", ["no_such_module.pictures", "simclr_lightning.data.no_such_name", "..", "a b.c"])
def test_import_path_that_leads_nowhere(path: str) -> None:
    with pytest.raises(ValueError, match=f"Cannot import the data set '{path}'.*Choose one of"):
        find_source(path)


@pytest.mark.parametrize(("dataset", "error"), [(3, TypeError), ("math.pi", InputError)])
def test_data_set_that_cannot_be_called(dataset: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="expected a name or a callable"):
        find_source(dataset)
