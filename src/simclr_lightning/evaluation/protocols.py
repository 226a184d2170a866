"""What is asked of an encoder: protocols by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, cast

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn

from simclr_lightning.data.labels import balanced_subset, stratified_split
from simclr_lightning.errors import InputError, check_number
from simclr_lightning.evaluation import frozen, inner_fits
from simclr_lightning.evaluation.candidates import Candidate, Comparison
from simclr_lightning.evaluation.inner_fits import PAPER, FineTuneRecipe
from simclr_lightning.evaluation.labelled_data import has_own_validation, judged_by, metric_of
from simclr_lightning.evaluation.quiet_trainer import Progress, within
from simclr_lightning.evaluation.report import Result
from simclr_lightning.metrics import Weights


class Score(NamedTuple):
    """How one draw of labels does.

    Attributes:
        accuracy: in [0, 1].
        also: what else is worth keeping: what was chosen on validation, top-5, ...
    """

    accuracy: float
    also: dict[str, float] = {}  # noqa: RUF012  # nobody adds to it


@dataclass(frozen=True)
class Protocol(ABC):
    """One row of the table: knows how to judge an encoder.

    Attributes:
        name: as it was typed.
        what: what it is, in a few words.
        fraction: share of the labels to learn from, in (0, 1].

    Example:
        >>> from dataclasses import replace
        >>> ten_percent = replace(PROTOCOLS["linear"], fraction=0.1)
        >>> [len(positions) for positions in ten_percent.subsets(torch.arange(200) % 4, draws=3, seed=0)]
        [20, 20, 20]
    """

    name: str
    what: str
    fraction: float = 1.0

    @abstractmethod
    def score(self, candidate: Candidate, positions: Tensor, seed: int, progress: Progress) -> Score:
        """Learn from some labels and classify the test pictures once.

        Args:
            candidate: what is judged.
            positions: (n,) int64, which of the labelled training pictures to learn from.
            seed: of whatever is random.
            progress: takes a line about how far this is.
        """

    @abstractmethod
    def details(self) -> dict[str, Any]:
        """Settings of this protocol, by which its figures are got again."""

    def fits(self, candidate: Candidate) -> bool:
        """Whether there is a figure for the candidate."""
        return True

    def draws(self, asked: int) -> int:
        """Subsets of the labels to learn from, where not all are used; of so many that are asked for."""
        return asked

    def metric(self, datamodule: LightningDataModule) -> str:
        """What the accuracy is."""
        return judged_by(datamodule)

    def notes(self, targets: Tensor, seed: int) -> list[str]:
        """What a reader of the figures must know; ``targets`` (N,) are those of the labelled training pictures."""
        return []

    def check(self, comparison: Comparison, seed: int) -> None:
        """Complain before anything is computed.

        Raises:
            InputError: if there are too few labels, or pictures may show several classes.
        """
        targets = comparison.targets
        if targets.ndim > 1:
            raise InputError(
                f"{self.name} takes pictures of one class; these may show any of {targets.shape[1]}: use transfer."
            )
        try:
            self.subsets(targets, draws=1, seed=seed)
        except ValueError as error:
            raise InputError(f"{self.name}: choose a larger percentage. {error}") from error

    def subsets(self, targets: Tensor, *, draws: int, seed: int) -> list[Tensor]:
        """Positions of the labels that each draw learns from, the same ones for every encoder and protocol.

        Draw d is ``balanced_subset(targets, fraction, seed + d)``; all labels are drawn once.
        """
        if self.fraction == 1:
            return [torch.arange(len(targets))]
        return [balanced_subset(targets, self.fraction, seed + draw) for draw in range(draws)]

    def judge(self, candidate: Candidate, subsets: Sequence[Tensor], seed: int, progress: Progress) -> Result:
        """The accuracy of every draw of labels, whose positions are given; draw d has the seed ``seed`` + d."""
        scores = []
        for draw, positions in enumerate(subsets):
            title = f"draw {draw + 1} of {len(subsets)}"
            progress(title)
            scores.append(self.score(candidate, positions, seed + draw, within(progress, title)))
        accuracies = [100 * score.accuracy for score in scores]
        labels = len(candidate.learned(subsets[0]).targets)  # but for pictures that cannot be read
        return Result(candidate.name, self.name, labels, accuracies, [score.also for score in scores])


class Logistic(Protocol):
    """Logistic regression on frozen features."""

    def score(self, candidate: Candidate, positions: Tensor, seed: int, progress: Progress) -> Score:
        """See :func:`frozen.linear_accuracy`."""
        train = candidate.learned(positions)
        metric = judged_by(candidate.datamodule)
        return Score(frozen.linear_accuracy(train, candidate.test, device=candidate.device, metric=metric))

    def details(self) -> dict[str, Any]:
        """How strongly it is regularised."""
        return {
            "strengths": list(frozen.STRENGTHS),
            "few_labels": frozen.FEW_LABELS,
            "strength_for_few_labels": frozen.FIXED_STRENGTH,
        }


class LinearSGD(Protocol):
    """The paper's linear evaluation, on features of clean pictures."""

    def score(self, candidate: Candidate, positions: Tensor, seed: int, progress: Progress) -> Score:
        """See :func:`inner_fits.linear_by_sgd`."""
        train = candidate.learned(positions)
        figures = inner_fits.linear_by_sgd(train, candidate.test, candidate.trainer, seed=seed, progress=progress)
        return Score(figures[judged_by(candidate.datamodule)])

    def details(self) -> dict[str, Any]:
        """How it is trained."""
        return {
            "epochs": inner_fits.LINEAR_EPOCHS,
            "learning_rate_of_256": inner_fits.LINEAR_RATE,
            "batch_size_at_most": inner_fits.LINEAR_BATCH,
        }


