"""Labelled pictures for a probe whose training pictures have no labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import torch

from simclr_lightning.errors import InputError


class LabelledStream:
    """Goes through a loader again and again, and finds its place after an interruption.

    The order of a shuffling loader depends on the number of the cycle alone: a sampler with ``set_epoch`` is told the
    cycle, any other finds the CPU's random numbers seeded with it. The model's random numbers are left as they were.

    Args:
        loader: gives the same batches whenever a cycle starts with the same seed.

    Attributes:
        cycle: how often the loader has been gone through.
        position: batches taken in this cycle.

    Example:
        >>> stream = LabelledStream([10, 20])
        >>> [stream.take() for _ in range(3)], stream.cycle, stream.position
        ([10, 20, 10], 1, 1)
    """

    def __init__(self, loader: Iterable[Any]) -> None:
        self.cycle = 0
        self.position = 0
        self._loader = loader
        self._batches: Iterator[Any] | None = None

    def take(self) -> Any:
        """Next batch, as the loader gives it.

        Raises:
            InputError: if the loader is empty.
        """
        with torch.random.fork_rng(devices=[]):
            if self._batches is None:
                self._batches = self._start()
            batch = next(self._batches, None)
            if batch is None:
                self.cycle, self.position = self.cycle + 1, 0
                self._batches = self._start()
                batch = next(self._batches, None)
        if batch is None:
            raise InputError(
                "The loader of labelled pictures, `probe_dataloader()` of the data module, gives no batches: put more "
                "pictures into the labelled set (--data.probe FOLDER), or remove OnlineLinearProbe."
            )
        self.position += 1
        return batch

    def _start(self) -> Iterator[Any]:
        torch.default_generator.manual_seed(self.cycle)
        sampler: Any = getattr(self._loader, "sampler", None)
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(self.cycle)
        return islice(iter(self._loader), self.position, None)
