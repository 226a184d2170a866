"""SimCLR (Chen et al. 2020) for PyTorch Lightning."""

from simclr_lightning.callbacks import (
    LARSWarmup,
    OnlineKNN,
    OnlineLinearProbe,
    ProgressiveResizing,
    RepresentationHealth,
    ViewGrid,
)
from simclr_lightning.classifiers import FineTune, LinearEvaluation, Supervised
from simclr_lightning.compat import version_of
from simclr_lightning.data import LabelledDataModule, SimCLRDataModule
from simclr_lightning.losses import NTXentLoss
from simclr_lightning.optim import LARS
from simclr_lightning.simclr import SimCLR
from simclr_lightning.views import ViewBatch, ViewRecipe

__version__ = version_of("simclr-lightning")

__all__ = [
    "LARS",
    "FineTune",
    "LARSWarmup",
    "LabelledDataModule",
    "LinearEvaluation",
    "NTXentLoss",
    "OnlineKNN",
    "OnlineLinearProbe",
    "ProgressiveResizing",
    "RepresentationHealth",
    "SimCLR",
    "SimCLRDataModule",
    "Supervised",
    "ViewBatch",
    "ViewGrid",
    "ViewRecipe",
    "__version__",
]
