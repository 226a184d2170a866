"""Accuracies on frozen features: kNN, linear classification, and the paper's transfer protocol."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor

from simclr_lightning.evaluation import Features, frozen, knn_accuracy, linear_accuracy, transfer_accuracy
from simclr_lightning.evaluation.frozen import TRANSFER_STRENGTHS
from simclr_lightning.metrics import LogisticRegression, Metric, logistic, mean_average_precision_11, mean_per_class


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


def spread_out(seed: int, count: int, classes: int = 4, features: int = 6) -> Features:
    """Classes that no classifier separates, in features of very different scale."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, features, generator=torch.Generator().manual_seed(0))
    targets = torch.randint(classes, (count,), generator=generator)
    noise = torch.randn(count, features, generator=generator)
    return Features((centres[targets] + noise) * torch.logspace(-1, 1, features) + 3, targets)


def minimum_of_means(train: Features, strength: float) -> tuple[Tensor, Tensor]:
    """Weights (F, C) and biases (C,) of the objective in the docstring, found by torch in float64."""
    inputs = train.features.double()
    inputs = inputs - inputs.mean(0)
    inputs = inputs / inputs.var(0, correction=0).mean().sqrt()
    inputs = torch.cat([inputs, torch.ones(len(inputs), 1, dtype=torch.float64)], dim=1)
    classes = int(train.targets.max()) + 1

    weights = torch.zeros(inputs.shape[1], classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=2000, tolerance_grad=1e-9, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def objective() -> Tensor:
        optimizer.zero_grad()
        penalty = strength * train.features.shape[1] / 2 * weights[:-1].square().sum()
        loss = F.cross_entropy(inputs @ weights, train.targets) + penalty
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(objective)  # type: ignore[no-untyped-call]
    assert weights.grad is not None
    assert weights.grad.abs().max() < 1e-7
    return weights[:-1].detach(), weights[-1].detach()


def test_accuracy_counts_right_answers() -> None:
    bank = Features(torch.eye(3), torch.tensor([0, 1, 2]))
    test = Features(torch.eye(3)[[0, 0, 1, 2]] + 0.1, torch.tensor([0, 1, 1, 2]))
    assert knn_accuracy(bank, test, k=1) == 0.75
    assert knn_accuracy(bank, test, k=1, weights="uniform", sharded=True) == 0.75  # one process shares with nobody


def test_a_class_that_only_the_test_pictures_have_is_never_predicted() -> None:
    bank = Features(torch.eye(2), torch.tensor([0, 1]))
    test = Features(torch.eye(2), torch.tensor([0, 4]))
    assert knn_accuracy(bank, test, k=1) == 0.5


@pytest.mark.parametrize("strength", [1e-2, 1e-4])
def test_accuracy_is_that_of_the_minimum_of_the_objective(strength: float, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = spread_out(1, 300), spread_out(2, 2000)
    weights, biases = minimum_of_means(train, strength)
    mean = train.features.double().mean(0)
    scale = train.features.double().var(0, correction=0).mean().sqrt()
    logits = (test.features.double() - mean) / scale @ weights + biases
    expected = (logits.argmax(1) == test.targets).double().mean().item()
    monkeypatch.setattr(frozen, "FIXED_STRENGTH", strength)
    assert linear_accuracy(train, test) == pytest.approx(expected, abs=2e-3)  # four pictures of 2,000
    assert 0.4 < expected < 0.9


def test_a_separable_problem_is_solved_exactly() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(1200) % 3
    features = F.one_hot(targets, 3).float() + 0.2 * torch.rand(1200, 3, generator=generator)
    assert linear_accuracy(Features(features[:30], targets[:30]), Features(features[30:], targets[30:])) == 1.0
    assert linear_accuracy(Features(features[:1100], targets[:1100]), Features(features[1100:], targets[1100:])) == 1.0


def test_scale_offset_and_repetition_of_the_features_do_not_matter() -> None:
    train, test = spread_out(1, 50), spread_out(2, 500)
    accuracy = linear_accuracy(train, test)

    def changed(features: Features) -> Features:
        return Features((100 * features.features - 7).repeat(1, 3), features.targets)

    assert linear_accuracy(changed(train), changed(test)) == pytest.approx(accuracy, abs=4e-3)


def test_linear_accuracy_leaves_the_features_as_they_were() -> None:
    train, test = spread_out(1, 50), spread_out(2, 50)
    before = train.features.clone(), test.features.clone()
    linear_accuracy(train, test)
    assert torch.equal(train.features, before[0])
    assert torch.equal(test.features, before[1])


def test_the_strength_is_chosen_where_there_are_labels_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = spread_out(1, frozen.FEW_LABELS), spread_out(2, 1000)
    monkeypatch.setattr(frozen, "FIXED_STRENGTH", 1e9)  # this one leaves weights of zero
    monkeypatch.setattr(frozen, "STRENGTHS", (1e9, 1e-4))
    assert linear_accuracy(train, test) > 0.4
    few = train.take(torch.arange(frozen.FEW_LABELS - 1))
    assert linear_accuracy(few, test) < 0.35


def test_a_weaker_strength_is_not_taken_where_it_overfits(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(2, (3000,), generator=generator)
    features = torch.randn(3000, 600, generator=generator)
    features[:, 0] += 2 * targets
    train, test = Features(features[:1000], targets[:1000]), Features(features[1000:], targets[1000:])
    chosen = linear_accuracy(train, test)
    monkeypatch.setattr(frozen, "STRENGTHS", (1e-9,))
    assert chosen > linear_accuracy(train, test) + 0.05


def test_ill_conditioned_features_give_no_warning() -> None:
    train, test = spread_out(1, 1500, features=12), spread_out(2, 500, features=12)
    spread = torch.logspace(-4, 2, 12)
    accuracy = linear_accuracy(
        Features(train.features * spread, train.targets), Features(test.features * spread, test.targets)
    )
    assert accuracy > 0.3


def test_a_linear_classifier_that_has_not_converged_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, "_MOST_ITERATIONS", 2)
    with pytest.warns(UserWarning, match="stopped after 2 iterations of L-BFGS, before it converged"):
        linear_accuracy(spread_out(1, 50), spread_out(2, 50))


def test_linear_accuracy_answers_constant_features_with_the_commonest_class() -> None:
    targets = torch.tensor([0, 1, 1, 1, 2])
    assert linear_accuracy(Features(torch.ones(5, 3), targets), Features(torch.ones(5, 3), targets)) == 0.6


def test_one_class_cannot_be_learned() -> None:
    alone = Features(torch.rand(5, 2), torch.ones(5, dtype=torch.int64))
    with pytest.raises(ValueError, match="two classes at least"):
        linear_accuracy(alone, alone)


def test_features_that_are_not_finite_are_refused() -> None:
    train = spread_out(1, 20)
    train.features[3, 2] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        linear_accuracy(train, spread_out(2, 20))


def test_strengths_are_those_of_the_paper() -> None:
    assert len(TRANSFER_STRENGTHS) == 45
    assert TRANSFER_STRENGTHS[0] == pytest.approx(1e5)
    assert TRANSFER_STRENGTHS[-1] == pytest.approx(1e-6)
    ratios = [math.log10(strong / weak) for strong, weak in pairwise(TRANSFER_STRENGTHS)]
    assert ratios == pytest.approx([0.25] * 44)


def joined(first: Features, second: Features) -> Features:
    return Features(torch.cat([first.features, second.features]), torch.cat([first.targets, second.targets]))


def by_hand(train: Features, val: Features, test: Features) -> tuple[dict[float, float], float, float]:
    """Validation accuracies, the strength of the best, and its test accuracy, by torch."""

    def accuracy(learned: Features, judged: Features, strength: float) -> float:
        logits = F.linear(judged.features.double(), *minimised(learned, strength))
        return (logits.argmax(1) == judged.targets).double().mean().item()

    validation = {strength: accuracy(train, val, strength) for strength in frozen.TRANSFER_STRENGTHS}
    chosen = max(validation, key=lambda strength: (validation[strength], strength))
    together = joined(train, val)
    return validation, chosen, accuracy(together, test, chosen)


def test_protocol_is_that_of_a_search_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, "TRANSFER_STRENGTHS", (1e4, 30.0, 3.0, 0.3, 1e-3))
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
    assert result.strength == TRANSFER_STRENGTHS[0]


def test_test_pictures_have_no_part_in_the_choice() -> None:
    train, val, test = (overlapping(seed, 80, features=30) for seed in (1, 2, 3))
    result = transfer_accuracy(train, val, test)
    other = transfer_accuracy(train, val, Features(-test.features, test.targets.flip(0)))
    assert (result.strength, result.validation) == (other.strength, other.validation)
    assert result.accuracy != other.accuracy


def test_a_fifth_of_every_class_validates_where_no_pictures_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, "TRANSFER_STRENGTHS", (10.0, 1.0))
    train, test = overlapping(1, 200), overlapping(2, 100)
    learned: list[Tensor] = []
    fit = LogisticRegression.fit

    def watched(self: LogisticRegression, targets: Tensor, *arguments: Any, **settings: Any) -> Any:
        learned.append(targets[targets >= 0])
        return fit(self, targets, *arguments, **settings)

    monkeypatch.setattr(LogisticRegression, "fit", watched)
    result = transfer_accuracy(train, None, test, seed=1)
    assert [len(targets) for targets in learned] == [160, 160, 200]
    for found, all_of_them in zip(torch.bincount(learned[0]), torch.bincount(train.targets), strict=True):
        assert abs(found - 0.8 * all_of_them) < 1
    assert result == transfer_accuracy(train, None, test, seed=1)
    assert result.validation != transfer_accuracy(train, None, test, seed=2).validation


