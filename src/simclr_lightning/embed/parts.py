"""The parts of an unfinished file, each complete and intact or else missing, and the file that they become."""

from __future__ import annotations

import json
import math
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simclr_lightning.errors import InputError

_SETTINGS = "settings.json"


class Part(NamedTuple):
    """Features of consecutive pictures.

    Attributes:
        features: (n, F) float32, or maps (n, F, h, w).
        files: (n,) str, names of the pictures.
        targets: (n,) int64 class indices, -1 where unlabelled.
        boxes: (n, 4) int64: left, top, right and bottom of what is encoded, in pixels of the original picture.
        skipped: (m,) str, what was wrong with the pictures that are not here.

    Example:
        >>> part = Part.of(np.ones((2, 8), np.float32), ["1.png", "2.png"])
        >>> part.features.shape, part.targets
        ((2, 8), array([-1, -1]))
    """

    features: NDArray[np.float32]
    files: NDArray[np.str_]
    targets: NDArray[np.int64]
    boxes: NDArray[np.int64]
    skipped: NDArray[np.str_]

    @classmethod
    def of(cls, features: NDArray[np.float32], files: list[str], targets: Any = None, boxes: Any = None) -> Part:
        """A part of which only this is known.

        Example:
            >>> Part.of(np.ones((1, 8), np.float32), ["1.png"], [3]).targets
            array([3])
        """
        number = len(features)
        return cls(
            features,
            np.array(files, np.str_),
            np.full(number, -1) if targets is None else np.array(targets),
            np.zeros((number, 4), np.int64) if boxes is None else np.array(boxes),
            np.array([], np.str_),
        )


