"""How good the features of a frozen encoder are: protocols, and ``simclr evaluate``, which runs them."""

from simclr_lightning.evaluation.compare import evaluate
from simclr_lightning.evaluation.frozen import TransferResult, knn_accuracy, linear_accuracy, transfer_accuracy
from simclr_lightning.evaluation.inner_fits import FineTuneRecipe
from simclr_lightning.evaluation.label_curve import LabelCurve, label_curve
from simclr_lightning.evaluation.report import Evaluation
from simclr_lightning.evaluation.trainer import SimCLRTrainer
from simclr_lightning.features import Features
from simclr_lightning.metrics import knn_predict

__all__ = [
    "Evaluation",
    "Features",
    "FineTuneRecipe",
    "LabelCurve",
    "SimCLRTrainer",
    "TransferResult",
    "evaluate",
    "knn_accuracy",
    "knn_predict",
    "label_curve",
    "linear_accuracy",
    "transfer_accuracy",
]
