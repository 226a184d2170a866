"""Logistic regression of the transfer protocol against the minimum of its objective, and the choice of its strength."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from simclr_lightning.data.datasets import Metric
from simclr_lightning.evaluation import Features, transfer
from simclr_lightning.evaluation.metrics import mean_average_precision_11, mean_per_class
from simclr_lightning.evaluation.transfer import STRENGTHS, LogisticClassifier, transfer_accuracy


def overlapping(seed: int, count: int, classes: int = 4, features: int = 6) -> Features:
    """Classes that no classifier separates, in features of different scale that are not centred."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, features, generator=torch.Generator().manual_seed(0))
    targets = (torch.randint(2 * classes, (count,), generator=generator)).clamp(max=classes - 1)
    noise = torch.randn(count, features, generator=generator)
    return Features((centres[targets] + noise) * torch.logspace(-1, 0, features) + 1, targets)


def several_labels(seed: int, count: int) -> Features:
    """Three labels a picture, some of which do not count."""
    features = overlapping(seed, count).features
    generator = torch.Generator().manual_seed(seed + 100)
    likely = (features - features.mean(0)) @ torch.randn(6, 3, generator=torch.Generator().manual_seed(0)) * 3
    targets = (torch.rand(count, 3, generator=generator) < likely.sigmoid()).long()
    targets[torch.rand(count, 3, generator=generator) < 0.1] = -1
    return Features(features, targets)


def objective(train: Features, weights: Tensor, biases: Tensor, strength: float) -> Tensor:
    """What the docstring says is minimised, for weights (C, F) and biases (C,), in float64."""
    logits = F.linear(train.features.double(), weights, biases)
    if train.targets.ndim == 1:
        entropy = F.cross_entropy(logits, train.targets, reduction="sum")
    else:
        each = F.binary_cross_entropy_with_logits(logits, (train.targets == 1).double(), reduction="none")
        entropy = each[train.targets >= 0].sum()
    return entropy + strength * weights.square().sum()


def minimised(train: Features, strength: float) -> tuple[Tensor, Tensor]:
    """Weights and biases of the minimum, found by torch."""
    classes = train.targets.shape[1] if train.targets.ndim == 2 else int(train.targets.max()) + 1
    weights = torch.zeros(classes, train.features.shape[1], dtype=torch.float64, requires_grad=True)
    biases = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights, biases], max_iter=5000, tolerance_grad=1e-9, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = objective(train, weights, biases, strength)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    assert weights.grad is not None
    assert weights.grad.abs().max() < 1e-4
    return weights.detach(), biases.detach()


def test_strengths_are_those_of_the_paper() -> None:
    assert len(STRENGTHS) == 45
    assert STRENGTHS[0] == pytest.approx(1e5)
    assert STRENGTHS[-1] == pytest.approx(1e-6)
    ratios = [math.log10(strong / weak) for strong, weak in pairwise(STRENGTHS)]
    assert ratios == pytest.approx([0.25] * 44)


