"""The order of pictures that are stored in chunks: a batch mixes several chunks, and no more need be at hand."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray

CHUNK_WINDOW = 16
"""Chunks that a batch is drawn from, where nothing else is typed."""

_FEW = 4  # chunks: pictures of so few are not the negatives of a random draw


class Order(Protocol):
    """In what order an epoch serves its pictures; a function of (seed, epoch) alone.

    Example:
        >>> backwards: Order = lambda pictures, seed, epoch: np.arange(pictures)[::-1]
        >>> backwards(3, 0, 0).tolist()
        [2, 1, 0]
    """

    def __call__(self, pictures: int, seed: int, epoch: int) -> NDArray[np.int64]:
        """Places of all pictures, each once.

        Args:
            pictures: how many there are.
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
