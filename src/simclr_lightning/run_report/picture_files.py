"""The pictures in the folder of a run, as they stand in a page: in its text, and no larger than they have to be."""

from __future__ import annotations

import io
import os
import re
import warnings
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from PIL import Image

_KINDS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}
_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif")
_WHEN = re.compile(r"epoch=(\d+)(?:-step=(\d+))?")
_MOST_PIXELS = 50_000_000
_LARGEST_FILE = 1_500_000  # bytes; a larger one is made smaller
_LONGEST_SIDE = 1600
_MOST_FILES = 20_000
_FOLDERS = ("pictures", "views")


class Found(NamedTuple):
    """A picture of a run.

    Attributes:
        path: of its file.
        title: when it was made, or its name.
        order: by which it stands among its like.

    Example:
        >>> Found(Path("views/epoch=3.png"), "epoch 3", (3, 0)).title
        'epoch 3'
    """

    path: Path
    title: str
    order: tuple[int, int]


class Shown(NamedTuple):
    """A picture in the page.

    Attributes:
        title: when it was made, or its name.
        source: a data: URI.
        width: in pixels.
        height: in pixels.

    Example:
        >>> Shown("epoch 3", "data:image/png;base64,", 8, 8).title
        'epoch 3'
    """

    title: str
    source: str
    width: int
    height: int


@dataclass
class Budget:
    """Bytes that are left for pictures, and what found no place.

    Example:
        >>> Budget(1000).left_out
        []
    """

    left: int
    left_out: list[str] = field(default_factory=list)


def find_pictures(folder: Path) -> dict[str, list[Found]]:
    """Pictures by what they show, each kind from the first to the last.

    ``pictures/KEY/epoch=E-step=S.png``, ``views/epoch=E.png``, and those beside the records of the run and of its
    evaluations. Folders that are links are not entered.

    Example:
        >>> find_pictures(Path("no/such/folder"))
        {}
    """
    found: dict[str, list[Found]] = {}
    for path in sorted(_files(folder)):
        when = _WHEN.fullmatch(path.stem)
        if when is None:
            key, title, order = path.relative_to(folder).as_posix(), "", (0, 0)
        else:
            key = path.parent.relative_to(folder).as_posix().removeprefix("pictures/")
            order = int(when[1]), int(when[2] or 0)
            title = f"epoch {order[0]}" + (f", step {order[1]:,}" if when[2] else "")
        found.setdefault(key, []).append(Found(path, title, order))
    return {key: sorted(pictures, key=lambda own: own.order) for key, pictures in found.items()}


def _files(folder: Path) -> Iterator[Path]:
    number = 0
    for parent, folders, names in os.walk(folder):
        depth = len(Path(parent).relative_to(folder).parts)
        kept = Path(parent).relative_to(folder).parts[:1]
        folders[:] = sorted(
            name
            for name in folders
            if name != "checkpoints" and (depth == 0 or kept[0] in _FOLDERS) and depth < 5 and name[0] != "."
        )
        for name in names:
            if name.lower().endswith(_ENDINGS) and number < _MOST_FILES:
                number += 1
                yield Path(parent, name)


def chosen(found: list[Found], most: int) -> list[Found]:
    """The first and the last, and others evenly spaced between them.

    Example:
        >>> [own.order[0] for own in chosen([Found(Path(), "", (epoch, 0)) for epoch in range(100)], most=4)]
        [0, 33, 66, 99]
    """
    if len(found) <= most:
        return found
    if most == 1:
        return found[-1:]
    return [found[round(place * (len(found) - 1) / (most - 1))] for place in range(most)]


def show_pictures(found: list[Found], budget: Budget, most: int) -> list[Shown]:
    """Read pictures, the last one first: it has the best claim to what is left of the budget.

    Example:
        >>> budget = Budget(1000)
        >>> show_pictures([Found(Path("no.png"), "", (0, 0))], budget, most=3), budget.left_out
        ([], ['no.png (it cannot be read)'])
    """
    shown = []
    for own in reversed(chosen(found, most)):
        try:
            content, kind, size = _read(own.path)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            told = str(error) if isinstance(error, _TooLargeError) else "it cannot be read"
            budget.left_out.append(f"{own.path} ({told})")
            continue
        if len(content) * 4 // 3 > budget.left:
            budget.left_out.append(f"{own.path} (no room: --megabytes)")
            continue
        budget.left -= len(content) * 4 // 3
        shown.append(Shown(own.title, f"data:{kind};base64,{b64encode(content).decode()}", *size))
    return shown[::-1]


class _TooLargeError(ValueError):
    pass


def _read(path: Path) -> tuple[bytes, str, tuple[int, int]]:
    """A file as it is, or made smaller; its kind and its size in pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large pictures, which are left out here
        with Image.open(path, formats=list(_KINDS)) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise _TooLargeError(f"{image.width:,} x {image.height:,} pixels are too many")
            if path.stat().st_size <= _LARGEST_FILE:
                image.load()  # complains of a file that is cut off
                return path.read_bytes(), _KINDS[str(image.format)], image.size
            image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
            content = io.BytesIO()
            image.convert("RGB").save(content, "JPEG", quality=85)
            return content.getvalue(), "image/jpeg", image.size
