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
from rich.progress import track
from torch import Tensor

from simclr_lightning.data.bad_pictures import Reading
from simclr_lightning.data.decode import BadPictureError, check_picture, decoded, fault, opened, picture_of
from simclr_lightning.data.pillow_files import left_out
from simclr_lightning.data.scaled import read_scaled
from simclr_lightning.distributed import rank
from simclr_lightning.errors import InputError
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
            (C, H, W) uint8.

        Raises:
            BadPictureError: if it cannot be read; the message names it.
        """


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
        images: (N, C, H, W) uint8.
        targets: (N,) int64 class indices, -1 where unlabelled.
        class_names: names of the classes, None where there are none.

    Raises:
        ValueError: if there are no pictures, or not one target for each.
        TypeError: if the pictures are not (N, C, H, W) bytes.

    Example:
        >>> pictures = InMemoryPictures(torch.zeros(9, 3, 8, 8, dtype=torch.uint8), torch.arange(9) % 2, ["cat", "dog"])
        >>> len(pictures), pictures.in_channels, pictures.read(4).shape
        (9, 3, torch.Size([3, 8, 8]))
    """

    def __init__(self, images: Tensor, targets: Tensor, class_names: Sequence[str] | None = None) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise TypeError(f"Expected pictures as (N, C, H, W) uint8, got {tuple(images.shape)} {images.dtype}.")
        if not len(images) or len(images) != len(targets):
            raise ValueError(
                f"Expected one target for each picture, got {len(images)} pictures and {len(targets)} targets."
            )
        super().__init__(targets.long(), class_names, images.shape[1], equal_size=True)
        self.images = images
        self.shape = images.shape[1:]

    def read(self, position: int) -> Tensor:
        """One picture, (C, H, W) uint8."""
        return self.images[position]


class FilePictures(Pictures):
    """Pictures in files, decoded when they are read; they may differ in size.

    Args:
        root: folder of the files.
        files: (N,) byte strings, paths relative to ``root``.
        targets: (N,) int64 class indices, -1 where unlabelled.
        class_names: names of the classes, None where there are none.
        multi_targets: (N, classes) int64 where a picture may show several, see ``Pictures``.

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

    def path(self, position: int) -> Path:
        """File of the picture at ``position``."""
        return self.root / os.fsdecode(bytes(self.files[position]))

    def name(self, position: int) -> str:
        """File of the picture."""
        return str(self.path(position))

    def read(self, position: int) -> Tensor:
        """One picture in RGB, upright."""
        with self._opened(position) as picture:
            return picture.pixels()

    def left_out(self, position: int) -> str:
        """What of the file is not read."""
        with self._opened(position) as picture:
            return picture.left_out

    def size(self, position: int) -> tuple[int, int]:
        """Height and width of one picture, upright, from the header of its file."""
        with self._opened(position) as picture:
            return picture.size()

    def read_scaled(self, position: int, scale: int) -> Tensor | ScaledPicture:
        """One picture in RGB, upright, no larger than it need be: see ``scaled.read_scaled``."""
        return read_scaled(self.path(position), scale, self.reading.max_megapixels)

    @contextmanager
    def _opened(self, position: int) -> Iterator[Any]:
        with opened(self.path(position), self.reading.max_megapixels) as picture:
            if picture.left_out:
                self.partly[position] = True
            yield picture


class DatasetPictures(Pictures):
    """Pictures of a map-style data set, which returns pictures or (picture, label) pairs.

    PIL pictures become RGB and may differ in size. Tensors, (C, H, W) uint8 with any number of channels, must all have
    the shape of the first. Labels are integers; they are taken from the attribute ``targets`` or ``labels`` where there
    is one, otherwise by reading the whole data set once.

    Args:
        dataset: with ``__len__`` and ``__getitem__``.

    Raises:
        InputError: if the data set is empty, the first picture is neither a PIL picture nor a uint8 tensor, or a label
            is not an integer.
        TypeError: if it has no length or no ``__getitem__``.

    Example:
        >>> from PIL import Image
        >>> pictures = DatasetPictures([Image.new("RGB", (5, 4)), Image.new("L", (3, 3))])
        >>> pictures.targets, [tuple(pictures.read(position).shape) for position in range(2)]
        (tensor([-1, -1]), [(3, 4, 5), (3, 3, 3)])
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        kind = type(dataset).__name__
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise TypeError(f"Expected a map-style data set, with __len__ and __getitem__, got {kind}.")
        if not len(dataset):
            raise InputError(f"The data set {kind} is empty.")
        first = dataset[0]
        picture = picture_of(first)
        self.shape = picture.shape if isinstance(picture, Tensor) else None
        check_picture(picture, self.shape, self.name(0))
        super().__init__(
            self._targets(first),
            getattr(dataset, "classes", None),
            self.shape[0] if self.shape else 3,
            equal_size=self.shape is not None,
        )

    def name(self, position: int) -> str:
        """Number of the picture and class of the data set."""
        return f"Picture {position} of {type(self.dataset).__name__}"

    def read(self, position: int) -> Tensor:
        """One picture: RGB if the data set returns PIL pictures, otherwise the tensor that it returns."""
        try:
            picture = picture_of(self.dataset[position])
        except Exception as error:  # whatever its decoder raises
            raise BadPictureError(f"Cannot read {self.name(position)}: {fault(error)}.") from error
        if left_out(picture):
            self.partly[position] = True
        return decoded(picture, self.shape, self.name(position), self.reading.max_megapixels)

    def left_out(self, position: int) -> str:
        """What of a picture that is still in its file is not read."""
        return left_out(picture_of(self.dataset[position]))

    def _targets(self, first: Any) -> Tensor:
        if not isinstance(first, (tuple, list)):
            return torch.full((len(self.dataset),), -1)
        kind = type(self.dataset).__name__
        for attribute in ("targets", "labels"):
            labels = getattr(self.dataset, attribute, None)
            if labels is not None and len(labels) == len(self.dataset):
                break
        else:
            positions = track(range(len(self.dataset)), f"Reading the labels of {kind}", disable=rank() > 0)
            labels = [self.dataset[position][1] for position in positions]
        targets = torch.as_tensor([-1 if label is None else label for label in labels])
        if targets.is_floating_point():
            raise InputError(f"The labels of {kind} should be integers, got {labels[0]!r}.")
        return targets.long()
