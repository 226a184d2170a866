"""What is asked of an encoder: protocols by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from lightning.pytorch import LightningDataModule
from torch import Tensor

from simclr_lightning.data.subsets import stratified_split
from simclr_lightning.evaluation import linear_sgd
from simclr_lightning.evaluation.fine_tuned import check_fine_tuning, fine_tuned
from simclr_lightning.evaluation.frozen import (
    FEW_LABELS,
    FIXED_STRENGTH,
    HELD_OUT,
    STRENGTHS,
    TRANSFER_STRENGTHS,
    knn_accuracy,
    linear_accuracy,
    transfer_accuracy,
)
from simclr_lightning.evaluation.lineup import Lineup, Subject, has_own_validation, metric_of
from simclr_lightning.evaluation.nested import Tell
from simclr_lightning.evaluation.protocol import Found, Protocol, Settings
from simclr_lightning.metrics import Weights


class Logistic(Protocol):
    """Logistic regression on frozen features."""

    def find(self, subject: Subject, positions: Tensor, seed: int, settings: Settings, tell: Tell) -> Found:
        """See :func:`linear_accuracy`."""
        train, device = subject.train.take(positions), subject.trainer.strategy.root_device
        return Found(linear_accuracy(train, subject.test, device=device))

    def details(self, settings: Settings) -> dict[str, Any]:
        """How strongly it is regularised."""
        return {"strengths": list(STRENGTHS), "few_labels": FEW_LABELS, "strength_for_few_labels": FIXED_STRENGTH}


class LinearSGD(Protocol):
    """The paper's linear evaluation, on features of clean pictures."""

    def find(self, subject: Subject, positions: Tensor, seed: int, settings: Settings, tell: Tell) -> Found:
        """See :func:`linear_sgd.sgd_accuracy`."""
        train = subject.train.take(positions)
        return Found(linear_sgd.sgd_accuracy(train, subject.test, subject.trainer, seed=seed, tell=tell))

    def details(self, settings: Settings) -> dict[str, Any]:
        """How it is trained."""
        return {
            "epochs": linear_sgd.EPOCHS,
            "learning_rate_of_256": linear_sgd.LEARNING_RATE,
            "batch_size_at_most": linear_sgd.BATCH_SIZE,
        }


@dataclass(frozen=True)
class KNN(Protocol):
    """Votes of the nearest neighbours.

    Attributes:
        weights: what a vote counts.
    """

    weights: Weights = "similarity"

    def find(self, subject: Subject, positions: Tensor, seed: int, settings: Settings, tell: Tell) -> Found:
        """See :func:`knn_accuracy`; a bank of fewer than 200 votes as a whole."""
        bank = subject.train.take(positions)
        return Found(knn_accuracy(bank, subject.test, k=min(200, len(bank.targets)), weights=self.weights))

    def details(self, settings: Settings) -> dict[str, Any]:
        """How votes are counted."""
        return {"k": 200, "weights": self.weights} | ({"temperature": 0.1} if self.weights == "similarity" else {})


class Transfer(Protocol):
    """The paper's transfer protocol: the strength is chosen on validation pictures, by the data set's own metric."""

    def find(self, subject: Subject, positions: Tensor, seed: int, settings: Settings, tell: Tell) -> Found:
        """See :func:`transfer_accuracy`; the chosen strength and its validation accuracy are kept as well."""
        train = subject.train.take(positions)
        val = subject.features("val") if has_own_validation(subject.datamodule, subject.split) else None
        metric = metric_of(subject.datamodule)
        result = transfer_accuracy(
            train, val, subject.test, metric=metric, seed=seed, device=subject.trainer.strategy.root_device
        )
        also = {"strength": result.strength, "validation_accuracy": result.validation[result.strength]}
        return Found(result.accuracy, also)

    def details(self, settings: Settings) -> dict[str, Any]:
        """What the strength is chosen among."""
        strongest, *_, weakest = TRANSFER_STRENGTHS
        return {"strengths": len(TRANSFER_STRENGTHS), "strongest": strongest, "weakest": weakest}

    def check(self, targets: Tensor, lineup: Lineup, settings: Settings) -> None:
        """Some labels are held out where there are no validation pictures."""
        if targets.ndim == 1 and not has_own_validation(lineup.datamodule, lineup.split):
            stratified_split(targets, HELD_OUT, settings.seed)

    def metric(self, datamodule: LightningDataModule) -> str:
        """That of the data set."""
        return metric_of(datamodule)


