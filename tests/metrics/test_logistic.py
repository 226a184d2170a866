"""Logistic regression against the minimum of its objective, found by torch, and against scikit-learn."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression as SklearnRegression
from torch import Tensor

from simclr_lightning.errors import InputError
from simclr_lightning.features import Features
from simclr_lightning.metrics import LogisticRegression, logistic


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


@pytest.mark.parametrize("values", [logistic.FLOAT64_VALUES, 0])  # in float64; in float32, checked in float64
@pytest.mark.parametrize("problem", [overlapping, several_labels])
def test_solutions_are_the_minimum_of_the_objective(
    problem: Callable[[int, int], Features], values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logistic, "FLOAT64_VALUES", values)
    train = problem(1, 300)
    regression = LogisticRegression(train.features)
    classifier = None
    for strength in (100.0, 1.0, 1e-2, 1e-4):  # each from the solution before it
        classifier = regression.fit(train.targets, strength, start=classifier, tolerance=1e-9)
        assert classifier.converged
        expected = minimised(train, strength)
        lowest = objective(train, *expected, strength)
        found = classifier.weights, classifier.biases
        torch.testing.assert_close(objective(train, *found, strength), lowest, rtol=1e-9, atol=0)
        torch.testing.assert_close(found[0], expected[0], rtol=2e-3, atol=2e-3)
        assert objective(train, 1.01 * found[0], found[1], strength) > lowest * (1 + 1e-8)  # the comparison can fail


def test_solution_is_scikit_learns_without_centring_and_warm_starts() -> None:
    train = overlapping(2, 200)
    regression = LogisticRegression(train.features)
    classifier = None
    for strength in (10.0, 1e-1, 1e-3):
        classifier = regression.fit(train.targets, strength, start=classifier, tolerance=1e-9)
        reference = SklearnRegression(C=1 / (2 * strength), tol=1e-9, max_iter=10_000)
        reference.fit(train.features.double().numpy(), train.targets.numpy())
        torch.testing.assert_close(classifier.weights, torch.from_numpy(reference.coef_), rtol=1e-3, atol=1e-4)


@pytest.fixture
def digits() -> tuple[Tensor, Tensor]:
    pixels, targets = load_digits(return_X_y=True)
    return torch.from_numpy(pixels).float(), torch.from_numpy(targets)


@pytest.mark.parametrize("values", [logistic.FLOAT64_VALUES, 0])
def test_digits_are_classified_as_by_scikit_learn(
    digits: tuple[Tensor, Tensor], values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logistic, "FLOAT64_VALUES", values)
    features, targets = digits
    classifier = LogisticRegression(features[:1200]).fit(targets[:1200], 100.0, tolerance=1e-6)
    reference = SklearnRegression(C=1 / (2 * 100.0), tol=1e-6, max_iter=10_000)
    reference.fit(features[:1200].numpy().astype(np.float64), targets[:1200].numpy())
    found = objective(Features(features[:1200], targets[:1200]), classifier.weights, classifier.biases, 100.0)
    weights, biases = torch.from_numpy(reference.coef_), torch.from_numpy(reference.intercept_)
    lowest = objective(Features(features[:1200], targets[:1200]), weights, biases, 100.0)
    torch.testing.assert_close(found, lowest, rtol=1e-5, atol=0)
    assert classifier.predict(features).tolist() == reference.predict(features.numpy()).tolist()


def test_classes_may_have_any_numbers() -> None:
    train = overlapping(1, 200)
    expected = LogisticRegression(train.features).fit(train.targets, 1.0)
    found = LogisticRegression(train.features).fit(3 * train.targets + 5, 1.0)
    assert torch.equal(found.weights, expected.weights)
    assert torch.equal(found.predict(train.features), 3 * expected.predict(train.features) + 5)


@pytest.fixture
def _always_warned() -> Iterator[None]:
    """Torch gives some of its warnings once a process, so that the first test to meet one would hide it from others."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


@pytest.mark.usefixtures("_always_warned")
def test_every_other_picture_is_learned_from_without_a_warning() -> None:
    train = overlapping(1, 400)
    features, targets = train.features[::2], train.targets[::2]
    found = LogisticRegression(features).fit(targets, 1.0)
    expected = LogisticRegression(features.contiguous()).fit(targets.contiguous(), 1.0)
    assert torch.equal(found.weights, expected.weights)


@pytest.mark.parametrize("classes", [2, 4])
def test_unknown_targets_do_not_count(classes: int) -> None:
    train = overlapping(1, 200, classes=classes)
    known = torch.arange(200) % 3 > 0
    expected = LogisticRegression(train.features[known]).fit(train.targets[known], 1.0, tolerance=1e-8)
    found = LogisticRegression(train.features).fit(train.targets.where(known, -1), 1.0, tolerance=1e-8)
    torch.testing.assert_close(found.weights, expected.weights, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.biases, expected.biases, rtol=1e-4, atol=1e-5)


