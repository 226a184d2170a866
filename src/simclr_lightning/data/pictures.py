"""Sets of pictures with their labels, whatever holds them: memory, files, or somebody's data set."""

from __future__ import annotations

import copy
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from rich.progress import track
from torch import Tensor

from simclr_lightning.data.decode import BROKEN, BadPictureError, pixels_of, read_picture, to_rgb
from simclr_lightning.distributed import rank


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
        # Pictures that turned out to be unreadable. Loaders' workers share it: one of them tries and warns, once.
        self.bad: Tensor = torch.zeros(len(targets), dtype=torch.bool).share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.targets)

    def relabelled(self, targets: Tensor, class_names: Sequence[str] | None) -> Self:
        """The same pictures with other labels, one for each."""
        other = copy.copy(self)
        other.multi_targets = None
        other.targets, other.class_names = targets, list(class_names) if class_names is not None else None
        return other

    def name(self, position: int) -> str:
        """What to call a picture in a message."""
        return f"Picture {position}"

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


class InMemoryPictures(Pictures):
    """Pictures of equal size in one array.

    Args:
        images: (N, C, H, W) uint8.
        targets: (N,) int64 class indices, -1 where unlabelled.
        class_names: names of the classes, None where there are none.

    Raises:
        ValueError: if there are no pictures, or not one target for each.
        TypeError: if the pictures are not (N, C, H, W) bytes.
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
        return read_picture(self.path(position))


class DatasetPictures(Pictures):
    """Pictures of a map-style data set, which returns pictures or (picture, label) pairs.

    PIL pictures become RGB and may differ in size. Tensors, (C, H, W) uint8 with any number of channels, must all have
    the shape of the first. Labels are integers; they are taken from the attribute ``targets`` or ``labels`` where there
    is one, otherwise by reading the whole data set once.

    Args:
        dataset: with ``__len__`` and ``__getitem__``.

    Raises:
        ValueError: if the data set is empty.
        TypeError: if the first picture is neither a PIL picture nor a uint8 tensor, or a label is not an integer.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        kind = type(dataset).__name__
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise TypeError(f"Expected a map-style data set, with __len__ and __getitem__, got {kind}.")
        if not len(dataset):
            raise ValueError(f"The data set {kind} is empty.")
        first = dataset[0]
        picture = _picture(first)
        self.shape = picture.shape if isinstance(picture, Tensor) else None
        self._check(picture, 0)
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
            picture = _picture(self.dataset[position])
            if isinstance(picture, Image.Image):
                picture = to_rgb(picture)
        except BROKEN as error:
            raise BadPictureError(f"Cannot read {self.name(position)}: {error}") from error
        picture = self._check(picture, position)
        return pixels_of(picture) if isinstance(picture, Image.Image) else picture

    def _check(self, picture: Any, position: int) -> Image.Image | Tensor:
        if isinstance(picture, Image.Image) and self.shape is None:
            return picture
        if not isinstance(picture, Tensor) or picture.dtype != torch.uint8 or picture.ndim != 3:
            got = f"{tuple(picture.shape)} {picture.dtype}" if isinstance(picture, Tensor) else type(picture).__name__
            raise TypeError(
                f"{self.name(position)} is a {got}: the data set should return PIL pictures, or uint8 tensors "
                "(C, H, W), always the same. Leave out transforms such as ToTensor: the views are made by the recipe."
            )
        if picture.shape != self.shape:
            raise ValueError(
                f"{self.name(position)} has shape {tuple(picture.shape)}, picture 0 has {tuple(self.shape or ())}: "
                "tensors must all have the same channels and size. Return PIL pictures where sizes differ."
            )
        return picture

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
            raise TypeError(f"The labels of {kind} should be integers, got {labels[0]!r}.")
        return targets.long()


def _picture(item: Any) -> Any:
    return item[0] if isinstance(item, (tuple, list)) else item
