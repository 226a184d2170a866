"""What is asked of the features: protocols by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from simclr_lightning.data.subsets import balanced_subset
from simclr_lightning.evaluation.features import Features
from simclr_lightning.evaluation.knn import knn_accuracy
from simclr_lightning.evaluation.logistic import linear_accuracy

PROTOCOLS = {
    "linear": "logistic regression on the features of all labelled training pictures",
    "knn": "weighted cosine kNN (k = 200, temperature 0.1) among all labelled training pictures",
    "linear@F%": "logistic regression from F percent of the labels, class-balanced, over several draws",
}
"""How a protocol is typed, and what it is."""


class Outcome(NamedTuple):
    """What a protocol found.

    Attributes:
        labels: number of labels that a draw learned from.
        accuracies: one in [0, 1] for each draw of labels.
    """

    labels: int
    accuracies: list[float]


class Protocol(NamedTuple):
    """One column of the evaluation's table.

    Attributes:
        name: as it was typed.
        accuracy: function of the training and the test features.
        fraction: share of the labels to learn from, in (0, 1); None for all of them.
    """

    name: str
    accuracy: Callable[[Features, Features], float]
    fraction: float | None = None

    def run(self, train: Features, test: Features, *, draws: int, seed: int) -> Outcome:
        """Learn from the training features and classify the test features.

        Draw d learns from ``balanced_subset(train.targets, fraction, seed + d)``: the same pictures for every encoder.

        Args:
            train: of the labelled training pictures.
            test: of the labelled test pictures.
            draws: subsets to draw, where not all labels are used.
            seed: of the first draw.
        """
        if self.fraction is None:
            return Outcome(len(train.targets), [self.accuracy(train, test)])
        subsets = [balanced_subset(train.targets, self.fraction, seed + draw) for draw in range(draws)]
        return Outcome(len(subsets[0]), [self.accuracy(train.take(subset), test) for subset in subsets])


def parse_protocols(protocols: str | Sequence[str]) -> list[Protocol]:
    """Look protocols up.

    Args:
        protocols: names, as a list or as one string with commas between them; a repeated name counts once.

    Raises:
        ValueError: if a name is unknown, or there is none; the message lists what there is.
    """
    names = protocols.split(",") if isinstance(protocols, str) else protocols
    found = {name: _parse(name) for name in (name.strip() for name in names)}
    if not found:
        raise ValueError(f"No protocol is asked for. There are {_listed()}.")
    return list(found.values())


def _parse(name: str) -> Protocol:
    whole = {"linear": linear_accuracy, "knn": knn_accuracy}
    if name in whole:
        return Protocol(name, whole[name])
    percentage = name.removeprefix("linear@").removesuffix("%")
    if name == f"linear@{percentage}%" and percentage.replace(".", "", 1).isdecimal() and 0 < float(percentage) < 100:
        return Protocol(name, linear_accuracy, float(percentage) / 100)
    raise ValueError(f"Unknown protocol {name!r}. There are {_listed()}; F is above 0 and below 100 (linear@1%).")


def _listed() -> str:
    return "; ".join(f"{name} ({meaning})" for name, meaning in PROTOCOLS.items())
