"""How the matrix of similarities is cut into tiles: what is fast depends on the device, and is decided here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

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
# larger matrix, and nothing else of that size is needed: 8192 views stay below 100 MB.
ACCELERATOR = Device(side=4096, kept=2**24, whole=2**24, products=True, base=math.e)
# Without a bound there are several temporaries of the size of a tile.
ACCELERATOR_UNBOUNDED = Device(side=2048, kept=2**22, whole=0, products=False, base=math.e)


def fitting(views: Tensor, *, bounded: bool) -> Device:
    """What is fast on the device of the views, with or without a bound of their similarities."""
    if views.device.type == "cpu":
        return CPU
    return ACCELERATOR if bounded else ACCELERATOR_UNBOUNDED


class Tile(NamedTuple):
    """One block of the similarity matrix."""

    rows: slice  # of this process's views
    columns: slice  # of the views of all processes
    mirror: slice | None  # other rows of this process, for which the transpose stands
    hidden: int  # views of each picture among rows and columns: their similarities are diagonals, and no negatives


class Layout(NamedTuple):
    """What the columns are."""

    start: int | None  # where this process's own views are among them; None where they are no views
    views: int  # of each picture
    bounded: bool  # whether every r_i is known to be finite without subtracting a maximum
    device: Device


def tiles(views: Tensor, columns: Tensor, layout: Layout) -> Iterator[Tile]:
    """Blocks that cover the matrix, each with its mirror image."""
    start, count, _, device = layout
    if 0 < len(views) * len(columns) <= device.whole:
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
    own_blocks = [block for cut in cuts for block in cut]
    width = max(device.side, device.whole // min(device.side, max(pictures, 1)))
    foreign_blocks = _slices(0, start, width) + _slices(start + len(views), len(columns), width)
    for number, rows in enumerate(own_blocks):
        for distance, block in enumerate(own_blocks[number:]):
            own_columns = slice(start + block.start, start + block.stop)
            yield Tile(rows, own_columns, block if distance > 0 else None, int(distance % len(cuts[0]) == 0))
        for block in foreign_blocks:
            yield Tile(rows, block, None, 0)


def _slices(start: int, stop: int, step: int) -> list[slice]:
    return [slice(left, min(left + step, stop)) for left in range(start, stop, step)]
