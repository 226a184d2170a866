"""Features of a split, the one thing that every protocol works on."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Features(NamedTuple):
    """Features of pictures, and their classes.

    Attributes:
        features: (N, F) float32, on the CPU.
        targets: (N,) int64 class indices, -1 where unlabelled. Where a picture may show several classes (N, C) int64: 1
            where it does, 0 where it does not, -1 where it does not count.
    """

    features: Tensor
    targets: Tensor

    def take(self, positions: Tensor) -> Features:
        """The pictures at ``positions``, (n,) int64 or a mask (N,) bool."""
        return Features(self.features[positions], self.targets[positions])
