"""Metrics against scikit-learn, and against 11-point interpolation as the VOC2007 paper describes it."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from torch import Tensor

from simclr_lightning.metrics import mean_average_precision_11, mean_per_class, top1


def test_accuracies_are_those_of_scikit_learn() -> None:
    targets = torch.randint(6, (300,)).clamp(max=4)  # one class more often than others
    predicted = torch.where(torch.rand(300) < 0.5, targets, torch.randint(5, (300,)))
    assert top1(predicted, targets) == pytest.approx(accuracy_score(targets, predicted), abs=1e-12)
    balanced = balanced_accuracy_score(targets, predicted)
    assert mean_per_class(predicted, targets) == pytest.approx(balanced, abs=1e-12)
    assert abs(balanced - top1(predicted, targets)) > 1e-3


def test_mean_per_class_counts_the_classes_of_the_targets() -> None:
    targets, predicted = torch.tensor([1, 1, 1, 7]), torch.tensor([1, 1, 3, 0])
    assert mean_per_class(predicted, targets) == pytest.approx((2 / 3 + 0) / 2)


def slow_average_precision(scores: list[float], targets: list[int]) -> float:
    """A picture at a time, down the ranking."""
    ranked = [target for _, target in sorted(zip(scores, targets, strict=True), reverse=True) if target >= 0]
    points = []
    found = 0
    for place, target in enumerate(ranked, start=1):
        found += target
        points.append((found, found / place))  # recall times the number of positives, and precision
    total = 0.0
    for tenth in range(11):
        total += max(precision for right, precision in points if 10 * right >= tenth * found)
    return total / 11


@pytest.mark.parametrize("positives", [1, 3, 10, 20, 30])
def test_average_precision_is_that_of_a_slow_reference(positives: int) -> None:
    scores, targets = torch.randn(100, 4, dtype=torch.float64), torch.zeros(100, 4, dtype=torch.int64)
    for number in range(4):
        order = torch.randperm(100)
        targets[order[:positives], number] = 1
        targets[order[90:], number] = -1
    scores += targets
    expected = [slow_average_precision(scores[:, n].tolist(), targets[:, n].tolist()) for n in range(4)]
    assert mean_average_precision_11(scores, targets) == pytest.approx(sum(expected) / 4, abs=1e-12)


def test_average_precision_by_hand() -> None:
    scores = torch.tensor([[0.9], [0.8], [0.7], [0.6], [0.5]])
    targets = torch.tensor([[1], [0], [1], [-1], [0]])
    # Recalls 0 to 0.5 at precision 1, recalls 0.6 to 1 at 2 of 3: the difficult picture does not count.
    assert mean_average_precision_11(scores, targets) == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert mean_average_precision_11(-scores, targets) == pytest.approx((6 * 2 / 4 + 5 * 2 / 4) / 11)


def test_average_precision_of_perfect_and_equal_scores() -> None:
    targets = (torch.arange(20) < 5).long()[:, None]
    assert mean_average_precision_11(targets.float(), targets) == 1
    assert mean_average_precision_11(torch.zeros(20, 1), targets) == pytest.approx(5 / 20)


def one_class(present: int) -> Tensor:
    return torch.tensor([[1, present], [0, 0]])


def test_a_class_that_no_picture_shows_does_not_count() -> None:
    scores = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert mean_average_precision_11(scores, one_class(0)) == 1
    assert mean_average_precision_11(scores, one_class(1)) == 0.75
    with pytest.raises(ValueError, match="None of the 2 pictures shows any of the 2 classes"):
        mean_average_precision_11(scores, torch.tensor([[0, -1], [0, 0]]))
