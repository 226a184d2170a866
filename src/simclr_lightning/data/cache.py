"""Decode a set of pictures once and keep it in memory."""

from __future__ import annotations

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from lightning.fabric.utilities.data import suggested_max_num_workers
from rich.progress import track

from simclr_lightning.data.decode import BadPictureError
from simclr_lightning.data.pictures import InMemoryPictures, Pictures
from simclr_lightning.distributed import rank
from simclr_lightning.errors import InputError

_CHUNK = 256  # an error stops the reading after so many pictures at most


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
    shape = _first_shape(pictures, on_bad_picture)
    needed, available = len(pictures) * int(np.prod(shape)), available_memory()
    if available is not None and needed > available:
        raise InputError(
            f"A cache of {len(pictures)} pictures of {shape[1]} x {shape[2]} pixels needs {needed / 2**30:.1f} GiB, "
            f"but {available / 2**30:.1f} GiB are free: leave it off (--data.cache false)."
        )
    images = torch.empty(len(pictures), *shape, dtype=torch.uint8)
    bad = torch.zeros(len(pictures), dtype=torch.bool)

    def read(position: int) -> None:
        try:
            pixels = pictures.read(position)
        except BadPictureError as error:
            if on_bad_picture == "raise":
                raise BadPictureError(f"{error} (--data.on_bad_picture skip goes on without such pictures.)") from error
            bad[position] = True
            warnings.warn(f"{error} It is left out.", stacklevel=2)
            return
        if pixels.shape != images.shape[1:]:
            raise InputError(
                f"{pictures.name(position)} has {pixels.shape[1]} x {pixels.shape[2]} pixels, the pictures before it "
                f"{shape[1]} x {shape[2]}: only pictures of equal size can be cached, so leave the cache off "
                "(--data.cache false)."
            )
        images[position] = pixels

    with ThreadPoolExecutor(suggested_max_num_workers(1)) as threads:  # pictures are decoded outside of Python's lock
        chunks = range(0, len(pictures), _CHUNK)
        for first in track(chunks, "Reading pictures", disable=rank() > 0 or len(chunks) == 1):
            list(threads.map(read, range(first, min(first + _CHUNK, len(pictures)))))
    cache = InMemoryPictures(images, pictures.targets, pictures.class_names)
    cache.multi_targets = pictures.multi_targets
    cache.bad |= bad
    return cache


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


def _first_shape(pictures: Pictures, on_bad_picture: str) -> tuple[int, ...]:
    for position in range(len(pictures)):
        try:
            return pictures.read(position).shape
        except BadPictureError:
            if on_bad_picture == "raise":
                raise
    raise BadPictureError(f"None of the {len(pictures)} pictures can be read.")
