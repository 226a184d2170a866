"""Which format reads which file, and what it needs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from torch import Tensor

from simclr_lightning.data.first_bytes import ending_by_content, ending_of
from simclr_lightning.data.readers.axes import Array, picture_tensor
from simclr_lightning.errors import MissingPackageError


class Found(NamedTuple):
    """What a format found in a file.

    Attributes:
        values: (H, W), or three axes.
        axis: that holds the bands, None where the file does not tell.
        left_out: what else is in the file and is not read, and what to do about it, in words.

    Example:
        >>> import numpy as np
        >>> Found(np.zeros((3, 8, 8), np.uint16), axis=0).left_out
        ''
    """

    values: Array
    axis: int | None = None
    left_out: str = ""


class Reader(NamedTuple):
    """How files of a format are read.

    Attributes:
        extra: of the package that brings what is needed; "" where nothing is.
        packages: that it needs.
        read: one picture; None where Pillow does as well, and is left to it.
        arrays: all arrays of a file by name, opened but not read: what a set of pictures is taken from.

    Example:
        >>> READERS[".h5"].extra
        'hdf5'
    """

    extra: str
    packages: tuple[str, ...]
    read: Callable[[Path], Found | None] | None
    arrays: Callable[[Path], Mapping[str, Any]] | None = None

    @property
    def installed(self) -> bool:
        """Whether the packages are there."""
        return _installed(self.packages)

    def require(self, path: str | os.PathLike[str]) -> None:
        """Raise unless the packages are there.

        Raises:
            MissingPackageError: naming the extra.
        """
        if not self.installed:
            raise MissingPackageError(
                f"To read {os.fspath(path)}, {' and '.join(self.packages)} must be installed: "
                f"pip install 'simclr-lightning[{self.extra}]'"
            )


READERS: dict[str, Reader] = {}
"""The formats, by the ending of the name in small letters."""


def reader_of(path: str | os.PathLike[str], content: bytes | None = None) -> Reader | None:
    """The format of a file by the ending of its name, or its first bytes; None where it is Pillow's.

    A TIFF is Pillow's where tifffile is not installed.

    Args:
        path: of the file, which is opened if its name has no ending.
        content: its bytes where they are at hand.

    Example:
        >>> reader_of("tiles/1.FITS.gz").extra, reader_of("photo.jpg")
        ('fits', None)
    """
    reader = READERS.get(ending_of(os.path.basename(path)) or ending_by_content(path, content))
    return None if reader is None or (reader.extra == "tiff" and not reader.installed) else reader


def read_file(reader: Reader, path: str | os.PathLike[str], content: bytes | None = None) -> tuple[Tensor, str] | None:
    """Read the picture of one file.

    Args:
        reader: of its format.
        path: of the file.
        content: its bytes where they are at hand. Formats are read by packages that want a file, so that they are put
            into one for a moment.

    Returns:
        (C, H, W) uint8, uint16, int16 or float32, and what is left out, in words; None where it is left to Pillow.

    Raises:
        MissingPackageError: if a package is missing.
        Exception: whatever the format's package raises on a file that it cannot read.

    Example:
        >>> import numpy as np
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/tile.npy", np.zeros((64, 64, 13), np.uint16))
        ...     read_file(READERS[".npy"], f"{folder}/tile.npy")[0].shape
        torch.Size([13, 64, 64])
    """
    reader.require(path)
    if reader.read is None:
        raise ValueError("it holds no single picture")
    if content is None:
        found = reader.read(Path(path))
        return None if found is None else (picture_tensor(found.values, found.axis), found.left_out)
    with TemporaryDirectory() as folder:
        file = Path(folder, Path(path).name)
        file.write_bytes(content)
        return read_file(reader, file)


def register(*endings: str, reader: Reader) -> None:
    """Let files whose names end so be read by a format.

    Example:
        >>> register(".NPY", reader=READERS[".npy"])
    """
    READERS.update({ending.lower(): reader for ending in endings})


@cache
def _installed(packages: tuple[str, ...]) -> bool:
    return all(find_spec(package) is not None for package in packages)
