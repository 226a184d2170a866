"""Classifiers that ``simclr fit`` trains: on a frozen encoder, with it, or from scratch."""

from simclr_lightning.classifiers.classifier import Classifier
from simclr_lightning.classifiers.finetune import FineTune
from simclr_lightning.classifiers.linear import LinearEvaluation
from simclr_lightning.classifiers.supervised import Supervised

__all__ = ["Classifier", "FineTune", "LinearEvaluation", "Supervised"]
