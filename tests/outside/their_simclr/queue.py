"""A loss whose negatives are also those of earlier batches, kept in a buffer."""

import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_lightning.losses import ContrastiveLoss, log_negatives, log_negatives_and_positives, scaled_views


class QueueLoss(ContrastiveLoss):
    """NT-Xent with a queue of earlier projections; each process has its own."""

    queue: Tensor
    gather = False

    def __init__(self, length: int = 64, dimension: int = 16, temperature: float = 0.5) -> None:
        super().__init__()
        self.temperature = temperature
        self.register_buffer("queue", torch.zeros(length, dimension))

    def forward(self, projections: Tensor) -> Tensor:
        views = scaled_views(projections, self.temperature).flatten(0, 1)
        log_r, positives = log_negatives_and_positives(views)
        log_r = torch.logaddexp(log_r, log_negatives(views, columns=self.queue))
        if self.training:
            self.queue = torch.cat([views.detach(), self.queue])[: len(self.queue)]
        return F.softplus(log_r.view(2, -1) - positives).mean()
