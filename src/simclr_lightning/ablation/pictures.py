"""Read pictures of any size once, and keep them in memory no larger than the views need them."""

from __future__ import annotations

import math
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import torch
import torch.nn.functional as F
from lightning.fabric.utilities.data import suggested_max_num_workers
from rich.progress import track
from torch import Tensor

from simclr_lightning.data import BadPictureError, InMemoryPictures, Pictures
from simclr_lightning.data.cache import available_memory
from simclr_lightning.views import ViewRecipe

_CHUNK = 256  # an error stops the reading after so many pictures at most


class ReducedPictures(Pictures):
    """Pictures of different sizes in memory.

    Args:
        images: one (C, H, W) uint8 for each picture, None where it cannot be read.
        source: where they are from; gives labels, names and channels.
    """

    def __init__(self, images: list[Tensor | None], source: Pictures) -> None:
        super().__init__(source.targets, source.class_names, source.in_channels, equal_size=False)
        self.images = images
        self.source = source
        self.bad |= torch.tensor([image is None for image in images])

    def name(self, position: int) -> str:
        """What the source calls it."""
        return self.source.name(position)

    def read(self, position: int) -> Tensor:
        """One picture, (C, H, W) uint8.

        Raises:
            BadPictureError: if it could not be read.
        """
        image = self.images[position]
        if image is None:
            raise BadPictureError(f"{self.name(position)} could not be read.")
        return image


def shorter_side(recipe: ViewRecipe) -> int:
    """Pixels at which even the smallest crop of a recipe is not enlarged: below, the views would be blurred.

    The shorter side of a crop is at least sqrt(smallest area x smallest ratio) times that of a square picture.
    """
    low, high = recipe.crop_ratio
    return math.ceil(recipe.size / math.sqrt(recipe.crop_area[0] * min(low, 1 / high)))


def in_memory(pictures: Pictures, side: int, on_bad_picture: Literal["raise", "skip"] = "raise") -> Pictures:
    """Read every picture once; larger ones are reduced.

    A study reads each picture hundreds of times: decoding it each time would take longer than the training.

    Args:
        pictures: of any sizes. Those that are in memory already are returned as they are.
        side: pixels of the shorter side that are kept.
        on_bad_picture: raise an error that names a picture which cannot be read, or skip it: warn, and let the next
            one take its place.

    Returns:
        The same pictures at the same positions, in one array if they are of equal size.

    Raises:
        MemoryError: if they would not fit into the memory that is available.
        BadPictureError: if a picture cannot be read, or none can.
    """
    if isinstance(pictures, InMemoryPictures):
        return pictures

    def read(position: int) -> Tensor | None:
        try:
            return _reduced(pictures.read(position), side)
        except BadPictureError as error:
            if on_bad_picture == "raise":
                raise BadPictureError(f"{error} (--on_bad_picture skip goes on without such pictures.)") from error
            warnings.warn(f"{error} The next picture takes its place.", stacklevel=2)
            return None

    images: list[Tensor | None] = []
    with ThreadPoolExecutor(suggested_max_num_workers(1)) as threads:  # pictures are decoded outside of Python's lock
        for first in track(range(0, len(pictures), _CHUNK), "Reading pictures", transient=True):
            images += threads.map(read, range(first, min(first + _CHUNK, len(pictures))))
            _check_memory(images, len(pictures))
    readable = [image for image in images if image is not None]
    if not readable:
        raise BadPictureError(f"None of the {len(pictures)} pictures can be read.")
    if len(readable) == len(images) and len({image.shape for image in readable}) == 1:
        return InMemoryPictures(torch.stack(readable), pictures.targets, pictures.class_names)
    return ReducedPictures(images, pictures)


def _reduced(picture: Tensor, side: int) -> Tensor:
    height, width = picture.shape[-2:]
    scale = side / min(height, width)
    if scale >= 1:
        return picture
    size = (round(scale * height), round(scale * width))
    return F.interpolate(picture[None], size, mode="bicubic", antialias=True)[0]


def _check_memory(images: list[Tensor | None], total: int) -> None:
    held = sum(image.numel() for image in images if image is not None)
    needed, available = held / len(images) * (total - len(images)), available_memory()
    if available is not None and needed > available:
        raise MemoryError(
            f"{total} pictures take {(held + needed) / 2**30:.1f} GiB, and {available / 2**30:.1f} GiB are free: study "
            "a part of them, or smaller views (--views.size)."
        )
