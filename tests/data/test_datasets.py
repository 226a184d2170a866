from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io  # type: ignore[import-untyped]
import torch
import torchvision
from PIL import Image
from sklearn.datasets import load_digits

from simclr_lightning.data import DATASETS, DatasetPictures, InMemoryPictures
from simclr_lightning.data.datasets import PictureSets, find

RNG = np.random.default_rng(0)
Bytes = np.ndarray[Any, np.dtype[np.uint8]]


def load(name: str, root: Path) -> tuple[InMemoryPictures, InMemoryPictures]:
    sets = find(name).load(str(root), False)
    assert isinstance(sets.train, InMemoryPictures)
    assert isinstance(sets.test, InMemoryPictures)
    assert sets.val is sets.test
    assert sets.train.in_channels == find(name).in_channels
    return sets.train, sets.test


def pictures(number: int, *shape: int) -> Bytes:
    return RNG.integers(0, 256, (number, *shape), dtype=np.uint8)


def test_digits_are_the_pictures_of_scikit_learn() -> None:
    train, test = load("digits", Path("unused"))
    assert (len(train), len(test)) == (1437, 360)
    assert train.images.shape == (1437, 1, 8, 8)
    source = load_digits()
    scaled = {
        ((image * 255 / 16).round().astype(int).tobytes(), label)
        for image, label in zip(source.images, source.target, strict=True)
    }
    found = [
        (image.numpy().astype(int).tobytes(), label)
        for part in (train, test)
        for image, label in zip(part.images, part.targets.tolist(), strict=True)
    ]
    assert len(found) == 1797
    assert set(found) == scaled
    assert (int(train.images.min()), int(train.images.max())) == (0, 255)
    assert train.class_names == [*"0123456789"]


def test_digits_split_is_balanced_and_always_the_same() -> None:
    _, test = load("digits", Path("unused"))
    assert set(torch.bincount(test.targets).tolist()) <= {35, 36, 37}
    again = load("digits", Path("elsewhere"))[1]
    assert torch.equal(again.images, test.images)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    kind = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}[name]
    folder = tmp_path / kind.base_folder
    folder.mkdir()
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda path, md5: Path(path).exists())
    key = "labels" if name == "cifar10" else "fine_labels"
    data, labels = {}, {}
    for part in ("train", "test"):
        files = [file for file, _ in getattr(kind, f"{part}_list")]
        data[part], labels[part] = pictures(4 * len(files), 3, 32, 32), list(range(4 * len(files)))
        for number, file in enumerate(files):
            here = slice(4 * number, 4 * number + 4)
            entry = {"data": data[part][here].reshape(4, -1), key: labels[part][here]}
            (folder / file).write_bytes(pickle.dumps(entry))
    (folder / kind.meta["filename"]).write_bytes(pickle.dumps({kind.meta["key"]: ["airplane", "bird"]}))

    for part, found in zip(("train", "test"), load(name, tmp_path), strict=True):
        assert np.array_equal(found.images.numpy(), data[part])
        assert found.targets.tolist() == labels[part]
        assert found.class_names == ["airplane", "bird"]


def test_stl10_trains_on_labelled_and_unlabelled_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    monkeypatch.setattr(torchvision.datasets.stl10, "check_integrity", lambda path, md5: Path(path).exists())
    data = {part: pictures(number, 3, 96, 96) for part, number in (("train", 3), ("unlabeled", 4), ("test", 2))}
    for part, images in data.items():
        images.swapaxes(-1, -2).tofile(folder / f"{part}_X.bin")  # the files hold columns
    np.array([1, 10, 2], np.uint8).tofile(folder / "train_y.bin")
    np.array([5, 6], np.uint8).tofile(folder / "test_y.bin")
    (folder / "class_names.txt").write_text("\n".join("abcdefghij"))

    train, test = load("stl10", tmp_path)
    assert np.array_equal(train.images.numpy(), np.concatenate([data["train"], data["unlabeled"]]))
    assert train.targets.tolist() == [0, 9, 1, -1, -1, -1, -1]
    assert np.array_equal(test.images.numpy(), data["test"])
    assert test.targets.tolist() == [4, 5]
    assert train.class_names == [*"abcdefghij"]


