"""Whether a representation has collapsed, and what pairs of views look like in it: functions of features alone."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_lightning.errors import InputError
from simclr_lightning.precision import full_precision

MOST_FEATURES = 25_600
"""Rows that :func:`effective_rank` takes at most: as many are enough for encoders of 2,048 features (RankMe)."""

_ROWS = 1024  # rows of similarities in memory at a time


class PairSimilarities(NamedTuple):
    """Cosines () of views to their positives and to their hardest negatives, as means over all views.

    Attributes:
        positive: of a view to the other view of its picture; 1 where views do not matter.
        hardest_negative: of a view to the most similar view of another picture.
        overtaken: share of the views, in [0, 1], whose hardest negative is at least as similar as their positive.

    Example:
        >>> pair_similarities(torch.eye(3), torch.eye(3)).overtaken
        tensor(0.)
    """

    positive: Tensor
    hardest_negative: Tensor
    overtaken: Tensor


class HealthMetrics(NamedTuple):
    """What :func:`health_metrics` finds, scalars () each: see the functions of these names.

    Attributes:
        rank: effective rank, from 1 to the smaller of the numbers of rows and of features.
        std: mean standard deviation of unit features, at most 1 / sqrt(D).
        cosine: mean cosine between different rows.
        alignment: mean squared distance of the two views of a picture; lower is better.
        uniformity: how evenly directions are spread; lower is better, at least -4.
        positive: see ``PairSimilarities``.
        hardest_negative: see ``PairSimilarities``.
        overtaken: see ``PairSimilarities``.

    Example:
        >>> health_metrics(torch.eye(4).repeat(2, 1, 1)).rank
        tensor(4.)
    """

    rank: Tensor
    std: Tensor
    cosine: Tensor
    alignment: Tensor
    uniformity: Tensor
    positive: Tensor
    hardest_negative: Tensor
    overtaken: Tensor


def health_metrics(views: Tensor) -> HealthMetrics:
    """All that tells the health of a representation, from two views of some pictures.

    Args:
        views: (2, N, D) float features or projections, of at least two pictures.

    Raises:
        InputError: if there is another number of views, or fewer than two pictures.

    Example:
        >>> found = health_metrics(torch.ones(2, 8, 16))  # every view looks the same
        >>> found.rank, found.std, found.cosine, found.overtaken
        (tensor(1.), tensor(0.), tensor(1.), tensor(1.))
    """
    if views.ndim != 3 or len(views) != 2 or views.shape[1] < 2:
        raise InputError(f"Health is told by two views of two pictures or more, (2, N, D); got {tuple(views.shape)}.")
    rows = views.flatten(0, 1)
    spread = (effective_rank(rows), feature_std(rows), mean_cosine(rows))
    return HealthMetrics(*spread, alignment(*views), uniformity(rows), *pair_similarities(*views))


@torch.no_grad()
def effective_rank(features: Tensor) -> Tensor:
    """Exponential of the entropy of the singular values, of which each counts by its share of their sum.

    It is D for features of which no direction is stronger than another, and 1 where all are multiples of one vector.
    Features are neither centred nor normalised. They are multiplied in float64.

    Args:
        features: (M, D) float; the first 25,600 rows count.

    Returns:
        () of the dtype of the features; NaN where all of them are zero, or one is not finite.

    Source: RankMe (Garrido et al. 2023, arXiv 2210.02885), equation 1; Roy & Vetterli 2007.

    Example:
        >>> effective_rank(torch.tensor([[3.0, 0.0], [0.0, 3.0]])), effective_rank(torch.ones(5, 2))
        (tensor(2.), tensor(1.))
    """
    rows = features[:MOST_FEATURES].double()
    if not rows.isfinite().all():  # of which torch.linalg would complain
        return features.new_full((), torch.nan)
    products = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
    squares = torch.linalg.eigvalsh(products)
    rounding = len(squares) * torch.finfo(squares.dtype).eps * squares.amax()  # the root would make much of it
    values = squares.where(squares > rounding, 0).sqrt_()
    shares = values / values.sum()
    rank: Tensor = torch.special.entr(shares).sum().exp()
    return rank.to(features.dtype)


@torch.no_grad()
def feature_std(features: Tensor) -> Tensor:
    """Standard deviation of features of unit length over the rows, as a mean over the dimensions.

    It is 1 / sqrt(D) where directions are spread evenly, and 0 where all are the same.

    Args:
        features: (M, D) float, M of at least 2; they are normalised here.

    Source: SimSiam (Chen & He 2021, arXiv 2011.10566), section 4.1.

    Example:
        >>> feature_std(torch.tensor([[2.0, 0.0], [-1.0, 0.0], [0.0, 5.0], [0.0, -1.0]]))  # 0.7071 as a population
        tensor(0.8165)
    """
    return F.normalize(features, dim=-1).std(0).mean()


@torch.no_grad()
def mean_cosine(features: Tensor) -> Tensor:
    """Mean cosine between different rows: 1 where all directions are the same, about 0 where they are spread evenly.

    Args:
        features: (M, D) float, M of at least 2.

    Example:
        >>> mean_cosine(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))
        tensor(0.3333)
    """
    rows = F.normalize(features, dim=-1)
    own = rows.square().sum()  # the rows' number, but for those of length zero
    return (rows.sum(0).square().sum() - own) / (len(rows) * (len(rows) - 1))


@torch.no_grad()
def alignment(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared distance between the two views of a picture, at unit length: 0 where views do not matter.

    Args:
        first: (N, D) float, first views.
        second: (N, D) float, second views.

    Source: Wang & Isola 2020 (arXiv 2005.10242), section 4.1, with their usual exponent 2.

    Example:
        >>> alignment(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]]))
        tensor(2.)
    """
    return (F.normalize(first, dim=-1) - F.normalize(second, dim=-1)).square().sum(1).mean()


