"""``DatasetPictures``: the pictures of anybody's map-style data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from simclr_lightning.data.class_labels import class_indices
from simclr_lightning.data.decode import BadPictureError, fault
from simclr_lightning.data.items import check_picture, decoded, picture_of
from simclr_lightning.data.pictures import Pictures
from simclr_lightning.data.pillow_files import left_out
from simclr_lightning.distributed import rank
from simclr_lightning.errors import InputError


class DatasetPictures(Pictures):
    """Pictures of a map-style data set, which returns pictures or (picture, label) pairs.

    PIL pictures become RGB and may differ in size. Tensors, (C, H, W) uint8, uint16, int16 or float with any number of
    channels, must all have the shape and the type of the first. Labels have any form that
    ``class_indices`` takes: integers, columns, one-hot rows, names. They are taken from the attribute ``targets`` or
    ``labels`` where there is one, otherwise by reading the whole data set once. Names are looked up in the attribute
    ``classes`` where there is one.

    Args:
        dataset: with ``__len__`` and ``__getitem__``.

    Raises:
        InputError: if the data set is empty, the first picture is neither a PIL picture nor such a tensor, or labels
            have none of those forms.
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
        self.dtype = decoded(picture, self.shape, self.name(0)).dtype if self.shape else torch.uint8
        super().__init__(
            *self._labels(first, getattr(dataset, "classes", None)),
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
        pixels = decoded(picture, self.shape, self.name(position), self.reading.max_megapixels)
        if self.shape and pixels.dtype != self.dtype:
            raise InputError(f"{self.name(position)} is of {pixels.dtype}, picture 0 of {self.dtype}: return one type.")
        return pixels

    def left_out(self, position: int) -> str:
        """What of a picture that is still in its file is not read."""
        return left_out(picture_of(self.dataset[position]))

    def _labels(self, first: Any, names: Sequence[str] | None) -> tuple[Tensor, list[str] | None]:
        if not isinstance(first, (tuple, list)):
            return torch.full((len(self.dataset),), -1), None if names is None else list(names)
        kind = type(self.dataset).__name__
        for attribute in ("targets", "labels"):
            labels = getattr(self.dataset, attribute, None)
            if labels is not None and len(labels) == len(self.dataset):
                break
        else:
            positions = track(range(len(self.dataset)), f"Reading the labels of {kind}", disable=rank() > 0)
            labels = [self.dataset[position][1] for position in positions]
        return class_indices(labels, kind, names)
