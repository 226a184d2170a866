"""Pictures that belong together: a file that says so, and the choice of the pictures that views are of."""

from __future__ import annotations

import csv
import os
import posixpath
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from simclr_lightning.data.labels import first_members
from simclr_lightning.data.pictures import FilePictures, PictureSets
from simclr_lightning.errors import InputError, MissingFileError
from simclr_lightning.views.draw import mix, view_keys

_PARTNER = 1 << 30  # number of the random stream that chooses: those of a view's parameters count from 0
_SHOWN = 5


class PictureGroups:
    """Groups of training pictures, and of which member a view is.

    The first view is always of the picture itself. Every further one is of another member of its group, each with the
    same probability, as in MICLe (Azizi et al. 2021: two distinct pictures of a patient where there are two); the
    picture itself is taken where it is alone. The choice is a hash of (seed, epoch, position, number of the view).

    Example:
        >>> groups = PictureGroups(torch.tensor([7, 7, -1, 7]), torch.arange(4))
        >>> groups.sizes.tolist(), groups.numbers.tolist()
        ([3, 1], [0, 0, 2, 0])
        >>> groups.sources(torch.tensor([0, 2]), seed=0, epoch=0, views=3).tolist()
        [[0, 2], [1, 2], [3, 2]]

    Args:
        groups: (N,) int64, equal where pictures belong together, -1 where one belongs to none.
        positions: (n,) int64, the pictures that are trained on; the others are nobody's partners.

    Attributes:
        numbers: (N,) int64 at least 0, the smallest position in the group of each picture.
        sizes: (G,) int64, training pictures of each group, of those that have any.
        unnamed: training pictures that belong to none.
    """

    def __init__(self, groups: Tensor, positions: Tensor) -> None:
        self.numbers = first_members(groups)
        self.unnamed = int((groups[positions] < 0).sum())
        ordered, order = self.numbers[positions].sort(stable=True)
        self._members = positions[order]
        self.sizes = torch.unique_consecutive(ordered, return_counts=True)[1]
        first = (self.sizes.cumsum(0) - self.sizes).repeat_interleave(self.sizes)
        # Of each picture: where its group begins among the members, its place in it, and the size of it.
        of_members = torch.stack([first, torch.arange(len(first)) - first, self.sizes.repeat_interleave(self.sizes)])
        self._of_pictures = torch.zeros(3, len(groups), dtype=torch.int64)
        self._of_pictures[:, self._members] = of_members

    @property
    def alone(self) -> int:
        """Training pictures that have no other one in their group."""
        return int((self.sizes == 1).sum())

    @property
    def lost_share(self) -> float:
        """Share of the other pictures of a batch, in expectation, that are no negatives, since of the same group."""
        pictures = int(self.sizes.sum())
        return int((self.sizes * (self.sizes - 1)).sum()) / max(1, pictures * (pictures - 1))

    def sources(self, positions: Tensor, *, seed: int, epoch: int, views: int) -> Tensor:
        """Choose the pictures that the views are of.

        Args:
            positions: (N,) int64 training pictures.
            seed: of the run.
            epoch: of the views.
            views: V of each picture, two at least.

        Returns:
            (V, N) int64 positions.
        """
        begin, place, size = self._of_pictures[:, positions]
        keys = mix(view_keys(seed, epoch, positions, range(1, views)), torch.tensor(_PARTNER))
        drawn = keys.remainder((size - 1).clamp(min=1))
        drawn = torch.where(size > 1, drawn + (drawn >= place), place)  # all places but its own
        return torch.cat([positions[None], self._members[begin + drawn]])

    def in_place_of(self, drawn: int, position: int) -> Iterator[int]:
        """Members of a picture's group from the one that was drawn on, and at last the picture itself.

        For where one cannot be read.

        Args:
            drawn: position of a member.
            position: of the picture.

        Example:
            >>> groups = PictureGroups(torch.tensor([0, 0, 0, 0]), torch.arange(4))
            >>> list(groups.in_place_of(2, 1))
            [2, 3, 0, 1]
        """
        begin, place, size = self._of_pictures[:, drawn].tolist()
        for step in range(size):
            if (member := int(self._members[begin + (place + step) % size])) != position:
                yield member
        yield position

    def summary(self) -> str:
        """The groups in one line.

        Example:
            >>> PictureGroups(torch.tensor([7, 7, 2, 7, -1]), torch.arange(5)).summary()
            '3 groups of 1 / 1 / 3 pictures (least / median / most), 2 of them alone, 1 of which the file does not name'
        """
        sizes = f"{int(self.sizes.min())} / {int(self.sizes.median())} / {int(self.sizes.max())}"
        text = f"{len(self.sizes)} groups of {sizes} pictures (least / median / most)"
        if self.alone:
            text += f", {self.alone} of them alone"
        return text + (f", {self.unnamed} of which the file does not name" if self.unnamed else "")


