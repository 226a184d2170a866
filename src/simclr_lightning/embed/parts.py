"""The parts of an unfinished file: each is complete and intact, or counts as missing."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_SETTINGS = "settings.json"


class Part(NamedTuple):
    """Features of consecutive pictures.

    Attributes:
        features: (n, F) float32.
        files: (n,) str, names of the pictures.
        targets: (n,) int64 class indices, -1 where unlabelled.
        skipped: (m,) str, what was wrong with the pictures that are not here.
    """

    features: NDArray[np.float32]
    files: NDArray[np.str_]
    targets: NDArray[np.int64]
    skipped: NDArray[np.str_]


class Parts:
    """A folder of numbered parts, and the settings that they were made with.

    A part gets its name when it is on the disk, and its archive has a checksum for each array. So whoever finds the
    folder after a crash can go on with it.

    Args:
        folder: of the parts; it is made by :meth:`begin`.
        settings: everything that the features depend on, as JSON can hold it.
        count: number of parts of the whole.

    Raises:
        ValueError: if the folder has parts that were made with other settings, or is somebody else's.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], count: int) -> None:
        self.folder = folder
        self.settings = settings = json.loads(json.dumps(settings))  # as they will be read
        self.count = count
        if not folder.is_dir() or not (names := {path.name for path in folder.iterdir()} - {f"{_SETTINGS}.tmp"}):
            return
        if _SETTINGS not in names:
            raise ValueError(f"{folder} is no folder of unfinished features: move it, or name another --output.")
        found = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
        changes = [
            f"{name} is {settings.get(name)} and was {found.get(name)}"
            for name in {**settings, **found}
            if settings.get(name) != found.get(name)
        ]
        if changes and any(folder.glob("*.npz")):
            raise ValueError(
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
        with np.load(self._path(number), allow_pickle=False) as archive:
            array: NDArray[Any] = archive[name]
            return array


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
