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
from simclr_lightning.evaluation.fine_tuned import FineTuneRecipe
from simclr_lightning.evaluation.lineup import Subject
from simclr_lightning.evaluation.protocol import Found, Protocol, Settings
from simclr_lightning.evaluation.protocols import (
    KNN,
    PROTOCOLS,
    FineTuned,
    LinearSGD,
    Logistic,
    Transfer,
    parse_protocols,
)
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
    with pytest.raises(ValueError, match=rf"Unknown protocol '{name}'\. There are linear \(") as error:
        parse_protocols(["linear", name])
    assert all(f"{known} (" in str(error.value) for known in PROTOCOLS)


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

    learned: list[list[int]]

    def find(self, subject: Any, positions: Tensor, seed: int, settings: Settings, tell: Any) -> Found:
        subject.append((positions.tolist(), seed))
        tell("working")
        return Found(len(subject) / 10, {"draw": len(subject)})

    def details(self, settings: Settings) -> dict[str, Any]:
        return {}


def learned_by(fraction: float, draws: int, seed: int) -> list[tuple[list[int], int]]:
    """Positions and seed of every draw."""
    learned: list[tuple[list[int], int]] = []
    subject: Any = learned
    told: list[str] = []
    outcome = Recording("recording", "", fraction).judge(subject, TARGETS, Settings(draws, seed), told.append)
    assert outcome.labels == len(learned[0][0])
    assert [found.accuracy for found in outcome.found] == [(draw + 1) / 10 for draw in range(len(learned))]
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
        Settings(draws=0)


@pytest.mark.parametrize(("name", "epochs"), [("finetune@1%", 60), ("finetune@5%", 30), ("finetune@100%", 30)])
def test_the_epochs_of_fine_tuning_are_the_papers_or_what_was_typed(name: str, epochs: int) -> None:
    (protocol,) = parse_protocols(name)
    assert protocol.details(Settings())["epochs"] == epochs
    assert protocol.details(Settings(finetune=FineTuneRecipe(epochs=7)))["epochs"] == 7


def test_fine_tuning_has_draws_of_its_own() -> None:
    linear, finetune = parse_protocols("linear@10%,finetune@10%")
    settings = Settings(draws=9, finetune=FineTuneRecipe(draws=2))
    assert (linear.draws(settings), finetune.draws(settings)) == (9, 2)


@pytest.mark.parametrize(("epochs", "steps"), [(None, "30 steps"), (179, "179 steps"), (180, None)])
def test_few_steps_of_fine_tuning_are_told(epochs: int | None, steps: str | None) -> None:
    (protocol,) = parse_protocols("finetune@10%")
    notes = protocol.notes(TARGETS, Settings(finetune=FineTuneRecipe(epochs=epochs)))
    assert "trained from scratch" in notes[0]
    assert len(notes) == (1 if steps is None else 2)
    assert steps is None or steps in notes[1]


def raw_pixels(trainer: Make, **settings: Any) -> Subject:
    data = SimCLRDataModule("digits", label_fraction=0.1, **settings)
    data.setup()
    return Subject("raw pixels", RawPixels(), None, trainer(), data, "test")


@pytest.mark.parametrize("val_fraction", [0.0, 0.1])
def test_transfer_chooses_on_validation_pictures_or_holds_some_out(trainer: Make, val_fraction: float) -> None:
    subject = raw_pixels(trainer, val_fraction=val_fraction)
    (protocol,) = parse_protocols("transfer")
    (found,) = protocol.judge(subject, subject.train.targets, Settings(seed=2), lambda progress: None).found
    val = subject.features("val") if val_fraction else None
    expected = transfer_accuracy(subject.train, val, subject.test, metric="top1", seed=2)
    assert found.accuracy == expected.accuracy
    assert found.also == {
        "strength": expected.strength,
        "validation_accuracy": expected.validation[expected.strength],
    }


def test_neighbours_vote_by_similarity_or_plainly(trainer: Make) -> None:
    subject = raw_pixels(trainer)
    train, test = subject.train, subject.test
    weighted, plain = (
        protocol.judge(subject, train.targets, Settings(), lambda progress: None).found[0].accuracy
        for protocol in parse_protocols("knn,knn_plain")
    )
    assert weighted == knn_accuracy(train, test, k=143)  # all there are
    assert plain == knn_accuracy(train, test, k=143, weights="uniform")
    assert plain < weighted


def test_pictures_of_several_classes_are_for_transfer_alone() -> None:
    lineup: Any = SimpleNamespace(datamodule=SimCLRDataModule("digits"), split="val")
    linear, transfer = parse_protocols("linear,transfer")
    with pytest.raises(ValueError, match="linear takes pictures of one class; these may show any of 20: use transfer"):
        linear.check(torch.zeros(5, 20), lineup, Settings())
    transfer.check(torch.zeros(5, 20), lineup, Settings())


def test_too_few_labels_to_hold_some_out_are_named() -> None:
    lineup: Any = SimpleNamespace(datamodule=SimCLRDataModule("digits"), split="val")
    (transfer,) = parse_protocols("transfer")
    with pytest.raises(ValueError, match="cannot be split off class by class"):
        transfer.check(torch.tensor([0, 0, 0, 1]), lineup, Settings())
