"""By what a classifier is judged."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_lightning.distributed import all_reduce_sum
from simclr_lightning.metrics import RightAnswers

UNLABELLED = -1


class ClassifierMetrics:
    """Loss, top-1, mean of the classes' accuracies, top-5 of more than five classes, and the confusion matrix.

    They are those of all processes; targets of -1 do not count. The host does not wait for the device before
    :meth:`compute`.

    Args:
        num_classes: number of classes.
        device: of the scores.

    Example:
        >>> metrics = ClassifierMetrics(3, torch.device("cpu"))
        >>> metrics.update(torch.tensor([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]]), torch.tensor([0, 2]))
        >>> values, confusion = metrics.compute()
        >>> values["top1"].item(), confusion.tolist()
        (0.5, [[1, 0, 0], [0, 0, 0], [0, 1, 0]])
    """

    # No module with buffers: DistributedDataParallel would overwrite the counts of all processes but the first.

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self._classes = num_classes
        self._answers = RightAnswers(num_classes, device)
        self._confusion = torch.zeros(num_classes**2, dtype=torch.int64, device=device)
        self._loss = torch.zeros((), device=device, dtype=torch.float32)

    def update(self, scores: Tensor, targets: Tensor) -> None:
        """Judge scores (N, classes) of targets (N,)."""
        losses = F.cross_entropy(scores, targets, ignore_index=UNLABELLED, reduction="none")
        self._loss = self._loss + losses.float().sum()
        self._answers.update(scores, targets)
        pairs = targets.clamp(min=0) * self._classes + scores.argmax(1)
        self._confusion = self._confusion.index_add(0, pairs, (targets >= 0).long())

    def compute(self) -> tuple[dict[str, Tensor], Tensor]:
        """The figures by name, and the confusion matrix (classes, classes) int64: rows are the true classes."""
        confusion = all_reduce_sum(self._confusion).view(self._classes, self._classes)
        pictures = confusion.sum(1)
        present = pictures > 0
        return {
            "loss": all_reduce_sum(self._loss) / pictures.sum(),
            **self._answers.compute(),
            "mean_per_class": (confusion.diag()[present] / pictures[present]).mean(),
        }, confusion


def cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """Mean () over the labelled rows of scores (N, classes), 0 without any.

    Example:
        >>> import torch
        >>> cross_entropy(torch.zeros(2, 4), torch.tensor([1, -1]))
        tensor(1.3863)
    """
    total = F.cross_entropy(scores, targets, ignore_index=UNLABELLED, reduction="sum")
    return total / (targets >= 0).sum().clamp(min=1)
