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
from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from simclr_lightning.distributed import gather_rows, row_counts
from simclr_lightning.losses.tiles import Layout, Tile, fitting, tiles
from simclr_lightning.precision import full_precision

_LOG2_E = 1 / math.log(2)
# exp() of float32 overflows at 88: below this the sum over all negatives is safe without a running maximum.
_SAFE_EXPONENT = 80.0


def log_negatives(
    views: Tensor,
    *,
    columns: Tensor | None = None,
    gather: bool = False,
    count: int = 2,
    bound: float | None = None,
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

    Returns:
        (``count`` n,) float32 or float64, -inf where there are no negatives. It can be differentiated once.

    Raises:
        ValueError: if the rows cannot be ``count`` views of each picture, or the columns have another dimension.
    """
    return log_negatives_and_positives(views, columns=columns, gather=gather, count=count, bound=bound)[0]


def log_negatives_and_positives(
    views: Tensor,
    *,
    columns: Tensor | None = None,
    gather: bool = False,
    count: int = 2,
    bound: float | None = None,
) -> tuple[Tensor, Tensor]:
    """As :func:`log_negatives`, with the similarities of the views of each picture, which share its backward pass.

    Example:
        >>> views = torch.nn.functional.normalize(torch.randn(8, 4))
        >>> log_r, positives = log_negatives_and_positives(views)
        >>> loss = torch.nn.functional.softplus(log_r.view(2, 4) - positives).mean()  # NT-Xent at a temperature of 1

    Returns:
        ``log r`` (``count`` n,), and the similarities (P, n) of the pairs of views (first, second), (first, third), ...
        in the order of ``itertools.combinations``.

    Raises:
        ValueError: if the rows cannot be ``count`` views of each picture, or the columns have another dimension.
    """
    if views.ndim != 2 or count < 1 or len(views) % count:
        raise ValueError(f"Expected {count} views of each picture as rows (V N, D), got {tuple(views.shape)}.")
    if columns is not None and (columns.ndim != 2 or columns.shape[1] != views.shape[1]):
        raise ValueError(f"Expected columns (M, {views.shape[1]}), got {tuple(columns.shape)}.")
    with full_precision(views.device):
        views = views if views.dtype == torch.float64 else views.float()
        if columns is not None:
            columns = columns.detach().to(views)
        log_r, positives = _Contrast.apply(views, columns, gather, count, math.inf if bound is None else bound)
    return log_r, positives


_Blocks = Iterable[tuple[Tile, Tensor]]


class _Contrast(torch.autograd.Function):
    """``log r_i`` and the positives of this process; see :func:`log_negatives_and_positives`."""

    @staticmethod
    def forward(
        ctx: Any, views: Tensor, others: Tensor | None, gather: bool, count: int, bound: float
    ) -> tuple[Tensor, Tensor]:
        local = views.detach() if others is None else others
        ctx.counts = row_counts(local) if gather else None
        columns, start = (local, 0) if ctx.counts is None else gather_rows(local, ctx.counts)
        bounded = bound + math.log(max(len(columns), 1)) < _SAFE_EXPONENT  # of all columns: equal on every process
        device = fitting(views, bounded=bounded)
        layout = ctx.layout = Layout(start if others is None else None, count, bounded, device)
        blocks: _Blocks = _similarities(views, columns, layout)
        kept: list[Tensor] = []
        if len(views) * len(columns) <= device.kept:
            blocks = list(blocks)
            kept = [block for _, block in blocks]
        log_r = (_log_sums if bounded else _log_sums_stable)(views, blocks)
        ctx.save_for_backward(views, columns, log_r, *kept)
        pairs = [torch.linalg.vecdot(one, other)[None] for one, other in combinations(views.chunk(count), 2)]
        return log_r, pairs[0] if len(pairs) == 1 else torch.cat(pairs) if pairs else views.new_empty(0, len(views))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, of_positives: Tensor) -> tuple[Tensor, None, None, None, None]:
        # once_differentiable would miss a second derivative for which the gradient is a constant, as it usually is.
        if torch.is_grad_enabled():
            raise RuntimeError(
                "A contrastive loss can be differentiated only once: call backward() or autograd.grad() without "
                "create_graph=True."
            )
        views, columns, log_r, *kept = ctx.saved_tensors
        layout: Layout = ctx.layout
        with full_precision(views.device):  # backward() runs later, perhaps in another thread
            blocks: _Blocks = _similarities(views, columns, layout)
            if kept:
                blocks = zip(tiles(views, columns, layout), kept, strict=True)
            if layout.bounded:  # d_i; whatever it is where there are no negatives, it meets zeros alone
                factors = (gradient * log_r.clamp(min=-_SAFE_EXPONENT).neg_().exp_())[:, None]
            else:  # its exponential might overflow
                factors = torch.stack([gradient, torch.where(log_r > -math.inf, -log_r, -math.inf)], 1)
            if layout.start is None:  # the columns are no views: nothing is learned as a column
                of_columns = torch.zeros_like(factors[:1])
                of_columns[:, 1:] = -math.inf
                of_columns = of_columns.expand(len(columns), -1)
            else:
                of_columns = factors if ctx.counts is None else gather_rows(factors, ctx.counts)[0]
            if layout.device.products:
                sums = _products(views, columns, factors, of_columns, blocks, layout)
            else:
                sums = _weighted_sums(views, columns, factors, of_columns, blocks)
            pairs = combinations(zip(sums.chunk(layout.views), views.chunk(layout.views), strict=True), 2)
            for ((to_one, one), (to_other, other)), weight in zip(pairs, of_positives[..., None], strict=True):
                to_one.addcmul_(weight, other)
                to_other.addcmul_(weight, one)
        return sums, None, None, None, None


def _similarities(views: Tensor, columns: Tensor, layout: Layout) -> Iterator[tuple[Tile, Tensor]]:
    """Block by block ``exp(s_ij)``, or ``s_ij`` itself if not bounded: 0 or -inf where j is no negative of i."""
    if layout.bounded and layout.device.base == 2:
        views = views * _LOG2_E  # exp(s) = 2 ** (s / log 2)
    for tile in tiles(views, columns, layout):
        yield tile, _block(views[tile.rows], columns[tile.columns], tile, layout)  # a name would keep it in memory


def _block(rows: Tensor, columns: Tensor, tile: Tile, layout: Layout) -> Tensor:
    block = rows @ columns.T
    if layout.bounded:
        _ = block.exp2_() if layout.device.base == 2 else block.exp_()
    if tile.hidden:
        left = max((layout.start or 0) - tile.columns.start, 0)
        own = torch.unflatten(block[:, left : left + len(block)], 1, (tile.hidden, -1))
        diagonals = torch.unflatten(own, 0, (tile.hidden, -1)).diagonal(dim1=1, dim2=3)
        diagonals.fill_(0.0 if layout.bounded else -math.inf)
    return block


def _log_sums(views: Tensor, exponentials: _Blocks) -> Tensor:
    """``log r_i``, -inf where there are no negatives."""
    sums = None
    for tile, block in exponentials:
        of_rows, of_mirror = block.sum(1), None if tile.mirror is None else block.sum(0)
        del block  # before the next one is made
        if sums is None and len(of_rows) == len(views):
            sums = of_rows
            continue
        sums = views.new_zeros(len(views)) if sums is None else sums
        sums[tile.rows].add_(of_rows)
        if of_mirror is not None:
            sums[tile.mirror].add_(of_mirror)
    return (views.new_zeros(len(views)) if sums is None else sums).log_()


def _log_sums_stable(views: Tensor, similarities: _Blocks) -> Tensor:
    """As :func:`_log_sums`, with a running maximum: nothing overflows at any temperature."""
    log_sums = views.new_full((len(views),), -math.inf)
    for tile, block in similarities:
        log_sums[tile.rows] = torch.logaddexp(log_sums[tile.rows], block.logsumexp(1))
        if tile.mirror is not None:
            log_sums[tile.mirror] = torch.logaddexp(log_sums[tile.mirror], block.logsumexp(0))
    return log_sums


def _weighted_sums(views: Tensor, columns: Tensor, of_rows: Tensor, of_columns: Tensor, blocks: _Blocks) -> Tensor:
    """``sum over j of exp(s_ij) (d_i + d_j) z_j``, (2n, D). The blocks are not changed: they may be needed again.

    The factors (2n, 1) and (M, 1) are d; or (2n, 2) and (M, 2), g and -log r, and the blocks hold s_ij itself.
    """
    sums = torch.zeros_like(views)
    for tile, block in blocks:
        row, column = of_rows[tile.rows, :, None].unbind(1), of_columns[tile.columns].unbind(1)
        if len(row) == 1:
            weights = (row[0] + column[0]).mul_(block)
        else:  # every exponent is at most zero, since s_ij <= log r_i
            weights = (block + row[1]).exp_().mul_(row[0])
            weights.addcmul_((block + column[1]).exp_(), column[0])
        sums[tile.rows].addmm_(weights, columns[tile.columns])
        if tile.mirror is not None:
            sums[tile.mirror].addmm_(weights.T, views[tile.rows])
    return sums


def _products(
    views: Tensor, columns: Tensor, of_rows: Tensor, of_columns: Tensor, blocks: _Blocks, layout: Layout
) -> Tensor:
    """As :func:`_weighted_sums` for factors d alone, by ``d_i sum exp(s_ij) z_j + sum exp(s_ij) d_j z_j``.

    Weights as large as the block are neither written nor read, for a product that is twice as wide.
    """
    both = torch.cat([columns, columns * of_columns], 1)
    own = both[layout.start or 0 :]
    sums = None
    for tile, block in blocks:
        if sums is None and block.shape == (len(views), len(columns)):
            sums = block @ both
            break
        sums = views.new_zeros(len(views), both.shape[1]) if sums is None else sums
        sums[tile.rows].addmm_(block, both[tile.columns])
        if tile.mirror is not None:
            sums[tile.mirror].addmm_(block.T, own[tile.rows])
        del block
    if sums is None:
        return torch.zeros_like(views)
    plain, weighted = sums.chunk(2, 1)
    return torch.addcmul(weighted, of_rows, plain)
