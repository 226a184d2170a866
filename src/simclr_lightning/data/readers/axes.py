"""From an array of any layout to the tensor (C, H, W) of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

Array = np.ndarray[Any, Any]

_KEPT = {"uint8": torch.uint8, "uint16": torch.uint16, "int16": torch.int16}
_CHANGED = {"bool": torch.uint8, "int8": torch.int16}


def type_of(dtype: np.dtype[Any]) -> torch.dtype:
    """The type that the pictures of an array get: uint8, uint16, int16, or float32 of any floating-point number.

    Raises:
        ValueError: if it is another, such as 32-bit integers, whose values float32 does not hold exactly.

    Example:
        >>> type_of(np.dtype(">u2")), type_of(np.dtype("float64"))
        (torch.uint16, torch.float32)
    """
    if np.issubdtype(dtype, np.floating):
        return torch.float32
    found = (_KEPT | _CHANGED).get(dtype.newbyteorder("=").name)
    if found is None:
        raise ValueError(
            f"its numbers are of type {dtype.name}: save them as uint8, uint16, int16 or float32, "
            "such as array.astype('uint16')"
        )
    return found


def channel_axis(shape: Sequence[int]) -> int:
    """Which axis of a picture of three holds the bands: the first or the last.

    The one that leaves a square picture; if both do or neither, the shorter.

    Args:
        shape: of one picture.

    Raises:
        ValueError: if they are equally long.

    Example:
        >>> channel_axis((13, 64, 64)), channel_axis((48, 64, 4)), channel_axis((8, 8, 13))
        (0, 2, 2)
    """
    first, middle, last = shape
    squares = middle == last, first == middle  # what is left without the first, and without the last
    if squares[0] != squares[1]:
        return 0 if squares[0] else 2
    if first == last:
        raise ValueError(f"its shape {tuple(shape)} does not tell which axis holds the bands")
    return 0 if first < last else 2


def picture_tensor(array: Array, axis: int | None = None) -> Tensor:
    """The tensor of one picture.

    Args:
        array: (H, W), or three axes of which one holds the bands.
        axis: which does; None: see :func:`channel_axis`.

    Returns:
        (C, H, W) uint8, uint16, int16 or float32, see :func:`type_of`; of truth values, 0 and 255.

    Raises:
        ValueError: if it has another number of axes, no pixel, another type, or the axis cannot be told.

    Example:
        >>> picture_tensor(np.zeros((64, 48, 13), ">u2")).shape
        torch.Size([13, 64, 48])
    """
    dtype = type_of(array.dtype)
    if array.ndim not in (2, 3) or not array.size:
        raise ValueError(f"it holds an array of the shape {array.shape}, and a picture has two axes, or three")
    if array.ndim == 2:
        array = array[None]
    else:
        array = np.moveaxis(array, channel_axis(array.shape) if axis is None else axis, 0)
    if array.dtype == np.bool_:
        array = array * np.uint8(255)
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and clipped later
        return torch.from_numpy(np.array(array, dtype=str(dtype).removeprefix("torch."), order="C"))


_told: set[str] = set()


def tell_once(kind: str, message: str) -> None:
    """Warn, once a kind and process."""
    if kind not in _told:
        _told.add(kind)
        rank_zero_warn(message)
