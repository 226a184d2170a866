"""Features of a split, the one thing that every protocol works on."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Features(NamedTuple):
    """Features of pictures, and their classes.

    Attributes:
        features: (N, F) float32, on the CPU.
        targets: (N,) int64 class indices, -1 where unlabelled.
    """

    features: Tensor
    targets: Tensor

    def take(self, positions: Tensor) -> Features:
        """The pictures at ``positions``, (n,) int64 or a mask (N,) bool."""
        return Features(self.features[positions], self.targets[positions])
