"""Sets of pictures in one file: ``.npy``, ``.npz``, HDF5, Zarr, with labels where there are any."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from simclr_lightning.data.class_labels import class_indices
from simclr_lightning.data.pictures import InMemoryPictures, Pictures
from simclr_lightning.data.readers.axes import channel_axis, picture_tensor, type_of
from simclr_lightning.data.readers.registry import Reader, reader_of
from simclr_lightning.data.split_names import split_of
from simclr_lightning.errors import InputError, MissingFileError

_IMAGES = ("images", "image", "pictures", "data", "x", "img", "imgs")
_LABELS = ("labels", "label", "targets", "target", "classes", "class", "y", "ans")
_OPTIONS = ("images", "labels", "axis")


class Asked(NamedTuple):
    """A file, and what was said of what is in it.

    Attributes:
        path: of the file.
        images: name of the array of the pictures; None: by rule.
        labels: name of the array of the labels, or of a file of its own beside this one; None: by rule.
        axis: of one picture that holds the bands; None: by rule.

    Example:
        >>> Asked.parse("tiles.h5::images=sen2,labels=label")
        Asked(path=PosixPath('tiles.h5'), images='sen2', labels='label', axis=None)
    """

    path: Path
    images: str | None = None
    labels: str | None = None
    axis: int | None = None

    @classmethod
    def parse(cls, root: str | os.PathLike[str]) -> Asked:
        """Read ``FILE::images=NAME,labels=NAME,axis=NUMBER``, of which all after the file may be left out.

        Raises:
            InputError: if something else comes after the file.
        """
        file, _, named = os.fspath(root).partition("::")
        given: dict[str, Any] = {}
        for part in filter(None, named.split(",")):
            name, _, value = part.partition("=")
            if name not in _OPTIONS or not value or (name == "axis" and value not in ("0", "1", "2")):
                raise InputError(
                    f"{part!r} after :: is not understood: what a file holds is named as "
                    f"{file}::images=NAME,labels=NAME,axis=0 (axis is that of the bands in one picture: 0, 1 or 2)",
                    "data.root",
                )
            given[name] = int(value) if name == "axis" else value
        return cls(Path(os.path.expanduser(file)), **given)  # ~x is no user's home, but a name


class ArrayPictures(Pictures):
    """Pictures of equal size in an array that stays on disk.

    Args:
        reader: of the file.
        path: of the file, which every process opens for itself.
        name: of the array in it, (N, H, W), or (N, H, W, C) in any order of the last three.
        targets: (N,) int64 class indices, -1 where unlabelled.
        class_names: names of the classes, None where there are none.
        axis: of one picture that holds the bands; None: see ``channel_axis``.

    Raises:
        InputError: if the numbers are of another type, or the axis cannot be told.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from simclr_lightning.data.readers import READERS
        >>> with TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/tiles.npy", np.zeros((5, 32, 32, 13), np.uint16))
        ...     pictures = ArrayPictures(READERS[".npy"], Path(folder, "tiles.npy"), "", torch.zeros(5).long(), None)
        ...     pictures.read(4).shape, pictures.dtype
        (torch.Size([13, 32, 32]), torch.uint16)
    """

    def __init__(
        self,
        reader: Reader,
        path: Path,
        name: str,
        targets: Tensor,
        class_names: list[str] | None,
        axis: int | None = None,
    ) -> None:
        self._reader, self._path, self._name = reader, path, name
        self._opened: tuple[int, Any] | None = None
        shape = self._array().shape[1:]
        try:
            self.dtype = type_of(self._array().dtype)
            self._axis = axis if axis is not None or len(shape) == 2 else channel_axis(shape)
        except ValueError as error:
            raise InputError(
                f"The pictures of {path} cannot be used: {error}. The axis of the bands is named as "
                f"{path}::axis=0 (0, 1 or 2)"
            ) from error
        self.shape = picture_tensor(np.empty(shape, self._array().dtype), self._axis).shape
        super().__init__(targets, class_names, self.shape[0], equal_size=True)

    def name(self, position: int) -> str:
        """Number of the picture and file."""
        return f"Picture {position} of {self._path}"

    def read(self, position: int) -> Tensor:
        """One picture, (C, H, W)."""
        return picture_tensor(np.asarray(self._array()[position]), self._axis)

    def _array(self) -> Any:
        """The array, opened once in each process: what another has opened must not be read from two."""
        if self._opened is None or self._opened[0] != os.getpid():
            assert self._reader.arrays is not None
            self._opened = os.getpid(), self._reader.arrays(self._path)[self._name]
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}


def holds_a_set(root: str | os.PathLike[str]) -> bool:
    """Whether a root is a file, or a folder of Zarr, that holds a set of pictures.

    Example:
        >>> holds_a_set("photos"), holds_a_set("tiles.npy::axis=0"), holds_a_set("tiles.zarr")
        (False, True, True)
    """
    path = Path(os.path.expanduser(os.fspath(root).partition("::")[0]))
    reader = reader_of(path)
    if reader is None or reader.arrays is None:
        return False
    return path.name.lower().endswith(".zarr") or not path.is_dir()


def array_splits(root: str | os.PathLike[str]) -> dict[str, Pictures]:
    """The pictures of a file, and its labels, by split.

    Arrays whose names have a part such as train, val or test are splits: ``train_images``, ``x_train``, ``train/x``.
    The pictures are the only array of three axes or more, or the one named images, image, data or x; labels are the
    array of as many numbers or words that is named labels, label, targets, y, classes or ans; those of ``tiles.npy``
    are in ``tiles_labels.npy``. Whatever is named in the root wins, see :class:`Asked`.

    Args:
        root: the file, and what it holds.

    Raises:
        MissingFileError: if there is no such file.
        MissingPackageError: if its format needs a package that is missing.
        InputError: if what is named is not there, or it is not clear which array is meant; the message lists them.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     images, labels = np.zeros((6, 8, 8, 2), np.float32), np.array([[0], [1]] * 3)
        ...     np.savez(f"{folder}/cells.npz", train_images=images, train_labels=labels, test_images=images[:2])
        ...     splits = array_splits(f"{folder}/cells.npz")
        >>> train, test = splits["train"], splits["test"]
        >>> len(train), train.targets.tolist(), len(test), train.in_channels
        (6, [0, 1, 0, 1, 0, 1], 2, 2)
    """
    asked = Asked.parse(root)
    reader = reader_of(asked.path)
    assert reader is not None
    assert reader.arrays is not None
    if not asked.path.exists():
        raise MissingFileError(f"There is no file {os.fspath(asked.path)!r}: correct its name", "data.root")
    reader.require(asked.path)
    try:
        arrays = reader.arrays(asked.path)
    except Exception as error:  # whatever a package raises on a file that is damaged or something else
        raise InputError(f"{asked.path} cannot be read: {str(error).rstrip('.')}. Copy it anew.") from error
    names = {None: list(arrays)} if asked.images else _by_split(arrays)
    found = {
        split or "train": _pictures(asked, reader, arrays, {name: arrays[name] for name in own})
        for split, own in names.items()
    }
    if "train" not in found:
        raise InputError(
            f"{asked.path} has {', '.join(found)} pictures and none to train on. It holds {_listed(arrays)}: name the "
            f"array of the pictures",
            f"data.root {asked.path}::images=NAME",
        )
    return found


def _by_split(arrays: Mapping[str, Any]) -> dict[str | None, list[str]]:
    splits: dict[str | None, list[str]] = {}
    for name in arrays:
        split = next(filter(None, map(split_of, _parts(name))), None)
        splits.setdefault(split, []).append(name)
    if splits.keys() <= {None}:
        return splits
    splits.pop(None, None)
    return splits


def _pictures(asked: Asked, reader: Reader, arrays: Mapping[str, Any], own: Mapping[str, Any]) -> Pictures:
    name = _images(asked, arrays, own)
    array = arrays[name]
    targets, classes = _labels(asked, arrays, {key: own[key] for key in own if key != name}, array.shape[0])
    if isinstance(array, np.ndarray) and not isinstance(array, np.memmap):  # in memory as it is
        own_reader = Reader("", (), None, lambda _path: arrays)
        whole = ArrayPictures(own_reader, asked.path, name, targets, classes, asked.axis)
        return InMemoryPictures(torch.stack([whole.read(k) for k in range(len(array))]), targets, classes)
    return ArrayPictures(reader, asked.path, name, targets, classes, asked.axis)


def _images(asked: Asked, arrays: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    if asked.images is not None:
        if asked.images not in arrays:
            raise InputError(f"{asked.path} has no array {asked.images!r}: it holds {_listed(arrays)}", "data.root")
        found = [asked.images]
    else:
        found = [name for name, array in own.items() if array.ndim in (3, 4)]
        if len(found) > 1:
            found = [name for name in found if set(_IMAGES).intersection(_parts(name))] or found
    if len(found) != 1 or arrays[found[0]].ndim not in (3, 4) or not arrays[found[0]].shape[0]:
        raise InputError(
            f"It is not clear which array of {asked.path} holds the pictures, (N, H, W) or (N, H, W, C): it holds "
            f"{_listed(arrays)}. Name it",
            f"data.root {asked.path}::images=NAME",
        )
    return found[0]


def _labels(
    asked: Asked, arrays: Mapping[str, Any], own: Mapping[str, Any], number: int
) -> tuple[Tensor, list[str] | None]:
    beside = asked.path.with_name(f"{asked.path.stem}_labels.npy")
    if asked.labels is not None and asked.labels in arrays:
        labels = np.asarray(arrays[asked.labels][...])
    elif asked.labels is not None:
        labels = _label_file(asked, arrays)
    else:
        found = [
            name
            for name, array in own.items()
            if set(_LABELS).intersection(_parts(name)) and array.shape[:1] == (number,)
        ]
        if len(found) == 1:
            labels = np.asarray(own[found[0]][...])
        elif not found and list(arrays) == [""] and beside.exists():
            labels = np.load(beside, allow_pickle=False)
        else:
            return torch.full((number,), -1), None
    labels = labels.reshape(number) if labels.size == number else labels
    if labels.ndim == 0 or len(labels) != number:
        raise InputError(
            f"The labels of {asked.path} have the shape {labels.shape}: there should be {number}, one for each picture",
            f"data.root {asked.path}::labels=NAME",
        )
    return class_indices(labels, str(asked.path))


def _label_file(asked: Asked, arrays: Mapping[str, Any]) -> Any:
    path = asked.path.parent / str(asked.labels)
    reader = reader_of(path)
    if not path.exists() or reader is None or reader.arrays is None:
        raise InputError(
            f"{asked.path} has no array {asked.labels!r}, nor is there a file of that name beside it: it holds "
            f"{_listed(arrays)}",
            "data.root",
        )
    reader.require(path)
    found = reader.arrays(path)
    if len(found) != 1:
        raise InputError(f"{path} holds {_listed(found)}: a file of labels holds one array", "data.root")
    return np.asarray(next(iter(found.values()))[...])


def _parts(name: str) -> list[str]:
    return re.split(r"[^a-z0-9]+", name.lower())


def _listed(arrays: Mapping[str, Any]) -> str:
    told = [f"{name or 'one array'} {tuple(array.shape)} {array.dtype}" for name, array in list(arrays.items())[:8]]
    return (", ".join(told) or "no array") + (", ..." if len(arrays) > 8 else "")
