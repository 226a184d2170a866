"""Seeded parts of a data set that keep its classes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor


def balanced_subset(
    targets: Tensor, fraction: float, seed: int = 0, class_names: Sequence[str] | None = None
) -> Tensor:
    """Class-balanced part of the labels, as in semi-supervised learning (Chen et al. 2020, B.5: 12 or 13 per class).

    Every class gives the same number of pictures (up to one); a class with too few gives all it has, and the larger
    ones give the rest.

    Args:
        targets: (N,) int64 class indices; -1 marks an unlabelled picture, which is never chosen.
        fraction: share of the labelled pictures, in (0, 1].
        seed: another seed, another draw.
        class_names: names for the error message.

    Returns:
        Positions of the chosen pictures, int64, ascending.

    Raises:
        ValueError: if the fraction is out of range, nothing is labelled, or a class would be left without a picture.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"The label fraction is {fraction}: choose a number above 0 and at most 1.")
    labels = targets.cpu().numpy()
    classes, sizes = np.unique(labels[labels >= 0], return_counts=True)
    if not len(classes):
        raise ValueError("A label fraction needs labels, but no picture has one (--data.probe names some that do).")
    remaining = int(fraction * sizes.sum() + 1e-9)  # 0.29 * 100 is 28.999... in floating point
    shuffled = np.random.default_rng(seed).permutation(np.flatnonzero(labels >= 0))
    members = np.split(shuffled[np.argsort(labels[shuffled], kind="stable")], np.cumsum(sizes)[:-1])
    chosen = []
    by_size = np.argsort(sizes, kind="stable")
    for place, which in enumerate(by_size):
        share = min(sizes[which], remaining // (len(classes) - place))
        if not share:
            name = class_names[classes[which]] if class_names else classes[which]
            enough = math.ceil(len(classes) / sizes.sum() * 1e4) / 1e4
            raise ValueError(
                f"A label fraction of {fraction} of {sizes.sum()} labelled pictures leaves class {name!s} without a "
                f"picture: choose at least {enough:g} (--data.label_fraction)."
            )
        chosen.append(members[which][:share])
        remaining -= share
    return torch.from_numpy(np.sort(np.concatenate(chosen)))


def stratified_split(targets: Tensor, fraction: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Split into two parts in which every class has its share; unlabelled pictures count as one class.

    Args:
        targets: (N,) int64 class indices, -1 where unlabelled.
        fraction: size of the second part, in (0, 1).
        seed: another seed, another split.

    Returns:
        Positions of both parts, int64, ascending.

    Raises:
        ValueError: if the fraction is out of range or too small, or too large, for the number of pictures.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"The validation fraction is {fraction}: choose a number between 0 and 1.")
    try:
        parts = train_test_split(
            np.arange(len(targets)), test_size=fraction, stratify=targets.numpy(), random_state=seed
        )
    except ValueError as error:
        raise ValueError(
            f"A fraction of {fraction} of {len(targets)} pictures cannot be split off class by class: {error} "
            "Choose another fraction (--data.val_fraction)."
        ) from error
    first, second = (torch.from_numpy(np.sort(part)) for part in parts)
    return first, second
