"""The sum over negatives, tile by tile, without the similarity matrix: what contrastive losses are made of.

Notation: ``s_ij`` is the similarity of views i and j divided by the temperature, and ``r_i`` the sum of ``exp(s_ij)``
over the negatives, j being no view of i's picture. With ``g_i`` the derivative of a loss with respect to ``log r_i``
and ``d_i = g_i / r_i``, the gradient with respect to view i (as a row *and* as a column) is
``sum over j of exp(s_ij) (d_i + d_j) z_j``. A process therefore needs the views of the others, and in its backward pass
one number ``d_j`` for each of them, to know the exact gradient of the global batch.

The matrix is symmetric where rows and columns belong to this process: only tiles on and above the diagonal are visited
there. A small matrix is kept for the backward pass, a larger one is computed again, tile by tile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor

from simclr_lightning.distributed import gather_rows, row_counts
from simclr_lightning.losses.sums import LOG2_E, SAFE_EXPONENT, Blocks, factors_of, log_sums, no_factors, weighted_sums
from simclr_lightning.losses.tiles import Layout, Tile, fitting, tiles
from simclr_lightning.precision import full_precision


def log_negatives(
    views: Tensor,
    *,
    columns: Tensor | None = None,
    gather: bool = False,
    count: int = 2,
    bound: float | None = None,
    large: int | None = None,
    groups: Tensor | None = None,
) -> Tensor:
    """Logarithm of the sum of ``exp(similarity)`` over the negatives of every view.

    The negatives of a view are all views of all other pictures. Memory grows with the number of views, not with its
    square; float64 stays float64, whatever else is computed in float32, outside autocast.

    Example:
        >>> views = torch.nn.functional.normalize(torch.randn(8, 4))  # two views of four pictures
        >>> loss = (log_negatives(views) - torch.linalg.vecdot(views, views.roll(4, 0))).mean()

    Args:
        views: (``count`` n, D) [all first views; all second views; ...] of n pictures, any floating dtype. The dot
            product of two of them is their similarity over the temperature: scale them by ``temperature ** -0.5``,
            normalised or not.
        columns: (M, D), negatives of every view in place of the views of other pictures: a memory, a queue. They get no
            gradient.
        gather: whether the views (or the columns) of all processes are negatives; processes may hold different numbers
            of pictures. Every process must call it, and differentiate it if one does: the gradient is that of the sum
            of what all processes differentiate.
        count: views of each picture, none of which is a negative of another.
        bound: a number that no similarity exceeds, such as ``1 / temperature`` for normalised views. Where
            it is small enough no running maximum is subtracted, which is faster. None: not known.
        large: how many of the views of each picture, the first ones, are negatives (and positives) of others; the rest,
            small local crops, are only told apart from them. None: all.
        groups: (n,) int64, numbers of groups of pictures (of one patient, or place) that are no negatives of each
            other, in all processes. None: every picture is a group of its own.

    Returns:
        (``count`` n,) float32 or float64, -inf where there are no negatives. It can be differentiated once.

    Raises:
        ValueError: if the rows cannot be ``count`` views of each picture, or what is given beside them does not fit.
    """
    return log_negatives_and_positives(
        views, columns=columns, gather=gather, count=count, bound=bound, large=large, groups=groups
    )[0]


def log_negatives_and_positives(
    views: Tensor,
    *,
    columns: Tensor | None = None,
    gather: bool = False,
    count: int = 2,
    bound: float | None = None,
    large: int | None = None,
    groups: Tensor | None = None,
    powers: Sequence[float] | None = None,
) -> tuple[Tensor, Tensor]:
    """As :func:`log_negatives`, with the similarities of the views of each picture, which share its backward pass.

    Example:
        >>> views = torch.nn.functional.normalize(torch.randn(8, 4))
        >>> log_r, positives = log_negatives_and_positives(views)
        >>> loss = torch.nn.functional.softplus(log_r.view(2, 4) - positives).mean()  # NT-Xent at a temperature of 1

    Args:
        views: as there, and what follows.
        columns: likewise.
        gather: likewise.
        count: likewise.
        bound: likewise.
        large: likewise.
        groups: likewise.
        powers: positive numbers, K of them: of each the logarithm of the sum of ``exp(power * similarity)``, from one
            matrix of similarities. None: 1 alone.

    Returns:
        ``log r`` (``count`` n,), or (K, ``count`` n) with powers; and the similarities (P, n) of the pairs of views
        (first, second), (first, third), ..., the first of which is large, in the order of
        ``itertools.combinations``.

    Raises:
        ValueError: if the rows cannot be ``count`` views of each picture, or what is given beside them does not fit.
    """
    if views.ndim != 2 or count < 1 or len(views) % count:
        raise ValueError(f"Expected {count} views of each picture as rows (V N, D), got {tuple(views.shape)}.")
    if columns is not None and (columns.ndim != 2 or columns.shape[1] != views.shape[1]):
        raise ValueError(f"Expected columns (M, {views.shape[1]}), got {tuple(columns.shape)}.")
    if large is not None and not 1 <= large <= count:
        raise ValueError(f"Expected 1 to {count} of {count} views as large ones, got {large}.")
    if groups is not None and groups.shape != (len(views) // count,):
        raise ValueError(f"Expected a group for each of {len(views) // count} pictures, got {tuple(groups.shape)}.")
    if columns is not None and (large is not None or groups is not None):
        raise ValueError("Columns are negatives of every view: neither large ones nor groups go with them.")
    with full_precision(views.device):
        views = views if views.dtype == torch.float64 else views.float()
        if columns is not None:
            columns = columns.detach().to(views)
        large = None if large == count else large
        wanted = _Wanted(gather, count, large, (1.0,) if powers is None else tuple(map(float, powers)), bound)
        log_r, positives = _Contrast.apply(views, columns, groups, wanted)
    return log_r if powers is None else log_r.view(len(powers), -1), positives


class _Wanted(NamedTuple):
    """Arguments of :func:`log_negatives_and_positives`."""

    gather: bool
    views: int
    large: int | None
    powers: tuple[float, ...]
    bound: float | None


class _Contrast(torch.autograd.Function):
    """``log r_i`` and the positives of this process; see :func:`log_negatives_and_positives`."""

    @staticmethod
    def forward(
        ctx: Any, views: Tensor, others: Tensor | None, groups: Tensor | None, wanted: _Wanted
    ) -> tuple[Tensor, Tensor]:
        local = views.detach() if others is None else others
        ctx.counts = row_counts(local) if wanted.gather else None
        columns, start = (local, 0) if ctx.counts is None else gather_rows(local, ctx.counts)
        if groups is not None:
            groups = groups.repeat(wanted.views)[:, None]
            groups = groups if ctx.counts is None else gather_rows(groups, ctx.counts)[0]
        largest = math.inf if wanted.bound is None else max(1.0, *wanted.powers) * wanted.bound
        bounded = largest + math.log(max(len(columns), 1)) < SAFE_EXPONENT  # of all columns: equal on every process
        layout = ctx.layout = Layout(
            start if others is None else None,
            wanted.views,
            bounded,
            fitting(views, bounded=bounded),
            wanted.large,
            tuple(ctx.counts or [len(columns)]),
            wanted.powers,
        )
        blocks: Blocks = _similarities(views, columns, groups, layout)
        kept: list[Tensor] = []
        if len(views) * len(columns) <= layout.device.kept:
            blocks = list(blocks)
            kept = [block for _, block in blocks]
        log_r = log_sums(views, blocks, layout)
        ctx.save_for_backward(views, columns, groups, log_r, *kept)
        pairs = [torch.linalg.vecdot(one, other)[None] for one, other in _pairs(views, layout)]
        log_r = log_r[0] if len(log_r) == 1 else log_r  # out there, its backward pass would take a kernel
        return log_r, pairs[0] if len(pairs) == 1 else torch.cat(pairs) if pairs else views.new_empty(0, len(views))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, of_positives: Tensor) -> tuple[Tensor, None, None, None]:
        # once_differentiable would miss a second derivative for which the gradient is a constant, as it usually is.
        if torch.is_grad_enabled():
            raise RuntimeError(
                "A contrastive loss can be differentiated only once: call backward() or autograd.grad() without "
                "create_graph=True."
            )
        views, columns, groups, log_r, *kept = ctx.saved_tensors
        layout: Layout = ctx.layout
        with full_precision(views.device):  # backward() runs later, perhaps in another thread
            blocks: Blocks = _similarities(views, columns, groups, layout)
            if kept:
                blocks = zip(tiles(views, columns, layout), kept, strict=True)
            factors = factors_of(gradient.view_as(log_r), log_r, layout)
            if layout.start is None:  # the columns are no views: nothing is learned as a column
                of_columns = no_factors(factors, len(columns), layout)
            else:
                of_columns = factors if ctx.counts is None else gather_rows(factors, ctx.counts)[0]
            sums = weighted_sums(views, columns, factors, of_columns, blocks, layout)
            both = zip(_pairs(sums, layout), _pairs(views, layout), of_positives[..., None], strict=True)
            for (to_one, to_other), (one, other), weight in both:
                to_one.addcmul_(weight, other)
                to_other.addcmul_(weight, one)
        return sums, None, None, None


def _pairs(views: Tensor, layout: Layout) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows of the pairs of views of which the first is large."""
    for (number, one), (_, other) in combinations(enumerate(views.chunk(layout.views)), 2):
        if layout.large is None or number < layout.large:
            yield one, other


