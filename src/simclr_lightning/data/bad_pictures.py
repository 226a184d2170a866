"""How files are read, and what becomes of those that cannot be."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from simclr_lightning.data.decode import BadPictureError
from simclr_lightning.errors import check_number

if TYPE_CHECKING:
    from simclr_lightning.data.pictures import Pictures

NAMED = 10  # pictures of a set that warnings name; the list has all
_LOOKED_AT = 20  # files that may be read in part for different reasons
LEAST = 100  # pictures, the share of which may be bad before so many have been seen


@dataclass
class Reading:
    """How the pictures of a run are read.

    Args:
        max_megapixels: larger pictures are not decoded; None: as ``decode.opened``.
        max_bad_share: of the pictures seen that may be unreadable.

    Attributes:
        file: text file that lists the unreadable pictures, a line each; None: they are kept in ``pending``.
        pending: lines that are not in a file yet.
        told: what has been said of files that are read in part, without its numbers.
        looked_at: files that were looked at for it.

    Example:
        >>> Reading(max_bad_share=0.1).file is None
        True
    """

    max_megapixels: float | None = None
    max_bad_share: float = 1.0
    file: Path | None = None
    pending: list[str] = field(default_factory=list)
    told: set[str] = field(default_factory=set)
    looked_at: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_number("max_megapixels", self.max_megapixels, "data.max_megapixels 179", above=0)
        check_number("max_bad_share", self.max_bad_share, "data.max_bad_share 0.1", least=0, most=1)

    def is_news(self, left_out: str) -> bool:
        """Whether nothing of the kind has been told yet; from now on it has."""
        kind = re.sub(r"\d+", "", left_out)
        news = bool(left_out) and kind not in self.told
        self.told |= {kind}
        return news

    def list_in(self, file: Path) -> None:
        """List unreadable pictures in a file from now on, and those that are known already."""
        self.file = file
        lines, self.pending = self.pending, []
        for line in lines:
            self.listed(line)

    def listed(self, line: str) -> None:
        """Add a line to the list. Workers and processes add to the same file, each a line at a time."""
        line = " ".join(line.split())
        if self.file is None:
            self.pending.append(line)
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8", errors="backslashreplace") as lines:
            lines.write(f"{line}\n")


def mark_bad(pictures: Pictures, position: int) -> None:
    """Remember a picture that cannot be read.

    Raises:
        BadPictureError: if these are more than the share that may be: rather the folder is missing than so many files
            damaged. One picture may always be; before 100 have been seen, the share is that of 100, or of all.

    Example:
        >>> import torch
        >>> from simclr_lightning.data import InMemoryPictures
        >>> pictures = InMemoryPictures(torch.zeros(9, 3, 8, 8, dtype=torch.uint8), torch.arange(9))
        >>> mark_bad(pictures, 4)
        >>> pictures.bad.nonzero().tolist()
        [[4]]
    """
    pictures.bad[position] = pictures.seen[position] = True
    bad, seen = int(pictures.bad.sum()), int(pictures.seen.sum())
    check_share(pictures.reading, bad, max(seen, min(len(pictures), LEAST)), seen, pictures.name(position))


def check_share(reading: Reading, bad: int, of: int, seen: int, last: str) -> None:
    """Raise if too many pictures are bad.

    Args:
        reading: knows the share that may be.
        bad: pictures that cannot be read.
        of: pictures that the share is taken of.
        seen: pictures that were read, or could not be.
        last: name of the last bad one.

    Raises:
        BadPictureError: if there are more than that share, and more than one.

    Example:
        >>> check_share(Reading(max_bad_share=0.1), bad=10, of=100, seen=60, last="1.png")
    """
    if bad > 1 and bad > reading.max_bad_share * of:
        listed = f" All are listed in {reading.file}." if reading.file is not None else ""
        raise BadPictureError(
            f"{bad} of the {seen} pictures seen so far cannot be read, the last of them {last}: more than "
            f"max_bad_share {reading.max_bad_share:g} allows.{listed} See whether "
            "the folder is still there, or allow more",
            f"data.max_bad_share {min(1.0, max(0.5, 2 * reading.max_bad_share)):g}",
        )


def leave_out(
    pictures: Pictures, position: int, error: BadPictureError, on_bad_picture: Literal["raise", "skip"], end: str
) -> None:
    """What to do about a picture that cannot be read: raise, or warn, list it and go on.

    Args:
        pictures: the set.
        position: of the picture in it.
        error: that was raised.
        on_bad_picture: raise or skip.
        end: of the warning: what happens in its place.

    Raises:
        BadPictureError: if it is not to be skipped, or there are too many, see :func:`mark_bad`.

    Example:
        >>> import torch
        >>> from simclr_lightning.data import InMemoryPictures
        >>> pictures = InMemoryPictures(torch.zeros(9, 3, 8, 8, dtype=torch.uint8), torch.arange(9))
        >>> leave_out(pictures, 4, BadPictureError("Cannot read 4."), "raise", "It does not count.")
        Traceback (most recent call last):
        simclr_lightning.data.decode.BadPictureError: Cannot read 4. Such pictures can be left out \
(--data.on_bad_picture skip).
    """
    if on_bad_picture == "raise":
        raise advice(error) from error
    pictures.reading.listed(str(error.args[0]))
    mark_bad(pictures, position)
    number = int(pictures.bad.sum())
    if number <= NAMED:
        more = " Others are not named here, but counted." if number == NAMED else ""
        warnings.warn(f"{error} {end}{more}", stacklevel=3)


def advice(error: BadPictureError) -> BadPictureError:
    """The same error, with a way out.

    Example:
        >>> str(advice(BadPictureError("Cannot read 4.")))
        'Cannot read 4. Such pictures can be left out (--data.on_bad_picture skip).'
    """
    said = f"{str(error.args[0]).rstrip('.')}. Such pictures can be left out"
    return BadPictureError(said, *error.options, "data.on_bad_picture skip")


def report_left_out(pictures: Pictures) -> None:
    """Warn, once a run and kind, that parts of files are not read: pages, or bands.

    Example:
        >>> import torch
        >>> from simclr_lightning.data import InMemoryPictures
        >>> report_left_out(InMemoryPictures(torch.zeros(9, 3, 8, 8, dtype=torch.uint8), torch.arange(9)))
    """
    reading = pictures.reading
    if len(reading.looked_at) >= _LOOKED_AT or not pictures.partly.any():
        return
    for position in pictures.partly.nonzero()[: 2 * _LOOKED_AT, 0].tolist():
        name = pictures.name(position)
        if name not in reading.looked_at and len(reading.looked_at) < _LOOKED_AT:
            reading.looked_at.add(name)
            left_out = pictures.left_out(position)
            if reading.is_news(left_out):
                warnings.warn(
                    f"{name} is read in part: {left_out}. Other such files are not named, but counted.", stacklevel=2
                )
