"""What features are judged by: pure functions of tensors, and counts of right answers."""

from simclr_lightning.metrics.accuracy import METRICS, Metric, mean_average_precision_11, mean_per_class, top1
from simclr_lightning.metrics.knn import Weights, knn_predict
from simclr_lightning.metrics.logistic import LogisticClassifier, LogisticRegression
from simclr_lightning.metrics.right_answers import RightAnswers

__all__ = [
    "METRICS",
    "LogisticClassifier",
    "LogisticRegression",
    "Metric",
    "RightAnswers",
    "Weights",
    "knn_predict",
    "mean_average_precision_11",
    "mean_per_class",
    "top1",
]
