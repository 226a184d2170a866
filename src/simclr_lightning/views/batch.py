"""The two batch types that travel through the package."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class ImageBatch(NamedTuple):
    """What a loader's workers hand over: bytes, so that little is copied; views are finished on the device.

    Exactly one of ``images`` and ``crops`` is set for training; an evaluation batch has ``images``, and may have both.

    Attributes:
        images: (N, C, H, W) uint8, whole evaluation-time pictures of equal size, or None.
        crops: (2, N, C, h, w) uint8, both random crops of every picture (or (1, N, C, h, w), where a classifier trains
            on a single one), drawn and mirrored by the workers where the pictures differ in size; None where the crops
            are still to be drawn on the device.
        targets: (N,) int64 class indices, -1 where unlabelled.
        indices: (N,) int64 positions in the data set: together with seed and epoch they determine the random views.
    """

    images: Tensor | None
    crops: Tensor | None
    targets: Tensor
    indices: Tensor


class ViewBatch(NamedTuple):
    """What ``SimCLR`` trains on.

    ``views.flatten(0, 1)`` has the order [all first views; all second views], as in the official code.

    Attributes:
        views: (2, N, C, H, W) float, normally in [0, 1].
        targets: (N,) int64 class indices, -1 where unlabelled.
        indices: (N,) int64 positions in the data set.
        images: (N, C, H, W) float, the clean evaluation-time pictures, or None (training does not need them).
    """

    views: Tensor
    targets: Tensor
    indices: Tensor
    images: Tensor | None = None

    @classmethod
    def of(cls, first: Tensor, second: Tensor, targets: Tensor | None = None) -> ViewBatch:
        """Batch of one's own views, for loaders that are not ``SimCLRDataModule``'s.

        Args:
            first: (N, C, H, W) float, the first views.
            second: (N, C, H, W) float, the second views of the same pictures.
            targets: (N,) int64 class indices, -1 (unlabelled) by default.
        """
        unlabelled = torch.full((len(first),), -1, device=first.device)
        indices = torch.arange(len(first), device=first.device)
        return cls(torch.stack([first, second]), unlabelled if targets is None else targets, indices)