class _Row(NamedTuple):
    line: int
    picture: str
    group: str


def read_groups(path: str | Path, sets: PictureSets, root: str | Path) -> Tensor:
    r"""Read which training pictures belong together.

    Args:
        path: CSV file with the columns ``file`` and ``group``, and any others. Files are named relative to ``root`` or
            to its folder of training pictures, or by as many folders as it takes to be the only one of the name; both
            kinds of slashes will do. Pictures of validation and test may be named, which changes nothing. Where
            pictures are no files, the column ``index``, positions from 0 on, is in place of ``file``.
        sets: the data set.
        root: folder of the data.

    Returns:
        (N,) int64, equal where pictures of ``sets.train`` belong together, -1 where the file does not name one.

    Raises:
        MissingFileError: if there is no such file.
        InputError: if it is empty or is no such table, or a picture is unknown or named twice.

    Example:
        >>> from tempfile import NamedTemporaryFile
        >>> import numpy as np
        >>> files = np.array([b"a/1.jpg", b"a/2.jpg", b"b/1.jpg"])
        >>> sets = PictureSets(FilePictures(Path("photos/train"), files, torch.zeros(3), None))
        >>> with NamedTemporaryFile("w+", suffix=".csv") as table:
        ...     _ = table.write("file,group\ntrain/a/1.jpg,eve\n2.jpg,bob\ntrain\\b\\1.jpg,eve\n")
        ...     table.flush()
        ...     read_groups(table.name, sets, "photos")
        tensor([0, 1, 0])
    """
    by_file = isinstance(sets.train, FilePictures)
    rows = _rows(path, "file" if by_file else "index")
    positions = _of_files(rows, sets, root, path) if by_file else _of_indices(rows, len(sets.train), path)
    number: dict[str, int] = {}
    groups = torch.full((len(sets.train),), -1)
    lines: dict[int, int] = {}
    for row, position in zip(rows, positions, strict=True):
        if position is None:
            continue
        if position in lines:
            raise InputError(
                f"{os.fspath(path)!r} names the picture {row.picture} in the lines {lines[position]} and {row.line}: a "
                "picture belongs to one group, so leave one line out",
                "data.pairs",
            )
        lines[position] = row.line
        groups[position] = number.setdefault(row.group, len(number))
    return groups


