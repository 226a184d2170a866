"""What is summed over the tiles: ``log r_i`` on the way forward, weighted views on the way back."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor

from simclr_lightning.losses.tiles import Layout, Tile

SAFE_EXPONENT = 80.0
"""exp() of float32 overflows at 88: below this the sum over all negatives is safe without a running maximum."""

LOG2_E = 1 / math.log(2)
"""``exp(s) = 2 ** (s LOG2_E)``"""

Blocks = Iterable[tuple[Tile, Tensor]]


def log_sums(views: Tensor, blocks: Blocks, layout: Layout) -> Tensor:
    """``log r_i``, (K, V n) for each power, -inf where there are no negatives."""
    return (_log_sums if layout.bounded else _log_sums_stable)(views, blocks, layout)


def factors_of(gradient: Tensor, log_r: Tensor, layout: Layout) -> Tensor:
    """By what the terms of a view are weighted: d (V n, K); or, if not bounded, g and -log r (V n, 2 K).

    ``g`` has the power as a factor: the derivative of ``exp(power s)`` has it.
    """
    if layout.powers != (1.0,):
        gradient = torch.stack([of * power for of, power in zip(gradient.unbind(), layout.powers, strict=True)])
    if layout.bounded:  # d_i; whatever it is where there are no negatives, it meets zeros alone
        return (gradient * log_r.clamp(min=-SAFE_EXPONENT).neg_().exp_()).T
    return torch.cat([gradient, torch.where(log_r > -math.inf, -log_r, -math.inf)]).T  # exp(-log r) might overflow


def no_factors(factors: Tensor, number: int, layout: Layout) -> Tensor:
    """Factors (M, ...) of columns from which nothing is learned."""
    none = torch.zeros_like(factors[:1])
    if not layout.bounded:
        none[:, len(layout.powers) :] = -math.inf
    return none.expand(number, -1)


def weighted_sums(
    views: Tensor, columns: Tensor, of_rows: Tensor, of_columns: Tensor, blocks: Blocks, layout: Layout
) -> Tensor:
    """``sum over j of exp(s_ij) (d_i + d_j) z_j``, (V n, D). The blocks are not changed: they may be needed again."""
    if layout.device.products and layout.plain and layout.bounded:
        return _products(views, columns, of_rows, of_columns, blocks, layout)
    sums = torch.zeros_like(views)
    for tile, block in blocks:
        weights = _weights(block, of_rows[tile.rows], of_columns[tile.columns], tile, layout)
        sums[tile.rows].addmm_(weights, columns[tile.columns])
        if tile.mirror is not None:
            sums[tile.mirror].addmm_(weights.T, views[tile.rows])
        del block, weights  # before the next ones are made
    return sums


def _log_sums(views: Tensor, blocks: Blocks, layout: Layout) -> Tensor:
    sums = None
    for tile, block in blocks:
        of_rows = [_raised(block, power, layout).sum(1) for power in layout.powers if tile.for_rows]
        of_mirror = [
            _raised(block, power, layout).sum(0)
            for power in layout.powers
            if tile.mirror is not None and tile.for_columns
        ]
        del block  # before the next one is made
        if sums is None and len(of_rows) == 1 and len(of_rows[0]) == len(views):
            sums = of_rows[0][None]
            continue
        sums = views.new_zeros(len(layout.powers), len(views)) if sums is None else sums
        for own, part in zip(sums, of_rows, strict=False):
            own[tile.rows].add_(part)
        for own, part in zip(sums, of_mirror, strict=False):
            own[tile.mirror].add_(part)
    return (views.new_zeros(len(layout.powers), len(views)) if sums is None else sums).log_()


def _log_sums_stable(views: Tensor, similarities: Blocks, layout: Layout) -> Tensor:
    """As :func:`_log_sums`, with a running maximum: nothing overflows at any temperature."""
    log_sums = views.new_full((len(layout.powers), len(views)), -math.inf)
    for tile, block in similarities:
        for power, own in zip(layout.powers, log_sums, strict=True):
            raised = block if power == 1 else block * power
            if tile.for_rows:
                own[tile.rows] = torch.logaddexp(own[tile.rows], raised.logsumexp(1))
            if tile.mirror is not None and tile.for_columns:
                own[tile.mirror] = torch.logaddexp(own[tile.mirror], raised.logsumexp(0))
        del block, raised
    return log_sums


def _raised(block: Tensor, power: float, layout: Layout) -> Tensor:
    """``exp(power s_ij)`` of a block."""
    return block if layout.exponentials else (block * (power * LOG2_E)).exp2_()


def _weights(block: Tensor, of_rows: Tensor, of_columns: Tensor, tile: Tile, layout: Layout) -> Tensor:
    row, column = of_rows[..., None].unbind(1), of_columns.unbind(1)
    weights: Tensor | None = None
    for k, power in enumerate(layout.powers):
        if not layout.bounded:  # every exponent is at most zero, since power s_ij <= log r_i
            raised = block if power == 1 else block * power
            ways = [(row, tile.for_rows), (column, tile.for_columns)]
            for log_r, g in [(way[len(layout.powers) + k], way[k]) for way, wanted in ways if wanted]:
                part = (raised + log_r).exp_()
                weights = part.mul_(g) if weights is None else weights.addcmul_(part, g)
            continue
        if tile.for_rows and tile.for_columns:
            part = (row[k] + column[k]).mul_(_raised(block, power, layout))
        else:
            part = _raised(block, power, layout) * (row[k] if tile.for_rows else column[k])
        weights = part if weights is None else weights.add_(part)
    return cast("Tensor", weights)


def _products(
    views: Tensor, columns: Tensor, of_rows: Tensor, of_columns: Tensor, blocks: Blocks, layout: Layout
) -> Tensor:
    """As :func:`weighted_sums` for factors d alone, by ``d_i sum exp(s_ij) z_j + sum exp(s_ij) d_j z_j``.

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