def test_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets.SVHN, "_check_integrity", lambda self: True)
    data = {"train": pictures(5, 3, 32, 32), "test": pictures(3, 3, 32, 32)}
    for part, images in data.items():
        labels = np.array([10, 1, 9, 2, 3][: len(images)], np.uint8)[:, None]  # the files call the digit 0 ten
        scipy.io.savemat(tmp_path / f"{part}_32x32.mat", {"X": images.transpose(2, 3, 1, 0), "y": labels})

    train, test = load("svhn", tmp_path)
    assert np.array_equal(train.images.numpy(), data["train"])
    assert np.array_equal(test.images.numpy(), data["test"])
    assert train.targets.tolist() == [0, 1, 9, 2, 3]
    assert train.class_names == [*"0123456789"]
    assert find("svhn").recipe.flip == 0


def test_fashion_mnist(tmp_path: Path) -> None:
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    data = {"train": pictures(6, 28, 28), "t10k": pictures(2, 28, 28)}
    for part, images in data.items():
        numbers = np.arange(len(images), dtype=np.uint8)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(
            struct.pack(">4i", 2051, len(images), 28, 28) + images.tobytes()
        )
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, len(images)) + numbers.tobytes())

    train, test = load("fashion_mnist", tmp_path)
    assert np.array_equal(train.images.numpy(), data["train"][:, None])
    assert np.array_equal(test.images.numpy(), data["t10k"][:, None])
    assert train.targets.tolist() == [0, 1, 2, 3, 4, 5]
    assert train.class_names is not None
    assert train.class_names[0] == "T-shirt/top"


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "stl10", "svhn", "fashion_mnist"])
def test_missing_download_says_what_to_type(tmp_path: Path, name: str) -> None:
    with pytest.raises(RuntimeError, match=rf"not, or not intact, in '{tmp_path}'.*--data\.download true"):
        find(name).load(str(tmp_path), False)


@pytest.mark.parametrize("failure", [OSError("no route to host"), RuntimeError("Error downloading train-images")])
def test_download_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def fail(self: object) -> None:
        raise failure

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", fail)
    with pytest.raises(RuntimeError, match=f"CIFAR10 could not be downloaded to .*{failure}"):
        find("cifar10").load(str(tmp_path), True)


def test_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"Unknown data set 'cifar11'. Did you mean cifar10.*Choose one of digits, "):
        find("cifar11")
    with pytest.raises(ValueError, match=r"Choose one of digits, cifar10, .*, food101, .*, birdsnap, folder, or"):
        find("?")


def test_every_named_data_set_has_views_that_fit_its_channels() -> None:
    sides = {name: entry.recipe.size for name, entry in DATASETS.items()}
    small = {"digits": 16, "cifar10": 32, "cifar100": 32, "stl10": 96, "svhn": 32, "fashion_mnist": 28}
    files = ("food101", "sun397", "cars", "aircraft", "voc2007", "dtd", "pets", "caltech101", "flowers", "birdsnap")
    assert sides == small | dict.fromkeys((*files, "folder"), 224)


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
    entry = find(Squares)
    assert entry.downloads
    assert entry.in_channels is None
    sets = entry.load("somewhere", True)
    assert told(sets.train) == ("somewhere", True, True)
    assert told(sets.test) == ("somewhere", False, True)
    assert sets.val is sets.test
    assert sets.train.class_names == ["red", "blue"]


def test_callable_without_arguments_has_training_pictures_only() -> None:
    sets = find(lambda: [torch.zeros(1, 2, 2, dtype=torch.uint8)]).load("", False)
    assert isinstance(sets, PictureSets)
    assert (len(sets.train), sets.val, sets.test) == (1, None, None)


@pytest.mark.parametrize("separator", [".", ":"])
def test_import_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, separator: str) -> None:
    code = "import torch\ndef two():\n    return [torch.zeros(1, 2, 2, dtype=torch.uint8)] * 2\n"
    (tmp_path / "my_pictures.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    assert len(find(f"my_pictures{separator}two").load("", False).train) == 2


@pytest.mark.parametrize("path", ["no_such_module.pictures", "simclr_lightning.data.no_such_name", "..", "a b.c"])
def test_import_path_that_leads_nowhere(path: str) -> None:
    with pytest.raises(ValueError, match=f"Cannot import the data set '{path}'.*Choose one of"):
        find(path)


@pytest.mark.parametrize("dataset", [3, "math.pi"])
def test_data_set_that_cannot_be_called(dataset: Any) -> None:
    with pytest.raises(TypeError, match="expected a name or a callable"):
        find(dataset)
