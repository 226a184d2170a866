"""``--data.dataset packed``: pictures in the chunks that ``simclr pack`` writes, read by position."""

from __future__ import annotations

import json
import os
import struct
from bisect import bisect_right
from collections import OrderedDict
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simclr_lightning.data.folder import picture_sets
from simclr_lightning.data.order import CHUNK_WINDOW, Order, WindowOrder, uniform_order
from simclr_lightning.data.pictures import FilePictures, Pictures, PictureSets
from simclr_lightning.errors import InputError, MissingFileError

FORMAT = "simclr_lightning packed 1"
"""First line of what a packed set says of itself."""

MANIFEST = "packed.json"
"""Written last: where it is, the set is complete."""

INDEX = "index.json"
"""litdata's own list of the chunks."""

_OPEN_CHUNKS = 64  # files that a process holds open: more than a window has


class SplitFiles(NamedTuple):
    """Where a split keeps what is known of its pictures without reading them.

    Attributes:
        folder: of the split.

    Example:
        >>> SplitFiles(Path("packed/train")).sizes.as_posix()
        'packed/train/sizes.npy'
    """

    folder: Path

    @property
    def names(self) -> Path:
        """(N,) byte strings, what the files were called."""
        return self.folder / "names.npy"

    @property
    def targets(self) -> Path:
        """(N,) int64 class indices, -1 where unlabelled."""
        return self.folder / "targets.npy"

    @property
    def multi_targets(self) -> Path:
        """(N, classes) int64, where a picture may show several; otherwise it is not there."""
        return self.folder / "multi_targets.npy"

    @property
    def sizes(self) -> Path:
        """(N, 2) int32, height and width upright; 0 where the header tells none."""
        return self.folder / "sizes.npy"

    @property
    def places(self) -> Path:
        """(N,) int64, where litdata's index has each picture: chunk after chunk."""
        return self.folder / "places.npy"


