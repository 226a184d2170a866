"""k-nearest-neighbour classification of features by cosine similarity, by weighted or plain votes."""

from __future__ import annotations

import warnings
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_lightning.distributed import gather_rows, rank, world_size
from simclr_lightning.errors import InputError

Weights = Literal["similarity", "uniform"]
"""Whether a neighbour's vote counts exp(similarity / temperature), or as much as any other."""

_BLOCK_VALUES = 2**23
"""Similarities held at a time: 32 MiB, whatever the size of the bank."""


def knn_predict(
    queries: Tensor,
    bank: Tensor,
    bank_targets: Tensor,
    *,
    num_classes: int,
    k: int = 200,
    temperature: float = 0.1,
    weights: Weights = "similarity",
    sharded: bool = False,
) -> Tensor:
    """Classify by the votes of the k most similar pictures of a bank.

    Votes of exp(similarity / temperature) are those of Wu et al. 2018 (arXiv 1805.01978, section 3.4), with the
    customary k and a temperature of 0.1. The SimCLR paper has no such protocol.

    Similarities are computed in blocks of queries, so that memory does not grow with their number.

    Args:
        queries: (Q, F) features to classify, on any device.
        bank: (M, F) features of known class, on the same device.
        bank_targets: (M,) int64 classes of the bank, from 0 to ``num_classes`` - 1.
        num_classes: number of classes.
        k: neighbours that vote; all of the bank, with a warning, if it is smaller.
        temperature: positive; the lower, the more the nearest ones decide. Uniform votes do without it.
        weights: what a vote counts: similarity, as above, or uniform: one. Where classes have equally many uniform
            votes, the one with the nearest neighbour wins.
        sharded: whether every process of torch.distributed classifies its share of the queries only. All of them must
            call this with the same arguments, and all get all predictions.

    Returns:
        (Q,) int64 predicted classes.

    Raises:
        InputError: if shapes, targets, ``k``, ``temperature`` or ``weights`` make no sense.

    Example:
        >>> bank, targets = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), torch.tensor([0, 0, 1])
        >>> knn_predict(torch.tensor([[1.0, 0.3], [0.1, 1.0]]), bank, targets, num_classes=2, k=3)
        tensor([0, 1])
    """
    if queries.ndim != 2 or bank.ndim != 2 or queries.shape[1] != bank.shape[1]:
        raise InputError(
            f"kNN compares queries (Q, F) with a bank (M, F), got {tuple(queries.shape)} and {tuple(bank.shape)}."
        )
    if bank_targets.shape != bank.shape[:1] or not len(bank):
        raise InputError(f"The bank of {len(bank)} features needs as many targets, got {tuple(bank_targets.shape)}.")
    if bank_targets.min() < 0 or bank_targets.max() >= num_classes:
        raise InputError(
            f"The classes of the bank must be 0 to {num_classes - 1}, got {int(bank_targets.min())} to "
            f"{int(bank_targets.max())}: leave unlabelled pictures out."
        )
    if k < 1 or not temperature > 0:
        raise InputError(f"kNN needs k of at least 1 and a positive temperature, got k={k}, temperature={temperature}.")
    if weights not in ("similarity", "uniform"):
        raise InputError(f"weights is {weights!r}: choose similarity or uniform.")
    if k > len(bank):
        warnings.warn(f"k is {k} but the bank has {len(bank)} features: all of them vote.", stacklevel=2)
        k = len(bank)
    bank = F.normalize(bank.float())
    own = queries.tensor_split(world_size())[rank()] if sharded else queries
    rows = max(1, _BLOCK_VALUES // len(bank))
    predicted = []
    for block in torch.split(own, rows):
        similarities, neighbours = (F.normalize(block.float()) @ bank.T).topk(k)
        nearest = bank_targets[neighbours]
        if weights == "similarity":
            predicted.append(_weighted_vote(similarities, nearest, num_classes, temperature))
        else:
            predicted.append(_plain_vote(nearest, num_classes))
    classes = torch.cat(predicted)
    return gather_rows(classes[:, None])[0][:, 0] if sharded else classes


@torch.no_grad()
def neighbour_consistency(first: Tensor, second: Tensor, *, k: int = 10) -> Tensor:
    """Share of the k nearest neighbours of a picture that are the same by its first view and by its second one.

    It needs no labels: neighbours are looked for by cosine among the first views of all other pictures, and among their
    second ones. Chance is k / (N - 1); an encoder for which views do not matter comes to 1, also where it has
    collapsed to a constant, so look at its spread as well.

    Args:
        first: (N, F) features of first views.
        second: (N, F) features of second views of the same pictures.
        k: neighbours, less than N.

    Returns:
        () float32, in [0, 1].

    Raises:
        InputError: if shapes or ``k`` make no sense.

    Source: mutual nearest neighbours of two representations, as in Huh et al. 2024 (arXiv 2405.07987), section 2.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        >>> neighbour_consistency(features, features.flip(1), k=1)
        tensor(1.)
    """
    if first.shape != second.shape or first.ndim != 2:
        raise InputError(f"Two views of every picture are compared, got {tuple(first.shape)}, {tuple(second.shape)}.")
    if not 0 < k < len(first):
        raise InputError(f"k is {k}: choose 1 to {len(first) - 1} neighbours of {len(first)} pictures.")
    first, second = F.normalize(first.float()), F.normalize(second.float())
    same = first.new_zeros(())
    for start in range(0, len(first), rows := max(1, _BLOCK_VALUES // len(first))):
        shown = [_others(views, start, rows).topk(k).indices for views in (first, second)]
        same += (shown[0][:, :, None] == shown[1][:, None, :]).sum()
    return same / (k * len(first))


def _others(views: Tensor, start: int, rows: int) -> Tensor:
    """Cosines of some views with all, of which their own do not count."""
    cosines = views[start : start + rows] @ views.T
    cosines.diagonal(start).fill_(-torch.inf)
    return cosines


def _weighted_vote(similarities: Tensor, nearest: Tensor, num_classes: int, temperature: float) -> Tensor:
    # Relative to the nearest one, so that nothing overflows at low temperatures; the winner is the same.
    weights = ((similarities - similarities[:, :1]) / temperature).exp()
    votes = weights.new_zeros(len(nearest), num_classes)
    return votes.scatter_add_(1, nearest, weights).argmax(1)


def _plain_vote(nearest: Tensor, num_classes: int) -> Tensor:
    """The commonest class of each row of ``nearest`` (Q, k), nearest first; of several, the one that comes first."""
    votes = nearest.new_zeros(len(nearest), num_classes)
    votes.scatter_add_(1, nearest, torch.ones_like(nearest))
    commonest = votes.gather(1, nearest) == votes.amax(1, keepdim=True)
    first = commonest.int().argmax(1, keepdim=True)  # the first of equal values
    return nearest.gather(1, first)[:, 0]
