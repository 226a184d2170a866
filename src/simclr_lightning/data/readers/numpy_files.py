"""``.npy`` and ``.npz``: arrays of NumPy, without pickled objects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simclr_lightning.data.readers.registry import Found, Reader, register


def only_array(arrays: Mapping[str, Any]) -> Any:
    """The one array of a file that holds one picture.

    Raises:
        ValueError: if there are several that may be it, or none, or the one holds several pictures.

    Example:
        >>> only_array({"image": np.zeros((8, 8)), "label": np.array(3)}).shape
        (8, 8)
    """
    found = {name: array for name, array in arrays.items() if array.ndim >= 2}
    if len(found) != 1:
        raise ValueError(f"it holds {len(found)} arrays that may be the picture ({', '.join(found) or 'none'})")
    (array,) = found.values()
    if array.ndim > 3:
        raise ValueError(
            f"it holds {len(array)} pictures (shape {tuple(array.shape)}): name the file itself to take all of them "
            "(--data.root FILE)"
        )
    return array


def arrays_of_npy(path: Path) -> Mapping[str, Any]:
    """The array, mapped into memory."""
    return {"": np.load(path, mmap_mode="r", allow_pickle=False)}


def arrays_of_npz(path: Path) -> Mapping[str, Any]:
    """The arrays by name; each is read whole when it is asked for, because they are compressed."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def read_npy(path: Path) -> Found:
    """The picture."""
    return Found(only_array({"": np.load(path, allow_pickle=False)}))


def read_npz(path: Path) -> Found:
    """The picture: the one array that has two axes or more."""
    return Found(only_array(arrays_of_npz(path)))


register(".npy", reader=Reader("", (), read_npy, arrays_of_npy))
register(".npz", reader=Reader("", (), read_npz, arrays_of_npz))
