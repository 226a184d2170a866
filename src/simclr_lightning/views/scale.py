"""``ValueRange``: what counts as black and as white in pictures whose numbers are no bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from simclr_lightning.errors import InputError

DTYPES = (torch.uint8, torch.uint16, torch.int16, torch.float32)
"""What pictures may hold; views are float32."""

TYPES = "uint8, uint16, int16 or float"
"""The same in words."""


class ValueRange(NamedTuple):
    """The values that become 0 and 1 in a view; what lies outside is clipped, before anything is resized.

    Attributes:
        low: becomes 0: one number, or one for each band.
        high: becomes 1, likewise; above ``low``.

    Example:
        >>> reflectance = torch.tensor([[[0, 1500, 3000, 9000]]], dtype=torch.int16)
        >>> in_unit_range(reflectance, ValueRange(0, 3000)).flatten()
        tensor([0.0000, 0.5000, 1.0000, 1.0000])
    """

    low: float | tuple[float, ...]
    high: float | tuple[float, ...]

    @classmethod
    def of(cls, numbers: Sequence[Any]) -> ValueRange:
        """From ``[low, high]``, of which each is a number or a list of one number for each band.

        Raises:
            InputError: if they are something else, or an upper end is not above its lower one.

        Example:
            >>> ValueRange.of([[0, 0], [3000, 5000]])
            ValueRange(low=(0.0, 0.0), high=(3000.0, 5000.0))
        """
        try:
            low, high = (tuple(map(float, end)) if isinstance(end, Sequence) else float(end) for end in numbers)
            ends = torch.tensor(low), torch.tensor(high)
            if ends[0].shape == ends[1].shape and bool((ends[0] < ends[1]).all() & torch.stack(ends).isfinite().all()):
                return cls(low, high)
        except (TypeError, ValueError):
            pass
        raise InputError(
            f"The scale is {numbers!r}: give two numbers, the lower first, what is black and what is white; or two "
            "lists, of a number for each band",
            "data.scale '[0, 4095]'",
        )

    def plain(self) -> list[Any]:
        """As primitives, which checkpoints hold; ``of`` takes them.

        Example:
            >>> ValueRange(0.0, 4095.0).plain()
            [0.0, 4095.0]
        """
        return [list(end) if isinstance(end, Sequence) else end for end in self]

    def check_channels(self, channels: int) -> None:
        """Raise unless there is one number for all bands, or one for each.

        Raises:
            InputError: if there are others; it says how many.

        Example:
            >>> ValueRange(0, 4095).check_channels(13)
        """
        own = {len(end) for end in self if isinstance(end, Sequence)} - {1}
        if own - {channels}:
            raise InputError(
                f"The scale has {max(own)} numbers, the pictures {channels} channel(s): give one for all, or one for "
                "each",
                "data.scale",
            )


def limits_of(dtype: torch.dtype) -> tuple[float, float]:
    """The range of a type: 0 to 255 or 65,535, -32,768 to 32,767, or 0 to 1 of floating-point numbers.

    Example:
        >>> limits_of(torch.uint16)
        (0.0, 65535.0)
    """
    if dtype.is_floating_point:
        return 0.0, 1.0
    limits = torch.iinfo(dtype)
    return float(limits.min), float(limits.max)


def is_ready(pixels: Tensor, scale: ValueRange | None) -> bool:
    """Whether the operations take pixels as they are: bytes, or floats in [0, 1], of which nothing else is known.

    Example:
        >>> is_ready(torch.zeros(1, 2, 2, dtype=torch.uint8), None), is_ready(torch.zeros(1), ValueRange(0, 9))
        (True, False)
    """
    return scale is None and (pixels.dtype == torch.uint8 or pixels.is_floating_point())


def in_unit_range(pixels: Tensor, scale: ValueRange | None = None) -> Tensor:
    """Pixels as float32 in [0, 1].

    Args:
        pixels: (..., C, H, W) of any type.
        scale: what becomes 0 and 1; None: the range of the type, of which floats are taken to be without a look.

    Returns:
        New float32 tensor of the same shape. What is no number (NaN, as telescopes mark pixels without data) is 0.

    Raises:
        InputError: if the scale has another number of bands.

    Example:
        >>> in_unit_range(torch.tensor([[[0, 51, 255]]], dtype=torch.uint8)).flatten()
        tensor([0.0000, 0.2000, 1.0000])
        >>> in_unit_range(torch.tensor([[[float("nan"), 5.0]]]), ValueRange(0, 4)).flatten()
        tensor([0., 1.])
    """
    values = pixels.to(torch.float32, copy=True)
    if scale is None:
        if pixels.is_floating_point():
            return values
        low, high = limits_of(pixels.dtype)
        return values.sub_(low).div_(high - low) if low else values.div_(high)
    scale.check_channels(pixels.shape[-3])
    # Loaders that collate by torch's rules make lists of tuples.
    ends = torch.tensor([end if isinstance(end, Sequence) else [end] for end in scale], dtype=torch.float32)
    start, width = ends[0], ends[1] - ends[0]
    if len(start) == 1:
        values = values.sub_(start.item()).div_(width.item())
    else:
        from simclr_lightning.views.batch import sent  # which knows this file

        numbers = sent(torch.stack([start, width])[..., None, None], values.device)
        values = values.sub_(numbers[0]).div_(numbers[1])
    if pixels.is_floating_point():
        values = values.nan_to_num_(0.0, posinf=1.0, neginf=0.0)
    return values.clamp_(0, 1)


def early(images: Tensor, scale: ValueRange | None) -> tuple[Tensor, ValueRange | None]:
    """Whole pictures as a loader hands them over, and what is left to do: floats are scaled here, and nothing is left.

    A Trainer of half precision rounds the floats of a batch before they reach the device, and integers not.

    Example:
        >>> early(torch.full((1, 1, 1, 1), 2.0), ValueRange(0, 4))
        (tensor([[[[0.5000]]]]), None)
    """
    return (in_unit_range(images, scale), None) if images.is_floating_point() else (images, scale)


def unified(pictures: Sequence[Tensor]) -> list[Tensor]:
    """Pictures of one type: bytes where all are, otherwise float32 in [0, 1].

    Args:
        pictures: uint8, or float32 in [0, 1].

    Example:
        >>> bytes_, floats = torch.full((1, 1, 1), 255, dtype=torch.uint8), torch.ones(1, 1, 1)
        >>> unified([bytes_, floats])
        [tensor([[[1.]]]), tensor([[[1.]]])]
    """
    if len({picture.dtype for picture in pictures}) <= 1:
        return list(pictures)
    return [in_unit_range(picture) for picture in pictures]


def rows_of(images: Tensor, positions: Tensor) -> Tensor:
    """Copies whole pictures: six times as fast as ``images[positions]``, which copies number by number.

    Args:
        images: (N, C, H, W).
        positions: (n,) int64, on the same device.

    Example:
        >>> rows_of(torch.arange(3).to(torch.uint16).view(3, 1, 1, 1), torch.tensor([2, 0])).flatten().tolist()
        [2, 0]
    """
    if images.dtype == torch.uint16:  # which torch has few operations for; the bits are those of int16
        return images.view(torch.int16).index_select(0, positions).view(torch.uint16)
    return images.index_select(0, positions)
