"""Folders of pictures: what is in a tree, and which part of it is for what."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import yaml

from simclr_lightning.data.endings import ENDINGS
from simclr_lightning.data.label_table import labelled_by, ordered_classes, read_table
from simclr_lightning.data.pictures import FilePictures, Pictures, PictureSets
from simclr_lightning.data.readers.array_sets import array_splits, holds_a_set
from simclr_lightning.data.split_names import SPLITS, split_of
from simclr_lightning.data.tree import Labelled, Tree, split_tree
from simclr_lightning.data.walk import Findings, LeftOut, Walk
from simclr_lightning.errors import InputError, MissingFileError

Roots = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A folder, or several."""


def find_roots(root: Roots) -> list[Path]:
    """The folders that are meant.

    Args:
        root: a folder, several, or several as they are typed: ``[photos, more/photos]``. A folder of just that name
            comes first.

    Raises:
        MissingFileError: if one is missing.
        InputError: if one is a file, none is named, or one lies in another.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as photos:
        ...     for name in ("a", "b", "[set 1]"):
        ...         Path(photos, name).mkdir()
        ...     found = find_roots(f"[{photos}/a, {photos}/b]"), find_roots(f"{photos}/[set 1]")
        ...     [[path.name for path in paths] for paths in found]
        [['a', 'b'], ['[set 1]']]
    """
    found = [_existing(name) for name in named_roots(root)]
    if not found:
        raise InputError("No folder of pictures is named", "data.root photos")
    for first in found:
        for second in found:
            if first is not second and first.resolve() in (second.resolve(), *second.resolve().parents):
                raise InputError(
                    f"The folder {os.fspath(second)!r} is, or lies in, {os.fspath(first)!r}: name each folder once, or "
                    "pictures count twice",
                    "data.root",
                )
    return found


def named_roots(root: Roots) -> list[str]:
    """The names of the folders that are meant, see :func:`find_roots`, whether they exist or not.

    Example:
        >>> named_roots("[photos, more photos]"), named_roots("photos")
        (['photos', 'more photos'], ['photos'])
    """
    if isinstance(root, (str, os.PathLike)):
        typed = os.fspath(root)
        return [typed] if _expanded(typed).exists() else _listed(typed)
    names = [os.fspath(name) for name in root]
    literal = f"[{', '.join(names)}]"  # a name that YAML takes for a list
    return [literal] if _expanded(literal).exists() else names


def find_splits(root: Roots, labels: str | os.PathLike[str] | None = None) -> dict[str, FilePictures]:
    """Find all pictures of a folder, their splits and classes.

    Splits are recognised by the names of folders, in any case and form (:func:`split_folders`), classes are the folders
    below (:func:`split_tree`); a table of labels takes their place (:func:`labelled_by`). Hidden files and folders, and
    what runs have written, are no data; links are followed. Of several folders, the training pictures are those of all.

    Args:
        root: existing folder, or several.
        labels: CSV or parquet with the labels, and perhaps the splits, of the pictures.

    Returns:
        "train" and, where they were recognised, "val" and "test"; no file has been opened but those whose names have no
        ending. What else is to be known is in ``findings`` of "train".

    Raises:
        MissingFileError: if there is no such folder or table, or no picture.
        InputError: if a folder is a file, or the table does not fit.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as photos:
        ...     for name in ("Training/cat/1.jpg", "Training/dog/2.jpg", "Testing/dog/3.JPEG", "Training/notes.txt"):
        ...         Path(photos, name).parent.mkdir(parents=True, exist_ok=True)
        ...         Path(photos, name).touch()
        ...     splits = find_splits(photos)
        >>> {split: (len(pictures), pictures.class_names) for split, pictures in splits.items()}
        {'train': (2, ['cat', 'dog']), 'test': (1, ['dog'])}
        >>> [str(left) for left in splits["train"].findings.left_out]
        ['1 x .txt: no picture (Training/notes.txt)']
    """
    roots = find_roots(root)
    base = roots[0] if len(roots) == 1 else Path(os.path.commonpath([os.path.abspath(folder) for folder in roots]))
    tree, left_out = _found(roots, base)
    if labels is not None:
        tree = labelled_by(read_table(labels), tree, os.fspath(base), os.fspath(labels))
    left_out += [LeftOut(reason, len(names), names[0]) for reason, names in tree.left_out.items()]
    splits = {split: _pictures(base, tree.parts[split]) for split in SPLITS if split in tree.parts}
    splits["train"].findings = Findings(left_out, tree.notes, tree.warnings)
    return splits


