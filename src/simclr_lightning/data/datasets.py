"""Names of data sets, and what stands behind each."""

from __future__ import annotations

import difflib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
import torchvision
from sklearn.datasets import load_digits

from simclr_lightning.data.folder import find_splits, scan
from simclr_lightning.data.pictures import DatasetPictures, InMemoryPictures, Pictures
from simclr_lightning.data.subsets import stratified_split
from simclr_lightning.data.transfer_sets import birdsnap, caltech101, cars, official, sun397, voc2007
from simclr_lightning.views import ViewRecipe

Metric = Literal["top1", "mean_per_class", "map11"]
METRICS: tuple[Metric, ...] = get_args(Metric)
"""By what classifiers of a data set are judged: share of right answers, its mean over the classes, or VOC2007's mAP."""


class PictureSets(NamedTuple):
    """The splits of a data set.

    Attributes:
        train: pictures to pre-train on.
        val: pictures to watch the training with, None where there are none.
        test: pictures to judge the result on, None where there are none.
    """

    train: Pictures
    val: Pictures | None = None
    test: Pictures | None = None


class Named(NamedTuple):
    """A data set with a name.

    Attributes:
        load: function of (root, download).
        recipe: views that fit the pictures.
        in_channels: channels of the pictures, None where they are known only when the data is there.
        downloads: whether ``download`` means anything to ``load``.
        metric: by what classifiers of the pictures are judged.
    """

    load: Callable[[str, bool], PictureSets]
    recipe: ViewRecipe
    in_channels: int | None = 3
    downloads: bool = False
    metric: Metric = "top1"


def digits(root: str, download: bool) -> PictureSets:
    """Handwritten digits of scikit-learn: 1,797 grey pictures of 8 x 8 pixels, embedded in the package.

    The values 0 to 16 are scaled to 0 to 255. A split that never changes sets 360 pictures aside for the test; the
    other 1,437 are the training pictures.
    """
    source = load_digits()
    images = torch.from_numpy(np.rint(source.images * (255 / 16)).astype(np.uint8))[:, None]
    targets = torch.from_numpy(source.target).long()
    names = [str(name) for name in source.target_names]
    parts = stratified_split(targets, 360 / 1797, seed=0)
    train, test = (InMemoryPictures(images[part], targets[part], names) for part in parts)
    return PictureSets(train, test, test)


def folder(root: str, download: bool) -> PictureSets:
    """A tree of pictures, see ``folder.find_splits`` and ``folder.scan``."""
    return _sets({split: scan(path) for split, path in find_splits(root).items()})


def _sets(found: Mapping[str, Pictures]) -> PictureSets:
    test = found.get("test", found.get("val"))
    return PictureSets(found["train"], found.get("val", test), test)


def _torchvision(name: str, train: dict[str, Any], test: dict[str, Any]) -> Callable[[str, bool], PictureSets]:
    def load(root: str, download: bool) -> dict[str, Pictures]:
        dataset_class = getattr(torchvision.datasets, name)
        splits = {"train": train, "test": test}
        return {key: _in_memory(dataset_class(root, **split, download=download)) for key, split in splits.items()}

    return _explained(name, load)


def _explained(name: str, load: Callable[[str, bool], Mapping[str, Pictures]]) -> Callable[[str, bool], PictureSets]:
    def explained(root: str, download: bool) -> PictureSets:
        try:
            return _sets(load(root, download))
        except (
            RuntimeError,
            OSError,
        ) as error:  # torchvision's answers to missing and damaged files, and to no network
            if download:
                raise RuntimeError(f"{name} could not be downloaded to {root!r}: {error}") from error
            raise RuntimeError(
                f"{name} is not, or not intact, in {root!r}. Fetch it with --data.download true (in Python "
                "download=True, and prepare_data() before setup()), or name the folder that it is in with --data.root. "
                f"({error})"
            ) from error

    return explained


def _in_memory(dataset: Any) -> InMemoryPictures:
    images = torch.as_tensor(dataset.data)
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[-1] == 3:
        images = images.permute(0, 3, 1, 2)
    targets = torch.as_tensor(dataset.targets if hasattr(dataset, "targets") else dataset.labels)
    names = getattr(dataset, "classes", None) or [str(number) for number in range(10)]  # SVHN names no classes
    return InMemoryPictures(images.contiguous(), targets, names)