def test_mean_per_class_weighs_rare_classes_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, "TRANSFER_STRENGTHS", (1.0,))
    train, val, test = overlapping(1, 150), overlapping(2, 50), overlapping(3, 500)
    together = joined(train, val)
    logits = F.linear(test.features.double(), *minimised(together, 1.0))
    expected = mean_per_class(logits.argmax(1), test.targets)
    assert transfer_accuracy(train, val, test, metric="mean_per_class").accuracy == pytest.approx(expected, abs=4e-3)
    assert abs(transfer_accuracy(train, val, test).accuracy - expected) > 0.02


@pytest.mark.parametrize("given", [True, False])
def test_map11_learns_one_classifier_a_class(given: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, "TRANSFER_STRENGTHS", (1.0, 0.1))
    train, val, test = several_labels(1, 150), several_labels(2, 50), several_labels(3, 500)
    together = joined(train, val)
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


def test_transfer_accuracy_leaves_the_features_as_they_were() -> None:
    train, test = overlapping(1, 50), overlapping(2, 50)
    before = train.features.clone(), test.features.clone()
    transfer_accuracy(train, test, test)
    assert torch.equal(train.features, before[0])
    assert torch.equal(test.features, before[1])


def test_transfer_accuracy_answers_constant_features_with_the_commonest_class() -> None:
    targets = torch.tensor([0, 1, 1, 1, 2] * 4)
    features = Features(torch.ones(20, 3), targets)
    assert transfer_accuracy(features, features, features).accuracy == 0.6


