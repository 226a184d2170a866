"""HDF5, by h5py: a file that holds one picture, or a set of them with labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simclr_lightning.data.readers.numpy_files import only_array
from simclr_lightning.data.readers.registry import Found, Reader, register


def arrays(path: Path) -> Mapping[str, Any]:
    """The data sets by their paths in the file, which stays open for reading as long as one of them is held."""
    import h5py

    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item

    h5py.File(path, "r").visititems(visit)
    return found


def read(path: Path) -> Found:
    """The picture: the one data set that has two axes or more."""
    return Found(only_array(arrays(path))[()])


register(".h5", ".hdf5", ".hdf", reader=Reader("hdf5", ("h5py",), read, arrays))
