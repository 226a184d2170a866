"""Which data set is meant by what was typed for it; nothing that was typed is without effect."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from simclr_lightning.data.packed import is_packed
from simclr_lightning.data.sources import FunctionSource, Source, find_source, qualified_name
from simclr_lightning.errors import InputError

DEFAULT_ROOT = "data"
"""Folder of the data where none is named."""


class Chosen(NamedTuple):
    """A data set, and where it is.

    Attributes:
        source: the data set.
        name: by which a checkpoint remembers it.
        root: folder of the data; several are one string, as they are typed: "[a, b]".

    Example:
        >>> choose_source(None)[1:], choose_source(None, ["photos", "more"])[1:]
        (('digits', 'data'), ('folder', '[photos, more]'))
    """

    source: Source
    name: str
    root: str


def choose_source(
    dataset: Any, root: str | Path | Sequence[str | Path] = "", labels: str | Path | None = None
) -> Chosen:
    """Find the data set.

    Args:
        dataset: as ``find_source`` takes it; None: packed or folder, as it is, where a root or labels are named,
            otherwise digits.
        root: folder of the data, or several; "": ``DEFAULT_ROOT``.
        labels: table of labels.

    Raises:
        InputError: if the name is unknown, or the data set has no use for the root, for several, or for labels.

    Example:
        >>> choose_source("digits", "photos")
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: root is 'photos', and the data set digits is in no folder: leave root out, \
or train on that folder (--data.dataset folder).
    """
    if dataset is None:
        packed = isinstance(root, (str, os.PathLike)) and bool(root) and is_packed(root)
        dataset = "packed" if packed else "folder" if root or labels is not None else "digits"
    source = find_source(dataset)
    name = dataset if isinstance(dataset, str) else qualified_name(dataset)
    if labels is not None:
        source = _with_labels(source, name, labels)
    several = not isinstance(root, (str, os.PathLike))
    place = os.fspath(root) if isinstance(root, (str, os.PathLike)) else _listed(root)
    if isinstance(source, FunctionSource) and place:
        if not source.takes("root") and place != DEFAULT_ROOT:  # which configurations of earlier versions name
            raise InputError(
                f"root is {place!r}, and the data set {name} is in no folder: leave root out, or train on that folder",
                "data.dataset folder",
            )
        if several and name != "folder":
            raise InputError(f"root is {place!r}, and the data set {name} is in one folder: name that", "data.root")
    return Chosen(source, name, place or DEFAULT_ROOT)


def _listed(roots: Sequence[str | Path]) -> str:
    names = [os.fspath(root) for root in roots]
    return yaml.safe_dump(names, default_flow_style=True, width=math.inf, allow_unicode=True).strip() if names else ""


def _with_labels(source: Source, name: str, labels: str | Path) -> Source:
    if not isinstance(source, FunctionSource) or not source.takes("labels"):
        raise InputError(
            f"labels is {os.fspath(labels)!r}, a table of the files of a folder, and the data set {name} has its own: "
            "leave labels out, or train on the folder",
            "data.dataset folder",
        )
    return replace(source, function=partial(source.function, labels=os.fspath(labels)))