class Parts:
    """A folder of numbered parts, and the settings that they were made with.

    A part gets its name when it is on the disk, and its archive has a checksum for each array. So whoever finds the
    folder after a crash can go on with it.

    Args:
        folder: of the parts; it is made by :meth:`begin`.
        settings: everything that the features depend on, as JSON can hold it.
        count: number of parts of the whole.

    Raises:
        InputError: if the folder has parts that were made with other settings, or is somebody else's.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> part = Part.of(np.ones((2, 8), np.float32), ["1.png", "2.png"], [0, -1])
        >>> with TemporaryDirectory() as folder:
        ...     parts = Parts(Path(folder, "parts"), {"batch_size": 2}, 2)
        ...     parts.begin()
        ...     parts.write(1, part)
        ...     parts.missing()
        [0]
    """

    def __init__(self, folder: Path, settings: dict[str, Any], count: int) -> None:
        self.folder = folder
        self.settings = settings = json.loads(json.dumps(settings))  # as they will be read
        self.count = count
        if not folder.is_dir() or not (names := {path.name for path in folder.iterdir()} - {f"{_SETTINGS}.tmp"}):
            return
        if _SETTINGS not in names:
            raise InputError(f"{folder} is no folder of unfinished features: move it, or name another --output.")
        found = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
        changes = [
            f"{name} is {settings.get(name)} and was {found.get(name)}"
            for name in {**settings, **found}
            if settings.get(name) != found.get(name)
        ]
        if changes and any(folder.glob("*.npz")):
            raise InputError(
                f"{folder} holds unfinished features of other settings: {'; '.join(changes)}. To go on with them, "
                "type the command that began them; to begin anew, delete that folder, or name another --output."
            )

    def begin(self) -> None:
        """Make the folder and write down the settings."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with _named_when_written(self.folder / _SETTINGS) as path:
            path.write_text(json.dumps(self.settings, indent=2), encoding="utf-8")

    def missing(self) -> list[int]:
        """Numbers of the parts that are not there, or damaged."""
        return [number for number in range(self.count) if not _is_intact(self._path(number))]

    def write(self, number: int, part: Part) -> None:
        """Keep a part."""
        with _named_when_written(self._path(number)) as path, path.open("wb") as file:
            np.savez(file, **part._asdict())
            file.flush()
            os.fsync(file.fileno())

    def __iter__(self) -> Iterator[Part]:
        """The parts in their order, one in memory at a time."""
        for number in range(self.count):
            yield Part(*(self._read(number, name) for name in Part._fields))

    def arrays(self, name: str) -> Iterator[NDArray[Any]]:
        """One array of every part, in their order."""
        return (self._read(number, name) for number in range(self.count))

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:07d}.npz"

    def _read(self, number: int, name: str) -> NDArray[Any]:
        path = self._path(number)
        try:
            with np.load(path, allow_pickle=False) as archive:
                array: NDArray[Any] = archive[name]
        except (KeyError, OSError, ValueError) as error:  # ValueError: of pickled objects, which would run code
            raise InputError(f"{path} is damaged, or of another program: delete it, and repeat the command.") from error
        return array


class Format(NamedTuple):
    """How the finished file is written, in the memory of one part.

    Attributes:
        write: writes the parts; the classes have these names, or none.
        packages: what writing needs.

    Example:
        >>> FORMATS[".parquet"].packages
        ('pyarrow',)
    """

    write: Callable[[Path, Parts, list[str] | None], None]
    packages: tuple[str, ...] = ()


def write_npz(path: Path, parts: Parts, class_names: list[str] | None) -> None:
    """NumPy's archive, not compressed, with the same bytes for the same features.

    Its arrays are features (N, F) float32, files (N,), targets (N,) int64, -1 where unlabelled, class_names (K,), empty
    where the classes have no names, and settings (), what the features depend on, as JSON. Beside maps (N, F, h, w)
    there are boxes (N, 4) int64, see :class:`Part`.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     parts = Parts(Path(folder, "parts"), {"batch_size": 1}, 1)
        ...     parts.begin()
        ...     parts.write(0, Part.of(np.ones((1, 8), np.float32), ["1.png"], [0]))
        ...     write_npz(Path(folder, "features.npz"), parts, ["cat"])
        ...     np.load(Path(folder, "features.npz"))["features"].shape
        (1, 8)
    """
    rows = sum(len(targets) for targets in parts.arrays("targets"))
    longest = max((files.dtype for files in parts.arrays("files")), key=lambda dtype: dtype.itemsize)
    (shape,) = {features.shape[1:] for features in parts.arrays("features")}
    with zipfile.ZipFile(path, "w") as archive:
        _write_array(archive, "features", (rows, *shape), np.dtype(np.float32), parts.arrays("features"))
        _write_array(archive, "files", (rows,), longest, parts.arrays("files"))
        _write_array(archive, "targets", (rows,), np.dtype(np.int64), parts.arrays("targets"))
        if len(shape) == 3:
            _write_array(archive, "boxes", (rows, 4), np.dtype(np.int64), parts.arrays("boxes"))
        for name, value in (
            ("class_names", np.array(class_names or [], np.str_)),
            ("settings", np.array(json.dumps(parts.settings))),
        ):
            _write_array(archive, name, value.shape, value.dtype, [value])


def write_parquet(path: Path, parts: Parts, class_names: list[str] | None) -> None:
    """A table with a row for each picture: file, target, class, and features as a list of fixed size.

    ``target`` is -1 and ``class`` null where a picture is unlabelled. The table's metadata has class_names and
    settings, what the features depend on, as JSON. A map is one list of F h w numbers; the metadata has their shape,
    and ``box`` is as in :class:`Part`.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     parts = Parts(Path(folder, "parts"), {"batch_size": 1}, 1)
        ...     parts.begin()
        ...     parts.write(0, Part.of(np.ones((1, 8), np.float32), ["1.png"], [0]))
        ...     write_parquet(Path(folder, "features.parquet"), parts, ["cat"])
        ...     Path(folder, "features.parquet").read_bytes()[:4]
        b'PAR1'
    """
    import pyarrow
    from pyarrow import parquet

    (shape,) = {features.shape[1:] for features in parts.arrays("features")}
    vector = pyarrow.list_(pyarrow.float32(), math.prod(shape))
    columns = {"file": pyarrow.string(), "target": pyarrow.int64(), "class": pyarrow.string(), "features": vector}
    metadata = {"class_names": json.dumps(class_names), "settings": json.dumps(parts.settings)}
    box = pyarrow.list_(pyarrow.int64(), 4)
    maps = len(shape) == 3
    if maps:
        columns["box"] = box
        metadata["shape"] = json.dumps(shape)
    schema = pyarrow.schema(columns, metadata=metadata)
    names = dict(enumerate(class_names or []))
    with parquet.ParquetWriter(path, schema, use_dictionary=["class"]) as writer:
        for part in parts:
            values = [
                pyarrow.array(part.files.tolist(), pyarrow.string()),
                pyarrow.array(part.targets),
                pyarrow.array([names.get(target) for target in part.targets.tolist()], pyarrow.string()),
                pyarrow.FixedSizeListArray.from_arrays(part.features.reshape(-1), type=vector),
            ]
            if maps:
                values.append(pyarrow.FixedSizeListArray.from_arrays(part.boxes.reshape(-1), type=box))
            writer.write_table(pyarrow.table(values, schema=schema))


FORMATS = {".npz": Format(write_npz), ".parquet": Format(write_parquet, ("pyarrow",))}
"""Formats by the suffix of the file."""


def _write_array(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], blocks: Iterable[NDArray[Any]]
) -> None:
    """As np.savez does it, but from blocks, so that the whole is never in memory."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(block.astype(dtype).tobytes())


def _is_intact(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (FileNotFoundError, zipfile.BadZipFile):
        return False


@contextmanager
def _named_when_written(path: Path) -> Iterator[Path]:
    """Another name to write under; a file that has the right one is complete."""
    unnamed = path.with_name(f"{path.name}.tmp")
    yield unnamed
    unnamed.replace(path)