def test_two_classes_have_one_score() -> None:
    train = overlapping(1, 200, classes=2)
    classifier = LogisticRegression(train.features).fit(train.targets, 1.0)
    assert classifier.scores(train.features).shape == (200, 1)
    assert torch.equal(classifier.predict(train.features), (classifier.scores(train.features)[:, 0] > 0).long())


@pytest.mark.parametrize("problem", [overlapping, several_labels])
def test_blocks_and_rows_do_not_change_the_solution(
    problem: Callable[[int, int], Features], monkeypatch: pytest.MonkeyPatch
) -> None:
    train = problem(1, 100)
    whole = LogisticRegression(train.features).fit(train.targets, 1.0, tolerance=1e-8)
    monkeypatch.setattr(logistic, "_BLOCK_VALUES", 100)  # blocks of 16, the last of 4
    others = torch.cat([torch.full((50, 6), torch.nan), train.features])
    blocks = LogisticRegression(others, rows=torch.arange(50, 150)).fit(train.targets, 1.0, tolerance=1e-8)
    torch.testing.assert_close(blocks.weights, whole.weights, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(blocks.scores(train.features), whole.scores(train.features), rtol=1e-4, atol=1e-5)


def test_where_float32_does_not_get_there_the_search_goes_on_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "FLOAT64_VALUES", 0)
    dtypes: list[torch.dtype] = []
    mean_loss = LogisticRegression._mean_loss

    def watched(self: LogisticRegression, problem: logistic._Problem, found: Tensor, dtype: torch.dtype) -> object:
        dtypes.append(dtype)
        return mean_loss(self, problem, found, dtype)

    monkeypatch.setattr(LogisticRegression, "_mean_loss", watched)
    train = overlapping(1, 300)
    assert LogisticRegression(train.features).fit(train.targets, 1.0, tolerance=1e-3).converged
    assert dtypes.count(torch.float64) == 1  # the check
    dtypes.clear()
    assert LogisticRegression(train.features).fit(train.targets, 1.0, tolerance=1e-11).converged
    assert dtypes[0] == torch.float32
    assert dtypes.count(torch.float64) > 3


def test_what_has_not_converged_says_so() -> None:
    train = overlapping(1, 50)
    assert not LogisticRegression(train.features).fit(train.targets, 1e-3, max_iterations=2).converged


def test_features_are_left_as_they_were() -> None:
    train = overlapping(1, 50)
    before = train.features.clone()
    LogisticRegression(train.features).fit(train.targets, 1.0)
    assert torch.equal(train.features, before)


def test_constant_features_give_the_commonest_class() -> None:
    targets = torch.tensor([0, 1, 1, 1, 2])
    assert LogisticRegression(torch.ones(5, 3)).fit(targets, 1.0).predict(torch.ones(1, 3)).tolist() == [1]


@pytest.mark.parametrize(
    ("features", "targets", "message"),
    [
        (torch.rand(4, 2), torch.ones(4).long(), "two classes at least; all training pictures have 1"),
        (torch.rand(4, 2), -torch.ones(4).long(), "two classes at least; there are none"),
        (torch.rand(4, 2), torch.tensor([[0, 1]] * 4), "show class 0 and others that do not, got 0 and 4"),
        (torch.tensor([[0.0], [torch.nan]]), torch.arange(2), "NaN or infinite"),
        (torch.tensor([[0.0], [torch.inf]]), torch.arange(2), "NaN or infinite"),
    ],
)
def test_bad_input_is_named(features: Tensor, targets: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        LogisticRegression(features).fit(targets, 1.0)


def test_several_classes_of_a_picture_have_scores_alone() -> None:
    train = several_labels(1, 50)
    with pytest.raises(TypeError, match="compare its scores with a threshold"):
        LogisticRegression(train.features).fit(train.targets, 1.0).predict(train.features)


def bytes_of_tensors() -> int:
    """Memory of all tensors that are alive."""
    storages = [found.untyped_storage() for found in gc.get_objects() if type(found) is Tensor]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def test_many_features_take_twice_their_own_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    features, targets = torch.rand(40_000, 512), torch.arange(40_000) % 10
    assert features.numel() > logistic.FLOAT64_VALUES
    before, used = bytes_of_tensors(), []
    losses = logistic._Problem.losses

    def watched(self: logistic._Problem, scores: Tensor, rows: slice) -> Tensor:
        if rows.start == 0:
            used.append(bytes_of_tensors() - before)
        return losses(self, scores, rows)

    monkeypatch.setattr(logistic._Problem, "losses", watched)
    LogisticRegression(features).fit(targets, 100.0, tolerance=1e-5)  # in float64 at last
    assert len(used) > 3
    assert features.nbytes < max(used) < 1.2 * features.nbytes
