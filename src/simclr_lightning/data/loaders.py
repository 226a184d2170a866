"""Loaders: which pictures are fetched when, by whom, and from where on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, TypeVar, cast

from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, Dataset

from simclr_lightning import distributed
from simclr_lightning.data.bad_pictures import report_left_out
from simclr_lightning.data.feature_batches import FeatureDataset
from simclr_lightning.data.global_batches import GlobalBatchSampler
from simclr_lightning.data.resident import ResidentBatch
from simclr_lightning.data.serving import BatchDataset
from simclr_lightning.data.worker_processes import explained, workers_with_room
from simclr_lightning.errors import InputError

_PREFETCH = 2  # PyTorch's default
_BatchT_co = TypeVar("_BatchT_co", covariant=True)


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
        {'epoch': 0, 'pictures': 2, 'batch_size': 2}
    """

    served = 0
    _resume: tuple[int, int, int] | None = None  # epoch, pictures, and the size of the batches in which they came

    def __iter__(self) -> Iterator[_BatchT_co]:  # type: ignore[override]
        """Batches of the sampler's epoch.

        Raises:
            InputError: if it goes on within an epoch with batches of another size, and nobody told the Trainer.
        """
        sampler = self.sampler
        if not isinstance(sampler, GlobalBatchSampler):  # Trainer(overfit_batches=...) puts its own in place
            yield from super().__iter__()
            return
        epoch, pictures, batch_size = self._resume or (-1, 0, 0)
        self._resume = None
        sampler.start = self.served = pictures if sampler.epoch == epoch else 0
        if sampler.start and batch_size != sampler.batch_size:
            raise InputError(
                f"The checkpoint is from the middle of an epoch with batches of {batch_size} pictures, and now there "
                f"are {sampler.batch_size}: keep the size, or add the callback OtherNumbers to the Trainer",
                f"data.batch_size {batch_size}",
            )
        for batch in super().__iter__():
            self.served += sampler.batch_size
            yield batch

    def goes_on_with(self) -> int | None:
        """Batches that lie behind, where those before had another size; whoever asks tells the Trainer.

        Returns:
            None where they had not, or it does not go on within an epoch.
        """
        sampler = self.sampler
        if self._resume is None or not isinstance(sampler, GlobalBatchSampler):
            return None
        epoch, pictures, batch_size = self._resume
        if batch_size == sampler.batch_size:
            return None
        self._resume = epoch, pictures, sampler.batch_size
        all_of_them, sampler.start = sampler.left(), pictures
        return all_of_them - sampler.left()

    def state_dict(self) -> dict[str, int]:
        """Epoch and number of pictures that were served in it, by this loader or by the one that it continues."""
        names = ("epoch", "pictures", "batch_size")
        if self._resume is not None:  # saved again before the first batch
            return dict(zip(names, self._resume, strict=True))
        epoch, batch_size = (getattr(self.sampler, name, 0) for name in ("epoch", "batch_size"))
        return dict(zip(names, (epoch, self.served, batch_size), strict=True))

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Leave out, in that epoch, the pictures that were served."""
        batch_size = state.get("batch_size", getattr(self.sampler, "batch_size", 0))
        pictures = state["pictures"] if "pictures" in state else state["batches"] * batch_size  # of older checkpoints
        self._resume = state["epoch"], pictures, batch_size


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
        InputError: if the workers' batches do not fit into shared memory, or what workers are to do is typed, and there
            are none.

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
    if not num_workers and resumable and isinstance(data, BatchDataset) and (prefetch_factor or persistent_workers):
        raise InputError(
            f"prefetch_factor is {prefetch_factor} and persistent_workers {persistent_workers}, and no workers load "
            "the pictures: leave them out, or ask for workers",
            "data.num_workers 1",
        )
    return (ResumableLoader if resumable else PictureLoader)(
        cast("Dataset[Any]", data),
        batch_size=share,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=as_it_is if resident is None else partial(ResidentBatch, resident),
        pin_memory=pin_memory,
        prefetch_factor=prefetch_factor if num_workers else None,  # torch refuses it where nobody fetches
        persistent_workers=num_workers > 0 and persistent_workers is not False,
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
