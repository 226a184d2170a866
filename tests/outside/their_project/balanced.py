"""A sampling and a loss of one's own, over any number of processes."""

from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from simclr_lightning import SimCLRDataModule
from simclr_lightning.distributed import gather_with_gradients, mean_over_processes
from simclr_lightning.losses import ContrastiveLoss


class Balanced(SimCLRDataModule):
    """Every class counts as much as another, however many pictures it has."""

    def training_order(self, part: Any) -> Any:
        targets, size = part.pictures.targets[part.positions], self.batch_size
        share = (1 / targets.bincount()[targets].double()).numpy()

        def order(pictures: int, seed: int, epoch: int) -> Any:
            rng, batches = np.random.default_rng((seed, epoch)), range(pictures // size)
            return np.concatenate([rng.choice(pictures, size, replace=False, p=share / share.sum()) for _ in batches])

        return order


class AlignedAndUniform(ContrastiveLoss):
    """Wang and Isola 2020: views of a picture close together, and all pictures spread over the sphere."""

    def forward(self, projections: Tensor) -> Tensor:
        first, second = F.normalize(projections, dim=-1)
        everybodys, start = gather_with_gradients(first)
        near = (4 * first @ everybodys.T - 4).exp()  # of rows of unit length: exp(-2 |x - y|^2)
        own = near.diagonal(start)
        spread = (near.sum(1) - own) / (len(everybodys) - 1)
        return mean_over_processes((first - second).square().sum(1) + spread)
