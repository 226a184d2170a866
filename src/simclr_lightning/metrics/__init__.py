"""What features are judged by: pure functions of tensors, and counts of right answers."""

from simclr_lightning.metrics.accuracy import METRICS, Metric, mean_average_precision_11, mean_per_class, top1
from simclr_lightning.metrics.health import (
    HealthMetrics,
    PairSimilarities,
    alignment,
    effective_rank,
    feature_std,
    health_metrics,
    mean_cosine,
    pair_similarities,
    uniformity,
)
from simclr_lightning.metrics.health_words import Word, collapse_word, floor_word, probe_word
from simclr_lightning.metrics.knn import Weights, knn_predict, neighbour_consistency
from simclr_lightning.metrics.logistic import LogisticClassifier, LogisticRegression
from simclr_lightning.metrics.right_answers import RightAnswers

__all__ = [
    "METRICS",
    "HealthMetrics",
    "LogisticClassifier",
    "LogisticRegression",
    "Metric",
    "PairSimilarities",
    "RightAnswers",
    "Weights",
    "Word",
    "alignment",
    "collapse_word",
    "effective_rank",
    "feature_std",
    "floor_word",
    "health_metrics",
    "knn_predict",
    "mean_average_precision_11",
    "mean_cosine",
    "mean_per_class",
    "neighbour_consistency",
    "pair_similarities",
    "probe_word",
    "top1",
    "uniformity",
]
