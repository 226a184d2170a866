"""Contrastive losses, what they are made of, and the figures by which a contrastive run is watched."""

from simclr_lightning.losses.base import ContrastiveLoss, build_loss
from simclr_lightning.losses.decoupled import DecoupledNTXent
from simclr_lightning.losses.hard_negatives import HardNegativeNTXent
from simclr_lightning.losses.learned_temperature import LearnedTemperatureNTXent
from simclr_lightning.losses.negatives import log_negatives, log_negatives_and_positives
from simclr_lightning.losses.nt_xent import NTXentLoss, nt_xent, scaled_views
from simclr_lightning.losses.supcon import SupConNTXent
from simclr_lightning.losses.watch import ContrastiveMetrics, chance_loss, contrastive_metrics, floor_loss

__all__ = [
    "ContrastiveLoss",
    "ContrastiveMetrics",
    "DecoupledNTXent",
    "HardNegativeNTXent",
    "LearnedTemperatureNTXent",
    "NTXentLoss",
    "SupConNTXent",
    "build_loss",
    "chance_loss",
    "contrastive_metrics",
    "floor_loss",
    "log_negatives",
    "log_negatives_and_positives",
    "nt_xent",
    "scaled_views",
]
