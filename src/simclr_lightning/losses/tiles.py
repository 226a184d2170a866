"""How the matrix of similarities is cut into tiles: what is fast depends on the device, and is decided here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class Device(NamedTuple):
    """What is fast on a kind of device."""

    side: int  # rows and columns of a tile
    kept: int  # numbers that are kept for the backward pass
    whole: int  # numbers up to which the matrix is one tile, its lower half included
    products: bool  # whether a second product is faster than another pass over a tile
    base: float  # of the exponential


# Measured: a side of 128 is slower, 512 slower or equal and takes more memory; exp2 takes 0.4 times the time of exp.
CPU = Device(side=256, kept=2**22, whole=0, products=False, base=2.0)
# Up to 4096 views the kernels are so short that their number counts: one tile. It takes 64 MiB, as does a tile of a
# larger matrix, and nothing else of that size is needed: 8192 views stay below 100 MB (measured on a CPU).
ACCELERATOR = Device(side=4096, kept=2**24, whole=2**24, products=True, base=math.e)
# Without a bound there are several temporaries of the size of a tile.
ACCELERATOR_UNBOUNDED = Device(side=2048, kept=2**22, whole=0, products=False, base=math.e)


def fitting(views: Tensor, *, bounded: bool) -> Device:
    """What is fast on the device of the views, with or without a bound of their similarities."""
    if views.device.type == "cpu":
        return CPU
    return ACCELERATOR if bounded else ACCELERATOR_UNBOUNDED


def loss_bytes(rows: int, columns: int, dimension: int, device: torch.device) -> int:
    """About how many bytes a loss and its gradient take, beside the projections: docs/scale.md compares it.

    Copies of the rows (normalised, of both passes), of the columns where these are gathered, the similarities where
    they are kept for the backward pass, and three tiles.

    Args:
        rows: views of this process.
        columns: views of all processes that are contrasted.
        dimension: of the projections.
        device: on which.

    Example:
        >>> loss_bytes(1024, 1024, 128, torch.device("cpu")) < loss_bytes(1024, 8192, 128, torch.device("cpu"))
        True
    """
    kind = CPU if device.type == "cpu" else ACCELERATOR
    numbers = rows * columns
    kept = 0 if numbers > kind.kept else numbers if numbers <= kind.whole else numbers - rows * rows // 2
    tile = min(numbers, kind.side * max(kind.side, kind.whole // kind.side))
    gathered = 2 * columns if columns > rows else 0
    return 4 * (dimension * (4 * rows + gathered) + kept + 3 * tile)


class Tile(NamedTuple):
    """One block of the similarity matrix."""

    rows: slice  # of this process's views
    columns: slice  # of the views of all processes
    mirror: slice | None  # other rows of this process, for which the transpose stands
    hidden: int  # views of each picture among rows and columns: their similarities are diagonals, and no negatives
    for_rows: bool = True  # whether the columns are negatives of the rows
    for_columns: bool = True  # whether the rows are negatives of the columns


class Layout(NamedTuple):
    """What the columns are."""

    start: int | None  # where this process's own views are among them; None where they are no views
    views: int  # of each picture
    bounded: bool  # whether every r_i is known to be finite without subtracting a maximum
    device: Device
    large: int | None = None  # the first of the views of each picture, which alone are negatives of others; None: all
    counts: tuple[int, ...] = ()  # columns of each process, where not all views are large
    powers: tuple[float, ...] = (1.0,)  # of the exponentials: for each of them there is the sum of exp(power s_ij)

    @property
    def plain(self) -> bool:
        """Whether one exponential of every similarity is all that is needed, for rows and columns alike."""
        return self.powers == (1.0,) and self.large is None

    @property
    def exponentials(self) -> bool:
        """Whether blocks hold exponentials: similarities where a maximum is subtracted first, or there are powers."""
        return self.bounded and self.powers == (1.0,)


def tiles(views: Tensor, columns: Tensor, layout: Layout) -> Iterator[Tile]:
    """Blocks that cover the matrix, each with its mirror image."""
    start, count, device = layout.start, layout.views, layout.device
    if layout.plain and 0 < len(views) * len(columns) <= device.whole:
        yield Tile(slice(0, len(views)), slice(0, len(columns)), None, 0 if start is None else count)
        return
    if start is None:
        for rows in _slices(0, len(views), device.side):
            for block in _slices(0, len(columns), device.side):
                yield Tile(rows, block, None, 0)
        return
    # Cut alike view by view, so that views of the same pictures are the diagonal of a block.
    pictures = len(views) // count
    cuts = [_slices(view * pictures, (view + 1) * pictures, device.side) for view in range(count)]
    large = count if layout.large is None else layout.large
    own_blocks = [(block, view < large) for view, cut in enumerate(cuts) for block in cut]
    foreign_blocks = _foreign(columns, start, len(views), layout)
    for number, (rows, rows_are_large) in enumerate(own_blocks):
        for distance, (block, are_large) in enumerate(own_blocks[number:]):
            own_columns = slice(start + block.start, start + block.stop)
            if are_large or rows_are_large:
                hidden = int(distance % len(cuts[0]) == 0)
                mirror = block if distance > 0 else None
                yield Tile(rows, own_columns, mirror, hidden, are_large, rows_are_large)
        for block, are_large in foreign_blocks:
            if are_large or rows_are_large:
                yield Tile(rows, block, None, 0, are_large, rows_are_large)


def _foreign(columns: Tensor, start: int, own: int, layout: Layout) -> list[tuple[slice, bool]]:
    """Blocks of the columns of other processes, and whether they are large."""
    device, pictures = layout.device, own // layout.views
    width = max(device.side, device.whole // min(device.side, max(pictures, 1)))
    if layout.large is None:
        return [(block, True) for block in _slices(0, start, width) + _slices(start + own, len(columns), width)]
    blocks: list[tuple[slice, bool]] = []
    first = 0
    for number in layout.counts:
        middle, last = first + number * layout.large // layout.views, first + number
        if first != start or number != own:
            blocks += [(block, True) for block in _slices(first, middle, width)]
            blocks += [(block, False) for block in _slices(middle, last, width)]
        first = last
    return blocks


def _slices(start: int, stop: int, step: int) -> list[slice]:
    return [slice(left, min(left + step, stop)) for left in range(start, stop, step)]
