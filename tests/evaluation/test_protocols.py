"""Protocols by name, and the labels that they learn from."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from simclr_lightning import SimCLRDataModule
from simclr_lightning.evaluation import knn_accuracy, transfer_accuracy
from simclr_lightning.evaluation.candidates import Candidate
from simclr_lightning.evaluation.compare import parse_protocols
from simclr_lightning.evaluation.inner_fits import FineTuneRecipe
from simclr_lightning.evaluation.protocols import (
    KNN,
    PROTOCOLS,
    FineTuned,
    LinearSGD,
    Logistic,
    Protocol,
    Score,
    Transfer,
    check_draws,
)
from simclr_lightning.evaluation.report import Result
from simclr_lightning.features import RawPixels

Make = Callable[..., Any]


def test_names_become_protocols() -> None:
    names = ["linear", "knn", "knn_plain", "linear_sgd", "transfer", "linear@1%", "linear@12.5%", "finetune@100%"]
    protocols = parse_protocols(",".join(names))
    assert [protocol.name for protocol in protocols] == names
    assert [type(protocol) for protocol in protocols] == [
        Logistic,
        KNN,
        KNN,
        LinearSGD,
        Transfer,
        Logistic,
        Logistic,
        FineTuned,
    ]
    assert [protocol.fraction for protocol in protocols] == [1, 1, 1, 1, 1, 0.01, 0.125, 1]
    assert parse_protocols(names) == protocols
    assert parse_protocols(" linear , knn") == protocols[:2]


def test_what_a_protocol_is_names_its_percentage() -> None:
    (protocol,) = parse_protocols("linear@12.5%")
    assert "12.5 % of the labels" in protocol.what


def test_a_repeated_name_counts_once() -> None:
    assert [protocol.name for protocol in parse_protocols("knn,linear,knn")] == ["knn", "linear"]


@pytest.mark.parametrize(
    "name", ["linera", "", "linear@", "linear@1", "linear@x%", "linear@F%", "knn@1%", "transfer@1%", "finetune"]
)
def test_an_unknown_name_is_answered_with_the_list(name: str) -> None:
    with pytest.raises(ValueError, match=rf"Unknown protocol '{name}'\. Choose from linear, ") as error:
        parse_protocols(["linear", name])
    assert all(known in str(error.value) for known in PROTOCOLS)


@pytest.mark.parametrize("name", ["linear@0%", "linear@101%", "finetune@0.0%", "finetune@1000%"])
def test_a_percentage_out_of_range_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match=rf"'{name}' needs a share of the labels above 0 and at most 100 %"):
        parse_protocols(name)


def test_no_name_is_answered_with_the_list() -> None:
    with pytest.raises(ValueError, match=r"No protocol is asked for\. There are linear"):
        parse_protocols([])


TARGETS = torch.arange(200) % 4


class Recording(Protocol):
    """Remembers what it learned from."""

    def score(self, candidate: Any, positions: Tensor, seed: int, progress: Any) -> Score:
        candidate.seen.append((positions.tolist(), seed))
        progress("working")
        return Score(len(candidate.seen) / 10, {"draw": len(candidate.seen)})

    def details(self) -> dict[str, Any]:
        return {}


def learned_by(fraction: float, draws: int, seed: int) -> list[tuple[list[int], int]]:
    """Positions and seed of every draw."""
    learned: list[tuple[list[int], int]] = []
    candidate: Any = SimpleNamespace(
        name="encoder", seen=learned, learned=lambda positions: SimpleNamespace(targets=positions)
    )
    told: list[str] = []
    protocol = Recording("recording", "", fraction)
    subsets = protocol.subsets(TARGETS, draws=draws, seed=seed)
    result = protocol.judge(candidate, subsets, seed, told.append)
    assert (result.encoder, result.protocol, result.labels) == ("encoder", "recording", len(learned[0][0]))
    assert result.accuracies == [100 * ((draw + 1) / 10) for draw in range(len(learned))]
    assert result.also == [{"draw": draw + 1} for draw in range(len(learned))]
    assert told[-1] == f"draw {len(learned)} of {len(learned)}, working"
    return learned


def test_a_fraction_takes_seeded_balanced_labels() -> None:
    learned = learned_by(0.1, draws=3, seed=5)
    assert [seed for _, seed in learned] == [5, 6, 7]
    for positions, _ in learned:
        assert TARGETS[positions].bincount().tolist() == [5, 5, 5, 5]
    assert len({tuple(positions) for positions, _ in learned}) == 3
    assert learned_by(0.1, draws=1, seed=7) == learned[2:]


def test_all_labels_are_learned_from_once() -> None:
    assert learned_by(1.0, draws=3, seed=0) == [(list(range(200)), 0)]


def test_features_and_networks_learn_from_the_same_labels() -> None:
    linear, finetune = parse_protocols("linear@10%,finetune@10%")
    drawn = [protocol.subsets(TARGETS, draws=2, seed=3) for protocol in (linear, finetune)]
    assert all(torch.equal(first, second) for first, second in zip(*drawn, strict=True))


def test_no_draw_is_an_error() -> None:
    with pytest.raises(ValueError, match="draws is 0"):
        check_draws(0)


@pytest.mark.parametrize(("name", "epochs"), [("finetune@1%", 60), ("finetune@5%", 30), ("finetune@100%", 30)])
def test_the_epochs_of_fine_tuning_are_the_papers_or_what_was_typed(name: str, epochs: int) -> None:
    (protocol,) = parse_protocols(name)
    assert protocol.details()["epochs"] == epochs
    (protocol,) = parse_protocols(name, FineTuneRecipe(epochs=7))
    assert protocol.details()["epochs"] == 7


def test_fine_tuning_has_draws_of_its_own() -> None:
    linear, finetune = parse_protocols("linear@10%,finetune@10%", FineTuneRecipe(draws=2))
    assert (linear.draws(9), finetune.draws(9)) == (9, 2)


@pytest.mark.parametrize(("epochs", "steps"), [(None, "30 steps"), (179, "179 steps"), (180, None)])
def test_few_steps_of_fine_tuning_are_told(epochs: int | None, steps: str | None) -> None:
    (protocol,) = parse_protocols("finetune@10%", FineTuneRecipe(epochs=epochs))
    notes = protocol.notes(TARGETS, seed=0)
    assert "trained from scratch" in notes[0]
    assert len(notes) == (1 if steps is None else 2)
    assert steps is None or steps in notes[1]


def raw_pixels(trainer: Make, **settings: Any) -> Candidate:
    data = SimCLRDataModule("digits", label_fraction=0.1, **settings)
    data.setup()
    return Candidate("raw pixels", RawPixels(), None, trainer(), data, "test")


def judged(protocol: Protocol, candidate: Candidate, seed: int = 0) -> Result:
    """From all labels."""
    subsets = protocol.subsets(candidate.train.targets, draws=1, seed=seed)
    return protocol.judge(candidate, subsets, seed, lambda progress: None)


@pytest.mark.parametrize("val_fraction", [0.0, 0.1])
def test_transfer_chooses_on_validation_pictures_or_holds_some_out(trainer: Make, val_fraction: float) -> None:
    candidate = raw_pixels(trainer, val_fraction=val_fraction)
    (protocol,) = parse_protocols("transfer")
    result = judged(protocol, candidate, seed=2)
    val = candidate.features("val") if val_fraction else None
    expected = transfer_accuracy(candidate.train, val, candidate.test, metric="top1", seed=2)
    assert result.accuracies == [100 * expected.accuracy]
    assert result.also == [
        {"strength": expected.strength, "validation_accuracy": expected.validation[expected.strength]}
    ]


def test_neighbours_vote_by_similarity_or_plainly(trainer: Make) -> None:
    candidate = raw_pixels(trainer)
    train, test = candidate.train, candidate.test
    weighted, plain = (judged(protocol, candidate).accuracy for protocol in parse_protocols("knn,knn_plain"))
    assert weighted == 100 * knn_accuracy(train, test, k=143)  # all there are
    assert plain == 100 * knn_accuracy(train, test, k=143, weights="uniform")
    assert plain < weighted


def test_pictures_of_several_classes_are_for_transfer_alone() -> None:
    targets = torch.zeros(5, 20)
    comparison: Any = SimpleNamespace(datamodule=SimCLRDataModule("digits"), split="val", targets=targets)
    linear, transfer = parse_protocols("linear,transfer")
    with pytest.raises(ValueError, match="linear takes pictures of one class; these may show any of 20: use transfer"):
        linear.check(comparison, seed=0)
    transfer.check(comparison, seed=0)


def test_too_few_labels_to_hold_some_out_are_named() -> None:
    targets = torch.tensor([0, 0, 1, 1])
    comparison: Any = SimpleNamespace(datamodule=SimCLRDataModule("digits"), split="val", targets=targets)
    (transfer,) = parse_protocols("transfer")
    with pytest.raises(ValueError, match="cannot be split off class by class"):
        transfer.check(comparison, seed=0)
