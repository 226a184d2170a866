"""Splits and classes of a tree of pictures, by the names of its folders."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from simclr_lightning.data.split_names import SPLITS, looks_like_splits, split_folders

_UNLABELLED = frozenset(("unlabeled", "unlabelled"))
"""Folders beside classes, or beside splits, whose pictures have no label, in lower case."""


class Labelled(NamedTuple):
    """Pictures and their classes.

    Attributes:
        names: of the pictures, relative to the root.
        labels: the class of each, None where it has none.

    Example:
        >>> Labelled(["cat/1.png", "2.png"], ["cat", None]).classes
        ['cat']
    """

    names: list[str]
    labels: list[str | None]

    @property
    def classes(self) -> list[str]:
        """Names of the classes, sorted."""
        return sorted({label for label in self.labels if label is not None})


@dataclass
class Tree:
    """What a tree of pictures is taken for.

    Attributes:
        parts: pictures by split: train, and val and test where they were recognised.
        left_out: names by the reason why they are in none.
        notes: what was decided.
        warnings: what may not be what was meant.

    Example:
        >>> tree = split_tree(["Testing/cat/3.png", "Training/cat/1.png", "Training/dog/2.png", "preview.png"])
        >>> {split: part.labels for split, part in tree.parts.items()}, tree.left_out
        ({'train': ['cat', 'dog'], 'test': ['cat']}, {'beside the splits': ['preview.png']})
    """

    parts: dict[str, Labelled]
    left_out: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def split_tree(names: list[str]) -> Tree:
    """Tell splits and classes by the folders that pictures lie in.

    Splits are folders side by side (see :func:`split_folders`), at the top or below a folder that holds everything, or
    the same ones below every class. Classes are the folders below a split, or below everything, if there are two at
    least and fewer pictures lie beside them than in them; those beside them are unlabelled. All else is unlabelled.

    Args:
        names: of the pictures, relative to the root, sorted.

    Example:
        >>> split_tree(["photos/cat/1.png", "photos/dog/2.png", "sheet.png"]).parts["train"].labels
        ['cat', 'dog', None]
    """
    tops, strays = _tops(names, 0)
    start = 0
    while len(tops) == 1 and len(strays) < len(names) / 2:  # a folder that holds everything
        (top,) = tops
        inner, beside = _tops(tops[top], start + len(top) + 1)
        start += len(top) + 1
        tops, strays = inner, strays + beside
    splits = split_folders(tops)
    if splits:
        return _split(tops, strays, splits, start)
    inner_splits = _splits_of_classes(tops, start) if len(tops) > 1 and not strays else {}
    if inner_splits:
        return _split_by_class(names, inner_splits, start)
    tree = Tree({"train": _labelled(names, start)})
    alike = looks_like_splits(tops)
    if alike:
        tree.warnings.append(
            f"The folders {', '.join(alike)} look like splits, but their names do not belong together: they count as "
            "classes. Call them train, val and test."
        )
    _mention_strays(tree)
    return tree


def _split(tops: dict[str, list[str]], strays: list[str], splits: dict[str, str], start: int) -> Tree:
    tree = Tree({})
    known: Collection[str] = ()
    for split in (split for split in SPLITS if split in splits):
        folder = splits[split]
        part = _labelled(tops.pop(folder), start + len(folder) + 1, known)
        tree.parts[split] = part
        known = known or part.classes
        if folder != split:
            tree.notes.append(f"the folder {folder} is {split}")
    extra = [name for top in list(tops) if top.lower() in _UNLABELLED for name in tops.pop(top)]
    if extra:
        tree.notes.append(f"{len(extra):,} pictures of the folder unlabelled are trained on, too")
        tree.parts["train"] = _together(tree.parts["train"], extra)
    beside = strays + [name for names in tops.values() for name in names]
    if beside:
        tree.left_out["beside the splits"] = sorted(beside)
    _mention_strays(tree)
    return tree


def _splits_of_classes(tops: dict[str, list[str]], start: int) -> dict[str, str]:
    """Splits below every class: cat/train, cat/test, dog/train, dog/test."""
    common: set[str] | None = None
    for top, names in tops.items():
        inner, strays = _tops(names, start + len(top) + 1)
        if strays:
            return {}
        common = set(inner) if common is None else common & set(inner)
        if not split_folders(common):
            return {}
    return split_folders(common or ())


def _split_by_class(names: list[str], splits: dict[str, str], start: int) -> Tree:
    folders = {folder: split for split, folder in splits.items()}
    parts = {split: Labelled([], []) for split in SPLITS if split in splits}
    beside = []
    for name in names:
        label, folder = name[start:].split(os.sep, 2)[:2]
        if folder in folders:
            parts[folders[folder]].names.append(name)
            parts[folders[folder]].labels.append(label)
        else:
            beside.append(name)
    return Tree(parts, {"beside the splits": beside} if beside else {}, ["every class has folders for its splits"])


def _labelled(names: list[str], start: int, known: Collection[str] = ()) -> Labelled:
    """Labels of the pictures of a split, whose names go on at ``start``; ``known`` are the classes to learn from."""
    tops, strays = _tops(names, start)
    classes = {top for top in tops if top.lower() not in _UNLABELLED}
    while not strays and len(tops) == 1 and not classes & set(known):
        (top,) = tops
        start += len(top) + 1
        tops, strays = _tops(names, start)
        classes = {top for top in tops if top.lower() not in _UNLABELLED}
    enough = bool(classes & set(known)) or len(classes) > 1
    if not enough or len(strays) >= len(names) / 2:
        return Labelled(names, [None] * len(names))
    return Labelled(names, [_label(name, start, classes) for name in names])


def _label(name: str, start: int, classes: Collection[str]) -> str | None:
    top, folder, _ = name[start:].partition(os.sep)
    return top if folder and top in classes else None


def _together(part: Labelled, unlabelled: Iterable[str]) -> Labelled:
    labels = dict(zip(part.names, part.labels, strict=True)) | dict.fromkeys(unlabelled)
    names = sorted(labels)
    return Labelled(names, [labels[name] for name in names])


def _mention_strays(tree: Tree) -> None:
    for split, part in tree.parts.items():
        strays = [name for name, label in zip(part.names, part.labels, strict=True) if label is None]
        strays = [name for name in strays if not _is_in_unlabelled(name)]
        if strays and part.classes:
            shown = ", ".join(strays[:3]) + ", ..." * (len(strays) > 3)
            tree.warnings.append(
                f"{len(strays):,} of the {len(part.names):,} {split} pictures lie beside the class folders and are "
                f"unlabelled ({shown}): move what is no data elsewhere."
            )


def _is_in_unlabelled(name: str) -> bool:
    return any(folder.lower() in _UNLABELLED for folder in name.split(os.sep)[:-1])


def _tops(names: Iterable[str], start: int) -> tuple[dict[str, list[str]], list[str]]:
    """Names by the folder that they go on with at ``start``, and those that go on with none."""
    tops: dict[str, list[str]] = {}
    strays = []
    for name in names:
        end = name.find(os.sep, start)
        if end < 0:
            strays.append(name)
        else:
            tops.setdefault(name[start:end], []).append(name)
    return tops, strays
