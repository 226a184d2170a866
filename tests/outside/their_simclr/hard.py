"""A loss that weights negatives by how hard they are (Robinson et al. 2021, without the correction for false ones)."""

import math

import torch.nn.functional as F
from torch import Tensor

from simclr_lightning.distributed import mean_over_processes
from simclr_lightning.losses import ContrastiveLoss, log_negatives, log_negatives_and_positives, scaled_views


class HardLoss(ContrastiveLoss):
    """Negatives count exp(beta s) times as much as others of their view do on average."""

    def __init__(self, temperature: float = 0.5, beta: float = 1.0) -> None:
        super().__init__()
        self.temperature, self.beta = temperature, beta

    def forward(self, projections: Tensor) -> Tensor:
        views = scaled_views(projections, self.temperature).flatten(0, 1)
        harder, positives = views * (1 + self.beta) ** 0.5, log_negatives_and_positives(views)[1]
        weights = log_negatives(views * self.beta**0.5, gather=True)
        log_r = log_negatives(harder, gather=True) - weights + math.log(len(views) - 2)
        return mean_over_processes(F.softplus(log_r.view(2, -1) - positives))
