"""What a classifier is judged by, data set by data set (Chen et al. 2020, B.8.1)."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from simclr_lightning.errors import InputError

Metric = Literal["top1", "mean_per_class", "map11"]
"""One of ``METRICS``."""
METRICS: tuple[Metric, ...] = get_args(Metric)
"""By what classifiers of a data set are judged: share of right answers, its mean over the classes, or VOC2007's mAP."""

_RECALLS = np.arange(11) / 10  # not linspace, whose 0.3 is a little more than 3 of 10


def top1(predicted: Tensor, targets: Tensor) -> float:
    """Share of the pictures, in [0, 1], whose class is predicted rightly.

    Args:
        predicted: (N,) int64 classes.
        targets: (N,) int64 classes.

    Example:
        >>> top1(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 2, 2]))
        0.75
    """
    return (predicted == targets).double().mean().item()


def mean_per_class(predicted: Tensor, targets: Tensor) -> float:
    """Mean over the classes of the share of their pictures, in [0, 1], that is predicted rightly.

    Args:
        predicted: (N,) int64 classes.
        targets: (N,) int64 classes; those that no picture has do not count.

    Example:
        >>> mean_per_class(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 0, 2]))
        0.5
    """
    from sklearn.metrics import recall_score

    classes = torch.unique(targets).numpy()
    return float(recall_score(targets.numpy(), predicted.numpy(), labels=classes, average="macro"))


def mean_average_precision_11(scores: Tensor, targets: Tensor) -> float:
    """11-point interpolated mean average precision, in [0, 1], of VOC2007 (Everingham et al. 2010, section 4.2).

    The average precision of a class is the mean, over the recalls 0, 0.1, ..., 1, of the best precision at that recall
    or a higher one. Pictures with equal scores enter together.

    Args:
        scores: (N, C), higher where a class is more likely.
        targets: (N, C) int64: 1 where a picture shows the class, 0 where it does not, -1 where it does not count for
            the class (VOC's difficult objects). Classes that no picture shows do not count.

    Raises:
        InputError: if no picture shows any class.

    Example:
        >>> scores, targets = torch.tensor([[0.9], [0.8], [0.7]]), torch.tensor([[1], [-1], [0]])
        >>> mean_average_precision_11(scores, targets), mean_average_precision_11(-scores, targets)
        (1.0, 0.5)
    """
    precisions = [
        _average_precision_11(scores[known, number], column[known])
        for number, (column, known) in enumerate(zip(targets.T, (targets >= 0).T, strict=True))
        if (column == 1).any()
    ]
    if not precisions:
        raise InputError(f"None of the {len(targets)} pictures shows any of the {targets.shape[1]} classes.")
    return float(np.mean(precisions))


def _average_precision_11(scores: Tensor, targets: Tensor) -> float:
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(targets.numpy(), scores.numpy())
    precision, recall = precision[:-1], recall[:-1]  # the last point is no threshold's, but appended
    return float(np.mean([precision[recall >= least].max() for least in _RECALLS]))