@torch.no_grad()
def uniformity(features: Tensor) -> Tensor:
    """Logarithm of the mean of exp(-2 d^2) over all pairs of rows at a distance d, at unit length.

    It is 0 where all directions are the same. Of many rows in many dimensions that are spread evenly it comes to -4.

    Args:
        features: (M, D) float, M of at least 2.

    Source: Wang & Isola 2020 (arXiv 2005.10242), section 4.1, with their usual t = 2.

    Example:
        >>> uniformity(torch.tensor([[1.0, 0.0], [-2.0, 0.0]]))  # at a distance of 2
        tensor(-8.)
    """
    rows = F.normalize(features, dim=-1)
    lengths = rows.square().sum(1)  # 1, but of rows without a direction
    number = len(rows)
    with full_precision(rows.device):
        sums = [
            _without_own(4 * (part @ rows.T) - 2 * (lengths[start : start + _ROWS, None] + lengths), start).logsumexp(1)
            for start, part in _parts(rows)
        ]
    return torch.cat(sums).logsumexp(0) - math.log(number * (number - 1))


@torch.no_grad()
def pair_similarities(first: Tensor, second: Tensor) -> PairSimilarities:
    """How similar views are to their positives and to their hardest negatives, among the views of all pictures.

    Args:
        first: (N, D) float, first views, N of at least 2.
        second: (N, D) float, second views.

    Example:
        >>> first = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> found = pair_similarities(first, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
        >>> found.positive, found.hardest_negative, found.overtaken
        (tensor(0.5000), tensor(0.7500), tensor(1.))
    """
    rows = F.normalize(torch.cat([first, second]), dim=-1)
    number = len(first)
    positives = (rows * rows.roll(number, 0)).sum(1)
    hardest = []
    with full_precision(rows.device):
        for start, part in _parts(rows):
            cosines = _without_own(part @ rows.T, start)
            places = torch.arange(start, start + len(part), device=rows.device)
            hardest.append(cosines.scatter_(1, (places + number).remainder(2 * number)[:, None], -torch.inf).amax(1))
    negatives = torch.cat(hardest)
    # By less than rounding a negative is no less similar: where all views are the same, every one is overtaken.
    overtaken = negatives >= positives - 8 * torch.finfo(rows.dtype).eps
    return PairSimilarities(positives.mean(), negatives.mean(), overtaken.to(rows.dtype).mean())


def _parts(rows: Tensor) -> list[tuple[int, Tensor]]:
    return [(first, rows[first : first + _ROWS]) for first in range(0, len(rows), _ROWS)]


def _without_own(values: Tensor, first: int) -> Tensor:
    """Values (n, M) of rows from ``first`` on with all rows, of which those with themselves do not count."""
    values.diagonal(first).fill_(-torch.inf)
    return values
