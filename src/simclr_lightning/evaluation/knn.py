"""Weighted k-nearest-neighbour classification of features by cosine similarity."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_lightning.evaluation.features import Features

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
) -> Tensor:
    """Classify by the votes exp(similarity / temperature) of the k most similar pictures of a bank.

    This is Wu et al. 2018 (arXiv 1805.01978, section 3.4), with the customary k and a temperature of 0.1. The SimCLR
    paper has no such protocol.

    Args:
        queries: (Q, F) features to classify, on any device.
        bank: (M, F) features of known class, on the same device.
        bank_targets: (M,) int64 classes of the bank, from 0 to ``num_classes`` - 1.
        num_classes: number of classes.
        k: neighbours that vote; all of the bank, with a warning, if it is smaller.
        temperature: positive; the lower, the more the nearest ones decide.

    Returns:
        (Q,) int64 predicted classes.

    Raises:
        ValueError: if shapes, targets, ``k`` or ``temperature`` make no sense.
    """
    if queries.ndim != 2 or bank.ndim != 2 or queries.shape[1] != bank.shape[1]:
        raise ValueError(
            f"kNN compares queries (Q, F) with a bank (M, F), got {tuple(queries.shape)} and {tuple(bank.shape)}."
        )
    if bank_targets.shape != bank.shape[:1] or not len(bank):
        raise ValueError(f"The bank of {len(bank)} features needs as many targets, got {tuple(bank_targets.shape)}.")
    if bank_targets.min() < 0 or bank_targets.max() >= num_classes:
        raise ValueError(
            f"The classes of the bank must be 0 to {num_classes - 1}, got {int(bank_targets.min())} to "
            f"{int(bank_targets.max())}: leave unlabelled pictures out."
        )
    if k < 1 or not temperature > 0:
        raise ValueError(f"kNN needs k of at least 1 and a positive temperature, got k={k}, temperature={temperature}.")
    if k > len(bank):
        warnings.warn(f"k is {k} but the bank has {len(bank)} features: all of them vote.", stacklevel=2)
        k = len(bank)
    bank = F.normalize(bank.float())
    rows = max(1, _BLOCK_VALUES // len(bank))
    return torch.cat(
        [_vote(block, bank, bank_targets, num_classes, k, temperature) for block in torch.split(queries, rows)]
    )


def knn_accuracy(
    train: Features, test: Features, *, num_classes: int | None = None, k: int = 200, temperature: float = 0.1
) -> float:
    """Share of the test pictures, in [0, 1], that :func:`knn_predict` classifies rightly.

    Args:
        train: the bank.
        test: the queries.
        num_classes: number of classes; as many as the targets of both have by default.
        k: neighbours that vote.
        temperature: of the votes.
    """
    if num_classes is None:
        num_classes = 1 + int(torch.maximum(train.targets.max(), test.targets.max()))
    predicted = knn_predict(
        test.features, train.features, train.targets, num_classes=num_classes, k=k, temperature=temperature
    )
    return (predicted == test.targets).double().mean().item()


def _vote(queries: Tensor, bank: Tensor, bank_targets: Tensor, num_classes: int, k: int, temperature: float) -> Tensor:
    similarities, neighbours = (F.normalize(queries.float()) @ bank.T).topk(k)
    # Relative to the nearest one, so that nothing overflows at low temperatures; the winner is the same.
    weights = ((similarities - similarities[:, :1]) / temperature).exp()
    votes = weights.new_zeros(len(queries), num_classes)
    return votes.scatter_add_(1, bank_targets[neighbours], weights).argmax(1)
