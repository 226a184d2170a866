"""NT-Xent as a function and as a module, and the figures by which a contrastive run is watched."""

from simclr_lightning.losses.diagnostics import ContrastiveMetrics, chance_loss, contrastive_metrics, floor_loss
from simclr_lightning.losses.nt_xent import NTXentLoss, nt_xent

__all__ = ["ContrastiveMetrics", "NTXentLoss", "chance_loss", "contrastive_metrics", "floor_loss", "nt_xent"]