_STEPS_IN_THE_PAPER = 180
"""Of 60 epochs on 12,811 labels, 1 % of ImageNet, in batches of 4096."""


class FineTuned(Protocol):
    """The whole network, fine-tuned."""

    def find(self, subject: Subject, positions: Tensor, seed: int, settings: Settings, tell: Tell) -> Found:
        """See :func:`fine_tuned`; top-5, where it makes sense, and the mean of the classes are kept as well."""
        epochs = settings.finetune.epochs_for(self.fraction)
        figures = fine_tuned(subject, positions, settings.finetune, epochs=epochs, seed=seed, tell=tell)
        return Found(figures.pop("top1"), figures)

    def details(self, settings: Settings) -> dict[str, Any]:
        """The recipe."""
        return {**asdict(settings.finetune), "epochs": settings.finetune.epochs_for(self.fraction)}

    def fits(self, subject: Subject) -> bool:
        """Raw pixels have no network."""
        return subject.encoder is not None

    def draws(self, settings: Settings) -> int:
        """Fewer than those of a classifier on features: each trains a network."""
        return settings.finetune.draws

    def notes(self, targets: Tensor, settings: Settings) -> list[str]:
        """What fine-tuning means without pre-training, and whether there is enough of it."""
        notes = ["The random encoder, fine-tuned, is a network trained from scratch by the same recipe."]
        labels = len(self.subsets(targets, draws=1, seed=settings.seed)[0])
        steps = settings.finetune.epochs_for(self.fraction) * (labels // min(labels, settings.finetune.batch_size))
        if steps < _STEPS_IN_THE_PAPER:
            notes.append(
                f"{self.name} takes {steps} steps, the paper {_STEPS_IN_THE_PAPER} or more: where networks do not "
                "converge, raise --finetune.epochs."
            )
        return notes

    def check(self, targets: Tensor, lineup: Lineup, settings: Settings) -> None:
        """Networks are needed, and pictures that can be augmented."""
        super().check(targets, lineup, settings)
        check_fine_tuning(lineup.datamodule, getattr(lineup.model, "encoder", None))


_KINDS: tuple[Protocol, ...] = (
    Logistic("linear", "logistic regression (L-BFGS) on frozen features"),
    Logistic("linear@F%", "logistic regression (L-BFGS) on frozen features, from F % of the labels"),
    LinearSGD("linear_sgd", "linear layer on frozen features, trained by SGD as in the paper"),
    KNN("knn", "cosine kNN on frozen features (k = 200), weighted (temperature 0.1)"),
    KNN("knn_plain", "cosine kNN on frozen features (k = 200), one vote each", weights="uniform"),
    Transfer("transfer", "logistic regression (L-BFGS) on frozen features, strength chosen on validation (45 values)"),
    FineTuned("finetune@F%", "whole network, new linear layer, fine-tuned on F % of the labels"),
)
PROTOCOLS = {kind.name: kind for kind in _KINDS}
"""By how they are typed; F is a percentage."""


def parse_protocols(protocols: str | Sequence[str]) -> list[Protocol]:
    """Look protocols up.

    Args:
        protocols: names, as a list or as one string with commas between them; a repeated name counts once.

    Raises:
        ValueError: if a name is unknown, a percentage is out of range, or there is no name; the message lists what
            there is.
    """
    names = protocols.split(",") if isinstance(protocols, str) else protocols
    found = {name: _parse(name) for name in (name.strip() for name in names)}
    if not found:
        raise ValueError(f"No protocol is asked for. There are {_listed()}.")
    return list(found.values())


def _parse(name: str) -> Protocol:
    percentage = re.search(r"@(\d+(?:\.\d+)?)%$", name)
    kind = PROTOCOLS.get(name if percentage is None else f"{name[: percentage.start()]}@F%")
    if kind is None or "F" in name:
        raise ValueError(f"Unknown protocol {name!r}. There are {_listed()}; F is a number (linear@1%).")
    if percentage is None:
        return kind
    fraction = float(percentage[1]) / 100
    if not 0 < fraction <= 1:
        raise ValueError(f"The protocol {name!r} needs a share of the labels above 0 and at most 100 % (linear@1%).")
    return replace(kind, name=name, fraction=fraction, what=kind.what.replace("F %", f"{percentage[1]} %"))


def _listed() -> str:
    return "; ".join(f"{name} ({kind.what})" for name, kind in PROTOCOLS.items())
