"""What features are judged by: pure functions of tensors."""

from simclr_lightning.metrics.accuracy import METRICS, Metric, mean_average_precision_11, mean_per_class, top1
from simclr_lightning.metrics.knn import Weights, knn_predict
from simclr_lightning.metrics.logistic import LogisticClassifier, LogisticRegression

__all__ = [
    "METRICS",
    "LogisticClassifier",
    "LogisticRegression",
    "Metric",
    "Weights",
    "knn_predict",
    "mean_average_precision_11",
    "mean_per_class",
    "top1",
]
