"""How good the features of a frozen encoder are: protocols, and ``simclr evaluate``, which runs them."""

from simclr_lightning.evaluation.features import Features
from simclr_lightning.evaluation.knn import knn_accuracy, knn_predict
from simclr_lightning.evaluation.logistic import linear_accuracy
from simclr_lightning.evaluation.report import Evaluation
from simclr_lightning.evaluation.trainer import SimCLRTrainer

__all__ = ["Evaluation", "Features", "SimCLRTrainer", "knn_accuracy", "knn_predict", "linear_accuracy"]
