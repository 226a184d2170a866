"""What counts as black and as white in a whole data set: typed, the range of a type, or measured on a sample."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from simclr_lightning.data.decode import BadPictureError
from simclr_lightning.data.pictures import FilePictures, Pictures
from simclr_lightning.data.readers import reader_of
from simclr_lightning.errors import InputError
from simclr_lightning.views.scale import ValueRange, limits_of

ScaleName = Literal["dtype", "percentile", "percentile_per_band"]
Scale = ScaleName | list[float] | list[list[float]] | None

SAMPLE = 256
"""Pictures that are looked at."""
PERCENTILES = (0.5, 99.5)
"""What becomes black and white: one value of a hundred is clipped, so that dead pixels do not decide."""

_PIXELS = 64  # rows and columns of a picture that are looked at, evenly spread
_BYTES_ALONE = (".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp")  # formats that hold nothing else


class Scaling(NamedTuple):
    """How the values of a data set become [0, 1].

    Attributes:
        range: what counts as black and as white; None: the range of each picture's type.
        told: in words, for the start of a run; "" where pictures are bytes and nothing was asked for.
        warning: what should be typed, where most of the range would be unused; otherwise "".
        plain: what a checkpoint holds, so that the same is done wherever its encoder is used.

    Example:
        >>> Scaling(ValueRange(0.0, 4095.0), "0 to 4,095", "", [0.0, 4095.0]).range.high
        4095.0
    """

    range: ValueRange | None
    told: str
    warning: str
    plain: Any


class Sample(NamedTuple):
    """Values of some pictures.

    Attributes:
        values: (C, n) float32; what is no number, or infinite, is NaN.
        dtypes: of the pictures.
        pictures: that were looked at.

    Example:
        >>> sampled([torch.zeros(2, 8, 8, dtype=torch.uint16)]).values.shape
        torch.Size([2, 64])
    """

    values: Tensor
    dtypes: frozenset[torch.dtype]
    pictures: int

    def clipped(self, scale: ValueRange) -> float:
        """Share of the values that lie outside."""
        low, high = (torch.as_tensor(end, dtype=torch.float32).reshape(-1, 1) for end in scale)
        return float(((self.values < low) | (self.values > high)).float().mean())

    def percentiles(self, *, per_band: bool) -> ValueRange:
        """From the 0.5th to the 99.5th; of values that hardly differ, from the least to the largest."""
        values = self.values.numpy() if per_band else self.values.reshape(1, -1).numpy()
        values = np.where(np.isnan(values).all(1, keepdims=True), np.float32(0), values)  # a band without any data
        ends = np.nanpercentile(values, PERCENTILES, axis=1)
        extremes = np.stack([np.nanmin(values, 1), np.nanmax(values, 1)])
        ends = np.where(ends[0] < ends[1], ends, extremes)
        ends[1] = np.where(ends[0] < ends[1], ends[1], ends[0] + 1)  # one value alone
        low, high = ends.astype(np.float32).astype(float).tolist()  # float32 is what pictures are scaled in
        return ValueRange(tuple(low), tuple(high)) if per_band else ValueRange(low[0], high[0])


def check_scale(scale: Any) -> None:
    """Complain of what no scale is, before anything is read.

    Raises:
        InputError: naming it.

    Example:
        >>> check_scale("percentile")
        >>> check_scale([0, 3000])
    """
    if isinstance(scale, str) and scale not in get_args(ScaleName):
        raise InputError(
            f"scale is {scale!r}: choose {', '.join(get_args(ScaleName))}, or two numbers, what is black and white",
            "data.scale '[0, 4095]'",
        )
    if scale is not None and not isinstance(scale, str):
        ValueRange.of(scale)


def scaling_of_set(scale: Any, pictures: Pictures, positions: Tensor, seed: int) -> Scaling:
    """How a data set with a length is scaled.

    Args:
        scale: as it was typed; None: bytes by their range; others by the range of their type if the values in use
            cover half of it, otherwise by percentiles.
        pictures: of the training.
        positions: (n,) int64, those that are trained on.
        seed: which of them are looked at.

    Raises:
        InputError: if none of them can be read.

    Example:
        >>> from simclr_lightning.data.pictures import InMemoryPictures
        >>> xrays = InMemoryPictures(torch.arange(4096).to(torch.uint16).view(1, 1, 64, 64), torch.tensor([-1]))
        >>> scaling_of_set(None, xrays, torch.arange(1), seed=0).told
        '20.48 to 4,075 of uint16 (percentiles 0.5 and 99.5 of 1 picture), 1.0 % of the values clipped'
        >>> scaling_of_set("dtype", xrays, torch.arange(1), seed=0).warning
        'The pictures are scaled by the range of uint16, 0 to 65,535, of which they use 20.48 to 4,075: type \
--data.scale percentile, or the two numbers that are black and white.'
    """
    chosen = positions[torch.randperm(len(positions), generator=torch.Generator().manual_seed(seed))[:SAMPLE]]
    if scale in (None, "dtype") and _bytes_alone(pictures, chosen.tolist()):
        return Scaling(None, "", "", scale)
    sample = sampled(_read(pictures, chosen.tolist()))
    if len(sample.dtypes) == 1:
        (pictures.dtype,) = sample.dtypes
    return scaling(scale, sample)


def scaling_of_stream(scale: Any, pictures: Iterable[Tensor]) -> Scaling:
    """How pictures without a length are scaled, by the first of them.

    Example:
        >>> scaling_of_stream(None, [torch.zeros(3, 8, 8, dtype=torch.uint8)]).range is None
        True
    """
    coming = iter(pictures)
    first = list(islice(coming, 1))
    if first and first[0].dtype == torch.uint8 and scale in (None, "dtype"):
        return Scaling(None, "", "", scale)
    return scaling(scale, sampled([*first, *islice(coming, SAMPLE - 1)]))


def known_scaling(plain: Any, where: str) -> Scaling:
    """What a checkpoint holds of it.

    Args:
        plain: the numbers, or dtype.
        where: they are from.

    Example:
        >>> known_scaling([0, 4095], "the checkpoint").told
        '0 to 4,095 (the checkpoint)'
    """
    if isinstance(plain, str):
        return Scaling(None, f"by the range of their type ({where})", "", plain)
    return Scaling(scale := ValueRange.of(plain), f"{_ends(scale)} ({where})", "", scale.plain())


def scaling(scale: Any, sample: Sample) -> Scaling:
    """What is done to pictures of which a sample was looked at; see :func:`scaling_of_set`.

    Raises:
        InputError: if the sample is empty, or a typed range has another number of bands.

    Example:
        >>> sample = sampled([torch.linspace(0, 1, 64).view(1, 8, 8)])
        >>> scaling(None, sample).range
        ValueRange(low=0.0, high=1.0)
    """
    if not sample.pictures:
        raise InputError("None of the pictures that would tell the range of values can be read.")
    kind = " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in sample.dtypes))
    if scale is not None and not isinstance(scale, str):
        typed = ValueRange.of(scale)
        typed.check_channels(len(sample.values))
        return Scaling(typed, _words(typed, kind, "typed", sample), "", typed.plain())
    if len(sample.dtypes) > 1 and scale in (None, "dtype"):
        warning = (
            f"The pictures are of {kind}, and each is scaled by the range of its own type: type the two numbers that "
            "are black and white in all of them, such as --data.scale '[0, 4095]'."
        )
        return Scaling(None, f"by the type of each picture ({kind})", warning, "dtype")
    low, high = limits_of(next(iter(sample.dtypes)))
    whole, used = ValueRange(low, high), sample.percentiles(per_band=False)
    covered = np.ptp(np.asarray(used)) / (high - low)
    floats_outside = torch.float32 in sample.dtypes and sample.clipped(whole) > 0
    if scale == "dtype" or (scale is None and covered >= 0.5 and not floats_outside):
        scaled = whole if kind != "uint8" else None
        unused = covered < 0.5 or floats_outside
        warning = (
            f"The pictures are scaled by the range of {kind}, {_ends(whole)}, of which they use {_ends(used)}: type "
            "--data.scale percentile, or the two numbers that are black and white."
        )
        return Scaling(scaled, _words(whole, kind, "the range of the type", sample), warning if unused else "", "dtype")
    measured = sample.percentiles(per_band=True) if scale == "percentile_per_band" else used
    where = f"percentiles {PERCENTILES[0]:g} and {PERCENTILES[1]:g} of {_pictures(sample.pictures)}"
    return Scaling(measured, _words(measured, kind, where, sample), "", measured.plain())


def sampled(pictures: Iterable[Tensor]) -> Sample:
    """Values of pictures (C, H, W), at most 64 x 64 pixels of each.

    Example:
        >>> sampled([torch.tensor([[[1.0, float("inf")]]])]).values
        tensor([[1., nan]])
    """
    values, dtypes = list[Tensor](), set[torch.dtype]()
    for picture in pictures:
        rows, columns = (max(1, -(-side // _PIXELS)) for side in picture.shape[-2:])
        values.append(picture[:, ::rows, ::columns].float().flatten(1))
        dtypes.add(picture.dtype)
    everything = torch.cat(values, 1) if values else torch.empty(1, 0)
    return Sample(everything.nan_to_num_(torch.nan, torch.nan, torch.nan), frozenset(dtypes), len(values))


def tell(scaling: Scaling) -> None:
    """Log it, and warn.

    Example:
        >>> tell(Scaling(None, "", "", None))
    """
    if scaling.told:
        rank_zero_info(f"Values of the pictures: black to white is {scaling.told}.")
    if scaling.warning:
        rank_zero_warn(scaling.warning)


def _read(pictures: Pictures, positions: Sequence[int]) -> Iterator[Tensor]:
    for position in positions:
        try:
            yield pictures.read(position)
        except BadPictureError:
            continue  # which its loader tells


def _bytes_alone(pictures: Pictures, positions: Sequence[int]) -> bool:
    """Whether pictures are known to be bytes without decoding any of them."""
    if not isinstance(pictures, FilePictures):
        return pictures.dtype == torch.uint8
    return all(_holds_bytes(pictures, position) for position in positions)


def _holds_bytes(pictures: FilePictures, position: int) -> bool:
    if pictures.name(position).lower().endswith(_BYTES_ALONE):
        return True
    if reader_of(pictures.name(position)) is not None:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with pictures.opened(position) as picture:  # its header
                return picture.header is not None and not picture.header.mode.startswith(("I", "F"))
        except Exception:  # whatever is wrong with it is told when it is read
            return True


def _ends(scale: ValueRange) -> str:
    low, high = scale
    if isinstance(low, tuple) and isinstance(high, tuple):
        return " / ".join(_ends(ValueRange(*ends)) for ends in zip(low, high, strict=True))
    return f"{_number(low)} to {_number(high)}"


def _number(value: Any) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.4g}"


def _words(scale: ValueRange, kind: str, where: str, sample: Sample) -> str:
    return f"{_ends(scale)} of {kind} ({where}), {100 * sample.clipped(scale):.1f} % of the values clipped"


def _pictures(number: int) -> str:
    return f"{number} picture{'s' * (number != 1)}"
