"""Top-1 and top-5 of batches that come one after the other, counted where the scores are."""

from __future__ import annotations

import torch
from torch import Tensor

from simclr_lightning.distributed import all_reduce_sum, rank

TOP = 5
"""Ranks of the second accuracy, which is told of more classes than these."""


class RightAnswers:
    """Counts right answers on the device, in a few operators for which the host never waits.

    Example:
        >>> answers = RightAnswers(3, torch.device("cpu"))
        >>> counts = answers.update(torch.eye(3), torch.tensor([0, 2, -1]))
        >>> counts.tolist(), answers.compute()["top1"].item()
        ([2, 1], 0.5)

    Args:
        num_classes: number of classes.
        device: of the scores.
    """

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self._names = ("top1", "top5") if num_classes > TOP else ("top1",)
        self._device = device
        self.reset()

    def reset(self) -> None:
        """Count anew."""
        self._counts = torch.zeros(1 + len(self._names), dtype=torch.int64, device=self._device)

    def update(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Count a batch.

        Args:
            scores: (M, classes), higher where a class is more likely.
            targets: (M,) integers; negative ones do not count.

        Returns:
            (2,) or (3,) int64, of this batch and process: labelled rows, right answers, those among the best five.
        """
        rows = [targets >= 0, scores.argmax(1) == targets]
        if "top5" in self._names:
            rows.append((scores.topk(TOP).indices == targets[:, None]).any(1))
        counts = torch.stack(rows).sum(1)
        self._counts = self._counts + counts
        return counts

    def totals(self) -> Tensor:
        """Counts (2,) or (3,) int64 of all processes, which must all ask: for a checkpoint.

        Example:
            >>> RightAnswers(3, torch.device("cpu")).totals()
            tensor([0, 0])
        """
        return all_reduce_sum(self._counts)

    def go_on(self, totals: Tensor) -> None:
        """Continue a count, of any number of processes.

        Example:
            >>> answers = RightAnswers(3, torch.device("cpu"))
            >>> answers.go_on(torch.tensor([4, 1]))
            >>> answers.compute()["top1"].item()
            0.25
        """
        self.reset()
        if rank() == 0 and totals.shape == self._counts.shape:
            self._counts += totals.to(self._device)

    def compute(self) -> dict[str, Tensor]:
        """Shares () float32 of the labelled rows of all processes, by name; empty where there are none."""
        labelled, *right = self.totals().unbind()
        if labelled == 0:
            return {}
        return {name: count.float() / labelled.float() for name, count in zip(self._names, right, strict=True)}
