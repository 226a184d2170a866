"""Decode a set of pictures once and keep it in memory: as it is, or reduced."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from lightning.fabric.utilities.data import suggested_max_num_workers
from rich.progress import track
from torch import Tensor

from simclr_lightning.data.bad_pictures import leave_out, report_left_out
from simclr_lightning.data.decode import BadPictureError
from simclr_lightning.data.pictures import InMemoryPictures, Pictures
from simclr_lightning.distributed import rank
from simclr_lightning.errors import InputError
from simclr_lightning.views.scale import limits_of

_CHUNK = 256  # an error stops the reading after so many pictures at most


class RaggedPictures(Pictures):
    """Pictures of different sizes in memory.

    Args:
        images: one (C, H, W) for each picture, None where it cannot be read.
        source: where they are from; gives labels, names and channels.

    Example:
        >>> images = [torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(3, 8, 12, dtype=torch.uint8)]
        >>> source = InMemoryPictures(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1]), ["cat", "dog"])
        >>> pictures = RaggedPictures(images, source)
        >>> pictures.read(1).shape, pictures.class_names
        (torch.Size([3, 8, 12]), ['cat', 'dog'])
    """

    def __init__(self, images: list[Tensor | None], source: Pictures) -> None:
        super().__init__(
            source.targets,
            source.class_names,
            source.in_channels,
            equal_size=False,
            multi_targets=source.multi_targets,
        )
        self.dtype = next((image.dtype for image in images if image is not None), source.dtype)
        self.images = images
        self.source = source
        self.bad |= torch.tensor([image is None for image in images])

    def name(self, position: int) -> str:
        """What the source calls it."""
        return self.source.name(position)

    def read(self, position: int) -> Tensor:
        """One picture, (C, H, W).

        Raises:
            BadPictureError: if it could not be read.
        """
        image = self.images[position]
        if image is None:
            raise BadPictureError(f"{self.name(position)} could not be read.")
        return image


def cached(pictures: Pictures, on_bad_picture: Literal["raise", "skip"] = "raise") -> InMemoryPictures:
    """Read every picture into one array.

    Args:
        pictures: of equal size.
        on_bad_picture: raise an error that names a picture which cannot be read, or skip it: warn with its name and
            mark its place in ``bad``.

    Returns:
        The same pictures at the same positions.

    Raises:
        InputError: if the sizes differ, naming the first picture that does, or if the array would not fit into the
            memory that is available.
        BadPictureError: if a picture cannot be read, or none can.

    Example:
        >>> from PIL import Image
        >>> from simclr_lightning.data import DatasetPictures
        >>> cached(DatasetPictures([Image.new("RGB", (6, 4))] * 5)).images.shape
        torch.Size([5, 3, 4, 6])
    """
    first = _first(pictures, on_bad_picture)
    shape, dtype = first.shape, first.dtype
    needed, available = len(pictures) * first.nbytes, available_memory()
    if available is not None and needed > available:
        raise InputError(
            f"A cache of {len(pictures)} pictures of {shape[1]} x {shape[2]} pixels needs {needed / 2**30:.1f} GiB, "
            f"but {available / 2**30:.1f} GiB are free: leave it off",
            "data.cache false",
        )
    images = torch.empty(len(pictures), *shape, dtype=dtype)
    bad = torch.ones(len(pictures), dtype=torch.bool)

    def keep(position: int, pixels: Tensor) -> None:
        if pixels.shape != shape:
            raise InputError(
                f"{pictures.name(position)} has {pixels.shape[1]} x {pixels.shape[2]} pixels, the pictures before it "
                f"{shape[1]} x {shape[2]}: only pictures of equal size can be cached, so leave the cache off",
                "data.cache false",
            )
        if pixels.dtype != dtype:
            raise InputError(
                f"{pictures.name(position)} is of type {_words(pixels.dtype)}, the pictures before it of "
                f"{_words(dtype)}: only pictures of one type can be cached, so leave the cache off",
                "data.cache false",
            )
        images[position], bad[position] = pixels, False

    for _ in _read(pictures, keep, on_bad_picture):
        pass
    cache = InMemoryPictures(images, pictures.targets, pictures.class_names)
    cache.multi_targets = pictures.multi_targets
    cache.bad |= bad
    return cache


def reduced(pictures: Pictures, shorter_side: int, on_bad_picture: Literal["raise", "skip"] = "raise") -> Pictures:
    """Read every picture, and keep it no larger than it is needed.

    Args:
        pictures: of any sizes. Those that are in memory already are returned as they are.
        shorter_side: pixels that are kept of larger pictures.
        on_bad_picture: as :func:`cached` takes it.

    Returns:
        The same pictures at the same positions, in one array if they are of equal size.

    Raises:
        InputError: if they would not fit into the memory that is available.
        BadPictureError: if a picture cannot be read, or none can.

    Example:
        >>> from PIL import Image
        >>> from simclr_lightning.data import DatasetPictures
        >>> pictures = reduced(DatasetPictures([Image.new("RGB", (60, 40)), Image.new("RGB", (30, 30))]), 20)
        >>> pictures.read(0).shape, pictures.read(1).shape
        (torch.Size([3, 20, 30]), torch.Size([3, 20, 20]))
    """
    if isinstance(pictures, InMemoryPictures):
        return pictures
    images: list[Tensor | None] = [None] * len(pictures)

    def keep(position: int, pixels: Tensor) -> None:
        height, width = pixels.shape[-2:]
        scale = shorter_side / min(height, width)
        if scale < 1:
            size = round(scale * height), round(scale * width)
            pixels = _resized(pixels, size)
        images[position] = pixels

    held = 0
    for part in _read(pictures, keep, on_bad_picture):
        held += sum(image.nbytes for image in images[part.start : part.stop] if image is not None)
        needed, available = held / part.stop * (len(images) - part.stop), available_memory()
        if available is not None and needed > available:
            raise InputError(
                f"{len(images)} pictures take {(held + needed) / 2**30:.1f} GiB, and {available / 2**30:.1f} GiB are "
                "free: take fewer pictures, or smaller views",
                "data.views.size",
            )
    readable = [image for image in images if image is not None]
    if not readable:
        raise BadPictureError(f"None of the {len(images)} pictures can be read.")
    if len(readable) < len(images) or len({(image.shape, image.dtype) for image in readable}) > 1:
        return RaggedPictures(images, pictures)
    array = InMemoryPictures(torch.stack(readable), pictures.targets, pictures.class_names)
    array.multi_targets = pictures.multi_targets
    return array


def available_memory() -> int | None:
    """Bytes that this process may still take, or None where the system does not tell.

    Example:
        >>> (available_memory() or 1) > 0
        True
    """
    limits = []
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        limits.append(int(fields["MemAvailable"].split()[0]) * 1024)
    elif "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    container = Path("/sys/fs/cgroup")
    if (container / "memory.max").exists() and (limit := (container / "memory.max").read_text().strip()) != "max":
        limits.append(int(limit) - int((container / "memory.current").read_text()))
    return min(limits, default=None)


def _resized(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    if pixels.dtype == torch.uint8:
        return F.interpolate(pixels[None], size, mode="bicubic", antialias=True)[0]
    resized = F.interpolate(pixels[None].float(), size, mode="bicubic", antialias=True)[0]
    if pixels.is_floating_point():
        return resized
    return resized.round_().clamp_(*limits_of(pixels.dtype)).to(pixels.dtype)


def _words(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _first(pictures: Pictures, on_bad_picture: Literal["raise", "skip"]) -> Tensor:
    for position in range(len(pictures)):
        try:
            return pictures.read(position)
        except BadPictureError as error:
            if on_bad_picture == "raise":
                leave_out(pictures, position, error, on_bad_picture, "")
    raise BadPictureError(f"None of the {len(pictures)} pictures can be read.")


def _read(
    pictures: Pictures, keep: Callable[[int, Tensor], None], on_bad_picture: Literal["raise", "skip"]
) -> Iterator[range]:
    """Read all pictures and keep those that can be read; gives the positions that are done, part by part."""

    def read(position: int) -> None:
        try:
            pixels = pictures.read(position)
        except BadPictureError as error:
            leave_out(pictures, position, error, on_bad_picture, "It is left out.")
            return
        pictures.seen[position] = True
        keep(position, pixels)

    with ThreadPoolExecutor(suggested_max_num_workers(1)) as threads:  # pictures are decoded outside of Python's lock
        chunks = range(0, len(pictures), _CHUNK)
        for first in track(chunks, "Reading pictures", disable=rank() > 0 or len(chunks) == 1):
            part = range(first, min(first + _CHUNK, len(pictures)))
            list(threads.map(read, part))
            yield part
    report_left_out(pictures)
