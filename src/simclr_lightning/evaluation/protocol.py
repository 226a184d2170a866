"""What every protocol has in common: how it is asked to judge a subject."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from simclr_lightning.data.subsets import balanced_subset
from simclr_lightning.evaluation.fine_tuned import FineTuneRecipe
from simclr_lightning.evaluation.lineup import Lineup, Subject
from simclr_lightning.evaluation.nested import Tell, told_within


class Found(NamedTuple):
    """What a protocol found from one draw of labels.

    Attributes:
        accuracy: in [0, 1].
        also: what else is worth keeping: what was chosen on validation, top-5, ...
    """

    accuracy: float
    also: dict[str, float] = {}  # noqa: RUF012  # nobody adds to it


class Outcome(NamedTuple):
    """What a protocol found.

    Attributes:
        labels: number of labels that a draw learned from.
        found: one for each draw of labels.
    """

    labels: int
    found: list[Found]


@dataclass(frozen=True)
class Settings:
    """What every protocol is told.

    Attributes:
        draws: subsets of the labels to draw, where not all are used and nothing is fine-tuned.
        seed: of the first draw; draw d has seed + d.
        finetune: how networks are fine-tuned.
    """

    draws: int = 10
    seed: int = 0
    finetune: FineTuneRecipe = field(default_factory=FineTuneRecipe)

    def __post_init__(self) -> None:
        """Check the number of draws."""
        if self.draws < 1:
            raise ValueError(f"draws is {self.draws}: at least one draw of labels is learned from (--draws 10).")


@dataclass(frozen=True)
class Protocol(ABC):
    """One row of the table: knows how to judge a subject.

    Attributes:
        name: as it was typed.
        what: what it is, in a few words.
        fraction: share of the labels to learn from, in (0, 1].
    """

    name: str
    what: str
    fraction: float = 1.0

    @abstractmethod
    def find(self, subject: Subject, positions: Tensor, seed: int, settings: Settings, tell: Tell) -> Found:
        """Learn from some labels and classify the test pictures once.

        Args:
            subject: what is judged.
            positions: (n,) int64, which of the labelled training pictures to learn from.
            seed: of whatever is random.
            settings: of all protocols.
            tell: takes a line about how far this is.
        """

    @abstractmethod
    def details(self, settings: Settings) -> dict[str, Any]:
        """Settings of this protocol, by which its figures are got again."""

    def fits(self, subject: Subject) -> bool:
        """Whether there is a figure for the subject."""
        return True

    def draws(self, settings: Settings) -> int:
        """Subsets of the labels to learn from, where not all are used."""
        return settings.draws

    def metric(self, datamodule: LightningDataModule) -> str:
        """What the accuracy is."""
        return "top1"

    def notes(self, targets: Tensor, settings: Settings) -> list[str]:
        """What a reader of the figures must know; ``targets`` (N,) are those of the labelled training pictures."""
        return []

    def check(self, targets: Tensor, lineup: Lineup, settings: Settings) -> None:
        """Complain before anything is computed.

        Args:
            targets: (N,) int64, of the labelled training pictures.
            lineup: what is going to be judged.
            settings: of all protocols.

        Raises:
            ValueError: if there are too few labels.
        """
        if targets.ndim > 1:
            raise ValueError(
                f"{self.name} takes pictures of one class; these may show any of {targets.shape[1]}: use transfer."
            )
        try:
            self.subsets(targets, draws=1, seed=settings.seed)
        except ValueError as error:
            raise ValueError(f"{self.name}: choose a larger percentage. {error}") from error

    def subsets(self, targets: Tensor, *, draws: int, seed: int) -> list[Tensor]:
        """Positions of the labels that each draw learns from, the same ones for every subject and protocol.

        Draw d is ``balanced_subset(targets, fraction, seed + d)``; all labels are drawn once.
        """
        if self.fraction == 1:
            return [torch.arange(len(targets))]
        return [balanced_subset(targets, self.fraction, seed + draw) for draw in range(draws)]

    def judge(self, subject: Subject, targets: Tensor, settings: Settings, tell: Tell) -> Outcome:
        """The accuracy of every draw; ``targets`` (N,) int64 are those of the labelled training pictures."""
        subsets = self.subsets(targets, draws=self.draws(settings), seed=settings.seed)
        found = []
        for draw, positions in enumerate(subsets):
            progress = f"draw {draw + 1} of {len(subsets)}"
            tell(progress)
            tell_more = partial(told_within, tell, progress)
            found.append(self.find(subject, positions, settings.seed + draw, settings, tell_more))
        return Outcome(len(subsets[0]), found)
