"""Transfer to another data set: logistic regression on frozen features, its strength chosen on validation."""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from simclr_lightning.data.datasets import METRICS, Metric
from simclr_lightning.data.subsets import stratified_split
from simclr_lightning.evaluation.features import Features
from simclr_lightning.evaluation.metrics import mean_average_precision_11, mean_per_class, top1

STRENGTHS = tuple((10.0 ** np.linspace(5, -6, 45)).tolist())
"""Regularisation to choose from, strongest first: 45 values, a quarter of a decade apart (Chen et al. 2020, B.8.1)."""

HELD_OUT = 0.2
"""Share of the training pictures to choose with where a data set has no validation pictures."""

_MOST_ITERATIONS = 1000
_TOLERANCE = 1e-4


class TransferResult(NamedTuple):
    """How well a classifier on frozen features does.

    Attributes:
        accuracy: of the test pictures, in [0, 1], by the metric that was asked for.
        strength: the chosen regularisation.
        validation: the validation pictures' accuracy by strength, strongest first.
    """

    accuracy: float
    strength: float
    validation: dict[float, float]


class LogisticClassifier:
    """L2-regularised logistic regression by L-BFGS (scikit-learn's), which goes on from its last solution.

    It minimises sum(E) + strength * |W|^2 for cross-entropies E of the pictures, in nats, and weights W; biases are
    free. With (N,) targets there is one multinomial problem (for two classes a binary one, one row of weights); with
    (N, C) targets one binary problem a class, which leaves out pictures whose target is -1.

    Features count as they are. Inside, they are centred and divided by one number, so that their mean variance is 1:
    the minimum is the same, but L-BFGS gets there in fewer steps. It stops where no derivative of the objective over N
    is above 1e-4 in these units, or after 1,000 iterations.

    Args:
        train: features (N, F) and targets (N,) or (N, C).
    """

    def __init__(self, train: Features) -> None:
        inputs = train.features.numpy().astype(np.float64)  # L-BFGS works in float64
        self.mean = inputs.mean(0)
        inputs -= self.mean
        self.scale = float(np.linalg.norm(inputs)) / math.sqrt(inputs.size) or 1.0  # 0 where all pictures look the same
        inputs /= self.scale
        self._inputs = inputs
        targets = train.targets.numpy()
        self._columns = [targets] if targets.ndim == 1 else [np.where(column < 0, 0, column) for column in targets.T]
        self._known = [None] if targets.ndim == 1 else [(column >= 0).astype(np.float64) for column in targets.T]
        self._models = [
            LogisticRegression(tol=_TOLERANCE, max_iter=_MOST_ITERATIONS, warm_start=True) for _ in self._columns
        ]

    def fit(self, strength: float) -> bool:
        """Find the minimum; the last one is where the search starts, so go from strong to weak.

        Returns:
            Whether it was found within the iterations.
        """
        for model, column, known in zip(self._models, self._columns, self._known, strict=True):
            # scikit-learn minimises C * sum(E) + |W|^2 / 2, here for weights of features that are smaller by the scale.
            model.set_params(C=self.scale**2 / (2 * strength))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # told in our words
                model.fit(self._inputs, column, sample_weight=known)
        return all(model.n_iter_.max() < _MOST_ITERATIONS for model in self._models)

    def weights(self) -> tuple[Tensor, Tensor]:
        """Weights (C, F) and biases (C,) for the features as they are, float64; C is 1 for two classes."""
        weights = np.concatenate([model.coef_ for model in self._models]) / self.scale
        biases = np.concatenate([model.intercept_ for model in self._models])
        return torch.from_numpy(weights), torch.from_numpy(biases - weights @ self.mean)

    def accuracy(self, test: Features, metric: Metric) -> float:
        """Accuracy in [0, 1] by one of ``METRICS``."""
        inputs = (test.features.numpy() - self.mean) / self.scale
        if metric == "map11":
            scores = np.stack([model.decision_function(inputs) for model in self._models], axis=1)
            return mean_average_precision_11(torch.from_numpy(scores), test.targets)
        predicted = torch.from_numpy(self._models[0].predict(inputs))
        return top1(predicted, test.targets) if metric == "top1" else mean_per_class(predicted, test.targets)


