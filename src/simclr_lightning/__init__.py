"""SimCLR (Chen et al. 2020) for PyTorch Lightning."""

from importlib.metadata import version

from simclr_lightning.callbacks import LARSWarmup, OnlineLinearProbe, ViewGrid
from simclr_lightning.data import SimCLRDataModule
from simclr_lightning.losses import NTXentLoss
from simclr_lightning.optim import LARS
from simclr_lightning.simclr import SimCLR
from simclr_lightning.views import ViewBatch, ViewRecipe

__version__ = version("simclr-lightning")

__all__ = [
    "LARS",
    "LARSWarmup",
    "NTXentLoss",
    "OnlineLinearProbe",
    "SimCLR",
    "SimCLRDataModule",
    "ViewBatch",
    "ViewGrid",
    "ViewRecipe",
    "__version__",
]
