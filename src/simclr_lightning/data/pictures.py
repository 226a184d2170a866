"""Sets of pictures with their labels, whatever holds them: memory, files, or somebody's data set."""

from __future__ import annotations

import copy
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from simclr_lightning.data.bad_pictures import Reading
from simclr_lightning.data.bands import bands_of, with_bands
from simclr_lightning.data.class_labels import class_indices
from simclr_lightning.data.decode import OpenedPicture, opened
from simclr_lightning.data.scaled import read_scaled
from simclr_lightning.data.walk import Findings
from simclr_lightning.views.scale import DTYPES, TYPES, rows_of
from simclr_lightning.views.workers import ScaledPicture


class Pictures(ABC):
    """A set of pictures that can be read by position.

    Args:
        targets: (N,) int64 class indices, -1 where unlabelled.
        class_names: names of the classes, None where there are none.
        in_channels: channels of every picture.
        equal_size: whether all pictures are known to have the same size.
        multi_targets: (N, classes) int64 where a picture may show several classes: 1 where it does, 0 where it does
            not, -1 where it does not count for the class. ``targets`` then holds one of the classes it shows, for all
            that needs one: balanced splits, and watching a pre-training. None where one class is all there is.

    Attributes:
        dtype: of the pictures, as far as it is known before they are read: uint8, uint16, int16 or float32.
        bad: (N,) bool, pictures that turned out to be unreadable. Loaders' workers share it.
        seen: (N,) bool, pictures that were read, or could not be. Shared as well.
        partly: (N,) bool, pictures whose files hold more than was read: see ``left_out``. Shared as well.
        reading: how files are read.
        reported: positions of those whose number has been told.

    Example:
        >>> class Shades(Pictures):
        ...     def read(self, position):
        ...         return torch.full((1, 4 + position, 6), position, dtype=torch.uint8)
        >>> shades = Shades(torch.tensor([0, 1, -1]), ["dark", "light"], in_channels=1, equal_size=False)
        >>> len(shades), shades.read(2).shape
        (3, torch.Size([1, 6, 6]))
    """

    dtype = torch.uint8

    def __init__(
        self,
        targets: Tensor,
        class_names: Sequence[str] | None,
        in_channels: int,
        *,
        equal_size: bool,
        multi_targets: Tensor | None = None,
    ) -> None:
        self.targets = targets
        self.multi_targets = multi_targets
        self.class_names = list(class_names) if class_names is not None else None
        self.in_channels = in_channels
        self.equal_size = equal_size
        self.bad, self.seen, self.partly = torch.zeros(3, len(targets), dtype=torch.bool).share_memory_()  # type: ignore[no-untyped-call]
        self.reading = Reading()
        self.reported: set[int] = set()

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.targets)

    def relabelled(self, targets: Tensor, class_names: Sequence[str] | None) -> Self:
        """The same pictures with other labels.

        Args:
            targets: (N,) int64 class indices, -1 where unlabelled.
            class_names: names of the classes, None where there are none.
        """
        other = copy.copy(self)
        other.targets, other.multi_targets = targets, None
        other.class_names = None if class_names is None else list(class_names)
        return other

    def name(self, position: int) -> str:
        """What to call a picture in a message."""
        return f"Picture {position}"

    def left_out(self, position: int) -> str:
        """What of a picture's file is not read; "" where nothing is left out."""
        return ""

    @abstractmethod
    def read(self, position: int) -> Tensor:
        """Read one picture.

        Args:
            position: of the picture, in [0, N).

        Returns:
            (C, H, W) uint8, uint16, int16 or float32.

        Raises:
            BadPictureError: if it cannot be read; the message names it.
        """


_PEEK = 64  # files that may tell the number of bands


class PictureSets(NamedTuple):
    """The splits of a data set.

    Attributes:
        train: pictures to pre-train on.
        val: pictures to watch the training with, None where there are none.
        test: pictures to judge the result on, None where there are none.

    Example:
        >>> train = InMemoryPictures(torch.zeros(9, 3, 8, 8, dtype=torch.uint8), torch.arange(9))
        >>> PictureSets(train, test=train).val is None
        True
    """

    train: Pictures
    val: Pictures | None = None
    test: Pictures | None = None