class PackedPictures(FilePictures):
    """Pictures of a split, in chunks of litdata's format.

    Only what a batch asks for is read: memory does not grow with the set. litdata itself is not needed. Its random
    access maps a chunk anew, and reads its whole table, wherever a fifth chunk is asked for, which a window of 16 does
    all the time.

    Args:
        root: folder of the packed set.
        split: name of the split.
        told: what the manifest tells of it.

    Raises:
        InputError: if a chunk is missing or not as long as it was.

    Example:
        >>> import pytest
        >>> _ = pytest.importorskip("litdata")
        >>> from tempfile import TemporaryDirectory
        >>> from PIL import Image
        >>> from simclr_lightning.data.packed_writer import pack_pictures
        >>> with TemporaryDirectory() as folder:
        ...     Path(folder, "photos").mkdir()
        ...     Image.new("RGB", (40, 30)).save(Path(folder, "photos", "1.png"))
        ...     packed = pack_pictures(f"{folder}/photos", f"{folder}/packed")  # doctest: +ELLIPSIS
        ...     pictures = packed_sets(packed).train
        ...     pictures.size(0), pictures.read(0).shape
        Packed: ...
        ((30, 40), torch.Size([3, 30, 40]))
    """

    def __init__(self, root: Path, split: str, told: dict[str, Any]) -> None:
        self._files = SplitFiles(root / split)
        self._chunks: OrderedDict[int, _Chunk] = OrderedDict()
        self._map()
        index = json.loads((self._files.folder / INDEX).read_text())["chunks"]
        self._names = [chunk["filename"] for chunk in index]
        self._starts = [0, *accumulate(chunk["chunk_size"] for chunk in index)]
        found = {entry.name: entry.stat().st_size for entry in os.scandir(self._files.folder)}
        damaged = [chunk["filename"] for chunk in index if found.get(chunk["filename"]) != chunk["chunk_bytes"]]
        if damaged or self._starts[-1] != len(self.files):
            raise InputError(
                f"{len(damaged)} of the {len(index)} chunks in {self._files.folder} are missing or cut off, such as "
                f"{damaged[0] if damaged else INDEX}: copy or pack the set again."
            )
        several = self._files.multi_targets
        super().__init__(
            root / told["folder"],
            self.files,
            torch.from_numpy(_array(self._files.targets)),
            told["class_names"],
            torch.from_numpy(_array(several)) if several.exists() else None,
        )

    def name(self, position: int) -> str:
        """File of the picture, and the folder that holds its chunk."""
        return f"{self._files.folder}: {os.fsdecode(bytes(self.files[position]))}"

    def size(self, position: int) -> tuple[int, int]:
        """Height and width of one picture, upright; nothing is read."""
        height, width = self.sizes[position].tolist()
        if not height:
            height, width = self.read(position).shape[1:]  # which says what is wrong with it
        return height, width

    def chunks(self, positions: Tensor) -> NDArray[np.int64]:
        """Number of the chunk that holds each of these pictures."""
        chunks: NDArray[np.int64] = np.searchsorted(self._starts, self.places[positions.numpy()], side="right") - 1
        return chunks

    def content(self, position: int) -> bytes:
        """The bytes of the file that was packed."""
        place = int(self.places[position])
        number = bisect_right(self._starts, place) - 1
        return self._chunk(number).item(place - self._starts[number])

    def _chunk(self, number: int) -> _Chunk:
        chunk = self._chunks.get(number)
        if chunk is None:
            chunk = self._chunks[number] = _Chunk(self._files.folder / self._names[number])
            if len(self._chunks) > _OPEN_CHUNKS:
                self._chunks.popitem(last=False)  # closed when nobody reads it any more: a cache reads by threads
        return chunk

    def _map(self) -> None:
        """Arrays of one row for each picture stay on the disk."""
        self.files = _array(self._files.names, on_disk=True)
        self.sizes = _array(self._files.sizes, on_disk=True)
        self.places = _array(self._files.places, on_disk=True)

    def __getstate__(self) -> dict[str, Any]:
        """For a worker that is not forked: it opens the files itself."""
        return {**self.__dict__, "files": None, "sizes": None, "places": None, "_chunks": OrderedDict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._map()


def _array(path: Path, *, on_disk: bool = False) -> NDArray[Any]:
    """Numbers or names; objects, which would run code, are refused."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r" if on_disk else None, allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path} is damaged, or no array of numbers: copy or pack the set again.") from error
    return array


class _Chunk:
    """One open file.

    Its layout: the number n of items, n + 1 offsets, and the items, each of which is the sizes of its parts (the file
    and the label) and the parts; all numbers are little-endian and have 32 bits.
    """

    def __init__(self, path: Path) -> None:
        self._file: int | None = None
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def item(self, number: int) -> bytes:
        """The file in it. The position in the chunk is shared with forked workers, so that it must not be moved."""
        assert self._file is not None
        first, last = struct.unpack("<2I", os.pread(self._file, 8, 4 + 4 * number))
        item = os.pread(self._file, last - first, first)
        (size,) = struct.unpack_from("<I", item)
        return item[8 : 8 + size]

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)


def is_packed(root: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a complete packed set.

    Example:
        >>> is_packed("photos")
        False
    """
    return (Path(os.path.expanduser(root)) / MANIFEST).is_file()


def packed_sets(root: str | os.PathLike[str]) -> PictureSets:
    """The splits of a set that ``simclr pack`` has written.

    Raises:
        MissingFileError: if there is none, or it is not complete.
        InputError: if a chunk is missing or not as long as it was, or another version has written it.

    Example:
        >>> packed_sets("photos")
        Traceback (most recent call last):
        simclr_lightning.errors.MissingFileError: 'photos' holds no complete packed set: write it, or finish it, with \
simclr pack FOLDER photos, or correct its name (--data.root).
    """
    name = os.fspath(root)
    if not is_packed(root):
        raise MissingFileError(
            f"{name!r} holds no complete packed set: write it, or finish it, with simclr pack FOLDER {name}, or "
            "correct its name",
            "data.root",
        )
    root = Path(os.path.expanduser(root))
    told = json.loads((root / MANIFEST).read_text())
    if told["format"] != FORMAT:
        raise InputError(f"{name!r} is of the format {told['format']!r}, and {FORMAT!r} is read: pack it again.")
    return picture_sets({split: PackedPictures(root, split, part) for split, part in told["splits"].items()})


def order_of(pictures: Pictures, positions: Tensor, window: int | None, *, training: bool = True) -> Order:
    """In what order to go through a part of a set.

    Args:
        pictures: the set.
        positions: (n,) int64, which of them.
        window: chunks that a batch is drawn from, where they are packed; None: as many as fit most sets.
        training: whether the pictures are those that the window is about.

    Raises:
        InputError: if a window is asked for, and there are no chunks.

    Example:
        >>> from simclr_lightning.data import InMemoryPictures
        >>> pictures = InMemoryPictures(torch.zeros(9, 1, 4, 4, dtype=torch.uint8), torch.arange(9))
        >>> order_of(pictures, torch.arange(9), window=None) is uniform_order
        True
    """
    if isinstance(pictures, PackedPictures):
        order = WindowOrder(pictures.chunks(positions), window or CHUNK_WINDOW)
        if training:
            order.warn_of_few()
        return order
    if training and window is not None:
        raise InputError(
            f"chunk_window is {window}, and the training pictures are not read from chunks: leave it out, or pack them "
            "(simclr pack)",
            "data.chunk_window null",
        )
    return uniform_order