def _similarities(
    views: Tensor, columns: Tensor, groups: Tensor | None, layout: Layout
) -> Iterator[tuple[Tile, Tensor]]:
    """Block by block ``exp(s_ij)``, or ``s_ij`` itself: 0 or -inf where j is no negative of i."""
    binary = layout.exponentials and layout.device.base == 2
    scaled = views * LOG2_E if binary else views  # exp(s) = 2 ** (s / log 2)
    for tile in tiles(views, columns, layout):
        hidden = None if groups is None else _same_group(groups, tile, layout)
        yield tile, _block(scaled[tile.rows], columns[tile.columns], hidden, tile, layout)  # a name would keep it


def _same_group(groups: Tensor, tile: Tile, layout: Layout) -> Tensor:
    start = layout.start or 0
    return groups[start + tile.rows.start : start + tile.rows.stop] == groups[tile.columns].T


def _block(rows: Tensor, columns: Tensor, same_group: Tensor | None, tile: Tile, layout: Layout) -> Tensor:
    block = rows @ columns.T
    if layout.exponentials:
        _ = block.exp2_() if layout.device.base == 2 else block.exp_()
    nothing = 0.0 if layout.exponentials else -math.inf
    if same_group is not None:
        block.masked_fill_(same_group, nothing)
    elif tile.hidden:
        left = max((layout.start or 0) - tile.columns.start, 0)
        own = torch.unflatten(block[:, left : left + len(block)], 1, (tile.hidden, -1))
        diagonals = torch.unflatten(own, 0, (tile.hidden, -1)).diagonal(dim1=1, dim2=3)
        diagonals.fill_(nothing)
    return block
