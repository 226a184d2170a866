"""Loaders: which pictures are fetched when, by whom, and from where on."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from functools import partial
from typing import Any, TypeVar, cast

import numpy as np
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from simclr_lightning import distributed
from simclr_lightning.data.bad_pictures import report_left_out
from simclr_lightning.data.feature_batches import FeatureDataset
from simclr_lightning.data.order import Order, uniform_order
from simclr_lightning.data.resident import ResidentBatch
from simclr_lightning.data.serving import BatchDataset, Key
from simclr_lightning.data.worker_processes import explained, workers_with_room
from simclr_lightning.errors import InputError

_PREFETCH = 2  # PyTorch's default
_BatchT_co = TypeVar("_BatchT_co", covariant=True)


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
        order = self.order(pictures, self.seed, self.epoch) if self.shuffle else np.arange(pictures)
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


def shared_evenly(trainer: Trainer | None) -> bool:
    """Whether every process is known to have as many pictures of a batch: in a training by :class:`GlobalBatchSampler`.

    A stream, and somebody else's sampler, need not share evenly.

    Example:
        >>> shared_evenly(None)
        False
    """
    loader = trainer.train_dataloader if isinstance(trainer, Trainer) and trainer.training else None
    return isinstance(getattr(loader, "sampler", None), GlobalBatchSampler)


class PictureLoader(DataLoader[_BatchT_co]):
    """Loader of a data set that puts whole batches together.

    An ``InputError`` of the data set is raised as it is, also where a worker met it: see ``handed_over``.

    Example:
        >>> import torch
        >>> from simclr_lightning.data import InMemoryPictures
        >>> from simclr_lightning.views import ViewRecipe
        >>> pictures = InMemoryPictures(torch.zeros(9, 3, 8, 8, dtype=torch.uint8), torch.arange(9))
        >>> data = BatchDataset(pictures, torch.arange(9), [ViewRecipe("cifar10")], random=False, training=False)
        >>> [len(batch.targets) for batch in PictureLoader(data, batch_size=4, collate_fn=as_it_is)]
        [4, 4, 1]
    """

    def check_worker_number_rationality(self) -> None:
        """PyTorch warns here; ``worker_processes.warn_of_workers`` does it once, and says what to type."""

    def __iter__(self) -> Iterator[_BatchT_co]:  # type: ignore[override]
        """Batches, of which the last comes with a warning if pictures could not be read and judged.

        Raises:
            InputError: that the data set raised, or that a worker had too little shared memory.
        """
        batches = super().__iter__()
        try:
            for number, batch in enumerate(batches, 1):
                if isinstance(batch, InputError):
                    raise batch
                if isinstance(self.dataset, BatchDataset) and number == len(self):
                    self.dataset.report_unreadable()
                if isinstance(self.dataset, BatchDataset):
                    report_left_out(self.dataset.pictures)
                yield batch
        except RuntimeError as error:
            exit_codes = [worker.exitcode for worker in getattr(batches, "_workers", ())]
            raise explained(error, exit_codes) from error


class ResumableLoader(PictureLoader[_BatchT_co]):
    """Loader that can be resumed within an epoch: Lightning saves and restores its state with the checkpoint.

    Its workers start with the first batch and not with ``iter()``, because Lightning calls ``iter()`` before it tells
    the sampler which epoch a resumed run is in.

    Example:
        >>> import torch
        >>> from simclr_lightning.data import FeatureBatch
        >>> data = FeatureDataset(FeatureBatch(torch.rand(8, 3), torch.arange(8), torch.arange(8)))
        >>> shuffled = {"num_replicas": 1, "rank": 0, "shuffle": True, "drop_last": True}
        >>> sampler = GlobalBatchSampler(data, 2, **shuffled)
        >>> loader = ResumableLoader(data, batch_size=2, sampler=sampler, collate_fn=as_it_is)
        >>> _ = next(iter(loader))
        >>> loader.state_dict()
        {'epoch': 0, 'batches': 1}
    """

    served = 0
    _resume: tuple[int, int] | None = None

    def __iter__(self) -> Iterator[_BatchT_co]:  # type: ignore[override]
        """Batches of the sampler's epoch."""
        sampler = self.sampler
        if not isinstance(sampler, GlobalBatchSampler):  # Trainer(overfit_batches=...) puts its own in place
            yield from super().__iter__()
            return
        epoch, batches = self._resume or (-1, 0)
        self._resume = None
        sampler.start = self.served = batches if sampler.epoch == epoch else 0
        for batch in super().__iter__():
            self.served += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Epoch and number of batches that were served in it, by this loader or by the one that it continues."""
        if self._resume is not None:  # saved again before the first batch
            return dict(zip(("epoch", "batches"), self._resume, strict=True))
        return {"epoch": getattr(self.sampler, "epoch", 0), "batches": self.served}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Leave out, in that epoch, the batches that were served."""
        self._resume = state["epoch"], state["batches"]


