"""Which pictures are embedded, in which order, and what they are called."""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from simclr_lightning.data import FilePictures, InMemoryPictures, Pictures, PictureSets
from simclr_lightning.errors import InputError

SplitName = Literal["all", "train", "val", "test"]


class ConcatPictures:
    """The pictures of one split, or of all of them one after the other, each once.

    Classes are numbered as the data set does it; where its splits have different ones, in the order in which they
    first appear.

    Args:
        sets: the splits of a data set.
        split: all, train, val or test.
        root: folder that the names of files are relative to; of several folders it is the one that they all lie in.

    Raises:
        InputError: if there is no such split.

    Example:
        >>> def pictures(number, names):
        ...     images = torch.zeros(number, 3, 8, 8, dtype=torch.uint8)
        ...     return InMemoryPictures(images, torch.zeros(number, dtype=torch.int64), names)
        >>> both = ConcatPictures(PictureSets(pictures(3, ["cat"]), pictures(2, ["dog"])), "all", "photos")
        >>> both.class_names, both.targets
        (['cat', 'dog'], tensor([0, 0, 0, 1, 1]))
        >>> both.name(4), both.batches(2)
        ('val/1', [range(0, 2), range(2, 3), range(3, 5)])
    """

    def __init__(self, sets: PictureSets, split: SplitName, root: str | Path) -> None:
        if split not in get_args(SplitName):
            raise InputError(f"Unknown split {split!r}: choose one of {', '.join(get_args(SplitName))} (--split).")
        present: dict[str, Pictures] = {}
        for name, pictures in sets._asdict().items():
            if pictures is None or (split == "all" and any(pictures is other for other in present.values())):
                continue  # one set may serve as val and as test
            present[name] = pictures
        if split != "all" and split not in present:
            raise InputError(f"There are no {split} pictures: choose one of all, {', '.join(present)} (--split).")
        self.splits: dict[str, Pictures] = present if split == "all" else {split: present[split]}
        self.root = Path(os.path.expanduser(root))
        self.class_names = _class_names(self.splits)
        self.targets = torch.cat([_renumbered(part, self.class_names) for part in self.splits.values()])
        self.starts = [0, *accumulate(len(part) for part in self.splits.values())]

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.targets)

    @property
    def in_memory(self) -> bool:
        """Whether nothing has to be read from files."""
        return all(isinstance(part, InMemoryPictures) for part in self.splits.values())

    def locate(self, place: int) -> tuple[str, Pictures, int]:
        """Split, set, and position in it, of the picture at a place in [0, N)."""
        number = bisect_right(self.starts, place, hi=len(self.starts) - 1) - 1
        split, pictures = list(self.splits.items())[number]
        return split, pictures, place - self.starts[number]

    def name(self, place: int) -> str:
        """File relative to the root, or split and position in it: train/17.

        What is not Unicode in the name of a file is written as a backslash escape.
        """
        split, pictures, position = self.locate(place)
        if not isinstance(pictures, FilePictures):
            return f"{split}/{position}"
        path = pictures.path(position)
        inside = self.root if path.is_relative_to(self.root) else pictures.root  # that of several folders
        name = path.relative_to(inside).as_posix()
        return name.encode("utf-8", "backslashreplace").decode("utf-8")

    def batches(self, size: int) -> list[range]:
        """Places of each batch; none holds pictures of two splits, whose sizes may differ."""
        return [
            range(first, min(first + size, stop))
            for start, stop in pairwise(self.starts)
            for first in range(start, stop, size)
        ]

    def fingerprint(self) -> str:
        """Changes when files are added, removed or renamed, or labels change."""
        digest = hashlib.sha256(repr([(split, len(part)) for split, part in self.splits.items()]).encode())
        for part in self.splits.values():
            if isinstance(part, FilePictures):
                digest.update(str(part.root.resolve()).encode("utf-8", "surrogateescape"))
                digest.update(part.files.view("u1").data)
        digest.update(self.targets.numpy().data)
        return digest.hexdigest()[:16]


def _class_names(splits: dict[str, Pictures]) -> list[str] | None:
    named = [part.class_names for part in splits.values() if part.class_names is not None]
    if not named:
        return None
    if all(names == named[0] for names in named):
        return named[0]
    return list(dict.fromkeys(name for names in named for name in names))


def _renumbered(pictures: Pictures, class_names: list[str] | None) -> Tensor:
    if pictures.class_names is None or class_names is None or pictures.class_names == class_names:
        return pictures.targets
    number = torch.tensor([class_names.index(name) for name in pictures.class_names])
    return torch.where(pictures.targets < 0, -1, number[pictures.targets])
