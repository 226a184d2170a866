"""Folders of pictures: what is in a tree, and which part of it is for what."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from simclr_lightning.data.pictures import FilePictures, Pictures, PictureSets
from simclr_lightning.data.readers import ENDINGS
from simclr_lightning.data.readers.array_sets import array_sets, holds_a_set
from simclr_lightning.errors import InputError, MissingFileError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif")
_SPLITS = {"validation": "val", "valid": "val", "val": "val", "test": "test"}


def find_splits(root: str | os.PathLike[str]) -> dict[str, Path]:
    """Recognise the splits of a folder.

    ``root/train`` with ``root/val`` (or ``valid``, ``validation``) or ``root/test`` beside it, or with no other folder
    beside it, holds the training pictures; in any other tree all pictures are training pictures.

    Args:
        root: existing folder.

    Returns:
        The folder of "train" and, where there is one, of "val" and "test".

    Raises:
        MissingFileError: if there is no such folder.
        InputError: if it is a file.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as photos:
        ...     for name in ("train", "validation"):
        ...         Path(photos, name).mkdir()
        ...     list(find_splits(photos))
        ['train', 'val']
    """
    root = Path(root).expanduser()
    if not root.exists():
        raise MissingFileError(f"There is no folder {os.fspath(root)!r}: correct its name", "data.root", "data.probe")
    if not root.is_dir():
        raise InputError(f"{os.fspath(root)!r} is a file: give the folder with the pictures.")
    folders = {entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith(".")}
    splits = {"train": root}
    splits |= {split: root / name for name, split in _SPLITS.items() if name in folders}
    if "train" not in folders or (len(splits) == 1 and len(folders) > 1):
        return {"train": root}
    return splits | {"train": root / "train"}


def scan(root: Path) -> FilePictures:
    """List all pictures of a tree, in the order of their names.

    Labels are the names of the folders directly under ``root``, provided that there are two at least and no picture
    lies beside them; otherwise the pictures are unlabelled. Hidden files and folders are left out, links are followed.

    Args:
        root: existing folder.

    Returns:
        The pictures, none of which has been opened.

    Raises:
        MissingFileError: if there is no picture.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as photos:
        ...     for name in ("dog/2.jpg", "cat/1.PNG", "cat/notes.txt"):
        ...         Path(photos, name).parent.mkdir(exist_ok=True)
        ...         Path(photos, name).touch()
        ...     pictures = scan(Path(photos))
        >>> pictures.files.tolist(), pictures.targets.tolist(), pictures.class_names
        ([b'cat/1.PNG', b'dog/2.jpg'], [0, 1], ['cat', 'dog'])
    """
    names = sorted(_walk(root))
    if not names:
        raise MissingFileError(
            f"There is no picture in {os.fspath(root)!r} or the folders in it. Looked for files that end in "
            f"{', '.join(dict.fromkeys(EXTENSIONS + ENDINGS))} (upper or lower case)."
        )
    # Millions of Python strings would be copied into every worker as soon as it counts references: one array is not.
    files = np.array([os.fsencode(name) for name in names])
    targets, class_names = _labels(names)
    return FilePictures(root, files, targets, class_names)


def picture_sets(found: Mapping[str, Pictures]) -> PictureSets:
    """Splits by their names; those of test serve as val, or the other way round, where only one is there.

    Example:
        >>> from simclr_lightning.data import InMemoryPictures
        >>> pictures = InMemoryPictures(torch.zeros(9, 1, 4, 4, dtype=torch.uint8), torch.arange(9))
        >>> picture_sets({"train": pictures, "test": pictures}).val is pictures
        True
    """
    test = found.get("test", found.get("val"))
    return PictureSets(found["train"], found.get("val", test), test)


def folder_sets(root: str | os.PathLike[str]) -> PictureSets:
    """All pictures of a folder, see :func:`find_splits` and :func:`scan`, or of a file that holds many.

    Raises:
        MissingFileError: if there is no such folder, or no picture in it.
        InputError: if it is another file.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as photos:
        ...     for name in ("train/1.jpg", "train/2.jpg", "val/3.jpg"):
        ...         Path(photos, name).parent.mkdir(exist_ok=True)
        ...         Path(photos, name).touch()
        ...     sets = folder_sets(photos)
        >>> len(sets.train), len(sets.val), sets.test is sets.val
        (2, 1, True)
    """
    if holds_a_set(root):
        return array_sets(root)
    return picture_sets({split: scan(path) for split, path in find_splits(root).items()})


def _walk(root: Path) -> Iterator[str]:
    seen: set[str] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:  # a link that leads back would never end
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = [name for name in subfolders if not name.startswith(".") and not name.endswith(".zarr")]
        inside = os.path.relpath(folder, root)
        for name in files:
            if name.lower().endswith(EXTENSIONS + ENDINGS) and not name.startswith("."):
                yield name if inside == os.curdir else os.path.join(inside, name)


def _labels(names: list[str]) -> tuple[Tensor, list[str] | None]:
    parents = [name.split(os.sep, 1)[0] if os.sep in name else None for name in names]
    classes = sorted({parent for parent in parents if parent is not None})
    if len(classes) < 2 or None in parents:
        return torch.full((len(names),), -1), None
    number = {name: place for place, name in enumerate(classes)}
    return torch.tensor([number[parent] for parent in parents if parent is not None]), classes