@pytest.mark.parametrize("problem", [overlapping, several_labels])
def test_solutions_are_the_minimum_of_the_objective(
    problem: Callable[[int, int], Features], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_TOLERANCE", 1e-9)
    train = problem(1, 300)
    classifier = LogisticClassifier(train)
    for strength in (100.0, 1.0, 1e-2, 1e-4):  # each from the solution before it
        assert classifier.fit(strength)
        weights, biases = classifier.weights()
        expected = minimised(train, strength)
        lowest = objective(train, *expected, strength)
        torch.testing.assert_close(objective(train, weights, biases, strength), lowest, rtol=1e-9, atol=0)
        torch.testing.assert_close(weights, expected[0], rtol=2e-3, atol=2e-3)
        assert objective(train, 1.01 * weights, biases, strength) > lowest * (1 + 1e-8)  # the comparison can fail


def test_solution_is_scikit_learns_without_centring_and_warm_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_TOLERANCE", 1e-9)
    train = overlapping(2, 200)
    classifier = LogisticClassifier(train)
    for strength in (10.0, 1e-1, 1e-3):
        classifier.fit(strength)
        reference = LogisticRegression(C=1 / (2 * strength), tol=1e-9, max_iter=10_000)
        reference.fit(train.features.double().numpy(), train.targets.numpy())
        torch.testing.assert_close(classifier.weights()[0], torch.from_numpy(reference.coef_), rtol=1e-3, atol=1e-4)


def by_hand(train: Features, val: Features, test: Features) -> tuple[dict[float, float], float, float]:
    """Validation accuracies, the strength of the best, and its test accuracy, by torch."""

    def accuracy(learned: Features, judged: Features, strength: float) -> float:
        logits = F.linear(judged.features.double(), *minimised(learned, strength))
        return (logits.argmax(1) == judged.targets).double().mean().item()

    validation = {strength: accuracy(train, val, strength) for strength in transfer.STRENGTHS}
    chosen = max(validation, key=lambda strength: (validation[strength], strength))
    together = Features(*(torch.cat(parts) for parts in zip(train, val, strict=True)))
    return validation, chosen, accuracy(together, test, chosen)


def test_protocol_is_that_of_a_search_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "STRENGTHS", (1e4, 30.0, 3.0, 0.3, 1e-3))
    monkeypatch.setattr(transfer, "_TOLERANCE", 1e-9)
    train, val, test = (overlapping(seed, count, features=20) for seed, count in ((1, 60), (2, 50), (3, 400)))
    validation, chosen, accuracy = by_hand(train, val, test)
    result = transfer_accuracy(train, val, test)
    assert result.strength == chosen
    assert list(result.validation) == [1e4, 30.0, 3.0, 0.3, 1e-3]
    assert result.validation == pytest.approx(validation)
    assert result.accuracy == pytest.approx(accuracy)
    assert chosen not in (1e4, 1e-3)


def test_the_strongest_of_equally_good_strengths_is_chosen() -> None:
    targets = torch.arange(60) % 3
    features = Features(F.one_hot(targets, 3).float() * 10, targets)
    result = transfer_accuracy(features, features, features)
    assert result.accuracy == 1
    assert set(result.validation.values()) == {1.0}
    assert result.strength == STRENGTHS[0]


def test_test_pictures_have_no_part_in_the_choice() -> None:
    train, val, test = (overlapping(seed, 80, features=30) for seed in (1, 2, 3))
    result = transfer_accuracy(train, val, test)
    other = transfer_accuracy(train, val, Features(-test.features, test.targets.flip(0)))
    assert (result.strength, result.validation) == (other.strength, other.validation)
    assert result.accuracy != other.accuracy


def test_a_fifth_of_every_class_validates_where_no_pictures_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "STRENGTHS", (10.0, 1.0))
    train, test = overlapping(1, 200), overlapping(2, 100)
    learned: list[Tensor] = []
    classifier = transfer.LogisticClassifier

    def watched(features: Features) -> LogisticClassifier:
        learned.append(features.targets)
        return classifier(features)

    monkeypatch.setattr(transfer, "LogisticClassifier", watched)
    result = transfer_accuracy(train, None, test, seed=1)
    assert [len(targets) for targets in learned] == [160, 200]
    for found, all_of_them in zip(torch.bincount(learned[0]), torch.bincount(train.targets), strict=True):
        assert abs(found - 0.8 * all_of_them) < 1
    assert result == transfer_accuracy(train, None, test, seed=1)
    assert result.validation != transfer_accuracy(train, None, test, seed=2).validation


def test_mean_per_class_weighs_rare_classes_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "STRENGTHS", (1.0,))
    train, val, test = overlapping(1, 150), overlapping(2, 50), overlapping(3, 500)
    together = Features(*(torch.cat(parts) for parts in zip(train, val, strict=True)))
    logits = F.linear(test.features.double(), *minimised(together, 1.0))
    expected = mean_per_class(logits.argmax(1), test.targets)
    assert transfer_accuracy(train, val, test, metric="mean_per_class").accuracy == pytest.approx(expected, abs=4e-3)
    assert abs(transfer_accuracy(train, val, test).accuracy - expected) > 0.02