def _rows(path: str | Path, picture: str) -> list[_Row]:
    """Lines of the table, with the column that names pictures."""
    path = Path(os.path.expanduser(path))
    if not path.is_file():
        raise MissingFileError(f"There is no file {os.fspath(path)!r}: correct its name", "data.pairs")
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        table = csv.DictReader(lines, skipinitialspace=True)
        try:
            columns = [name.strip() for name in table.fieldnames or []]
            table.fieldnames = columns
            if not {picture, "group"} <= set(columns):
                found = f"has the columns {', '.join(columns)}" if columns else "is empty"
                why = ", since these pictures are no files but have positions from 0 on" if picture == "index" else ""
                raise InputError(
                    f"{os.fspath(path)!r} {found}: its first line should be {picture},group{why}", "data.pairs"
                )
            rows = [_Row(table.line_num, (row[picture] or "").strip(), (row["group"] or "").strip()) for row in table]
        except csv.Error as error:
            raise InputError(
                f"{os.fspath(path)!r} is no CSV file: {error}, line {table.line_num}", "data.pairs"
            ) from error
    if not rows:
        raise InputError(f"{os.fspath(path)!r} names no picture: give a line to each that has company", "data.pairs")
    for row in rows:
        if not row.picture or not row.group:
            raise InputError(
                f"Line {row.line} of {os.fspath(path)!r} has no {'group' if row.picture else picture}: leave out lines "
                "of pictures that belong to no group",
                "data.pairs",
            )
    return rows


def _of_indices(rows: list[_Row], number: int, path: str | Path) -> list[int]:
    for row in rows:
        if not row.picture.isdecimal() or int(row.picture) >= number:
            raise InputError(
                f"Line {row.line} of {os.fspath(path)!r} has the index {row.picture}: there are {number} training "
                f"pictures, so choose from 0 to {number - 1}",
                "data.pairs",
            )
    return [int(row.picture) for row in rows]


def _of_files(rows: list[_Row], sets: PictureSets, root: str | Path, path: str | Path) -> list[int | None]:
    """Positions of the training pictures that are named, None for those of other splits."""
    root = Path(os.path.expanduser(root))
    known: dict[str, int | None] = {}  # by their names relative to root
    for pictures in (sets.test, sets.val, sets.train):
        if isinstance(pictures, FilePictures):
            folder = os.path.relpath(os.fspath(pictures.root), os.fspath(root)).replace(os.sep, "/")
            folder = "" if folder == os.curdir else folder
            names = (os.fsdecode(bytes(file)).replace(os.sep, "/") for file in pictures.files)
            own = pictures is sets.train
            known |= {posixpath.join(folder, name): place if own else None for place, name in enumerate(names)}
    # Names may also be given from the folder of the training pictures on, as train.
    folder = posixpath.commonpath([posixpath.dirname(file) for file, place in known.items() if place is not None])
    by_name: dict[str, list[str]] = defaultdict(list)
    for file in known:
        by_name[file.rpartition("/")[2]].append(file)
    found = [_found(row, known, by_name, root, folder, path) for row in rows]
    missing = [row.picture for row, file in zip(rows, found, strict=True) if file is None]
    if missing:
        raise InputError(
            f"{len(missing)} of the {len(rows)} pictures in {os.fspath(path)!r} are not in {os.fspath(root)!r}: "
            f"{', '.join(missing[:_SHOWN])}{', ...' * (len(missing) > _SHOWN)}. Correct the folder or the file",
            "data.root",
            "data.pairs",
        )
    return [known[file] for file in found if file is not None]


def _found(
    row: _Row, known: dict[str, int | None], by_name: dict[str, list[str]], root: Path, folder: str, path: str | Path
) -> str | None:
    """The file that a line names."""
    name = row.picture.removeprefix(os.path.join(root.absolute(), ""))
    for spelled in (name, name.replace("\\", "/")):
        name = posixpath.normpath(spelled)
        for file in (name, posixpath.join(folder, name)):
            if file in known:
                return file
    parts = name.split("/")
    fitting = [file for file in by_name[parts[-1]] if _same_end(file.split("/"), parts)]
    if len(fitting) > 1:
        raise InputError(
            f"Line {row.line} of {os.fspath(path)!r} names {row.picture}, and there are {len(fitting)} such files, "
            f"{fitting[0]} and {fitting[1]}: put their folder in front of the name",
            "data.pairs",
        )
    return fitting[0] if fitting else None


def _same_end(file: list[str], name: list[str]) -> bool:
    """Whether both are the same as far as both go, from the file's name towards the root."""
    shorter = min(len(file), len(name))
    return file[-shorter:] == name[-shorter:]
