"""Slow references in float64: a loop over the views, one formula of a paper each."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor


def anchors(projections: Tensor, temperature: float) -> Iterator[tuple[int, Tensor, list[int], list[int]]]:
    """Of each view i of (V, N, D): its picture, its similarities to all views, its positives and its negatives."""
    count, pictures = projections.shape[:2]
    views = F.normalize(projections.flatten(0, 1).double(), dim=1)
    for i, view in enumerate(views):
        own = [j for j in range(count * pictures) if j % pictures == i % pictures]
        others = [j for j in range(count * pictures) if j % pictures != i % pictures]
        yield i % pictures, views @ view / temperature, [j for j in own if j != i], others


def nt_xent(projections: Tensor, temperature: float) -> Tensor:
    """Chen et al. 2020, equation 1; log(1 + exp(log r - s_ip)), so that nothing cancels."""
    return torch.stack(
        [
            F.softplus(s[negatives].logsumexp(0) - s[p], threshold=math.inf)
            for _, s, positives, negatives in anchors(projections, temperature)
            for p in positives
        ]
    ).mean()


def decoupled(projections: Tensor, temperature: float, sigma: float | None = None) -> Tensor:
    """Yeh et al. 2022, equation 6, and its weights, through which no gradient flows."""
    pairs = [
        (s[negatives].logsumexp(0), s[p])
        for _, s, positives, negatives in anchors(projections, temperature)
        for p in positives
    ]
    log_r, s = (torch.stack(values) for values in zip(*pairs, strict=True))
    if sigma is None:
        return (log_r - s).mean()
    exponentials = (s.detach() * temperature / sigma).exp()
    return (log_r - (2 - exponentials / exponentials.mean()) * s).mean()


def hard_negatives(projections: Tensor, temperature: float, beta: float, tau_plus: float) -> tuple[Tensor, float]:
    """Robinson et al. 2021, section 3 with its practical estimate; beta = 0: Chuang et al. 2020. With the share of
    pairs for which the estimate is clamped.
    """
    terms, clamped = [], []
    for _, s, positives, negatives in anchors(projections, temperature):
        number = len(negatives)
        mean = number * ((1 + beta) * s[negatives]).exp().sum() / (beta * s[negatives]).exp().sum()
        for p in positives:
            estimate = (mean - tau_plus * number * s[p].exp()) / (1 - tau_plus)
            least = number * math.exp(-1 / temperature)
            clamped.append(bool(estimate < least))
            terms.append(torch.log1p(estimate.clamp(min=least) * (-s[p]).exp()))
    return torch.stack(terms).mean(), sum(clamped) / len(clamped)


def supcon(projections: Tensor, targets: list[int], temperature: float) -> Tensor:
    """Khosla et al. 2020, equation 2; a picture without a label is a class of its own."""
    pictures = len(targets)
    terms = []
    for picture, s, own, others in anchors(projections, temperature):
        positives = own + [j for j in others if targets[picture] >= 0 and targets[j % pictures] == targets[picture]]
        terms.append(torch.stack([s[own + others].logsumexp(0) - s[p] for p in positives]).mean())
    return torch.stack(terms).mean()
