"""The order of pictures that are stored in chunks: a batch mixes several chunks, and no more need be at hand."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray

from simclr_lightning.errors import InputError

CHUNK_WINDOW = 16
"""Chunks that a batch is drawn from, where nothing else is typed."""

_FEW = 4  # chunks: pictures of so few are not the negatives of a random draw


class Order(Protocol):
    """In what order an epoch serves its pictures; a function of (seed, epoch) alone.

    An order of one's own may leave pictures out or repeat them. The views of a picture are the same all through an
    epoch, so a global batch has no picture twice: it would be its own negative.

    Example:
        >>> backwards: Order = lambda pictures, seed, epoch: np.arange(pictures)[::-1]
        >>> backwards(3, 0, 0).tolist()
        [2, 1, 0]
    """

    def __call__(self, pictures: int, seed: int, epoch: int) -> NDArray[np.int64]:
        """Places (n,) in [0, pictures), integers.

        Args:
            pictures: how many there are. An epoch has those that fill global batches: a longer order is cut off, a
                shorter one repeated from its beginning.
            seed: at least 0.
            epoch: at least 0.
        """


def uniform_order(pictures: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Every order is equally likely.

    Example:
        >>> sorted(uniform_order(5, seed=0, epoch=3).tolist())
        [0, 1, 2, 3, 4]
    """
    return np.random.default_rng((seed, epoch)).permutation(np.arange(pictures))


class WindowOrder:
    """Chunks in a random order, taken in windows of several chunks, whose pictures come in a random order.

    A batch then has pictures of all chunks of a window, and a window is all that has to be read at a time. Every window
    has as many chunks as asked for, or a few more, so that the last one is as mixed as the first.

    Args:
        chunks: (n,) number of the chunk that holds the picture at each place.
        window: chunks of a window.

    Example:
        >>> order = WindowOrder(np.arange(12) // 2, window=3)
        >>> first = order(12, seed=0, epoch=0)
        >>> sorted(first.tolist()) == list(range(12)), len({place // 2 for place in first[:6].tolist()})
        (True, 3)
    """

    def __init__(self, chunks: NDArray[Any], window: int) -> None:
        self.window = window
        by_chunk = np.argsort(chunks, kind="stable")
        _, first = np.unique(chunks[by_chunk], return_index=True)
        self._members = np.split(by_chunk, first[1:])

    def __call__(self, pictures: int, seed: int, epoch: int) -> NDArray[np.int64]:
        """See :class:`Order`."""
        rng = np.random.default_rng((seed, epoch))
        chunks = rng.permutation(len(self._members))
        windows = np.array_split(chunks, max(1, len(chunks) // self.window))
        places = [rng.permutation(np.concatenate([self._members[chunk] for chunk in window])) for window in windows]
        return np.concatenate(places)

    def warn_of_few(self) -> None:
        """Warn if batches see a few chunks only, although there are more.

        Example:
            >>> WindowOrder(np.arange(12) // 4, window=2).warn_of_few()  # one window, which has all three
        """
        if self.window < _FEW <= len(self._members):
            rank_zero_warn(
                f"A batch has pictures of {self.window} of {len(self._members)} chunks: views are contrasted with "
                f"those of few others, again and again. Let a batch mix {_FEW} chunks at least "
                f"(--data.chunk_window {CHUNK_WINDOW})."
            )


def places(order: Order, pictures: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """What an order says, checked where it may be somebody else's.

    Raises:
        InputError: if these are no places of pictures.

    Example:
        >>> places(lambda pictures, seed, epoch: np.array([2, 0]), 3, seed=0, epoch=0).tolist()
        [2, 0]
    """
    found = np.asarray(order(pictures, seed, epoch))
    if order is uniform_order or isinstance(order, WindowOrder):
        return found
    if found.ndim != 1 or not len(found) or found.dtype.kind not in "iu":
        raise InputError(
            f"The order of epoch {epoch} is an array of {found.dtype} of shape {found.shape}: let training_order() "
            "give whole numbers (n,), at least one."
        )
    if found.min() < 0 or found.max() >= pictures:
        raise InputError(
            f"The order of epoch {epoch} has places from {found.min()} to {found.max()}, of {pictures} pictures: let "
            f"training_order() give numbers from 0 to {pictures - 1}."
        )
    return found


def check_distinct(batch: list[int], epoch: int) -> None:
    """Raise InputError if a global batch of a training has a picture twice.

    Example:
        >>> check_distinct([3, 1, 2], epoch=0)
    """
    if len(set(batch)) < len(batch):
        twice = next(place for place in batch if batch.count(place) > 1)
        raise InputError(
            f"The order of epoch {epoch} has place {twice} twice in a batch of {len(batch)}: the picture would be its "
            "own negative. Let training_order() draw without replacement within a batch."
        )