class InMemoryPictures(Pictures):
    """Pictures of equal size in one array.

    Args:
        images: (N, C, H, W) uint8, uint16, int16 or floating-point, which becomes float32.
        targets: (N,) int64 class indices, -1 where unlabelled; or labels of any form that ``class_indices`` takes.
        class_names: names of the classes, None where there are none.

    Raises:
        ValueError: if there are no pictures, or not one target for each.
        TypeError: if the pictures are not (N, C, H, W), or of another type.
        InputError: if targets are no labels.

    Example:
        >>> pictures = InMemoryPictures(torch.zeros(9, 3, 8, 8, dtype=torch.uint8), torch.arange(9) % 2, ["cat", "dog"])
        >>> len(pictures), pictures.in_channels, pictures.read(4).shape
        (9, 3, torch.Size([3, 8, 8]))
    """

    def __init__(
        self,
        images: Tensor,
        targets: Tensor | np.ndarray[Any, Any] | Sequence[Any],
        class_names: Sequence[str] | None = None,
    ) -> None:
        if images.is_floating_point():
            images = images.float()
        if images.dtype not in DTYPES or images.ndim != 4:
            raise TypeError(f"Expected pictures as (N, C, H, W) {TYPES}, got {tuple(images.shape)} {images.dtype}.")
        if not len(images) or len(images) != len(targets):
            raise ValueError(
                f"Expected one target for each picture, got {len(images)} pictures and {len(targets)} targets."
            )
        if not isinstance(targets, Tensor) or targets.ndim != 1 or targets.is_floating_point():
            targets, class_names = class_indices(targets, f"{len(images)} pictures in memory", class_names)
        super().__init__(targets.long(), class_names, images.shape[1], equal_size=True)
        self.images = images
        self.shape = images.shape[1:]
        self.dtype = images.dtype

    def rows(self, positions: Tensor) -> Tensor:
        """The pictures at (n,) positions, (n, C, H, W)."""
        return rows_of(self.images, positions)

    def read(self, position: int) -> Tensor:
        """One picture, (C, H, W)."""
        return self.images[position]


class FilePictures(Pictures):
    """Pictures in files, decoded when they are read; they may differ in size.

    Photos have three channels, and so have grey pictures of any format. Where the files are of ``data.readers``, the
    first that can be read tells how many bands all have, see ``bands``.

    Args:
        root: folder of the files.
        files: (N,) byte strings, paths relative to ``root``.
        targets: (N,) int64 class indices, -1 where unlabelled.
        class_names: names of the classes, None where there are none.
        multi_targets: (N, classes) int64 where a picture may show several, see ``Pictures``.

    Attributes:
        findings: what else a user should know of the folder, None where nobody looked.

    Example:
        >>> pictures = FilePictures(Path("photos"), np.array([b"cat/1.jpg", b"dog/2.jpg"]), torch.arange(2), None)
        >>> pictures.path(1).as_posix()
        'photos/dog/2.jpg'
    """

    def __init__(
        self,
        root: Path,
        files: np.ndarray[Any, np.dtype[np.bytes_]],
        targets: Tensor,
        class_names: Sequence[str] | None,
        multi_targets: Tensor | None = None,
    ) -> None:
        super().__init__(targets, class_names, in_channels=3, equal_size=False, multi_targets=multi_targets)
        self.root = root
        self.files = files
        self.findings: Findings | None = None
        self.in_channels = bands_of(map(self.name, range(min(len(self), _PEEK))), self.content)

    def path(self, position: int) -> Path:
        """File of the picture at ``position``."""
        return self.root / os.fsdecode(bytes(self.files[position]))

    def name(self, position: int) -> str:
        """File of the picture."""
        return str(self.path(position))

    def content(self, position: int) -> bytes | None:
        """Bytes of the file where they are not in a file of their own, otherwise None."""
        return None

    @contextmanager
    def opened(self, position: int) -> Iterator[OpenedPicture]:
        """One picture, of which the header has been read: see ``decode.opened``."""
        with opened(self.name(position), self.reading.max_megapixels, self.content(position)) as picture:
            if picture.left_out:
                self.partly[position] = True
            yield picture

    def read(self, position: int) -> Tensor:
        """One picture, upright, in RGB or with all its bands."""
        with self.opened(position) as picture:
            pixels = picture.pixels()
        return with_bands(pixels, self.in_channels, self.name(position))

    def left_out(self, position: int) -> str:
        """What of the file is not read."""
        with self.opened(position) as picture:
            return picture.left_out

    def size(self, position: int) -> tuple[int, int]:
        """Height and width of one picture, upright, from the header of its file."""
        with self.opened(position) as picture:
            return picture.size()

    def read_scaled(self, position: int, scale: int) -> Tensor | ScaledPicture:
        """One picture in RGB, upright, no larger than it need be: see ``scaled.read_scaled``."""
        picture = read_scaled(self.name(position), scale, self.reading.max_megapixels, self.content(position))
        if isinstance(picture, ScaledPicture):
            return picture
        return with_bands(picture, self.in_channels, self.name(position))
