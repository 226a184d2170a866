"""Features of pictures that never change, served instead of the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from simclr_lightning.data.sampler import Key


class FeatureBatch(NamedTuple):
    """What a frozen encoder made of pictures.

    Attributes:
        features: (N, F) float.
        targets: (N,) int64 class indices, -1 where unlabelled.
        indices: (N,) int64 positions of the pictures in the data set.
    """

    features: Tensor
    targets: Tensor
    indices: Tensor


class FeatureDataset(Dataset[FeatureBatch]):
    """Features in memory, served in whole batches.

    Args:
        features: of all pictures of a part, in its order, on the CPU.
    """

    in_memory = True

    def __init__(self, features: FeatureBatch) -> None:
        self.features = features

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.features.targets)

    def __getitem__(self, key: Key | int) -> FeatureBatch:
        """Batch of one picture."""
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[Key | int]) -> FeatureBatch:
        """Batch of pictures, in the order of the keys."""
        asked = [key if isinstance(key, Key) else Key(key) for key in keys]
        places = torch.tensor([key.place for key in asked])
        repeated = torch.tensor([key.repeated for key in asked])
        features, targets, indices = (values[places] for values in self.features)
        return FeatureBatch(features, targets.masked_fill(repeated, -1), indices)
