"""Features in memory, in place of the pictures that they are of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from simclr_lightning.data.serving import Key


class FeatureBatch(NamedTuple):
    """What a frozen encoder made of pictures.

    Attributes:
        features: (N, F) float.
        targets: (N,) int64 class indices, -1 where unlabelled.
        indices: (N,) int64 positions of the pictures in the data set.

    Example:
        >>> FeatureBatch(torch.rand(5, 64), torch.zeros(5).long(), torch.arange(5)).features.shape
        torch.Size([5, 64])
    """

    features: Tensor
    targets: Tensor
    indices: Tensor


class FeatureDataset(Dataset[FeatureBatch]):
    """Features in memory, served in whole batches.

    Args:
        features: of all pictures of a part, in its order, on the CPU.

    Example:
        >>> data = FeatureDataset(FeatureBatch(torch.rand(5, 64), torch.arange(5), torch.arange(5)))
        >>> data.__getitems__([Key(3), Key(0, repeated=True)]).targets.tolist()
        [3, -1]
    """

    in_memory = True

    @property
    def nbytes(self) -> int:
        """Bytes that a picture takes in a batch."""
        return self.features.features[:1].nbytes

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
        features, targets, indices = (values.index_select(0, places) for values in self.features)
        return FeatureBatch(features, targets.masked_fill(repeated, -1), indices)
