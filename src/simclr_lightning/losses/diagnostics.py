"""Numbers that tell whether contrastive training is healthy: none of them is trained on."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_lightning.distributed import gather_rows
from simclr_lightning.losses.nt_xent import check_temperature

_ROWS = 512  # rows of similarities in memory at a time


class ContrastiveMetrics(NamedTuple):
    """Scalars () of the N-way problem: find a picture's second view among the second views of all pictures.

    Attributes:
        top1: share of first views whose most similar second view is their own, in [0, 1].
        top5: share of first views whose own second view is among the five most similar ones.
        entropy: mean entropy of the softmax over the N second views, in nats: at most log N.
    """

    top1: Tensor
    top5: Tensor
    entropy: Tensor


@torch.no_grad()
def contrastive_metrics(
    first: Tensor, second: Tensor, *, temperature: float = 0.1, normalize: bool = True, gather: bool = False
) -> ContrastiveMetrics:
    """Contrastive accuracy and entropy as in Table 5 of the paper and in the official code's metrics.

    Args:
        first: (N, D) projections of the first views, any floating dtype.
        second: (N, D) projections of the second views.
        temperature: positive number, that of the loss; it changes the entropy only.
        normalize: whether similarities are cosines.
        gather: whether the second views of all processes are candidates. The means are over this process's rows.
    """
    check_temperature(temperature)
    first, second = first.float(), second.float()
    if normalize:
        first, second = F.normalize(first), F.normalize(second)
    candidates, start = gather_rows(second) if gather else (second, 0)
    top1, top5, entropy = first.new_zeros(3).unbind()
    with torch.autocast(first.device.type, enabled=False):
        for top in range(0, len(first), _ROWS):
            logits = first[top : top + _ROWS] @ candidates.T / temperature
            own = logits.diagonal(start + top)[:, None]
            # A tie counts as not found, or an encoder that has collapsed would score 100 %; so does NaN.
            rivals = len(candidates) - 1 - (logits < own).sum(1)
            log_p = logits.log_softmax(1)
            top1 += (rivals < 1).sum()
            top5 += (rivals < 5).sum()
            entropy -= (log_p.exp() * log_p).sum()
    return ContrastiveMetrics(top1 / len(first), top5 / len(first), entropy / len(first))


def chance_loss(pictures: int) -> float:
    """NT-Xent of views that tell nothing: ``log(2N - 1)``, for N pictures in the global batch."""
    return math.log(2 * pictures - 1)


def floor_loss(pictures: int, temperature: float) -> float:
    """NT-Xent where every pair is identical and all negatives are orthogonal: ``log(1 + (2N - 2) exp(-1 / t))``.

    A loss that stays at this level has not diverged: it is as low as cosine similarities can be expected to bring it.
    """
    return math.log1p((2 * pictures - 2) * math.exp(-1 / temperature))
