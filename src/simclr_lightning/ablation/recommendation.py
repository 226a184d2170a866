"""Which operations a matrix speaks for, and how surely."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import studentized_range  # type: ignore[import-untyped]  # scikit-learn brings scipy

from simclr_lightning.ablation.matrix import Matrix, in_words

CONFIDENCE = 0.95

Pair = tuple[str, str]

_PAPERS = {"crop", "colour"}


@dataclass(frozen=True)
class Recommendation:
    """The best cell of a matrix, by linear accuracy, beside the next that uses other operations.

    Attributes:
        best: operations of the best cell, in their order; (a, a) for a single one.
        accuracy: of the best cell, in percent.
        next: operations of the best cell that uses others than ``best`` does, in any order.
        difference: percentage points between them.
        margin: half of the simultaneous confidence interval of a difference between any two cells; None for one seed.
        ties: cells with other operations than ``best`` that the margin does not tell from it, best first.

    Example:
        >>> pair = ("crop", "colour")
        >>> Recommendation(pair, 61.0, ("crop", "crop"), difference=6.0, margin=2.5, ties=[]).distinguishable
        True
    """

    best: Pair
    accuracy: float
    next: Pair
    difference: float
    margin: float | None
    ties: list[Pair]

    @property
    def distinguishable(self) -> bool:
        """Whether the best cell is better than every cell with other operations, beyond chance over the seeds."""
        return self.margin is not None and not self.ties


def recommend(matrix: Matrix) -> Recommendation:
    """Compare the cells of a finished matrix.

    A seed gives all cells the same initialisation, order of pictures and first crops, so cells are compared within
    seeds: accuracy = cell + seed + noise, the noise of the same variance everywhere. Because the best cell is picked
    after looking at all of them, a plain t interval would be too sure; Tukey's studentised range holds for all
    differences at once.

    Args:
        matrix: with all runs finished.

    Example:
        >>> from simclr_lightning.ablation.matrix import Scores
        >>> matrix = Matrix(("crop", "colour"), seeds=(0, 1))
        >>> for run in matrix.runs():
        ...     accuracy = {"crop": 60.0, "colour": 40.0}.get(run.first, 20.0) + (run.first != run.second) + run.seed
        ...     matrix.scores[run] = Scores(accuracy, accuracy - 5, 1.0)
        >>> found = recommend(matrix)
        >>> found.best, found.accuracy, found.next, found.difference
        (('crop', 'colour'), 61.5, ('crop', 'crop'), 1.0)
    """
    pairs = matrix.pairs()
    values = np.array([matrix.of_pair(*pair) for pair in pairs])
    means = values.mean(1)
    order = [pairs[place] for place in np.argsort(-means, kind="stable")]
    of = dict(zip(pairs, means.tolist(), strict=True))
    best = order[0]
    others = [pair for pair in order if set(pair) != set(best)]
    margin = honest_margin(values)
    ties = [] if margin is None else [pair for pair in others if of[best] - of[pair] <= margin]
    return Recommendation(best, of[best], others[0], of[best] - of[others[0]], margin, ties)


def honest_margin(values: NDArray[np.float64], confidence: float = CONFIDENCE) -> float | None:
    """Tukey's honestly significant difference between the means of cells, with seeds as blocks.

    Args:
        values: (cells, seeds).
        confidence: of all intervals together.

    Returns:
        What two means must differ by; None for a single seed, which tells nothing about chance.

    Example:
        >>> round(honest_margin(np.array([[61.0, 62.0], [58.0, 60.0]])), 2)
        6.35
    """
    cells, seeds = values.shape
    if seeds < 2:
        return None
    noise = values - values.mean(1, keepdims=True) - values.mean(0, keepdims=True) + values.mean()
    freedom = (cells - 1) * (seeds - 1)
    deviation = math.sqrt((noise**2).sum() / freedom)
    return float(studentized_range.ppf(confidence, cells, freedom)) * deviation / math.sqrt(seeds)


def advice(matrix: Matrix, *, pictures: int) -> str:
    """The recommendation in sentences, with its uncertainty and its limits.

    Args:
        matrix: with all runs finished.
        pictures: number of held-out pictures.

    Example:
        >>> from simclr_lightning.ablation.matrix import Scores
        >>> matrix = Matrix(("crop", "colour"), seeds=(0, 1))
        >>> for run in matrix.runs():
        ...     accuracy = {"crop": 60.0, "colour": 40.0}.get(run.first, 20.0) + (run.first != run.second) + run.seed
        ...     matrix.scores[run] = Scores(accuracy, accuracy - 5, 1.0)
        >>> print(advice(matrix, pictures=500).splitlines()[0])
        Best: crop, then colour, linear accuracy 61.5 %. Next with other operations: crop alone, 60.5 %.
    """
    found = recommend(matrix)
    seeds = len(matrix.seeds)
    lines = [
        f"Best: {in_words(found.best)}, linear accuracy {found.accuracy:.1f} %. Next with other operations: "
        f"{in_words(found.next)}, {found.accuracy - found.difference:.1f} %."
    ]
    if found.margin is None:
        lines.append(
            "With one seed there is no telling what is chance: more seeds in the same folder keep what is finished "
            "(--seeds 3)."
        )
    else:
        low, high = found.difference - found.margin, found.difference + found.margin
        lines.append(
            f"The difference is {found.difference:.1f} points, its 95 % interval {low:.1f} to {high:.1f} (Tukey, over "
            f"{seeds} seeds and {len(matrix.pairs())} cells)."
        )
        lines.append(_verdict(found, seeds))
    lines += _beside_the_untrained(matrix, found)
    lines.append(_beside_the_paper(matrix, found))
    lines.append(
        f"The intervals are about chance in training, not about the choice of the {pictures} held-out pictures, which "
        f"alone makes a single figure uncertain by {_sampling_error(found.accuracy, pictures):.1f} points (95 %). "
        "They have chosen the best, so report results on others. Views that are changed on one side only, and a short "
        "training, make all figures lower than a full run's; with a longer one the order may change."
    )
    return "\n".join(lines)


def _verdict(found: Recommendation, seeds: int) -> str:
    if found.distinguishable:
        return "That is more than chance."
    named = "; ".join(in_words(pair) for pair in found.ties[:6])
    more = f"; and {len(found.ties) - 6} more" if len(found.ties) > 6 else ""
    return (
        f"Not distinguishable from the best: {named}{more}. More seeds in the same folder narrow the interval "
        f"(--seeds {2 * seeds})."
    )


def _beside_the_untrained(matrix: Matrix, found: Recommendation) -> list[str]:
    untrained = float(np.mean(matrix.untrained()))
    if found.accuracy - untrained > (found.margin or 0):
        return []
    return [
        f"The untrained encoder has {untrained:.1f} %: this budget teaches too little to choose by. Train longer, in a "
        "new folder (--epochs, --output)."
    ]


def _beside_the_paper(matrix: Matrix, found: Recommendation) -> str:
    paper = "The paper's pair, crop and colour, is the best for ImageNet and a ResNet-50"
    if not _PAPERS.issubset(matrix.operations):
        return f"{paper}; it is not part of this study."
    if set(found.best) == _PAPERS:
        return f"{paper}; it is the best here, too."
    cells = [pair for pair in matrix.pairs() if set(pair) == _PAPERS]
    accuracy = max(float(np.mean(matrix.of_pair(*pair))) for pair in cells)
    behind = found.accuracy - accuracy
    sure = "" if found.margin is None else ", which may be chance" if behind <= found.margin else ", beyond chance"
    return f"{paper}; here it has {accuracy:.1f} %, {behind:.1f} points less than the best{sure}."


def _sampling_error(accuracy: float, pictures: int) -> float:
    """Half of a 95 % interval of a share, in percentage points."""
    return 1.96 * math.sqrt(accuracy * (100 - accuracy) / pictures)
