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
from sklearn.datasets import load_digits

from simclr_lightning.data import SOURCES, InMemoryPictures, PictureSets, find_source
from simclr_lightning.errors import InputError

RNG = np.random.default_rng(0)
Bytes = np.ndarray[Any, np.dtype[np.uint8]]


def load(name: str, root: Path) -> tuple[InMemoryPictures, InMemoryPictures]:
    sets = find_source(name).load(str(root), False)
    assert isinstance(sets, PictureSets)
    assert isinstance(sets.train, InMemoryPictures)
    assert isinstance(sets.test, InMemoryPictures)
    assert sets.val is sets.test
    assert sets.train.in_channels == find_source(name).in_channels
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
    assert find_source("svhn").recipe.flip == 0


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
    with pytest.raises(InputError, match=rf"not, or not intact, in '{tmp_path}'.*--data\.download true"):
        find_source(name).load(str(tmp_path), False)


@pytest.mark.parametrize("failure", [OSError("no route to host"), RuntimeError("Error downloading train-images")])
def test_download_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def fail(self: object) -> None:
        raise failure

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", fail)
    with pytest.raises(InputError, match=f"CIFAR10 could not be downloaded to .*{failure}"):
        find_source("cifar10").load(str(tmp_path), True)


def test_every_named_data_set_has_views_that_fit_its_channels() -> None:
    sides = {name: entry.recipe.size for name, entry in SOURCES.items()}
    small = {"digits": 16, "cifar10": 32, "cifar100": 32, "stl10": 96, "svhn": 32, "fashion_mnist": 28}
    files = ("food101", "sun397", "cars", "aircraft", "voc2007", "dtd", "pets", "caltech101", "flowers", "birdsnap")
    assert sides == small | dict.fromkeys((*files, "folder", "packed"), 224)
