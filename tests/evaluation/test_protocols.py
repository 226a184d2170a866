"""Protocols by name, and the labels that they learn from."""

from __future__ import annotations

import pytest
import torch

from simclr_lightning.evaluation import Features, knn_accuracy, linear_accuracy
from simclr_lightning.evaluation.protocols import Protocol, parse_protocols


def test_names_become_protocols() -> None:
    expected = [
        Protocol("linear", linear_accuracy),
        Protocol("knn", knn_accuracy),
        Protocol("linear@1%", linear_accuracy, 0.01),
        Protocol("linear@12.5%", linear_accuracy, 0.125),
    ]
    assert parse_protocols("linear,knn, linear@1%,linear@12.5%") == expected
    assert parse_protocols(["linear", "knn", "linear@1%", "linear@12.5%"]) == expected


def test_a_repeated_name_counts_once() -> None:
    assert [protocol.name for protocol in parse_protocols("knn,linear,knn")] == ["knn", "linear"]


@pytest.mark.parametrize(
    "name", ["linera", "", "linear@", "linear@1", "linear@0%", "linear@100%", "linear@x%", "knn@1%"]
)
def test_an_unknown_name_is_answered_with_the_list(name: str) -> None:
    with pytest.raises(ValueError, match=rf"Unknown protocol '{name}'. There are linear \(.*; knn \(.*; linear@F%"):
        parse_protocols(["linear", name])


def test_no_name_is_answered_with_the_list() -> None:
    with pytest.raises(ValueError, match=r"No protocol is asked for\. There are linear"):
        parse_protocols([])


def learned_from(protocol: Protocol, features: Features, draws: int, seed: int) -> list[list[int]]:
    """First feature of every picture that each draw learns from."""
    learned: list[list[int]] = []

    def accuracy(train: Features, test: Features) -> float:
        learned.append(train.features[:, 0].int().tolist())
        return len(learned) / 10

    outcome = protocol._replace(accuracy=accuracy).run(features, features, draws=draws, seed=seed)
    assert outcome.labels == len(learned[0])
    assert outcome.accuracies == [(draw + 1) / 10 for draw in range(len(learned))]
    return learned


@pytest.fixture
def numbered() -> Features:
    """200 pictures of 4 classes whose only feature is their number."""
    return Features(torch.arange(200.0)[:, None], torch.arange(200) % 4)


def test_a_fraction_takes_seeded_balanced_labels(numbered: Features) -> None:
    (tenth,) = parse_protocols("linear@10%")
    learned = learned_from(tenth, numbered, draws=3, seed=5)
    for draw in learned:
        assert torch.tensor(draw).remainder(4).bincount().tolist() == [5, 5, 5, 5]
    assert len({tuple(draw) for draw in learned}) == 3
    assert learned_from(tenth, numbered, draws=3, seed=5) == learned
    assert learned_from(tenth, numbered, draws=1, seed=7) == learned[2:]


def test_every_encoder_learns_from_the_same_pictures(numbered: Features) -> None:
    (tenth,) = parse_protocols("linear@10%")
    other = Features(torch.stack([numbered.features[:, 0], torch.rand(200)], dim=1), numbered.targets)
    assert learned_from(tenth, numbered, draws=2, seed=0) == learned_from(tenth, other, draws=2, seed=0)


def test_all_labels_are_learned_from_once(numbered: Features) -> None:
    (whole,) = parse_protocols("linear")
    assert learned_from(whole, numbered, draws=3, seed=0) == [list(range(200))]
