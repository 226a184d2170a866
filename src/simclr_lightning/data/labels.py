"""Some of the labels: class-balanced parts of them, and lists that name the pictures."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray
from torch import Tensor

from simclr_lightning.data.pictures import FilePictures, Pictures
from simclr_lightning.errors import InputError, MissingFileError


def balanced_subset(
    targets: Tensor, fraction: float, seed: int = 0, class_names: Sequence[str] | None = None
) -> Tensor:
    """Class-balanced part of the labels, as in semi-supervised learning (Chen et al. 2020, B.5: 12 or 13 per class).

    Every class gives the same number of pictures (up to one); a class with too few gives all it has, and the larger
    ones give the rest.

    Args:
        targets: (N,) int64 class indices; -1 marks an unlabelled picture, which is never chosen.
        fraction: share of the labelled pictures, in (0, 1].
        seed: another seed, another draw.
        class_names: names for the error message.

    Returns:
        Positions of the chosen pictures, int64, ascending.

    Raises:
        InputError: if the fraction is out of range, nothing is labelled, or a class would be left without a picture.

    Example:
        >>> balanced_subset(torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, -1]), 0.5).tolist()
        [2, 3, 4, 6]
    """
    if not 0 < fraction <= 1:
        raise InputError(f"The label fraction is {fraction}: choose a number above 0 and at most 1.")
    labels = targets.cpu().numpy()
    classes, sizes = np.unique(labels[labels >= 0], return_counts=True)
    if not len(classes):
        raise InputError("A label fraction needs labels, but no picture has one: name some that do", "data.probe")
    remaining = int(fraction * sizes.sum() + 1e-9)  # 0.29 * 100 is 28.999... in floating point
    members = _by_class(labels, sizes, seed)
    chosen = []
    by_size = np.argsort(sizes, kind="stable")
    for place, which in enumerate(by_size):
        share = min(sizes[which], remaining // (len(classes) - place))
        if not share:
            name = class_names[classes[which]] if class_names else classes[which]
            enough = math.ceil(len(classes) / sizes.sum() * 1e4) / 1e4
            raise InputError(
                f"A label fraction of {fraction} of {sizes.sum()} labelled pictures leaves class {name!s} without a "
                f"picture: choose at least {enough:g}",
                "data.label_fraction",
            )
        chosen.append(members[which][:share])
        remaining -= share
    return torch.from_numpy(np.sort(np.concatenate(chosen)))


def balanced_draw(targets: Tensor, per_class: int, seed: int = 0) -> Tensor:
    """The same number of pictures of every class, at random. Of the same seed, a smaller draw is part of a larger one.

    Args:
        targets: (N,) int64 class indices; -1 marks an unlabelled picture, which is never chosen.
        per_class: pictures of each class.
        seed: another seed, another draw.

    Returns:
        Positions of the chosen pictures, int64, ascending.

    Raises:
        InputError: if a class has fewer pictures, or there are no labels.

    Example:
        >>> targets = torch.tensor([0, 1, 0, -1, 1, 0])
        >>> targets[balanced_draw(targets, per_class=2)].sort().values
        tensor([0, 0, 1, 1])
    """
    labels = targets.cpu().numpy()
    classes, sizes = np.unique(labels[labels >= 0], return_counts=True)
    if not len(classes):
        raise InputError("Labels per class are drawn, but no picture has a label (--data.probe names some that do).")
    if not 1 <= per_class <= sizes.min():
        raise InputError(
            f"{per_class} labels per class are asked for: class {classes[sizes.argmin()]} has {sizes.min()}. Choose "
            f"from 1 to {sizes.min()} (--counts)."
        )
    members = _by_class(labels, sizes, seed)
    return torch.from_numpy(np.sort(np.concatenate([member[:per_class] for member in members])))


def default_counts(targets: Tensor) -> list[int]:
    """1, 2, 5, 10, 20, 50, ... labels per class, as long as every class has more.

    Args:
        targets: (N,) int64 class indices, -1 where unlabelled.

    Example:
        >>> default_counts(torch.tensor([0] * 12 + [1] * 7))
        [1, 2, 5]
    """
    smallest = int(torch.unique(targets[targets >= 0], return_counts=True)[1].min())
    series = (step * 10**power for power in range(len(str(smallest))) for step in (1, 2, 5))
    return [count for count in series if count < smallest]


def stratified_split(
    targets: Tensor,
    fraction: float,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
    groups: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Split into two parts in which every class has its share; unlabelled pictures count as one class.

    A class of one picture cannot be shared: it goes into the first part, with a warning. Groups are not torn apart:
    then it is they that are counted, each in the class of its first picture.

    Args:
        targets: (N,) int64 class indices, -1 where unlabelled.
        fraction: size of the second part, in (0, 1).
        seed: another seed, another split.
        class_names: names for the warning.
        groups: (N,) int64, equal where pictures belong together, -1 where one belongs to none.

    Returns:
        Positions of both parts, int64, ascending.

    Raises:
        InputError: if the fraction is out of range or too small, or too large, for the number of pictures.

    Example:
        >>> _, second = stratified_split(torch.arange(100) % 10, 0.2)
        >>> second.shape, (second % 10).bincount().unique()
        (torch.Size([20]), tensor([2]))
        >>> stratified_split(torch.zeros(8, dtype=torch.int64), 0.5, groups=torch.tensor([0, 0, 0, 1, 1, 2, 2, -1]))
        (tensor([5, 6, 7]), tensor([0, 1, 2, 3, 4]))
    """
    if not 0 < fraction < 1:
        raise InputError(f"The validation fraction is {fraction}: choose a number between 0 and 1.")
    from sklearn.model_selection import train_test_split

    what = "picture" if groups is None else "group"
    heads = member = torch.arange(len(targets))
    if groups is not None:
        heads, member = torch.unique(first_members(groups), return_inverse=True)
    labels = targets[heads].numpy()
    classes, own_class, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    single = sizes[own_class] == 1
    try:
        shared = np.flatnonzero(~single)
        _, aside = train_test_split(shared, test_size=fraction, stratify=labels[shared], random_state=seed)
    except ValueError as error:
        raise InputError(
            f"A fraction of {fraction} of {len(heads)} {what}s cannot be split off class by class: {error} "
            "Choose another fraction",
            "data.val_fraction",
        ) from error
    if single.any():
        names = [str(class_names[own] if class_names and own >= 0 else own) for own in classes[sizes == 1]]
        rank_zero_warn(
            f"{len(names)} class(es) of one {what} are learned from, and not held out: {', '.join(names[:5])}"
            f"{', ...' * (len(names) > 5)}."
        )
    is_aside = torch.isin(member, torch.from_numpy(aside))
    return torch.nonzero(~is_aside)[:, 0], torch.nonzero(is_aside)[:, 0]


