"""``SyncBatchNormOnDevices``: BatchNorm over all devices."""

from __future__ import annotations

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.accelerators import CUDAAccelerator


class SyncBatchNormOnDevices(Callback):
    """Global BatchNorm statistics where several CUDA devices train together, as in the paper (section 2.2).

    Local statistics would tell which pictures share a device with the anchor. Torch has no SyncBatchNorm elsewhere.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Convert the model before its optimizer is made."""
        if stage == "fit" and trainer.world_size > 1 and isinstance(trainer.accelerator, CUDAAccelerator):
            torch.nn.SyncBatchNorm.convert_sync_batchnorm(pl_module)  # type: ignore[no-untyped-call]
