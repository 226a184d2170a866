"""Which pictures every process loads, batch by batch, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import cast

import numpy as np
from torch.utils.data import Dataset, DistributedSampler

from simclr_lightning.data.order import Order, check_distinct, places, uniform_order
from simclr_lightning.data.serving import Key


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
        order: of an epoch, where it is shuffled.

    Raises:
        ValueError: if the batch cannot be shared.

    Example:
        >>> shared = {"num_replicas": 2, "shuffle": False, "drop_last": False}
        >>> [[key.place for key in GlobalBatchSampler(range(6), 4, rank=rank, **shared)] for rank in (0, 1)]
        [[0, 1, 4], [2, 3, 5]]
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
        order: Order = uniform_order,
    ) -> None:
        super().__init__(cast("Dataset[Key]", dataset), num_replicas, rank, shuffle=shuffle, seed=seed)
        if batch_size < 1 or batch_size % num_replicas:
            raise ValueError(
                f"batch_size is {batch_size}: it must be a positive multiple of the {num_replicas} processes."
            )
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.epoch = epoch
        self.order = order
        self.start = 0
        """Pictures to leave out at the next start, for a run that was interrupted within an epoch."""
        pictures = len(dataset)
        if drop_last:
            self.total_size = pictures // batch_size * batch_size
        else:
            self.total_size = -(-pictures // num_replicas) * num_replicas
        self.num_samples = self.total_size // num_replicas

    def __iter__(self) -> Iterator[Key]:
        """Keys of this process, batch after batch."""
        pictures = len(cast("Sized", self.dataset))
        order = places(self.order, pictures, self.seed, self.epoch) if self.shuffle else np.arange(pictures)
        order = np.resize(order, max(pictures, self.total_size))  # repeats from the beginning
        end = self.start + self.left() * self.batch_size if self.drop_last else self.total_size
        for first in range(self.start, end, self.batch_size):
            batch = order[first : first + self.batch_size].tolist()
            if self.drop_last:  # a training
                check_distinct(batch, self.epoch)
            share = len(batch) // self.num_replicas
            for place in range(self.rank * share, (self.rank + 1) * share):
                yield Key(batch[place], self.epoch, repeated=first + place >= pictures)

    def left(self) -> int:
        """Global batches from the start on, where those that are not full are left out."""
        return (len(cast("Sized", self.dataset)) - self.start) // self.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; Lightning calls it before every epoch."""
        if self.shuffle:
            self.epoch = epoch
