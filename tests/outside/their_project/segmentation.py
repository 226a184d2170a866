"""Segmentation from few masks: SimCLR on all pictures is one term of the loss."""

from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from simclr_lightning import SimCLR, ViewBatch


class Maps(nn.Module):
    """(N, 1, S, S) to maps (N, 16, S, S), which the decoder takes, and these to features (N, 16)."""

    feature_dim = 16

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)
        )

    def forward(self, pictures: Tensor) -> Tensor:
        features: Tensor = self.maps(pictures).mean((2, 3))
        return features


class Segmentation(LightningModule):
    """Its batches are views, pictures and masks; the latter two may be of other pictures than the views."""

    def __init__(self, weight: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.simclr = SimCLR(Maps(), projection_dim=16)
        self.decoder = nn.Conv2d(16, 2, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        encoder: Any = self.simclr.encoder
        logits: Tensor = self.decoder(encoder.maps(pictures))
        return logits

    def training_step(self, batch: tuple[list[Tensor], Tensor, Tensor], batch_idx: int) -> Tensor:
        views, pictures, masks = batch
        contrast = self.simclr.contrast(ViewBatch.of(*views)).loss
        segmentation = F.cross_entropy(self(pictures), masks)
        self.log_dict({"contrast": contrast, "segmentation": segmentation})
        loss: Tensor = segmentation + self.hparams["weight"] * contrast
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), 3e-3)
