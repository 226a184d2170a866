"""What a data set in Python gives: PIL pictures or tensors, alone or with a label."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from simclr_lightning.data.decode import BadPictureError, fault, tensor_of, too_large
from simclr_lightning.errors import InputError
from simclr_lightning.views.scale import DTYPES, TYPES


def picture_of(item: Any) -> Any:
    """The picture of what a data set gives: a picture, or a picture and its label.

    Example:
        >>> picture_of(("a picture", 3)), picture_of("a picture")
        ('a picture', 'a picture')
    """
    return item[0] if isinstance(item, (tuple, list)) else item


def decoded(picture: Any, shape: torch.Size | None, name: str, max_megapixels: float | None = None) -> Tensor:
    """Pixels of a picture that somebody's data set gives.

    Args:
        picture: PIL picture, or tensor (C, H, W) of a type that views are made of; other floats become float32.
        shape: that all tensors must have; None: the data set gives PIL pictures.
        name: of the picture, for messages.
        max_megapixels: PIL pictures with more are refused, which need not be loaded yet.

    Returns:
        (C, H, W); RGB of a PIL picture.

    Raises:
        BadPictureError: if it cannot be decoded.
        InputError: if it is something else, or has another shape.

    Example:
        >>> decoded(Image.new("L", (60, 40)), None, "Picture 0").shape
        torch.Size([3, 40, 60])
    """
    check_picture(picture, shape, name)
    if isinstance(picture, Tensor):
        return picture.float() if picture.is_floating_point() else picture
    if max_megapixels is not None and picture.width * picture.height > 1e6 * max_megapixels:
        raise too_large(name, picture.width * picture.height, max_megapixels)
    try:
        return tensor_of(picture)
    except Exception as error:
        raise BadPictureError(f"Cannot read {name}: {fault(error)}.") from error


def check_picture(picture: Any, shape: torch.Size | None, name: str) -> None:
    """Complain of what is no picture; see :func:`decoded`.

    Example:
        >>> check_picture(torch.zeros(1, 8, 8, dtype=torch.uint8), torch.Size([1, 8, 8]), "Picture 0")
    """
    if isinstance(picture, Image.Image) and shape is None:
        return
    known = isinstance(picture, Tensor) and (picture.dtype in DTYPES or picture.is_floating_point())
    if not known or picture.ndim != 3 or shape is None:
        got = f"{tuple(picture.shape)} {picture.dtype}" if isinstance(picture, Tensor) else type(picture).__name__
        raise InputError(
            f"{name} is a {got}: the data set should return PIL pictures, or tensors (C, H, W) of {TYPES}, always the "
            "same. Leave out transforms that crop or batch: the views are made by the recipe."
        )
    if picture.shape != shape:
        raise InputError(
            f"{name} has shape {tuple(picture.shape)}, picture 0 has {tuple(shape or ())}: tensors must all have the "
            "same channels and size. Return PIL pictures where sizes differ."
        )