def make_loader(
    data: BatchDataset | FeatureDataset,
    sampler: GlobalBatchSampler,
    *,
    resumable: bool = False,
    num_workers: int | None = None,
    devices: int = 1,
    pin_memory: bool = False,
    prefetch_factor: int | None = None,
    persistent_workers: bool | None = None,
    resident: int | None = None,
) -> PictureLoader[Any]:
    """Put a loader together.

    Args:
        data: serves whole batches.
        sampler: of this process.
        resumable: whether its place within an epoch belongs into checkpoints.
        num_workers: worker processes; None: none for pictures in memory, otherwise one per core that is left beside the
            training process, at most 32, or as many as half of the shared memory has room for.
        devices: training processes that share this machine's cores.
        pin_memory: whether batches are copied to page-locked memory.
        prefetch_factor: batches that each worker has ready, None for PyTorch's default.
        persistent_workers: whether workers live from epoch to epoch, None: yes, if there are any.
        resident: number of the array on the device that has the pictures, see ``ResidentPictures``; None: batches bring
            them.

    Raises:
        InputError: if the workers' batches do not fit into shared memory.

    Example:
        >>> import torch
        >>> from simclr_lightning.data import FeatureBatch
        >>> data = FeatureDataset(FeatureBatch(torch.rand(8, 3), torch.arange(8), torch.arange(8)))
        >>> sampler = GlobalBatchSampler(data, 4, num_replicas=1, rank=0, shuffle=False, drop_last=False)
        >>> [batch.features.shape for batch in make_loader(data, sampler)]
        [torch.Size([4, 3]), torch.Size([4, 3])]
    """
    share = sampler.batch_size // sampler.num_replicas
    num_workers = 0 if num_workers is None and data.in_memory else num_workers
    most = min(share, sampler.num_samples)  # pictures of a batch: a small set fills none
    batches = -(-sampler.num_samples // share)
    num_workers = workers_with_room(num_workers, devices, most * data.nbytes, prefetch_factor or _PREFETCH, batches)
    return (ResumableLoader if resumable else PictureLoader)(
        cast("Dataset[Any]", data),
        batch_size=share,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=as_it_is if resident is None else partial(ResidentBatch, resident),
        pin_memory=pin_memory,
        prefetch_factor=prefetch_factor if num_workers else None,  # torch refuses it where nobody fetches
        persistent_workers=num_workers > 0 if persistent_workers is None else persistent_workers,
    )


def process_of(trainer: Trainer | None, batch_size: int) -> tuple[int, int]:
    """Number of this process, and how many there are, by the Trainer or else by torch.distributed.

    Args:
        trainer: None where there is none.
        batch_size: pictures of a step of all processes.

    Raises:
        InputError: if they cannot share such a batch.

    Example:
        >>> process_of(None, 256)
        (0, 1)
    """
    rank, processes = distributed.rank(), distributed.world_size()
    if trainer is not None:
        rank, processes = trainer.global_rank, trainer.world_size
    if batch_size % processes:
        lower = max(1, batch_size // processes) * processes
        raise InputError(
            f"batch_size is {batch_size}, the pictures of one step over all processes, and cannot be shared equally by "
            f"{processes} of them: choose {lower} or {lower + processes}",
            "data.batch_size",
        )
    return rank, processes


def as_it_is(batch: Any) -> Any:
    """Collates nothing: the data set has put the batch together.

    Example:
        >>> as_it_is([1, 2])
        [1, 2]
    """
    return batch
