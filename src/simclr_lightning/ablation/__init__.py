"""Which augmentations suit a set of pictures: the study of the paper's Figure 5 as a tool, ``simclr ablate``."""

from simclr_lightning.ablation.matrix import Matrix
from simclr_lightning.ablation.one_sided import AblationDataModule, OneSidedViews
from simclr_lightning.ablation.operations import OPERATIONS
from simclr_lightning.ablation.recommendation import Recommendation, recommend
from simclr_lightning.ablation.study import ablate

__all__ = [
    "OPERATIONS",
    "AblationDataModule",
    "Matrix",
    "OneSidedViews",
    "Recommendation",
    "ablate",
    "recommend",
]
