"""What is wrong with a training, in words, from its numbers: functions of numbers alone, silent where nothing is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

SPREAD_OF_A_CONSTANT = 0.01
"""Spread, ``std * sqrt(D)``, below which everything looks the same, whatever it looked like at the start."""

SPREAD_OF_A_COLLAPSE = 0.1
"""Spread below which features have collapsed, where they were twice as far apart at the start."""

SHARE_OF_RANK = 0.05
"""Effective rank, of the rank that is possible or of 128, below which most dimensions are lost."""

SHARE_OF_FLOOR = 0.02
"""Part of the way from the loss at chance to its floor that is left at the floor."""

PROBE_EPOCHS = 5
"""Epochs of a probe after which it must have left chance."""

SHARE_OF_WAITING = 0.2
"""Part of the time in which a training waits for data, above which these are too slow."""

SHARE_OF_CHANCE = 0.02
"""Part of the way from chance to 1 within which a probe is at chance."""

_RANK = 128  # a rank that is possible for most: of more dimensions no more is asked for


class Word(NamedTuple):
    """Something that is wrong.

    Attributes:
        name: what it is called, such as complete collapse.
        text: what was found, and what to do.

    Example:
        >>> Word("complete collapse", "All pictures look the same.").name
        'complete collapse'
    """

    name: str
    text: str


def collapse_word(space: str, std: float, rank: float, dimensions: int, rows: int, start: float) -> Word | None:
    """Complete or dimensional collapse of features or projections.

    The bounds come from handwritten digits (ResNet-10, 128 pictures a batch, one CPU core; 512 rows of 256 features and
    128 projections), from the first step to the eighth epoch. Healthy were NT-Xent, decoupled, hard-negative and
    supervised losses under AdamW, LARS, and a head without BatchNorm: spreads of 0.82 (features) and 0.94 to 1.00
    (projections), ranks of at least 112 and 20. Ill were a constant head (0.000, rank 1.0), a head without BatchNorm
    under SGD at a rate of 1000 (spread 0.05, rank 2.0) and under AdamW at 0.1 (spread 0.44, rank 4.1). Spreads of 0.36,
    ranks of 40 and 30 are what a rate 500 times too high, without warm-up, made of a network with BatchNorm, which
    still learned.

    Example:
        >>> collapse_word("projections", std=0.0, rank=1.0, dimensions=128, rows=512, start=1.0).name
        'complete collapse'
        >>> collapse_word("projections", std=0.088, rank=40.0, dimensions=128, rows=512, start=1.0)

    Args:
        space: features or projections.
        std: of unit features, as ``feature_std``.
        rank: effective rank.
        dimensions: D of the features.
        rows: M that the numbers are of.
        start: ``std * sqrt(D)`` at the first step of the run: untrained features may be alike.
    """
    spread = std * math.sqrt(dimensions)
    told = f"unit {space} have a standard deviation of {std:.4f}, where {1 / math.sqrt(dimensions):.4f} is healthy"
    if spread < SPREAD_OF_A_CONSTANT or (spread < SPREAD_OF_A_COLLAPSE and spread < start / 2):
        return Word(
            "complete collapse",
            f"all pictures look the same: {told}. Whatever the loss does, nothing is learned. Start anew with a lower "
            "rate (--model.learning_rate) or a longer warm-up (warmup_epochs of LARSWarmup), and look whether the "
            "pictures differ (pictures/views/ in the run's folder).",
        )
    possible = min(rows, dimensions)
    if possible >= _RANK // 4 and rank < SHARE_OF_RANK * min(possible, _RANK):
        return Word(
            "dimensional collapse",
            f"the {space} use few of their {dimensions} dimensions: their effective rank is {rank:.1f} of {possible} "
            "possible. Lower the rate, keep BatchNorm in the head, try stronger views or a lower temperature.",
        )
    return None


def floor_word(loss: float, chance: float, floor: float) -> Word | None:
    """A loss that has come down to its floor, of identical pairs and orthogonal negatives.

    Healthy runs on digits had 0.39 of the way left after eight epochs; a run can end at the floor, but not learn there.

    Example:
        >>> floor_word(3.57, chance=5.541, floor=3.566).name
        'loss at its floor'
        >>> floor_word(4.4, chance=5.541, floor=3.566)

    Args:
        loss: now.
        chance: loss of views that tell nothing.
        floor: the lowest that can be hoped for.
    """
    if not (chance > floor and loss - floor < SHARE_OF_FLOOR * (chance - floor)):  # nor where one of them is NaN
        return None
    return Word(
        "loss at its floor",
        f"the loss is {loss:.4f}, its floor {floor:.4f}: there is nothing left to learn. If that came early, the two "
        "views are too alike or give the picture away: strengthen them (--data.views.crop_area, "
        "--data.views.jitter_strength), enlarge the batch or lower the temperature. Else the run is done.",
    )


def probe_word(name: str, best: float, chance: float, epochs: int) -> Word | None:
    """A probe that has never left chance.

    On digits (ten classes, chance 0.10) probes of healthy runs were at 0.31 after one epoch and above 0.5 after two.

    Example:
        >>> probe_word("probe", best=0.105, chance=0.1, epochs=5).name
        'probe at chance'
        >>> probe_word("probe", best=0.31, chance=0.1, epochs=5)

    Args:
        name: of the probe.
        best: its highest accuracy so far.
        chance: share of the commonest class.
        epochs: in which it learned.
    """
    if epochs < PROBE_EPOCHS or best - chance >= SHARE_OF_CHANCE * (1 - chance):
        return None
    return Word(
        "probe at chance",
        f"{name} has been right in {best:.1%} of the pictures at best, in {epochs} epochs; always naming the commonest "
        f"class is right in {chance:.1%}. Either the labels do not belong to the pictures (simclr describe), or the "
        "features tell nothing of the classes: compare with raw pixels (simclr evaluate), and change the views.",
    )


def waiting_word(share: float, ways: Sequence[str]) -> Word | None:
    """A training that waits for its data.

    Example:
        >>> waiting_word(0.43, ["--data.num_workers 7"]).text
        'in 43 % of the time nothing was computed, because the next batch was not there: type --data.num_workers 7.'
        >>> waiting_word(0.05, ["--data.num_workers 7"])

    Args:
        share: of the time of an epoch's steps.
        ways: to load faster, the most promising first.
    """
    if not share > SHARE_OF_WAITING:
        return None
    todo = f"type {'; or '.join(ways)}" if ways else "all cores load already, so take smaller pictures or more cores"
    return Word(
        "waiting for data",
        f"in {100 * share:.0f} % of the time nothing was computed, because the next batch was not there: {todo}.",
    )