def _files(name: str, load: Callable[[str, bool], Mapping[str, Pictures]], metric: Metric = "top1") -> Named:
    return Named(_explained(name, load), ViewRecipe("imagenet"), downloads=True, metric=metric)


_TRAIN_TEST: tuple[dict[str, Any], dict[str, Any]] = ({"train": True}, {"train": False})

DATASETS = {
    "digits": Named(digits, ViewRecipe("digits"), in_channels=1),
    "cifar10": Named(_torchvision("CIFAR10", *_TRAIN_TEST), ViewRecipe("cifar10"), downloads=True),
    "cifar100": Named(_torchvision("CIFAR100", *_TRAIN_TEST), ViewRecipe("cifar10"), downloads=True),
    "stl10": Named(  # 5,000 labelled pictures, then 100,000 unlabelled ones
        _torchvision("STL10", {"split": "train+unlabeled"}, {"split": "test"}), ViewRecipe("stl10"), downloads=True
    ),
    "svhn": Named(  # house numbers: a mirrored digit is another sign
        _torchvision("SVHN", {"split": "train"}, {"split": "test"}), ViewRecipe("cifar10", flip=0.0), downloads=True
    ),
    "fashion_mnist": Named(
        _torchvision("FashionMNIST", *_TRAIN_TEST), ViewRecipe("grayscale"), in_channels=1, downloads=True
    ),
    # The others of the paper's transfer experiments: cifar10 and cifar100 belong to them.
    "food101": _files("Food101", official("Food101", train="train", test="test")),
    "sun397": _files("SUN397", sun397),
    "cars": Named(lambda root, download: _sets(cars(root, download)), ViewRecipe("imagenet")),
    "aircraft": _files(
        "FGVCAircraft", official("FGVCAircraft", train="train", val="val", test="test"), "mean_per_class"
    ),
    "voc2007": _files("VOC2007", voc2007, "map11"),
    "dtd": _files("DTD", official("DTD", train="train", val="val", test="test")),  # the first partition
    "pets": _files("OxfordIIITPet", official("OxfordIIITPet", train="trainval", test="test"), "mean_per_class"),
    "caltech101": _files("Caltech101", caltech101, "mean_per_class"),
    "flowers": _files("Flowers102", official("Flowers102", train="train", val="val", test="test"), "mean_per_class"),
    "birdsnap": Named(lambda root, download: _sets(birdsnap(root, download)), ViewRecipe("imagenet")),
    "folder": Named(folder, ViewRecipe("imagenet")),
}


def find(dataset: str | Callable[..., Any]) -> Named:
    """Look up a data set.

    Args:
        dataset: name, or callable that returns a map-style data set, or its import path (package.module.name). It is
            given those of the arguments ``root``, ``download`` and ``train`` that it has; with ``train`` it is called
            twice, and the data set for ``train=False`` is for validation and test.

    Raises:
        ValueError: if there is no such name or import path.
        TypeError: if it is not callable.
    """
    if isinstance(dataset, str):
        if dataset in DATASETS:
            return DATASETS[dataset]
        near = difflib.get_close_matches(dataset, DATASETS, n=3, cutoff=0.4)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        choice = f"Choose one of {', '.join(DATASETS)}, or the import path of a function that returns a data set."
        if "." not in dataset and ":" not in dataset:
            raise ValueError(f"Unknown data set {dataset!r}.{hint} {choice}")
        try:
            dataset = pkgutil.resolve_name(dataset)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(f"Cannot import the data set {dataset!r}: {error}. {choice}") from error
    if not callable(dataset):
        raise TypeError(f"dataset is {dataset!r}: expected a name or a callable that returns a data set.")
    accepted = inspect.signature(dataset).parameters
    return Named(_calling(dataset, set(accepted)), ViewRecipe("imagenet"), None, downloads="download" in accepted)


def _calling(function: Callable[..., Any], accepted: set[str]) -> Callable[[str, bool], PictureSets]:
    def load(root: str, download: bool) -> PictureSets:
        given = {key: value for key, value in {"root": root, "download": download}.items() if key in accepted}
        if "train" not in accepted:
            return PictureSets(DatasetPictures(function(**given)))
        train, test = (DatasetPictures(function(**given, train=train)) for train in (True, False))
        return PictureSets(train, test, test)

    return load
