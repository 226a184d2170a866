"""kNN against loops and against scikit-learn; see distributed/test_knn_processes.py for several processes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from simclr_lightning.features import Features
from simclr_lightning.metrics import knn, knn_predict


def clusters(seed: int, count: int, classes: int = 5, features: int = 8) -> Features:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, features, generator=torch.Generator().manual_seed(0))
    targets = torch.randint(classes, (count,), generator=generator)
    noise = torch.randn(count, features, generator=generator)
    return Features((centres[targets] + 1.5 * noise) * torch.rand(count, 1, generator=generator) * 3, targets)


def slow_predict(queries: Tensor, bank: Features, classes: int, k: int, temperature: float) -> list[int]:
    predicted = []
    for query in queries.double().tolist():
        similarities = []
        for row, target in zip(bank.features.double().tolist(), bank.targets.tolist(), strict=True):
            product = sum(a * b for a, b in zip(query, row, strict=True))
            similarities.append((product / math.hypot(*query) / math.hypot(*row), target))
        votes = [0.0] * classes
        for similarity, target in sorted(similarities, reverse=True)[:k]:
            votes[target] += math.exp(similarity / temperature)
        predicted.append(votes.index(max(votes)))
    return predicted


@pytest.mark.parametrize("k", [1, 7, 60])
@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
def test_predictions_are_those_of_a_float64_loop(k: int, temperature: float) -> None:
    bank, queries = clusters(1, 60), clusters(2, 40)
    predicted = knn_predict(queries.features, *bank[:2], num_classes=5, k=k, temperature=temperature)
    assert predicted.tolist() == slow_predict(queries.features, bank, 5, k, temperature)


@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
def test_predictions_are_those_of_scikit_learn(temperature: float) -> None:
    bank, queries = clusters(1, 400), clusters(2, 200)
    reference = KNeighborsClassifier(
        50, metric="cosine", weights=lambda distances: np.exp((1 - distances) / temperature)
    ).fit(bank.features.double().numpy(), bank.targets.numpy())
    expected = reference.predict(queries.features.double().numpy())
    predicted = knn_predict(queries.features, *bank[:2], num_classes=5, k=50, temperature=temperature)
    assert predicted.tolist() == expected.tolist()
    assert len(set(expected)) == 5


@pytest.mark.parametrize("k", [1, 15, 101])
def test_plain_predictions_are_those_of_scikit_learn(k: int) -> None:
    bank, queries = clusters(1, 400), clusters(2, 200)
    reference = KNeighborsClassifier(k, metric="cosine").fit(bank.features.double().numpy(), bank.targets.numpy())
    votes = torch.from_numpy(reference.predict_proba(queries.features.double().numpy()))
    best = votes.topk(2).values
    decided = best[:, 0] - best[:, 1] > 1e-6  # scikit-learn gives ties to the lower class, whatever is nearer
    predicted = knn_predict(queries.features, *bank[:2], num_classes=5, k=k, weights="uniform")
    assert torch.equal(predicted[decided], votes.argmax(1)[decided])
    assert decided.sum() > 150


@pytest.mark.parametrize("k", [2, 4, 8])
def test_of_tied_classes_the_one_with_the_nearest_neighbour_wins(k: int) -> None:
    bank, queries = clusters(1, 60), clusters(2, 200)
    predicted = knn_predict(queries.features, *bank[:2], num_classes=5, k=k, weights="uniform")
    similarities = (
        torch.nn.functional.normalize(queries.features.double())
        @ torch.nn.functional.normalize(bank.features.double()).mT
    )
    ties = 0
    for row, found in zip(similarities.tolist(), predicted.tolist(), strict=True):
        ranked = [bank.targets.tolist()[place] for place in sorted(range(60), key=lambda place: -row[place])[:k]]
        most = max(map(ranked.count, ranked))
        tied = [target for target in ranked if ranked.count(target) == most]
        ties += len(set(tied)) > 1
        assert found == tied[0]
    assert ties > 10


def test_votes_are_weighted_by_similarity() -> None:
    bank = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.1, 1.0]])
    targets = torch.tensor([0, 1, 1])
    query = torch.tensor([[1.0, 0.2]])
    assert knn_predict(query, bank, targets, num_classes=2, k=3, temperature=0.1).tolist() == [0]
    assert knn_predict(query, bank, targets, num_classes=2, k=3, temperature=100.0).tolist() == [1]


def test_blocks_do_not_change_the_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, queries = clusters(1, 100), clusters(2, 33)
    whole = knn_predict(queries.features, *bank[:2], num_classes=5, k=20)
    rows: list[int] = []
    vote = knn._weighted_vote

    def counted(block: Tensor, *others: Tensor) -> Tensor:
        rows.append(len(block))
        return vote(block, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(knn, "_BLOCK_VALUES", 700)
    monkeypatch.setattr(knn, "_weighted_vote", counted)
    assert torch.equal(knn_predict(queries.features, *bank[:2], num_classes=5, k=20), whole)
    assert rows == [7, 7, 7, 7, 5]


def test_all_of_a_small_bank_vote_with_a_warning() -> None:
    bank, queries = clusters(1, 30), clusters(2, 10)
    with pytest.warns(UserWarning, match="k is 200 but the bank has 30"):
        predicted = knn_predict(queries.features, *bank[:2], num_classes=5, k=200)
    assert torch.equal(predicted, knn_predict(queries.features, *bank[:2], num_classes=5, k=30))


def test_a_low_temperature_leaves_the_nearest_neighbour() -> None:
    bank, queries = clusters(1, 100), clusters(2, 50)
    coldest = knn_predict(queries.features, *bank[:2], num_classes=5, k=100, temperature=1e-5)
    assert torch.equal(coldest, knn_predict(queries.features, *bank[:2], num_classes=5, k=1))


def test_half_precision_features_are_compared_in_float32() -> None:
    bank, queries = clusters(1, 100), clusters(2, 50)
    halves = bank.features.bfloat16(), queries.features.bfloat16()
    predicted = knn_predict(halves[1], halves[0], bank.targets, num_classes=5, k=20)
    expected = knn_predict(halves[1].float(), halves[0].float(), bank.targets, num_classes=5, k=20)
    assert torch.equal(predicted, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": torch.zeros(3, 5)}, r"queries \(Q, F\) with a bank \(M, F\), got \(3, 5\) and \(4, 2\)"),
        ({"bank_targets": torch.zeros(3, dtype=torch.int64)}, "bank of 4 features needs as many targets"),
        ({"bank_targets": torch.tensor([0, 1, -1, 0])}, "0 to 1, got -1 to 1: leave unlabelled pictures out"),
        ({"bank_targets": torch.tensor([0, 1, 2, 0])}, "0 to 1, got 0 to 2"),
        ({"k": 0}, "k=0"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"weights": "distance"}, "weights is 'distance': choose similarity or uniform"),
    ],
)
def test_arguments_that_make_no_sense_are_named(change: dict[str, object], message: str) -> None:
    arguments = {
        "queries": torch.zeros(3, 2),
        "bank": torch.zeros(4, 2),
        "bank_targets": torch.tensor([0, 1, 1, 0]),
        "num_classes": 2,
        **change,
    }
    with pytest.raises(ValueError, match=message):
        knn_predict(**arguments)  # type: ignore[arg-type]
