"""Accuracies on features of a frozen encoder: kNN, linear classification, and the paper's transfer protocol."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from simclr_lightning.data.labels import stratified_split
from simclr_lightning.errors import InputError
from simclr_lightning.features import Features
from simclr_lightning.metrics import (
    METRICS,
    LogisticClassifier,
    LogisticRegression,
    Metric,
    Weights,
    knn_predict,
    mean_average_precision_11,
    mean_per_class,
    top1,
)

STRENGTHS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
"""What :func:`linear_accuracy` chooses its regularisation from, strongest first."""

FEW_LABELS = 1000
"""With fewer labels none are held out to choose with: the strength is ``FIXED_STRENGTH``."""

FIXED_STRENGTH = 1e-4

TRANSFER_STRENGTHS = tuple((10.0 ** np.linspace(5, -6, 45)).tolist())
"""What :func:`transfer_accuracy` chooses its regularisation from, strongest first: 45 values, a quarter of a decade
apart (Chen et al. 2020, B.8.1)."""

HELD_OUT = 0.2
"""Share of the training pictures to choose with where a data set to transfer to has no validation pictures."""

TOLERANCE, TRANSFER_TOLERANCE = 1e-3, 1e-6
"""When an objective counts as minimised, see ``LogisticRegression.fit``. The weak penalties of transfer need the
smaller one: with 1e-4 the chosen strength depends on rounding."""

_MOST_ITERATIONS = 1000
_ROWS = 8192  # of held-out features that are copied at a time


class TransferResult(NamedTuple):
    """How well a classifier on frozen features does.

    Example:
        >>> TransferResult(accuracy=0.9, strength=1.0, validation={1.0: 0.8}).accuracy
        0.9

    Attributes:
        accuracy: of the test pictures, in [0, 1], by the metric that was asked for.
        strength: the chosen regularisation.
        validation: the validation pictures' accuracy by strength, strongest first.
    """

    accuracy: float
    strength: float
    validation: dict[float, float]


def knn_accuracy(
    train: Features,
    test: Features,
    *,
    num_classes: int | None = None,
    k: int = 200,
    temperature: float = 0.1,
    weights: Weights = "similarity",
    sharded: bool = False,
    metric: Metric = "top1",
) -> float:
    """Share of the test pictures, in [0, 1], that :func:`knn_predict` classifies rightly, or its mean over the classes.

    Args:
        train: the bank.
        test: the queries.
        num_classes: number of classes; as many as the targets of both have by default.
        k: neighbours that vote.
        temperature: of the votes.
        weights: what a vote counts, similarity or uniform.
        sharded: whether the processes share the queries, as in :func:`knn_predict`.
        metric: top1 or mean_per_class.

    Example:
        >>> train = Features(torch.eye(2), torch.tensor([0, 1]))
        >>> knn_accuracy(train, Features(torch.tensor([[1.0, 0.2], [1.0, 0.1]]), torch.tensor([0, 1])), k=1)
        0.5
    """
    if num_classes is None:
        num_classes = 1 + int(torch.maximum(train.targets.max(), test.targets.max()))
    predicted = knn_predict(
        test.features,
        train.features,
        train.targets,
        num_classes=num_classes,
        k=k,
        temperature=temperature,
        weights=weights,
        sharded=sharded,
    )
    return _judged(predicted, test.targets, metric)


def linear_accuracy(
    train: Features, test: Features, *, device: torch.device | str | None = None, metric: Metric = "top1"
) -> float:
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
        device: where to compute, which takes the memory of the training features once more; None: where they are.
        metric: top1, or mean_per_class: the mean of that share over the classes, by which the strength is chosen, too.

    Raises:
        InputError: if there are fewer than two classes to learn, or features are not finite.

    Example:
        >>> train = Features(torch.tensor([[0.0], [1.0], [3.0], [4.0]]), torch.tensor([0, 0, 1, 1]))
        >>> linear_accuracy(train, Features(torch.tensor([[0.5], [1.0], [3.5]]), torch.tensor([0, 1, 1])))
        0.6666666666666666
    """
    regression = LogisticRegression(train.features, device=device)

    def learned(targets: Tensor, strength: float, start: LogisticClassifier | None) -> LogisticClassifier:
        values = int((targets >= 0).sum()) * train.features.shape[1]
        summed = strength * values * regression.scale**2 / 2  # for features as they are and a sum of cross-entropies
        return regression.fit(targets, summed, start=start, tolerance=TOLERANCE, max_iterations=_MOST_ITERATIONS)

    chosen = FIXED_STRENGTH
    if len(train.targets) >= FEW_LABELS:
        order = torch.from_numpy(np.random.default_rng(0).permutation(len(train.targets)))
        held_out = order[: len(order) // 10]
        others = train.targets.index_fill(0, held_out, -1)
        best, classifier = -1.0, None
        for strength in STRENGTHS:
            classifier = learned(others, strength, classifier)
            predicted = [classifier.predict(train.features[rows]) for rows in torch.split(held_out, _ROWS)]
            accuracy = _judged(torch.cat(predicted), train.targets[held_out], metric)
            if accuracy <= best:
                break
            chosen, best = strength, accuracy
    classifier = learned(train.targets, chosen, None)
    if not classifier.converged:
        _warn_of_iterations()
    return _judged(classifier.predict(test.features), test.targets, metric)


def transfer_accuracy(
    train: Features,
    val: Features | None,
    test: Features,
    *,
    metric: Metric = "top1",
    seed: int = 0,
    device: torch.device | str | None = None,
) -> TransferResult:
    """How well a linear classifier on frozen features does on a data set, as in the paper's transfer experiments.

    This is Chen et al. 2020, B.8.1, after Kornblith et al. 2019 (arXiv 1805.08974): features of clean pictures (no
    augmentation), L2-regularised multinomial logistic regression by L-BFGS, ``TRANSFER_STRENGTHS`` tried from the
    strongest on, each from the solution before it, the one with the best validation accuracy by the same metric chosen
    (the strongest of equally good ones), and the classifier learned anew from training and validation pictures
    together. The test pictures are classified once, by the last classifier. The objective, and when it counts as
    minimised, is that of :class:`~simclr_lightning.metrics.LogisticRegression`.

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
        device: where to compute, which takes the memory of the training features once more; None: where they are.

    Raises:
        InputError: if shapes or targets make no sense, features are not finite, there are fewer than two classes to
            learn, or too few pictures to hold some out.

    Example:
        >>> train = Features(torch.tensor([[0.0], [1.0], [3.0], [4.0]]), torch.tensor([0, 0, 1, 1]))
        >>> transfer_accuracy(train, train, train).accuracy
        1.0
    """
    if metric not in METRICS:
        raise InputError(f"metric is {metric!r}: choose one of {', '.join(METRICS)}.")
    for name, part in {"training": train, "validation": val, "test": test}.items():
        if part is not None:
            _check(part, name, train, multi_label=metric == "map11")
    if val is None:
        learned, aside = _held_out(train.targets, seed)
    else:
        learned, aside = torch.arange(len(train.targets)), len(train.targets) + torch.arange(len(val.targets))
        train = Features(torch.cat([train.features, val.features]), torch.cat([train.targets, val.targets]))
    validation, converged = _by_strength(train, learned, train.take(aside), metric, device)
    chosen = max(validation, key=lambda strength: validation[strength])  # the first of equal ones

    rows = torch.cat([learned, aside])
    regression = LogisticRegression(train.features, rows=rows, device=device)
    classifier = regression.fit(
        train.targets[rows], chosen, tolerance=TRANSFER_TOLERANCE, max_iterations=_MOST_ITERATIONS
    )
    if not (classifier.converged and converged):
        _warn_of_iterations()
    return TransferResult(_accuracy(classifier, test, metric), chosen, validation)


def _by_strength(
    train: Features, rows: Tensor, val: Features, metric: Metric, device: torch.device | str | None
) -> tuple[dict[float, float], bool]:
    """Validation accuracies of classifiers that learn from some rows, and whether all of these have converged."""
    regression, targets = LogisticRegression(train.features, rows=rows, device=device), train.targets[rows]
    classifier, accuracies, converged = None, {}, True
    for strength in TRANSFER_STRENGTHS:
        classifier = regression.fit(
            targets, strength, start=classifier, tolerance=TRANSFER_TOLERANCE, max_iterations=_MOST_ITERATIONS
        )
        converged &= classifier.converged
        accuracies[strength] = _accuracy(classifier, val, metric)
    return accuracies, converged


def _accuracy(classifier: LogisticClassifier, test: Features, metric: Metric) -> float:
    if metric == "map11":
        return mean_average_precision_11(classifier.scores(test.features), test.targets)
    return _judged(classifier.predict(test.features), test.targets, metric)


def _judged(predicted: Tensor, targets: Tensor, metric: Metric) -> float:
    return top1(predicted, targets) if metric == "top1" else mean_per_class(predicted, targets)


def _warn_of_iterations() -> None:
    rank_zero_warn(
        f"A linear classifier was stopped after {_MOST_ITERATIONS} iterations of L-BFGS, before it converged: its "
        "accuracy may be too low."
    )


def _check(part: Features, name: str, train: Features, *, multi_label: bool) -> None:
    features, targets = part.features, part.targets
    if features.ndim != 2 or not len(features) or features.shape[1] != train.features.shape[-1]:
        raise InputError(
            f"The {name} features must be (N, F), F as in the training features and N at least 1, got "
            f"{tuple(features.shape)}; the training features are {tuple(train.features.shape)}."
        )
    shape = (len(features), *train.targets.shape[1:]) if multi_label else (len(features),)
    if targets.shape != shape or targets.ndim != 1 + multi_label:
        kind = "(N, C) targets for map11, one column a class" if multi_label else "(N,) targets, or metric='map11'"
        raise InputError(
            f"Expected {kind}: the {len(features)} {name} features have targets {tuple(targets.shape)}, the training "
            f"features {tuple(train.targets.shape)}."
        )
    low, high = (-1, 1) if multi_label else (0, math.inf)
    if targets.min() < low or targets.max() > high:
        expected = "1, 0 or -1" if multi_label else "0 or more: leave unlabelled pictures out"
        raise InputError(f"The {name} targets must be {expected}, got {int(targets.min())} to {int(targets.max())}.")
    if not features.isfinite().all():
        raise InputError(f"The {name} features hold NaN or infinite values.")


def _held_out(targets: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Positions to learn from, and to choose the strength with."""
    if targets.ndim == 2:
        shown = targets == 1
        first = torch.where(shown.any(1), shown.int().argmax(1), -1)
    else:
        first = targets
    try:
        return stratified_split(first, HELD_OUT, seed)
    except ValueError as error:
        raise InputError(
            f"A fifth of the {len(targets)} training pictures cannot be held out class by class to choose the "
            f"strength with: give validation pictures, or two at least of every class. ({error})"
        ) from error