def scan(root: Path) -> FilePictures:
    """The training pictures of a folder, in the order of their names, see :func:`find_splits`.

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
    return find_splits(root)["train"]


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


def splits_of(root: Roots, labels: str | os.PathLike[str] | None = None) -> Mapping[str, Pictures]:
    """The splits of a folder, or of several, see :func:`find_splits`, or of a file that holds many pictures.

    Raises:
        MissingFileError: if there is no such folder or file, or no picture in it.
        InputError: if it is another file, or the table of labels does not fit.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/tiles.npy", np.zeros((5, 32, 32, 13), np.uint16))
        ...     splits_of(f"{folder}/tiles.npy")["train"].in_channels
        13
    """
    if isinstance(root, (str, os.PathLike)) and holds_a_set(root):
        if labels is not None:
            raise InputError(
                f"labels is {os.fspath(labels)!r}, a table of the files of a folder, and {os.fspath(root)!r} holds its "
                f"own: leave labels out",
                f"data.root {os.fspath(root).partition('::')[0]}::labels=NAME",
            )
        return array_splits(root)
    return find_splits(root, labels)


def folder_sets(root: Roots, labels: str | os.PathLike[str] | None = None) -> PictureSets:
    """All pictures of a folder, or of several, see :func:`find_splits`, or of a file that holds many.

    Raises:
        MissingFileError: if there is no such folder, or no picture in it.
        InputError: if it is another file, or the table of labels does not fit.

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
    return picture_sets(splits_of(root, labels))


def _found(roots: list[Path], base: Path) -> tuple[Tree, list[LeftOut]]:
    """The pictures of all roots, named from ``base`` on."""
    trees, left_out = [], list[LeftOut]()
    for folder in roots:
        walk = Walk(folder)
        if not walk.names:
            raise _nothing_in(walk)
        inside = "" if folder == base else os.path.relpath(os.path.abspath(folder), base)
        tree = split_tree(walk.names)
        tree.warnings += _empty_splits(walk)
        trees.append(_moved(tree, inside))
        left_out += [replace(left, example=os.path.join(inside, left.example)) for left in walk.left_out]
    return (trees[0] if len(trees) == 1 else _merged(trees)), left_out


def _empty_splits(walk: Walk) -> list[str]:
    """Folders that are named as a split and hold no picture that is read."""
    tops = {name.partition(os.sep)[0] for name in walk.names}
    with os.scandir(walk.root) as entries:
        empty = sorted(entry.name for entry in entries if entry.is_dir() and entry.name not in tops)
    return [f"The folder {name} holds no picture that is read." for name in empty if split_of(name)]


def _moved(tree: Tree, inside: str) -> Tree:
    if not inside:
        return tree
    parts = {
        split: part._replace(names=[os.path.join(inside, name) for name in part.names])
        for split, part in tree.parts.items()
    }
    left_out = {reason: [os.path.join(inside, name) for name in names] for reason, names in tree.left_out.items()}
    return Tree(
        parts, left_out, [f"{inside}: {note}" for note in tree.notes], [f"{inside}: {text}" for text in tree.warnings]
    )


def _merged(trees: list[Tree]) -> Tree:
    merged = Tree({})
    for tree in trees:
        for split, part in tree.parts.items():
            names, labels = merged.parts.get(split, Labelled([], []))
            merged.parts[split] = Labelled(names + part.names, labels + part.labels)
        for reason, names in tree.left_out.items():
            merged.left_out[reason] = merged.left_out.get(reason, []) + names
        merged.notes += tree.notes
        merged.warnings += tree.warnings
    return merged


def _pictures(base: Path, part: Labelled) -> FilePictures:
    # Millions of Python strings would be copied into every worker as soon as it counts references: one array is not.
    files = np.array([os.fsencode(name) for name in part.names])
    classes = ordered_classes(part.classes)
    number: dict[str | None, int] = {name: place for place, name in enumerate(classes)} | {None: -1}
    targets = torch.tensor([number[label] for label in part.labels])
    return FilePictures(base, files, targets, classes or None)


def _nothing_in(walk: Walk) -> MissingFileError:
    left = f" Left out: {'; '.join(map(str, walk.left_out[:5]))}." if walk.left_out else ""
    return MissingFileError(
        f"There is no picture in {os.fspath(walk.root)!r} or the folders in it. Looked for files that end in "
        f"{', '.join(ENDINGS)} (upper or lower case).{left}"
    )


def _existing(folder: str | os.PathLike[str]) -> Path:
    path = _expanded(folder)
    if not path.exists():
        raise MissingFileError(f"There is no folder {os.fspath(folder)!r}: correct its name", "data.root", "data.probe")
    if not path.is_dir():
        raise InputError(f"{os.fspath(folder)!r} is a file: give the folder with the pictures.")
    return path


def _expanded(folder: str | os.PathLike[str]) -> Path:
    """``~`` is the home folder, and ``~x`` that of a user of this name, where there is one."""
    path = Path(folder)
    return path if path.exists() else Path(os.path.expanduser(path))


def _listed(typed: str) -> list[str]:
    """Several folders, as YAML has them; anything else is one name."""
    if not typed.startswith("["):
        return [typed]
    try:
        several = yaml.safe_load(typed)
    except yaml.YAMLError:
        return [typed]
    return [str(name) for name in several] if isinstance(several, list) else [typed]
