"""The data sets that have a name from the start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torchvision

from simclr_lightning.data.folder import folder_sets, picture_sets
from simclr_lightning.data.labels import stratified_split
from simclr_lightning.data.packed import packed_sets
from simclr_lightning.data.pictures import InMemoryPictures, Pictures, PictureSets
from simclr_lightning.data.sources import Metric, register_source
from simclr_lightning.data.transfer_sets import birdsnap, caltech101, cars, official, sun397, voc2007
from simclr_lightning.errors import InputError
from simclr_lightning.views import ViewRecipe


@register_source("digits", recipe=ViewRecipe("digits"), in_channels=1)
def digits() -> PictureSets:
    """Handwritten digits of scikit-learn: 1,797 grey pictures of 8 x 8 pixels, embedded in the package.

    The values 0 to 16 are scaled to 0 to 255. A split that never changes sets 360 pictures aside for the test; the
    other 1,437 are the training pictures.

    Example:
        >>> sets = digits()
        >>> len(sets.train), len(sets.test), sets.train.read(0).shape
        (1437, 360, torch.Size([1, 8, 8]))
    """
    from sklearn.datasets import load_digits  # scikit-learn takes a quarter of a second, which other commands save

    source = load_digits()
    images = torch.from_numpy(np.rint(source.images * (255 / 16)).astype(np.uint8))[:, None]
    targets = torch.from_numpy(source.target).long()
    names = [str(name) for name in source.target_names]
    parts = stratified_split(targets, 360 / 1797, seed=0)
    train, test = (InMemoryPictures(images[part], targets[part], names) for part in parts)
    return PictureSets(train, test, test)


def _torchvision(name: str, train: dict[str, Any], test: dict[str, Any]) -> Callable[[str, bool], PictureSets]:
    def load(root: str, download: bool) -> dict[str, Pictures]:
        dataset_class = getattr(torchvision.datasets, name)
        splits = {"train": train, "test": test}
        return {key: _in_memory(dataset_class(root, **split, download=download)) for key, split in splits.items()}

    return _explained(name, load)


def _explained(name: str, load: Callable[[str, bool], Mapping[str, Pictures]]) -> Callable[[str, bool], PictureSets]:
    def explained(root: str, download: bool) -> PictureSets:
        try:
            return picture_sets(load(root, download))
        except (
            RuntimeError,
            OSError,
        ) as error:  # torchvision's answers to missing and damaged files, and to no network
            if download:
                raise InputError(f"{name} could not be downloaded to {root!r}: {error}") from error
            raise InputError(
                f"{name} is not, or not intact, in {root!r} ({error}). Fetch it (in Python download=True, and "
                "prepare_data() before setup()), or name the folder that it is in",
                "data.download true",
                "data.root",
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


def _arrays(name: str, title: str, recipe: ViewRecipe, train: Any, test: Any, in_channels: int = 3) -> None:
    register_source(name, recipe=recipe, in_channels=in_channels)(_torchvision(title, train, test))


def _files(name: str, title: str, load: Callable[[str, bool], Mapping[str, Pictures]], metric: Metric = "top1") -> None:
    register_source(name, recipe=ViewRecipe("imagenet"), in_channels=3, metric=metric)(_explained(title, load))


_TRAIN, _TEST = {"train": True}, {"train": False}
_arrays("cifar10", "CIFAR10", ViewRecipe("cifar10"), _TRAIN, _TEST)
_arrays("cifar100", "CIFAR100", ViewRecipe("cifar10"), _TRAIN, _TEST)
# 5,000 labelled pictures, then 100,000 unlabelled ones
_arrays("stl10", "STL10", ViewRecipe("stl10"), {"split": "train+unlabeled"}, {"split": "test"})
# House numbers: a mirrored digit is another sign.
_arrays("svhn", "SVHN", ViewRecipe("cifar10", flip=0.0), {"split": "train"}, {"split": "test"})
_arrays("fashion_mnist", "FashionMNIST", ViewRecipe("grayscale"), _TRAIN, _TEST, in_channels=1)

# The others of the paper's transfer experiments: cifar10 and cifar100 belong to them.
_THREE = {"train": "train", "val": "val", "test": "test"}
_files("food101", "Food101", official("Food101", train="train", test="test"))
_files("sun397", "SUN397", sun397)
register_source("cars", in_channels=3)(cars)
_files("aircraft", "FGVCAircraft", official("FGVCAircraft", **_THREE), "mean_per_class")
_files("voc2007", "VOC2007", voc2007, "map11")
_files("dtd", "DTD", official("DTD", **_THREE))  # the first partition
_files("pets", "OxfordIIITPet", official("OxfordIIITPet", train="trainval", test="test"), "mean_per_class")
_files("caltech101", "Caltech101", caltech101, "mean_per_class")
_files("flowers", "Flowers102", official("Flowers102", **_THREE), "mean_per_class")
register_source("birdsnap", in_channels=3)(birdsnap)
register_source("folder")(folder_sets)  # of photos three channels; of other files as many as there are bands
register_source("packed")(packed_sets)
