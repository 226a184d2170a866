"""Lists of the pictures whose labels may be used, such as those of semi-supervised ImageNet."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path, PurePath

import torch
from torch import Tensor

from simclr_lightning.data.pictures import FilePictures, Pictures


def listed_positions(pictures: Pictures, path: str | Path) -> Tensor:
    """Find the pictures that a list names.

    Args:
        pictures: files, in a tree.
        path: a text file with one name a line, as the official 1 % and 10 % subsets of ImageNet have it (Chen et al.
            2020, B.5): ``n01440764_10026.JPEG``, with or without folders in front. Empty lines do not count.

    Returns:
        (n,) int64 positions, ascending.

    Raises:
        FileNotFoundError: if there is no such list.
        ValueError: if it is empty, if the pictures are no files, or if a name fits none of them, or several.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no list of pictures {os.fspath(path)!r}: correct --data.label_list.")
    if not isinstance(pictures, FilePictures):
        raise ValueError(
            f"The list {os.fspath(path)!r} names files, and the training pictures are none: take the data set folder "
            "(--data.dataset folder --data.root PHOTOS), or leave label_list out."
        )
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    names = {PurePath(line.strip()) for line in lines if line.strip()}
    if not names:
        raise ValueError(f"The list {os.fspath(path)!r} is empty: it should hold one file name a line.")
    found = _by_file_name(pictures, {name.name for name in names})
    matches = {name: [position for position, file in found[name.name] if _same_end(file, name)] for name in names}
    missing = sorted(str(name) for name, positions in matches.items() if not positions)
    if missing:
        raise ValueError(
            f"{len(missing)} of the {len(names)} pictures in the list {os.fspath(path)!r} are not among the training "
            f"pictures in {os.fspath(pictures.root)!r}: {', '.join(missing[:5])}{', ...' * (len(missing) > 5)}. "
            "Correct --data.root or --data.label_list."
        )
    several = sorted(str(name) for name, positions in matches.items() if len(positions) > 1)
    if several:
        raise ValueError(
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