def transfer_accuracy(
    train: Features, val: Features | None, test: Features, *, metric: Metric = "top1", seed: int = 0
) -> TransferResult:
    """How well a linear classifier on frozen features does on a data set, as in the paper's transfer experiments.

    This is Chen et al. 2020, B.8.1, after Kornblith et al. 2019 (arXiv 1805.08974): features of clean pictures (no
    augmentation), L2-regularised multinomial logistic regression by L-BFGS, ``STRENGTHS`` tried from the strongest on,
    each from the solution before it, the one with the best validation accuracy by the same metric chosen (the strongest
    of equally good ones), and the classifier learned anew from training and validation pictures together. The test
    pictures are classified once, by the last classifier. The objective, and when it counts as minimised, is that of
    :class:`LogisticClassifier`.

    The paper does not say whether cross-entropies are summed or averaged, nor the factor of the penalty, the number of
    iterations, or whether features are standardised. The sum, the penalty strength * |W|^2 and features as they are
    follow linear_eval in google-research, by an author of both papers. Nor does it say what validates a data set that
    has no validation pictures: here a fifth of every class.

    Args:
        train: features (N, F), and targets: (N,) classes, or (N, C) for map11: 1 where a picture shows the class, 0
            where it does not, -1 where it does not count. For map11 one strength serves all classes.
        val: as ``train``. None: ``HELD_OUT`` of ``train``, the same share of every class (for map11: of the first class
            that a picture shows), drawn with ``seed``.
        test: as ``train``.
        metric: top1, mean_per_class, or map11, see ``metrics``.
        seed: of the pictures that are held out; without effect where ``val`` is given.

    Raises:
        ValueError: if shapes or targets make no sense, features are not finite, there are fewer than two classes to
            learn, or too few pictures to hold some out.
    """
    if metric not in METRICS:
        raise ValueError(f"metric is {metric!r}: choose one of {', '.join(METRICS)}.")
    for name, part in {"training": train, "validation": val, "test": test}.items():
        if part is not None:
            _check(part, name, train, multi_label=metric == "map11")
    if val is None:
        train, val = _held_out(train, seed)
    _check_classes(train.targets)

    classifier = LogisticClassifier(train)
    validation = {}
    found = True
    for strength in STRENGTHS:
        found &= classifier.fit(strength)
        validation[strength] = classifier.accuracy(val, metric)
    chosen = max(validation, key=lambda strength: validation[strength])  # the first of equal ones

    together = zip(train, val, strict=True)
    classifier = LogisticClassifier(Features(*(torch.cat(parts) for parts in together)))
    if not (classifier.fit(chosen) and found):
        rank_zero_warn(
            f"A linear classifier was stopped after {_MOST_ITERATIONS} iterations of L-BFGS, before it converged: its "
            "accuracy may be too low."
        )
    return TransferResult(classifier.accuracy(test, metric), chosen, validation)


def _check(part: Features, name: str, train: Features, *, multi_label: bool) -> None:
    features, targets = part
    if features.ndim != 2 or not len(features) or features.shape[1] != train.features.shape[-1]:
        raise ValueError(
            f"The {name} features must be (N, F), F as in the training features and N at least 1, got "
            f"{tuple(features.shape)}; the training features are {tuple(train.features.shape)}."
        )
    shape = (len(features), *train.targets.shape[1:]) if multi_label else (len(features),)
    if targets.shape != shape or targets.ndim != 1 + multi_label:
        kind = "(N, C) targets for map11, one column a class" if multi_label else "(N,) targets, or metric='map11'"
        raise ValueError(
            f"Expected {kind}: the {len(features)} {name} features have targets {tuple(targets.shape)}, the training "
            f"features {tuple(train.targets.shape)}."
        )
    low, high = (-1, 1) if multi_label else (0, math.inf)
    if targets.min() < low or targets.max() > high:
        expected = "1, 0 or -1" if multi_label else "0 or more: leave unlabelled pictures out"
        raise ValueError(f"The {name} targets must be {expected}, got {int(targets.min())} to {int(targets.max())}.")
    if not features.isfinite().all():
        raise ValueError(f"The {name} features hold NaN or infinite values.")


def _check_classes(targets: Tensor) -> None:
    if targets.ndim == 1:
        if (targets == targets[0]).all():
            raise ValueError(f"A classifier needs two classes at least; all training pictures have {int(targets[0])}.")
        return
    for number, column in enumerate(targets.T):
        if not (column == 1).any() or not (column == 0).any():
            raise ValueError(
                f"A classifier needs training pictures that show class {number} and others that do not, got "
                f"{int((column == 1).sum())} and {int((column == 0).sum())}."
            )


def _held_out(train: Features, seed: int) -> tuple[Features, Features]:
    targets = train.targets
    if targets.ndim == 2:
        shown = targets == 1
        targets = torch.where(shown.any(1), shown.int().argmax(1), -1)
    try:
        kept, aside = stratified_split(targets, HELD_OUT, seed)
    except ValueError as error:
        raise ValueError(
            f"A fifth of the {len(targets)} training pictures cannot be held out class by class to choose the "
            f"strength with: give validation pictures, or two at least of every class. ({error})"
        ) from error
    return train.take(kept), train.take(aside)