def first_members(groups: Tensor) -> Tensor:
    """Smallest position (N,) in the group of every picture, its own where it belongs to none.

    Args:
        groups: (N,) int64, equal where pictures belong together, -1 where one belongs to none.

    Example:
        >>> first_members(torch.tensor([7, 7, -1, 7, -1]))
        tensor([0, 0, 2, 0, 4])
    """
    own = torch.arange(len(groups))
    number = torch.unique(torch.where(groups < 0, groups.max() + 1 + own, groups), return_inverse=True)[1]
    smallest = torch.full_like(own, len(own)).scatter_reduce_(0, number, own, "amin")
    return smallest[number]


def listed_positions(pictures: Pictures, path: str | Path) -> Tensor:
    """Find the pictures that a list names.

    Args:
        pictures: files, in a tree.
        path: a text file with one name a line, as the official 1 % and 10 % subsets of ImageNet have it (Chen et al.
            2020, B.5): ``n01440764_10026.JPEG``, with or without folders in front. Empty lines do not count.

    Returns:
        (n,) int64 positions, ascending.

    Raises:
        MissingFileError: if there is no such list.
        InputError: if it is empty, if the pictures are no files, or if a name fits none of them, or several.

    Example:
        >>> from tempfile import NamedTemporaryFile
        >>> files = np.array([b"cat/1.jpg", b"cat/2.jpg", b"dog/3.jpg"])
        >>> pictures = FilePictures(Path("photos"), files, torch.tensor([0, 0, 1]), ["cat", "dog"])
        >>> with NamedTemporaryFile("w+") as names:
        ...     print("3.jpg", "cat/1.jpg", sep=os.linesep, file=names, flush=True)
        ...     listed_positions(pictures, names.name)
        tensor([0, 2])
    """
    if not Path(path).is_file():
        raise MissingFileError(f"There is no list of pictures {os.fspath(path)!r}: correct its name", "data.label_list")
    if not isinstance(pictures, FilePictures):
        raise InputError(
            f"The list {os.fspath(path)!r} names files, and the training pictures are none: take the data set folder "
            "(--data.dataset folder --data.root PHOTOS), or leave label_list out."
        )
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    names = {PurePath(line.strip()) for line in lines if line.strip()}
    if not names:
        raise InputError(f"The list {os.fspath(path)!r} is empty: it should hold one file name a line.")
    found = _by_file_name(pictures, {name.name for name in names})
    matches = {name: [position for position, file in found[name.name] if _same_end(file, name)] for name in names}
    missing = sorted(str(name) for name, positions in matches.items() if not positions)
    if missing:
        raise InputError(
            f"{len(missing)} of the {len(names)} pictures in the list {os.fspath(path)!r} are not among the training "
            f"pictures in {os.fspath(pictures.root)!r}: {', '.join(missing[:5])}{', ...' * (len(missing) > 5)}. "
            "Correct the folder or the list",
            "data.root",
            "data.label_list",
        )
    several = sorted(str(name) for name, positions in matches.items() if len(positions) > 1)
    if several:
        raise InputError(
            f"The list {os.fspath(path)!r} names {several[0]}, and there are several such files: put their folder in "
            "front of the name."
        )
    return torch.tensor(sorted({positions[0] for positions in matches.values()}))


def _by_file_name(pictures: FilePictures, wanted: set[str]) -> dict[str, list[tuple[int, PurePath]]]:
    """Positions and paths of the files that have one of the wanted names, whatever their folders."""
    found = defaultdict(list)
    for position, encoded in enumerate(pictures.files):
        file = os.fsdecode(bytes(encoded))
        name = os.path.basename(file)
        if name in wanted:
            found[name].append((position, PurePath(file)))
    return found


def _same_end(file: PurePath, name: PurePath) -> bool:
    """Whether both paths are the same as far as both go, from the file's name towards the root."""
    shorter = min(len(file.parts), len(name.parts))
    return file.parts[-shorter:] == name.parts[-shorter:]


def _by_class(labels: NDArray[np.int64], sizes: NDArray[np.int64], seed: int) -> list[NDArray[np.int64]]:
    """Positions of each class's pictures, at random; the classes have these sizes."""
    shuffled = np.random.default_rng(seed).permutation(np.flatnonzero(labels >= 0))
    return np.split(shuffled[np.argsort(labels[shuffled], kind="stable")], np.cumsum(sizes)[:-1])