@dataclass(frozen=True)
class KNN(Protocol):
    """Votes of the nearest neighbours.

    Attributes:
        weights: what a vote counts.
    """

    weights: Weights = "similarity"

    def score(self, candidate: Candidate, positions: Tensor, seed: int, progress: Progress) -> Score:
        """See :func:`frozen.knn_accuracy`; a bank of fewer than 200 votes as a whole."""
        bank = candidate.learned(positions)
        metric, k = judged_by(candidate.datamodule), min(200, len(bank.targets))
        return Score(frozen.knn_accuracy(bank, candidate.test, k=k, weights=self.weights, metric=metric))

    def details(self) -> dict[str, Any]:
        """How votes are counted."""
        return {"k": 200, "weights": self.weights} | ({"temperature": 0.1} if self.weights == "similarity" else {})


class Transfer(Protocol):
    """The paper's transfer protocol: the strength is chosen on validation pictures, by the data set's own metric."""

    def score(self, candidate: Candidate, positions: Tensor, seed: int, progress: Progress) -> Score:
        """See :func:`frozen.transfer_accuracy`; the chosen strength and its validation accuracy are kept as well."""
        train = candidate.learned(positions)
        val = candidate.features("val") if has_own_validation(candidate.datamodule, candidate.split) else None
        result = frozen.transfer_accuracy(
            train, val, candidate.test, metric=metric_of(candidate.datamodule), seed=seed, device=candidate.device
        )
        also = {"strength": result.strength, "validation_accuracy": result.validation[result.strength]}
        return Score(result.accuracy, also)

    def details(self) -> dict[str, Any]:
        """What the strength is chosen among."""
        strongest, *_, weakest = frozen.TRANSFER_STRENGTHS
        return {"strengths": len(frozen.TRANSFER_STRENGTHS), "strongest": strongest, "weakest": weakest}

    def check(self, comparison: Comparison, seed: int) -> None:
        """Some labels are held out where there are no validation pictures."""
        targets = comparison.targets
        if targets.ndim == 1 and not has_own_validation(comparison.datamodule, comparison.split):
            stratified_split(targets, frozen.HELD_OUT, seed)

    def metric(self, datamodule: LightningDataModule) -> str:
        """That of the data set."""
        return metric_of(datamodule)


@dataclass(frozen=True)
class FineTuned(Protocol):
    """The whole network, fine-tuned.

    Attributes:
        recipe: how.
    """

    recipe: FineTuneRecipe = PAPER

    def score(self, candidate: Candidate, positions: Tensor, seed: int, progress: Progress) -> Score:
        """See :func:`inner_fits.fine_tune`; top-5, where it makes sense, and the mean of the classes are kept, too."""
        figures = inner_fits.fine_tune(
            cast("nn.Module", candidate.encoder),
            candidate.datamodule,
            positions,
            self.recipe,
            epochs=self.recipe.epochs_for(self.fraction),
            split=candidate.split,
            outer=candidate.trainer,
            seed=seed,
            progress=progress,
        )
        return Score(figures.pop(judged_by(candidate.datamodule)), figures)

    def details(self) -> dict[str, Any]:
        """The recipe."""
        return {**asdict(self.recipe), "epochs": self.recipe.epochs_for(self.fraction)}

    def fits(self, candidate: Candidate) -> bool:
        """Raw pixels have no network."""
        return candidate.encoder is not None

    def draws(self, asked: int) -> int:
        """Fewer than those of a classifier on features: each trains a network."""
        return self.recipe.draws

    def notes(self, targets: Tensor, seed: int) -> list[str]:
        """What fine-tuning means without pre-training, and whether there is enough of it."""
        labels = len(self.subsets(targets, draws=1, seed=seed)[0])
        few = self.recipe.too_few_steps(labels, self.fraction)
        notes = ["The random encoder, fine-tuned, is a network trained from scratch by the same recipe."]
        return notes + ([] if few is None else [f"{self.name} {few}"])

    def check(self, comparison: Comparison, seed: int) -> None:
        """Networks are needed, and pictures that can be augmented."""
        super().check(comparison, seed)
        inner_fits.check_fine_tuning(comparison.datamodule, getattr(comparison.model, "encoder", None))


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


def check_draws(draws: int, seed: int = 0) -> None:
    """Complain if nothing is to be drawn, or by no seed.

    Raises:
        InputError: if so.

    Example:
        >>> check_draws(10)
    """
    check_number("draws", draws, "draws 10", least=1, most=1_000_000)
    check_number("seed", seed, "seed 0", least=0, below=2**32)
