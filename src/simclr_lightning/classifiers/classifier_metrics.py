"""By what a classifier is judged."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

UNLABELLED = -1


class ClassifierMetrics(nn.Module):
    """Loss, top-1, mean of the classes' accuracies, top-5 of more than five classes, and the confusion matrix.

    They are those of all processes; targets of -1 do not count.

    Args:
        num_classes: number of classes.

    Example:
        >>> import torch
        >>> metrics = ClassifierMetrics(3)
        >>> metrics.update(torch.tensor([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]]), torch.tensor([0, 2]))
        >>> values, confusion = metrics.compute()
        >>> values["top1"].item(), confusion.tolist()
        (0.5, [[1, 0, 0], [0, 0, 0], [0, 1, 0]])
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        settings: dict[str, Any] = {"ignore_index": UNLABELLED, "validate_args": False}
        counts: dict[str, Any] = {
            f"top{k}": MulticlassAccuracy(num_classes, top_k=k, average="micro", **settings)
            for k in ((1, 5) if num_classes > 5 else (1,))
        }
        counts["confusion"] = MulticlassConfusionMatrix(num_classes, **settings)
        # Without groups: they would merge top1 and top5 where the first batch has all answers right.
        self.counts = MetricCollection(counts, compute_groups=False)
        self.loss = MeanMetric(nan_strategy="disable")  # a loss that is not a number is to be seen

    def reset(self) -> None:
        """Count anew."""
        self.counts.reset()
        self.loss.reset()

    def update(self, scores: Tensor, targets: Tensor) -> None:
        """Judge scores (N, classes) of targets (N,)."""
        self.counts.update(scores, targets)
        losses = F.cross_entropy(scores, targets, ignore_index=UNLABELLED, reduction="none")
        self.loss.update(losses[targets >= 0])

    def compute(self) -> tuple[dict[str, Tensor], Tensor]:
        """The figures by name, and the confusion matrix (classes, classes) int64: rows are the true classes."""
        values = {"loss": self.loss.compute(), **self.counts.compute()}
        confusion: Tensor = values.pop("confusion")
        pictures = confusion.sum(1)
        present = pictures > 0
        values["mean_per_class"] = (confusion.diag()[present] / pictures[present]).mean()
        return values, confusion


def cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """Mean () over the labelled rows of scores (N, classes), 0 without any.

    Example:
        >>> import torch
        >>> cross_entropy(torch.zeros(2, 4), torch.tensor([1, -1]))
        tensor(1.3863)
    """
    total = F.cross_entropy(scores, targets, ignore_index=UNLABELLED, reduction="sum")
    return total / (targets >= 0).sum().clamp(min=1)
