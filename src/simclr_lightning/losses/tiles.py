"""NT-Xent and its gradient, tile by tile, without ever holding the similarity matrix.

Notation: ``s_ij`` is the similarity of views i and j divided by the temperature, p the other view of i's picture, and
``r_i`` the sum of ``exp(s_ij)`` over the negatives, j being neither i nor p. Then::

    loss_i = softplus(log r_i - s_ip)            q_i = sigmoid(log r_i - s_ip) = 1 - P_ip
    d loss_i / d s_ij = exp(s_ij) q_i / r_i      d loss_i / d s_ip = -q_i

and with ``d_i = q_i / r_i`` the gradient of the summed loss with respect to view i (as a row *and* as a column) is
``sum over j of exp(s_ij) (d_i + d_j) z_j - (q_i + q_p) z_p``. A process therefore needs the views of the others, and
one number ``d_j`` for each of them, to know the exact gradient of the global batch: its backward pass communicates
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_lightning.distributed import gather_rows, world_size

_TILE = 512  # measured: 256 to 512 are equally fast on a CPU, 1024 is slower


class _Tile(NamedTuple):
    """One block of the similarity matrix: a slice of this process's rows against a slice of all columns."""

    rows: slice
    columns: slice
    hidden_diagonals: tuple[int, int]  # of the block: self-similarities and positive pairs
    mirrored: bool  # whether it also stands for its mirror image, which is then not visited


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
            bounded: whether every ``r_i`` is known to be finite without subtracting a maximum; twice as fast.
        """
        columns, start = gather_rows(views) if gather else (views.detach(), 0)
        positives = (views * _other_views(views)).sum(1)
        log_r = (_log_sums if bounded else _log_sums_stable)(views, columns, start)
        gap = log_r - positives
        losses = -F.logsigmoid(-gap)  # softplus(gap); F.softplus is exact only up to 20
        log_d = torch.where(log_r > -math.inf, F.logsigmoid(gap) - log_r, -math.inf)
        q = gap.sigmoid()
        shared = torch.stack([losses, log_d], 1)
        everywhere = gather_rows(shared)[0] if gather else shared
        ctx.save_for_backward(views, columns, log_d, everywhere[:, 1].contiguous(), q)
        ctx.start, ctx.bounded = start, bounded
        ctx.scale = (world_size() if gather and gradients_are_averaged else 1) / len(columns)
        return everywhere[:, 0].mean()

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None]:
        """Gradient with respect to ``views``: see the formula at the top of this file."""
        # once_differentiable would miss a second derivative for which grad_output is a constant, as it usually is.
        if torch.is_grad_enabled():
            raise RuntimeError(
                "NT-Xent can be differentiated only once: call backward() or autograd.grad() without create_graph=True."
            )
        views, columns, log_d, log_d_columns, q = ctx.saved_tensors
        weighted_sums = _weighted_sums if ctx.bounded else _weighted_sums_stable
        with torch.autocast(views.device.type, enabled=False):  # backward() may be called inside autocast
            gradient = weighted_sums(views, columns, ctx.start, log_d, log_d_columns)
        gradient -= (q + _other_views(q)).unsqueeze(1) * _other_views(views)
        return gradient * (grad_output * ctx.scale), None, None, None


def _other_views(values: Tensor) -> Tensor:
    """For every view the value of the other view of its picture."""
    return values.roll(len(values) // 2, 0)


def _tiles(views: Tensor, columns: Tensor, start: int, *, symmetric: bool) -> Iterator[_Tile]:
    """All blocks that cover the matrix; with ``symmetric`` only those on and above the diagonal."""
    pictures = len(views) // 2
    # Blocks of rows end where the second views begin, so that the positive pairs of a block lie on one diagonal.
    row_blocks = [
        slice(top, min(top + _TILE, half + pictures))
        for half in (0, pictures)
        for top in range(half, half + pictures, _TILE)
    ]
    column_blocks = [slice(left, min(left + _TILE, len(columns))) for left in range(0, len(columns), _TILE)]
    for number, rows in enumerate(row_blocks):
        to_positive = pictures if rows.start < pictures else -pictures
        for block in row_blocks[number:] if symmetric else column_blocks:
            itself = start + rows.start - block.start
            yield _Tile(rows, block, (itself, itself + to_positive), symmetric and block != rows)


def _hide(tile: Tensor, diagonals: tuple[int, int], value: float) -> Tensor:
    """Write ``value`` over the self-similarities and positive pairs of a block, in place."""
    for diagonal in diagonals:
        if -tile.shape[0] < diagonal < tile.shape[1]:
            tile.diagonal(diagonal).fill_(value)
    return tile


def _exponentials(views: Tensor, columns: Tensor, start: int) -> Iterator[tuple[_Tile, Tensor]]:
    """``exp(s_ij)`` block by block, zero where j is no negative of i."""
    symmetric = len(views) == len(columns)
    for tile in _tiles(views, columns, start, symmetric=symmetric):
        yield tile, _hide((views[tile.rows] @ columns[tile.columns].T).exp_(), tile.hidden_diagonals, 0.0)


def _log_sums(views: Tensor, columns: Tensor, start: int) -> Tensor:
    """``log r_i`` (2n,), -inf where there are no negatives."""
    sums = views.new_zeros(len(views))
    for tile, exponentials in _exponentials(views, columns, start):
        sums[tile.rows] += exponentials.sum(1)
        if tile.mirrored:
            sums[tile.columns] += exponentials.sum(0)
    return sums.log_()


def _weighted_sums(views: Tensor, columns: Tensor, start: int, log_d: Tensor, log_d_columns: Tensor) -> Tensor:
    """``sum over j of exp(s_ij) (d_i + d_j) z_j`` (2n, D)."""
    d, d_columns = log_d.exp(), log_d_columns.exp()
    sums = torch.zeros_like(views)
    for tile, exponentials in _exponentials(views, columns, start):
        weights = exponentials.mul_(d[tile.rows].unsqueeze(1) + d_columns[tile.columns])
        sums[tile.rows].addmm_(weights, columns[tile.columns])
        if tile.mirrored:
            sums[tile.columns].addmm_(weights.T, views[tile.rows])
    return sums


def _similarities(views: Tensor, columns: Tensor, start: int) -> Iterator[tuple[_Tile, Tensor]]:
    """``s_ij`` block by block, -inf where j is no negative of i."""
    for tile in _tiles(views, columns, start, symmetric=False):
        yield tile, _hide(views[tile.rows] @ columns[tile.columns].T, tile.hidden_diagonals, -math.inf)


def _log_sums_stable(views: Tensor, columns: Tensor, start: int) -> Tensor:
    """As :func:`_log_sums`, with a running maximum: nothing overflows at any temperature."""
    log_sums = views.new_full((len(views),), -math.inf)
    for tile, similarities in _similarities(views, columns, start):
        log_sums[tile.rows] = torch.logaddexp(log_sums[tile.rows], similarities.logsumexp(1))
    return log_sums


def _weighted_sums_stable(views: Tensor, columns: Tensor, start: int, log_d: Tensor, log_d_columns: Tensor) -> Tensor:
    """As :func:`_weighted_sums`; every exponent is at most zero, since ``s_ij <= log r_i <= -log d_i``."""
    sums = torch.zeros_like(views)
    for tile, similarities in _similarities(views, columns, start):
        weights = (similarities + log_d[tile.rows].unsqueeze(1)).exp_()
        weights += (similarities + log_d_columns[tile.columns]).exp_()
        sums[tile.rows].addmm_(weights, columns[tile.columns])
    return sums