def test_a_transferred_classifier_that_has_not_converged_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, "_MOST_ITERATIONS", 2)
    with pytest.warns(UserWarning, match="stopped after 2 iterations of L-BFGS, before it converged"):
        transfer_accuracy(*(overlapping(seed, 50) for seed in (1, 2, 3)))


GOOD = overlapping(1, 40)
FEW = GOOD.take(torch.arange(6))._replace(targets=torch.tensor([0, 0, 1, 1, 2, 2]))
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
        (FEW, None, GOOD, "top1", "A fifth of the 6 training pictures cannot be held out"),
    ],
)
def test_bad_input_is_named(
    train: Features, val: Features | None, test: Features, metric: Metric, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        transfer_accuracy(train, val, test, metric=metric)


def test_the_chosen_strength_does_not_depend_on_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of features that a linear classifier separates, weak penalties have minima that are far away."""
    pixels, targets = load_digits(return_X_y=True)
    features = torch.from_numpy(pixels).float().view(-1, 8, 8)[:, ::2, 2:6].flatten(1)
    train, test = (Features(features[rows], torch.from_numpy(targets)[rows]) for rows in (slice(400), slice(400, 900)))
    monkeypatch.setattr(frozen, "TRANSFER_STRENGTHS", (1e2, 1.0, 1e-2, 1e-4, 1e-6))
    exact = transfer_accuracy(train, None, test)
    monkeypatch.setattr(logistic, "FLOAT64_VALUES", 0)
    assert transfer_accuracy(train, None, test) == exact
