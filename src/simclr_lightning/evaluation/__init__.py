"""How good the features of a frozen encoder are: protocols, and ``simclr evaluate``, which runs them."""

from simclr_lightning.evaluation.classifier import Classifier
from simclr_lightning.evaluation.compare import evaluate
from simclr_lightning.evaluation.encoders import encoder_of
from simclr_lightning.evaluation.finetune import FineTune
from simclr_lightning.evaluation.frozen import TransferResult, knn_accuracy, linear_accuracy, transfer_accuracy
from simclr_lightning.evaluation.inner_fits import FineTuneRecipe
from simclr_lightning.evaluation.label_curve import LabelCurve, label_curve
from simclr_lightning.evaluation.linear import LinearEvaluation
from simclr_lightning.evaluation.report import Evaluation
from simclr_lightning.evaluation.supervised import Supervised
from simclr_lightning.evaluation.trainer import SimCLRTrainer
from simclr_lightning.features import Features
from simclr_lightning.metrics import knn_predict

__all__ = [
    "Classifier",
    "Evaluation",
    "Features",
    "FineTune",
    "FineTuneRecipe",
    "LabelCurve",
    "LinearEvaluation",
    "SimCLRTrainer",
    "Supervised",
    "TransferResult",
    "encoder_of",
    "evaluate",
    "knn_accuracy",
    "knn_predict",
    "label_curve",
    "linear_accuracy",
    "transfer_accuracy",
]
