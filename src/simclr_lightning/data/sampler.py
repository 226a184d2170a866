"""Which picture is at which place of which batch, in every epoch and on every process."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import NamedTuple, cast

import numpy as np
from torch.utils.data import Dataset, DistributedSampler


class Key(NamedTuple):
    """What a loader's worker is asked for.

    Attributes:
        place: of the picture in the loader's data set.
        epoch: decides the picture's views. It travels with the key because persistent workers keep the copy of the data
            set that they started with.
        repeated: the picture fills up the last batch and was served before, so it loses its label.
    """

    place: int
    epoch: int = 0
    repeated: bool = False


class GlobalBatchSampler(DistributedSampler[Key]):
    """Splits global batches over the processes.

    Step k of all processes together serves the pictures that step k of a single process serves, so a run does not
    depend on the number of devices. Being a ``DistributedSampler``, Lightning uses it as it is.

    Args:
        dataset: anything with a length.
        batch_size: pictures of one step over all processes; a multiple of ``num_replicas``.
        num_replicas: number of processes.
        rank: number of this process.
        shuffle: whether every epoch has its own order, a function of (seed, epoch).
        drop_last: whether to leave out the pictures that do not fill a global batch. Otherwise the last batch is
            smaller, and filled up to a multiple of ``num_replicas`` by repeated pictures: all processes have as much.
        seed: at least 0.
        epoch: first epoch. An unshuffled sampler stays in it, so that its random views are the same each time.
    """

    def __init__(
        self,
        dataset: Sized,
        batch_size: int,
        *,
        num_replicas: int,
        rank: int,
        shuffle: bool,
        drop_last: bool,
        seed: int = 0,
        epoch: int = 0,
    ) -> None:
        super().__init__(cast("Dataset[Key]", dataset), num_replicas, rank, shuffle=shuffle, seed=seed)
        if batch_size < 1 or batch_size % num_replicas:
            raise ValueError(
                f"batch_size is {batch_size}: it must be a positive multiple of the {num_replicas} processes."
            )
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.epoch = epoch
        self.start = 0
        """Global batches to leave out at the next start, for a run that was interrupted within an epoch."""
        pictures = len(dataset)
        if drop_last:
            self.total_size = pictures // batch_size * batch_size
        else:
            self.total_size = -(-pictures // num_replicas) * num_replicas
        self.num_samples = self.total_size // num_replicas

    def __iter__(self) -> Iterator[Key]:
        """Keys of this process, batch after batch."""
        pictures = len(cast("Sized", self.dataset))
        order = np.arange(pictures)
        if self.shuffle:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(order)
        order = np.resize(order, self.total_size)  # cuts off the tail, or repeats from the beginning
        for first in range(self.start * self.batch_size, self.total_size, self.batch_size):
            batch = order[first : first + self.batch_size].tolist()
            share = len(batch) // self.num_replicas
            for place in range(self.rank * share, (self.rank + 1) * share):
                yield Key(batch[place], self.epoch, repeated=first + place >= pictures)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; Lightning calls it before every epoch."""
        if self.shuffle:
            self.epoch = epoch