@pytest.mark.parametrize("given", [True, False])
def test_map11_learns_one_classifier_a_class(given: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "STRENGTHS", (1.0, 0.1))
    train, val, test = several_labels(1, 150), several_labels(2, 50), several_labels(3, 500)
    together = Features(*(torch.cat(parts) for parts in zip(train, val, strict=True)))
    if given:
        result = transfer_accuracy(train, val, test, metric="map11")
    else:
        result = transfer_accuracy(together, None, test, metric="map11")
    scores = F.linear(test.features.double(), *minimised(together, result.strength))
    assert result.accuracy == pytest.approx(mean_average_precision_11(scores, test.targets), abs=2e-3)
    assert result.accuracy > 0.6
    assert result.validation[result.strength] == max(result.validation.values())


def test_two_classes() -> None:
    train, val, test = (overlapping(seed, 200, classes=2) for seed in (1, 2, 3))
    assert transfer_accuracy(train, val, test).accuracy > 0.8


def test_features_are_left_as_they_were() -> None:
    train, test = overlapping(1, 50), overlapping(2, 50)
    before = train.features.clone(), test.features.clone()
    transfer_accuracy(train, test, test)
    assert torch.equal(train.features, before[0])
    assert torch.equal(test.features, before[1])


def test_constant_features_are_answered_with_the_commonest_class() -> None:
    targets = torch.tensor([0, 1, 1, 1, 2] * 4)
    features = Features(torch.ones(20, 3), targets)
    assert transfer_accuracy(features, features, features).accuracy == 0.6


def test_a_classifier_that_has_not_converged_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_MOST_ITERATIONS", 2)
    with pytest.warns(UserWarning, match="stopped after 2 iterations of L-BFGS, before it converged"):
        transfer_accuracy(*(overlapping(seed, 50) for seed in (1, 2, 3)))


GOOD = overlapping(1, 40)
LABELS = several_labels(1, 40)


@pytest.mark.parametrize(
    ("train", "val", "test", "metric", "message"),
    [
        (GOOD, None, GOOD, "accuracy", "metric is 'accuracy': choose one of top1, mean_per_class, map11"),
        (GOOD, GOOD, GOOD, "map11", r"\(N, C\) targets for map11.*training features have targets \(40,\)"),
        (LABELS, LABELS, LABELS, "top1", r"\(N,\) targets, or metric='map11'.*\(40, 3\)"),
        (LABELS, LABELS, LABELS._replace(targets=LABELS.targets[:, :2]), "map11", r"test features.*\(40, 2\)"),
        (GOOD, GOOD._replace(features=GOOD.features[:, :2]), GOOD, "top1", r"validation features must be.*\(40, 2\)"),
        (GOOD, GOOD, GOOD.take(torch.arange(0)), "top1", r"test features must be.*N at least 1, got \(0, 6\)"),
        (GOOD, GOOD, GOOD._replace(targets=GOOD.targets - 1), "top1", "test targets must be 0 or more: leave unlab"),
        (LABELS, LABELS, LABELS._replace(targets=LABELS.targets + 1), "map11", "must be 1, 0 or -1, got 0 to 2"),
        (GOOD, GOOD, GOOD._replace(features=GOOD.features / 0), "top1", "test features hold NaN or infinite values"),
        (GOOD._replace(targets=torch.ones(40).long()), GOOD, GOOD, "top1", "two classes at least; all .* have 1"),
        (LABELS._replace(targets=LABELS.targets * 0), LABELS, LABELS, "map11", "show class 0 .*got 0 and 40"),
        (GOOD.take(torch.arange(6)), None, GOOD, "top1", "A fifth of the 6 training pictures cannot be held out"),
    ],
)
def test_bad_input_is_named(
    train: Features, val: Features | None, test: Features, metric: Metric, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        transfer_accuracy(train, val, test, metric=metric)
