"""Multinomial logistic regression on frozen features."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from simclr_lightning.evaluation.features import Features

STRENGTHS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
"""Regularisation to choose from, strongest first."""

FEW_LABELS = 1000
"""With fewer labels none are held out to choose with: the strength is ``FIXED_STRENGTH``."""

FIXED_STRENGTH = 1e-4

_MOST_ITERATIONS = 1000


def linear_accuracy(train: Features, test: Features) -> float:
    """Share of the test pictures, in [0, 1], that a linear classifier learned from ``train`` gets right.

    L2-regularised multinomial logistic regression by L-BFGS, as in the paper's transfer experiments (Chen et al. 2020,
    B.8.1). For cross-entropy E, F features and weights W it minimises mean(E) + strength * F / 2 * |W|^2 on features
    that are centred and divided by one number, so that their mean variance is 1: neither their scale nor their number
    matters. They are not standardised one by one, because a few labelled pictures cannot tell each variance.

    The strength is chosen among ``STRENGTHS``, from the strongest on until the accuracy on a held-out tenth of the
    training labels no longer rises; then all labels are learned from. With fewer than 1,000 labels it is 1e-4. The test
    pictures have no part in this, and every encoder is treated alike.

    Args:
        train: features to learn from, all labelled.
        test: features to classify, all labelled.

    Raises:
        ValueError: if there are fewer than two classes to learn, or features are not finite.
    """
    if len(torch.unique(train.targets)) < 2:
        raise ValueError("A linear classifier needs training labels of two classes at least.")
    inputs, targets = train.features.numpy().astype(np.float64), train.targets.numpy()  # L-BFGS works in float64
    mean = inputs.mean(0)
    inputs -= mean
    scale = np.linalg.norm(inputs) / math.sqrt(inputs.size) or 1.0  # 0 where all pictures look the same
    inputs /= scale
    classifier = LogisticRegression(tol=1e-3, max_iter=_MOST_ITERATIONS, warm_start=True)
    _fit(classifier, inputs, targets, _chosen_strength(inputs, targets))
    if classifier.n_iter_.max() >= _MOST_ITERATIONS:
        rank_zero_warn(
            f"The linear classifier was stopped after {_MOST_ITERATIONS} iterations of L-BFGS, before it converged: "
            "its accuracy may be too low."
        )
    return float(classifier.score((test.features.numpy() - mean) / scale, test.targets.numpy()))


def _chosen_strength(inputs: NDArray[np.float64], targets: NDArray[np.int64]) -> float:
    if len(targets) < FEW_LABELS:
        return FIXED_STRENGTH
    held_out, learned = np.split(np.random.default_rng(0).permutation(len(targets)), [len(targets) // 10])
    inputs_learned, targets_learned = inputs[learned], targets[learned]
    classifier = LogisticRegression(tol=1e-3, max_iter=_MOST_ITERATIONS, warm_start=True)
    chosen, best = STRENGTHS[0], -1.0
    for strength in STRENGTHS:
        _fit(classifier, inputs_learned, targets_learned, strength)
        accuracy = classifier.score(inputs[held_out], targets[held_out])
        if accuracy <= best:
            break
        chosen, best = strength, accuracy
    return chosen


def _fit(
    classifier: LogisticRegression, inputs: NDArray[np.float64], targets: NDArray[np.int64], strength: float
) -> None:
    classifier.set_params(C=1 / (strength * inputs.size))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # told in our words where it matters
        classifier.fit(inputs, targets)
