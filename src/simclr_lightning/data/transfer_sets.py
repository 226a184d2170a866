"""Data sets of the paper's transfer experiments whose pictures are files (Chen et al. 2020, B.8.1), by split.

torchvision fetches and lists them; the files are read by ``FilePictures``. Splits are the official ones where there are
any. Every function takes the folder of the data and, where torchvision offers the files, whether to download them; it
returns the pictures of "train", "test" and, where the data set has its own, "val".

The attributes of torchvision that are private are named here and nowhere else: it has no public way to its file names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from simclr_lightning.data.folder import folder_sets, picture_sets
from simclr_lightning.data.pictures import FilePictures, PictureSets
from simclr_lightning.errors import MissingFileError

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_VOC_LABELS = {"1": 1, "-1": 0, "0": -1}  # of the official lists, where 0 is a class whose objects are all difficult


def official(name: str, **splits: str) -> Callable[[str, bool], dict[str, FilePictures]]:
    """A data set of torchvision with splits of its own.

    Args:
        name: of the class in ``torchvision.datasets``.
        splits: our name of a split, and the class's.

    Example:
        >>> load = official("Food101", train="train", test="test")  # load("data", download=True) fetches 5 GB
    """

    def load(root: str, download: bool) -> dict[str, FilePictures]:
        found = {}
        for split, theirs in splits.items():
            dataset: Any = getattr(torchvision.datasets, name)(_expanded(root), split=theirs, download=download)
            files = dataset._images if name == "OxfordIIITPet" else dataset._image_files
            found[split] = _pictures(root, files, dataset._labels, getattr(dataset, "classes", None))
        return found

    return load


def cars(root: str) -> PictureSets:
    """Stanford Cars (8,144 + 8,041 pictures of 196 classes), which its authors no longer offer for download.

    Raises:
        MissingFileError: if it is not there; the message says what is expected where.

    Example:
        >>> try:
        ...     cars("nowhere")
        ... except MissingFileError as error:
        ...     print(str(error).split(" (")[0])
        Stanford Cars is not complete in 'nowhere'
    """
    found = {}
    for split in ("train", "test"):
        try:
            dataset: Any = torchvision.datasets.StanfordCars(_expanded(root), split=split)
        except (RuntimeError, OSError) as error:
            raise MissingFileError(
                f"Stanford Cars is not complete in {root!r} ({error}), and its authors no longer offer it for "
                "download. Get a copy elsewhere, and put cars_train/, cars_test/, devkit/ and "
                f"cars_test_annos_withlabels.mat into {os.path.join(root, 'stanford_cars')!r}, or name the folder that "
                "holds stanford_cars",
                "data.root",
            ) from error
        files, labels = zip(*dataset._samples, strict=True)
        found[split] = _pictures(root, files, labels, dataset.classes)
    return picture_sets(found)


def sun397(root: str, download: bool) -> dict[str, FilePictures]:
    """SUN397: 50 pictures of each of 397 classes to learn from, and as many for the test.

    The paper's split, the first official partition, is no part of torchvision's download. It is used where its lists
    Training_01.txt and Testing_01.txt (of Partitions.zip, from the data set's page) lie in ``root/SUN397`` or in
    Partitions in there. Otherwise a split of the same size is drawn, always the same one, with a warning. Pictures that
    are in neither part are left out.

    Raises:
        MissingFileError: if a list names pictures that are not there.

    Example:
        >>> from simclr_lightning.data import find_source
        >>> find_source("sun397").metric
        'top1'
    """
    dataset: Any = torchvision.datasets.SUN397(_expanded(root), download=download)
    folder = Path(_expanded(root)) / "SUN397"
    number = {file.relative_to(folder).as_posix(): label for file, label in _pairs(dataset)}
    names = sorted(number)  # torchvision lists them as the file system does
    targets = torch.tensor([number[name] for name in names])
    lists = _partition(folder)
    if lists is None:
        rank_zero_warn(
            f"The official partition of SUN397 is not there, so that another split of the same size is used: put "
            f"Training_01.txt and Testing_01.txt of Partitions.zip into {str(folder)!r} for figures as in the paper."
        )
        train, others = _drawn(targets, 50)
        parts = {"train": train, "test": others[_drawn(targets[others], 50)[0]]}
    else:
        place = {name: position for position, name in enumerate(names)}
        parts = {}
        for split, path in lists.items():
            listed = [line.strip().lstrip("/") for line in path.read_text().splitlines() if line.strip()]
            if missing := [name for name in listed if name not in place]:
                raise MissingFileError(
                    f"{path} lists {len(listed)} pictures, {len(missing)} of which are not in {str(folder)!r}, such as "
                    f"{missing[0]}: unpack SUN397.tar.gz again, or remove the list."
                )
            parts[split] = torch.tensor([place[name] for name in listed])
    return {
        split: _pictures(root, [folder / names[position] for position in part.tolist()], targets[part], dataset.classes)
        for split, part in parts.items()
    }


def caltech101(root: str, download: bool) -> dict[str, FilePictures]:
    """Caltech-101: 30 random pictures of each of the 101 classes to learn from, all others for the test.

    The paper's draw is not known; this one is always the same. The pictures of BACKGROUND_Google are left out.

    Example:
        >>> from simclr_lightning.data import find_source
        >>> find_source("caltech101").metric
        'mean_per_class'
    """
    dataset: Any = torchvision.datasets.Caltech101(_expanded(root), download=download)
    folder = Path(dataset.root) / "101_ObjectCategories"
    files = [
        folder / dataset.categories[label] / f"image_{number:04d}.jpg"
        for label, number in zip(dataset.y, dataset.index, strict=True)
    ]
    targets = torch.tensor(dataset.y)
    return {
        split: _pictures(root, [files[position] for position in part.tolist()], targets[part], dataset.categories)
        for split, part in zip(("train", "test"), _drawn(targets, 30), strict=True)
    }


def voc2007(root: str, download: bool) -> dict[str, FilePictures]:
    """Pascal VOC 2007 (2,501 + 2,510 + 4,952 pictures of 20 classes), several of which a picture may show.

    ``multi_targets`` are those of the official lists of the classification task. ``targets`` serve for balanced splits
    and for watching only: the first class in the order of their names that a picture shows.

    Example:
        >>> from simclr_lightning.data import find_source
        >>> find_source("voc2007").metric
        'map11'
    """
    return {split: _voc(root, split, download) for split in ("train", "val", "test")}


def birdsnap(root: str) -> PictureSets:
    """Birdsnap (500 species), from a folder.

    Raises:
        MissingFileError: if it is not there; the message says what is expected where.

    Example:
        >>> try:
        ...     birdsnap("nowhere")
        ... except MissingFileError as error:
        ...     print(str(error).split(",")[0])
        Birdsnap is not in 'nowhere/birdsnap'
    """
    folder = Path(_expanded(root)) / "birdsnap"
    if not all((folder / split).is_dir() for split in ("train", "test")):
        raise MissingFileError(
            f"Birdsnap is not in {str(folder)!r}, and torchvision does not offer it. Its authors' script "
            "get_birdsnap.py (thomasberg.org) fetches the pictures that are still online: put those of test_images.txt "
            "into test/<species>/ and the others into train/<species>/ there, and say how many there were beside any "
            "figure."
        )
    return folder_sets(folder)


def _voc(root: str, split: str, download: bool) -> FilePictures:
    def listed(fetch: bool) -> Any:
        return torchvision.datasets.VOCDetection(_expanded(root), year="2007", image_set=split, download=fetch)

    try:
        dataset = listed(False)
    except (RuntimeError, OSError):
        if not download:
            raise
        dataset = listed(True)  # torchvision unpacks the archive again whenever it is asked to download
    names = [Path(file).stem for file in dataset.images]
    lists = Path(_expanded(root)) / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main"
    columns = []
    for name in VOC_CLASSES:
        labels = dict(line.split() for line in (lists / f"{name}_{split}.txt").read_text().splitlines())
        columns.append([_VOC_LABELS[labels[picture]] for picture in names])
    targets = torch.tensor(columns).T.contiguous()
    # 1 before -1 before 0: the first class that is shown, or that has difficult objects if there are no others.
    first = torch.where(targets == 1, 2, -targets).argmax(1)
    return _pictures(root, dataset.images, first, VOC_CLASSES, targets)


def _partition(folder: Path) -> dict[str, Path] | None:
    for place in (folder, folder / "Partitions"):
        lists = {"train": place / "Training_01.txt", "test": place / "Testing_01.txt"}
        if all(path.exists() for path in lists.values()):
            return lists
    return None


def _pairs(dataset: Any) -> Iterable[tuple[Path, int]]:
    return zip(dataset._image_files, dataset._labels, strict=True)


def _drawn(targets: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Positions of ``number`` random pictures of every class, always the same ones, and of all others."""
    order = np.random.default_rng(0).permutation(len(targets))
    by_class = order[np.argsort(targets.numpy()[order], kind="stable")]
    _, first, sizes = np.unique(targets.numpy()[by_class], return_index=True, return_counts=True)
    rank = np.arange(len(targets)) - np.repeat(first, sizes)
    chosen, others = (torch.from_numpy(np.sort(by_class[part])) for part in (rank < number, rank >= number))
    return chosen, others


def _pictures(
    root: str,
    files: Iterable[str | Path],
    targets: Any,
    class_names: Iterable[str] | None,
    multi_targets: Tensor | None = None,
) -> FilePictures:
    folder = Path(_expanded(root))
    names = np.array([os.fsencode(Path(file).relative_to(folder)) for file in files])
    return FilePictures(
        folder,
        names,
        torch.as_tensor(targets).long(),
        None if class_names is None else list(class_names),
        multi_targets,
    )


def _expanded(root: str) -> str:
    return os.path.expanduser(root)
