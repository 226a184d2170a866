"""NT-Xent and its gradient, tile by tile, without ever holding the similarity matrix.

Notation: ``s_ij`` is the similarity of views i and j divided by the temperature, p the other view of i's picture, and
``r_i`` the sum of ``exp(s_ij)`` over the negatives, j being neither i nor p. Then::

    loss_i = softplus(log r_i - s_ip)            q_i = sigmoid(log r_i - s_ip) = 1 - P_ip
    d loss_i / d s_ij = exp(s_ij) q_i / r_i      d loss_i / d s_ip = -q_i

and with ``d_i = q_i / r_i`` the gradient of the summed loss with respect to view i (as a row *and* as a column) is
``sum over j of exp(s_ij) (d_i + d_j) z_j - (q_i + q_p) z_p``. A process therefore needs the views of the others, and
one number ``d_j`` for each of them, to know the exact gradient of the global batch: its backward pass communicates
nothing.

The matrix is symmetric where rows and columns belong to this process: only tiles on and above the diagonal are visited
there. Up to ``_MOST_KEPT`` numbers are kept for the backward pass, a larger matrix is computed again, tile by tile.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_lightning.distributed import gather_rows, row_counts, world_size

_TILE = 256  # rows and columns on a CPU; measured: 128 is slower, 512 slower or equal and takes more memory
_TILE_ACCELERATOR = 2048  # few large kernels rather than many small ones
_MOST_KEPT = 2**22  # numbers, 16 MiB in float32: 2048 views of one process
_LOG2_E = 1 / math.log(2)


class _Tile(NamedTuple):
    """One block of the similarity matrix."""

    rows: slice  # of this process's views
    columns: slice  # of the views of all processes
    mirror: slice | None  # other rows of this process, for which the transpose stands
    hidden: bool  # whether the main diagonal holds self-similarities or positive pairs, which are no negatives


_Blocks = Iterable[tuple[_Tile, Tensor]]


class TiledNTXent(torch.autograd.Function):
    """Mean NT-Xent over all views of all processes; see :meth:`forward` for its arguments."""

    @staticmethod
    def forward(ctx: Any, views: Tensor, gather: bool, gradients_are_averaged: bool, bounded: bool) -> Tensor:
        """Compute the loss of the global batch.

        Args:
            ctx: what backward needs.
            views: (2n, D) [all first views; all second views], times ``temperature ** -0.5``, float32 or float64.
            gather: whether the views of other processes are negatives, too.
            gradients_are_averaged: whether the training strategy averages gradients over processes afterwards.
            bounded: whether every ``r_i`` is known to be finite without subtracting a maximum; faster.
        """
        counts = row_counts(views) if gather else [len(views)]
        columns, start = gather_rows(views, counts) if gather else (views.detach(), 0)
        blocks: _Blocks = _negatives(views, columns, start, bounded)
        kept: list[Tensor] = []
        if len(views) * len(columns) <= _MOST_KEPT:
            blocks = list(blocks)
            kept = [block for _, block in blocks]
        log_r = (_log_sums if bounded else _log_sums_stable)(views, blocks)
        first, second = views.chunk(2)
        gap = log_r - torch.linalg.vecdot(first, second).repeat(2)
        losses = -F.logsigmoid(-gap)  # softplus(gap); F.softplus is exact only up to 20
        log_d = torch.where(log_r > -math.inf, F.logsigmoid(gap) - log_r, -math.inf)
        losses_columns, log_d_columns = losses, log_d
        if gather:
            losses_columns, log_d_columns = gather_rows(torch.stack([losses, log_d], 1), counts)[0].unbind(1)
        ctx.save_for_backward(views, columns, log_d, log_d_columns, gap.sigmoid(), *kept)
        ctx.start, ctx.bounded = start, bounded
        ctx.scale = (world_size() if gather and gradients_are_averaged else 1) / len(columns)
        return losses_columns.mean()

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None]:
        """Gradient with respect to ``views``: see the formula at the top of this file."""
        # once_differentiable would miss a second derivative for which grad_output is a constant, as it usually is.
        if torch.is_grad_enabled():
            raise RuntimeError(
                "NT-Xent can be differentiated only once: call backward() or autograd.grad() without create_graph=True."
            )
        views, columns, log_d, log_d_columns, q, *kept = ctx.saved_tensors
        with torch.autocast(views.device.type, enabled=False):  # backward() may be called inside autocast
            if kept:
                blocks: _Blocks = zip(_tiles(views, columns, ctx.start), kept, strict=True)
            else:
                blocks = _negatives(views, columns, ctx.start, ctx.bounded)
            gradient = _weighted_sums(views, columns, log_d, log_d_columns, blocks, ctx.bounded)
        q_of_pair = q.view(2, -1, 1).sum(0)
        for own, other in zip(gradient.chunk(2), views.chunk(2)[::-1], strict=True):
            own.addcmul_(q_of_pair, other, value=-1)
        return gradient.mul_(grad_output * ctx.scale), None, None, None


def _tiles(views: Tensor, columns: Tensor, start: int) -> Iterator[_Tile]:
    """Blocks that cover the matrix, each with its mirror image."""
    pictures = len(views) // 2
    side = _TILE if views.device.type == "cpu" else _TILE_ACCELERATOR
    # Cut alike, so that the positive pairs of a block of first views are the diagonal of one block, too.
    first_blocks, second_blocks = _slices(0, pictures, side), _slices(pictures, len(views), side)
    own_blocks = first_blocks + second_blocks
    foreign_blocks = _slices(0, start, side) + _slices(start + len(views), len(columns), side)
    for number, rows in enumerate(own_blocks):
        for distance, block in enumerate(own_blocks[number:]):
            own_columns = slice(start + block.start, start + block.stop)
            hidden = distance in (0, len(first_blocks))
            yield _Tile(rows, own_columns, block if distance > 0 else None, hidden)
        for block in foreign_blocks:
            yield _Tile(rows, block, None, False)


def _slices(start: int, stop: int, step: int) -> list[slice]:
    return [slice(left, min(left + step, stop)) for left in range(start, stop, step)]


def _negatives(views: Tensor, columns: Tensor, start: int, bounded: bool) -> Iterator[tuple[_Tile, Tensor]]:
    """Block by block ``exp(s_ij)``, or ``s_ij`` itself if not bounded: 0 or -inf where j is no negative of i."""
    if bounded:
        views = views * _LOG2_E  # exp(s) = 2 ** (s / log 2): exp2 takes down to 0.4 times the time of exp
    for tile in _tiles(views, columns, start):
        block = views[tile.rows] @ columns[tile.columns].T
        if bounded:
            block.exp2_()
        if tile.hidden:
            block.fill_diagonal_(0.0 if bounded else -math.inf)
        yield tile, block


def _log_sums(views: Tensor, exponentials: _Blocks) -> Tensor:
    """``log r_i`` (2n,), -inf where there are no negatives."""
    sums = views.new_zeros(len(views))
    for tile, block in exponentials:
        sums[tile.rows] += block.sum(1)
        if tile.mirror is not None:
            sums[tile.mirror] += block.sum(0)
    return sums.log_()


def _log_sums_stable(views: Tensor, similarities: _Blocks) -> Tensor:
    """As :func:`_log_sums`, with a running maximum: nothing overflows at any temperature."""
    log_sums = views.new_full((len(views),), -math.inf)
    for tile, block in similarities:
        log_sums[tile.rows] = torch.logaddexp(log_sums[tile.rows], block.logsumexp(1))
        if tile.mirror is not None:
            log_sums[tile.mirror] = torch.logaddexp(log_sums[tile.mirror], block.logsumexp(0))
    return log_sums


def _weighted_sums(
    views: Tensor, columns: Tensor, log_d: Tensor, log_d_columns: Tensor, blocks: _Blocks, bounded: bool
) -> Tensor:
    """``sum over j of exp(s_ij) (d_i + d_j) z_j`` (2n, D). The blocks are not changed: they may be needed again."""
    sums = torch.zeros_like(views)
    for tile, block in blocks:
        log_d_i, log_d_j = log_d[tile.rows].unsqueeze(1), log_d_columns[tile.columns]
        if bounded:
            weights = (log_d_i.exp() + log_d_j.exp()).mul_(block)
        else:  # every exponent is at most zero, since s_ij <= log r_i <= -log d_i
            weights = (block + log_d_i).exp_().add_((block + log_d_j).exp_())
        sums[tile.rows].addmm_(weights, columns[tile.columns])
        if tile.mirror is not None:
            sums[tile.mirror].addmm_(weights.T, views[tile.rows])
    return sums
