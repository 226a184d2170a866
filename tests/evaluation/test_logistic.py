"""Logistic regression against an optimiser of our own and against problems with a known answer."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_lightning.evaluation import Features, linear_accuracy, logistic


def overlapping(seed: int, count: int, classes: int = 4, features: int = 6) -> Features:
    """Classes that no classifier separates, in features of very different scale."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, features, generator=torch.Generator().manual_seed(0))
    targets = torch.randint(classes, (count,), generator=generator)
    noise = torch.randn(count, features, generator=generator)
    return Features((centres[targets] + noise) * torch.logspace(-1, 1, features) + 3, targets)


def minimised(train: Features, strength: float) -> tuple[Tensor, Tensor]:
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


@pytest.mark.parametrize("strength", [1e-2, 1e-4])
def test_accuracy_is_that_of_the_minimum_of_the_objective(strength: float, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = overlapping(1, 300), overlapping(2, 2000)
    weights, biases = minimised(train, strength)
    mean = train.features.double().mean(0)
    scale = train.features.double().var(0, correction=0).mean().sqrt()
    logits = (test.features.double() - mean) / scale @ weights + biases
    expected = (logits.argmax(1) == test.targets).double().mean().item()
    monkeypatch.setattr(logistic, "FIXED_STRENGTH", strength)
    assert linear_accuracy(train, test) == pytest.approx(expected, abs=2e-3)  # four pictures of 2,000
    assert 0.4 < expected < 0.9


def test_a_separable_problem_is_solved_exactly() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(1200) % 3
    features = F.one_hot(targets, 3).float() + 0.2 * torch.rand(1200, 3, generator=generator)
    assert linear_accuracy(Features(features[:30], targets[:30]), Features(features[30:], targets[30:])) == 1.0
    assert linear_accuracy(Features(features[:1100], targets[:1100]), Features(features[1100:], targets[1100:])) == 1.0


def test_scale_offset_and_repetition_of_the_features_do_not_matter() -> None:
    train, test = overlapping(1, 50), overlapping(2, 500)
    accuracy = linear_accuracy(train, test)

    def changed(features: Features) -> Features:
        return Features((100 * features.features - 7).repeat(1, 3), features.targets)

    assert linear_accuracy(changed(train), changed(test)) == pytest.approx(accuracy, abs=4e-3)


def test_features_are_left_as_they_were() -> None:
    train, test = overlapping(1, 50), overlapping(2, 50)
    before = train.features.clone(), test.features.clone()
    linear_accuracy(train, test)
    assert torch.equal(train.features, before[0])
    assert torch.equal(test.features, before[1])


def test_the_strength_is_chosen_where_there_are_labels_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = overlapping(1, logistic.FEW_LABELS), overlapping(2, 1000)
    monkeypatch.setattr(logistic, "FIXED_STRENGTH", 1e9)  # this one leaves weights of zero
    monkeypatch.setattr(logistic, "STRENGTHS", (1e9, 1e-4))
    assert linear_accuracy(train, test) > 0.4
    few = train.take(torch.arange(logistic.FEW_LABELS - 1))
    assert linear_accuracy(few, test) < 0.35


def test_a_weaker_strength_is_not_taken_where_it_overfits(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(2, (3000,), generator=generator)
    features = torch.randn(3000, 600, generator=generator)
    features[:, 0] += 2 * targets
    train, test = Features(features[:1000], targets[:1000]), Features(features[1000:], targets[1000:])
    chosen = linear_accuracy(train, test)
    monkeypatch.setattr(logistic, "STRENGTHS", (1e-9,))
    assert chosen > linear_accuracy(train, test) + 0.05


def test_ill_conditioned_features_give_no_warning() -> None:
    train, test = overlapping(1, 1500, features=12), overlapping(2, 500, features=12)
    spread = torch.logspace(-4, 2, 12)
    accuracy = linear_accuracy(
        Features(train.features * spread, train.targets), Features(test.features * spread, test.targets)
    )
    assert accuracy > 0.3


def test_a_classifier_that_has_not_converged_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "_MOST_ITERATIONS", 2)
    with pytest.warns(UserWarning, match="stopped after 2 iterations of L-BFGS, before it converged"):
        linear_accuracy(overlapping(1, 50), overlapping(2, 50))


def test_constant_features_are_answered_with_the_commonest_class() -> None:
    targets = torch.tensor([0, 1, 1, 1, 2])
    assert linear_accuracy(Features(torch.ones(5, 3), targets), Features(torch.ones(5, 3), targets)) == 0.6


def test_one_class_cannot_be_learned() -> None:
    alone = Features(torch.rand(5, 2), torch.ones(5, dtype=torch.int64))
    with pytest.raises(ValueError, match="two classes at least"):
        linear_accuracy(alone, alone)


def test_features_that_are_not_finite_are_refused() -> None:
    train = overlapping(1, 20)
    train.features[3, 2] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        linear_accuracy(train, overlapping(2, 20))
