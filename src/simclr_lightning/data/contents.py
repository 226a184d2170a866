"""What a data set holds: counts, classes, sizes, depths and values, and pictures that are in two splits."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from simclr_lightning.data.pictures import FilePictures, Pictures
from simclr_lightning.data.splits import Split, Splits
from simclr_lightning.data.walk import Findings
from simclr_lightning.errors import InputError

_SHOWN = 10
"""Classes whose numbers are told one by one; of more, the smallest and the largest."""


class Header(NamedTuple):
    """What a file says of its picture.

    Attributes:
        height: upright, in pixels.
        width: upright, in pixels.
        channels: of the file; a palette is one.
        bits: of each channel, 32 for floating point.

    Example:
        >>> Header(20, 30, 3, 8).channels
        3
    """

    height: int
    width: int
    channels: int
    bits: int


def read_header(pictures: Pictures, position: int) -> Header:
    """Size, channels and depth of a picture: from its file's header where Pillow knows it, otherwise from its pixels.

    Raises:
        BadPictureError: if it cannot be read; the message names it.

    Example:
        >>> from simclr_lightning.data import InMemoryPictures
        >>> read_header(InMemoryPictures(torch.zeros(2, 3, 8, 9, dtype=torch.uint8), torch.arange(2)), 0)
        Header(height=8, width=9, channels=3, bits=8)
    """
    if isinstance(pictures, FilePictures):
        with pictures.opened(position) as picture:
            if picture.header is not None:
                return Header(*picture.size(), len(picture.header.getbands()), _bits(picture.header))
            pixels = picture.pixels()
    else:
        pixels = pictures.read(position)
    channels, height, width = pixels.shape
    return Header(height, width, channels, 32 if pixels.is_floating_point() else torch.iinfo(pixels.dtype).bits)


def read_values(pictures: Pictures, position: int) -> NDArray[Any]:
    """The values of a picture as its file has them, of any shape; those that are read where Pillow does not know it.

    Raises:
        BadPictureError: if it cannot be read; the message names it.

    Example:
        >>> from simclr_lightning.data import InMemoryPictures
        >>> read_values(InMemoryPictures(torch.zeros(2, 3, 8, 9, dtype=torch.uint8), torch.arange(2)), 0).max().item()
        0
    """
    pixels = pictures.read(position)  # complains of what is damaged
    if isinstance(pictures, FilePictures):
        with pictures.opened(position) as picture:
            if picture.header is None:
                return picture.pixels().numpy()
            if picture.header.mode not in ("P", "PA"):
                try:
                    return np.asarray(picture.header)
                except Exception:  # of files that are read without their metadata
                    pass
    return pixels.numpy()


def duplicates(first: Pictures, second: Pictures) -> list[tuple[str, str]]:
    """Pictures of one split whose files are, byte for byte, in another one as well.

    Only files of equal size are read.

    Example:
        >>> from simclr_lightning.data import InMemoryPictures
        >>> pictures = InMemoryPictures(torch.zeros(2, 3, 8, 9, dtype=torch.uint8), torch.arange(2))
        >>> duplicates(pictures, pictures)  # no files
        []
    """
    if not isinstance(first, FilePictures) or not isinstance(second, FilePictures):
        return []
    sizes = [_by_size(first), _by_size(second)]
    common = sizes[0].keys() & sizes[1].keys()
    known: dict[bytes, str] = {}
    for size in common:
        for path in sizes[0][size]:
            known.setdefault(_digest(path), str(path))
    pairs = ((known.get(_digest(path)), str(path)) for size in common for path in sizes[1][size])
    return sorted((there, here) for there, here in pairs if there is not None)


def summarised(splits: Splits, findings: Findings | None) -> dict[str, str]:
    """What a run works with, in a few lines; no file is opened for it.

    Args:
        splits: of the run.
        findings: of the folder, if it is one.

    Example:
        >>> from simclr_lightning.data import InMemoryPictures, PictureSets
        >>> from simclr_lightning.data.splits import arrange
        >>> pictures = InMemoryPictures(torch.zeros(9, 3, 8, 8, dtype=torch.uint8), torch.arange(9) % 2, ["cat", "dog"])
        >>> summarised(arrange(PictureSets(pictures)), None)
        {'pictures': 'train 9 (2 classes: cat 5, dog 4), no val, no test'}
    """
    told = []
    for name, part in (("train", splits.train), ("val", splits.val), ("test", splits.test)):
        if part is None or not len(part.positions):
            told.append(f"no {name}")
        elif name == "test" and splits.val is not None and _same(part, splits.val):
            told.append("test is val")
        else:
            told.append(f"{name} {len(part.positions):,} ({_classes(part)})")
    rows = {"pictures": ", ".join(told)}
    if findings is not None:
        rows |= {"left out": "; ".join(map(str, findings.left_out))} if findings.left_out else {}
        rows |= {"found": "; ".join(findings.notes)} if findings.notes else {}
    return rows


def counted(pictures: Pictures) -> dict[str, Any]:
    """Numbers of pictures, of labelled ones, and of those of every class.

    Example:
        >>> from simclr_lightning.data import InMemoryPictures
        >>> counted(InMemoryPictures(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 0, -1]), ["cat"]))
        {'pictures': 3, 'labelled': 2, 'classes': {'cat': 2}}
    """
    return {
        "pictures": len(pictures),
        "labelled": int((pictures.targets >= 0).sum()),
        "classes": _counts(Split(pictures, torch.arange(len(pictures)))),
    }


def looked_at(sets: dict[str, Pictures], sample: int, *, quiet: bool = False) -> dict[str, Any]:
    """Sizes, channels and depths of all pictures, by their headers, and the values of a sample of them.

    Args:
        sets: splits.
        sample: pictures of each split, evenly spaced, whose pixels are read; others than files are not looked at
            beyond it.
        quiet: whether to show no progress.

    Example:
        >>> from simclr_lightning.data import InMemoryPictures
        >>> pictures = InMemoryPictures(torch.arange(54, dtype=torch.uint8).view(2, 3, 3, 3), torch.arange(2))
        >>> found = looked_at({"train": pictures}, 10, quiet=True)
        >>> found["sizes"]["largest"], found["channels"], found["bits"], found["values"]
        ([3, 3], {'3': 2}, {'8': 2}, {'8 bits': [0, 53]})
    """
    headers, unreadable = list[Header](), dict[str, str]()
    values: dict[str, list[float]] = {}
    read = 0
    for pictures in sets.values():
        chosen = set(np.linspace(0, len(pictures) - 1, min(sample, len(pictures))).round().astype(int).tolist())
        places: Sequence[int] = range(len(pictures)) if isinstance(pictures, FilePictures) else sorted(chosen)
        for position in track(places, "Reading the headers of the pictures", disable=quiet, transient=True):
            try:
                header = read_header(pictures, position)
                headers.append(header)
                if position in chosen:
                    own = read_values(pictures, position)
                    own = own[np.isfinite(own)]
                    read += 1
                    key = f"{header.bits} bits"
                    if own.size:
                        low, high = values.get(key, [own.min().item(), own.max().item()])
                        values[key] = [min(low, own.min().item()), max(high, own.max().item())]
            except InputError as error:
                unreadable[pictures.name(position)] = str(error)
    return {
        "headers_read": len(headers),
        "pixels_read": read,
        "sizes": _sizes(headers),
        "channels": _named(Counter(header.channels for header in headers)),
        "bits": _named(Counter(header.bits for header in headers)),
        "values": values,
        "unreadable": unreadable,
    }


def _sizes(headers: Sequence[Header]) -> dict[str, Any]:
    if not headers:
        return {}
    sizes = sorted(((header.height, header.width) for header in headers), key=lambda size: size[0] * size[1])
    ends = {"smallest": sizes[0], "median": sizes[len(sizes) // 2], "largest": sizes[-1]}
    return {name: list(size) for name, size in ends.items()} | {"different": len(set(sizes))}


def _named(counts: Counter[int]) -> dict[str, int]:
    return {str(value): counts[value] for value in sorted(counts)}


def _counts(part: Split) -> dict[str, int]:
    """Pictures of each class that has any."""
    targets = part.pictures.targets[part.positions]
    numbers, counts = torch.unique(targets[targets >= 0], return_counts=True)
    names = part.pictures.class_names
    return {
        str(number) if names is None else names[number]: count
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)
    }


def _classes(part: Split) -> str:
    counts = _counts(part)
    if not counts:
        return "unlabelled"
    unlabelled = len(part.positions) - sum(counts.values())
    if len(counts) <= _SHOWN:
        told = f"{len(counts)} class{'es' * (len(counts) > 1)}: " + ", ".join(f"{k} {n:,}" for k, n in counts.items())
    else:
        told = f"{len(counts):,} classes of {min(counts.values()):,} to {max(counts.values()):,}"
        single = sum(count == 1 for count in counts.values())
        told += f", {single:,} of them of one picture" * (single > 0)
    return told + f", {unlabelled:,} unlabelled" * (unlabelled > 0)


def _same(first: Split, second: Split) -> bool:
    return first.pictures is second.pictures and torch.equal(first.positions, second.positions)


def _bits(picture: Image.Image) -> int:
    """Of a channel, as the file has it: Pillow keeps eight of sixteen where there are several channels."""
    tiles = getattr(picture, "tile", [])
    raw = tiles[0][3] if tiles else ""
    raw = raw[0] if isinstance(raw, tuple) and raw else raw
    if isinstance(raw, str) and ";16" in raw:
        return 16
    mode = picture.mode
    return 1 if mode == "1" else 16 if mode.startswith("I;16") else 32 if mode in ("I", "F") else 8


def _by_size(pictures: FilePictures) -> dict[int, list[Path]]:
    sizes: dict[int, list[Path]] = defaultdict(list)
    for path in _paths(pictures):
        if path.is_file():
            sizes[path.stat().st_size].append(path)
    return sizes


def _paths(pictures: FilePictures) -> Iterator[Path]:
    return (pictures.path(position) for position in range(len(pictures)))


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()
