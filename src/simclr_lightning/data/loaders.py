"""Loaders: how often, by whom, and from where on batches are fetched."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import Any, cast

from lightning.fabric.utilities.data import suggested_max_num_workers
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader

from simclr_lightning.data.feature_batches import FeatureDataset
from simclr_lightning.data.loading import BatchDataset
from simclr_lightning.data.sampler import GlobalBatchSampler
from simclr_lightning.views import ImageBatch

_MOST_WORKERS = 8
_LIGHTNING_WORKER_WARNING = ".*does not have many workers"


class PictureLoader(DataLoader[ImageBatch]):
    """Loader of a data set that puts whole batches together."""

    def check_worker_number_rationality(self) -> None:
        """PyTorch warns here; ``warn_of_workers`` does it once, and says what to type."""


class ResumableLoader(PictureLoader):
    """Loader that can be resumed within an epoch: Lightning saves and restores its state with the checkpoint.

    Its workers start with the first batch and not with ``iter()``, because Lightning calls ``iter()`` before it tells
    the sampler which epoch a resumed run is in.
    """

    served = 0
    _resume: tuple[int, int] | None = None

    def __iter__(self) -> Iterator[ImageBatch]:  # type: ignore[override]
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
        """Epoch and number of batches that were served in it."""
        return {"epoch": getattr(self.sampler, "epoch", 0), "batches": self.served}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Leave out, in that epoch, the batches that were served."""
        self._resume = state["epoch"], state["batches"]


def make_loader(
    data: BatchDataset | FeatureDataset,
    sampler: GlobalBatchSampler,
    *,
    resumable: bool,
    num_workers: int | None,
    devices: int,
    pin_memory: bool,
    prefetch_factor: int | None,
    persistent_workers: bool | None,
) -> PictureLoader:
    """Put a loader together.

    Args:
        data: serves whole batches.
        sampler: of this process.
        resumable: whether its place within an epoch belongs into checkpoints.
        num_workers: worker processes; None: none for pictures in memory, otherwise one per core that is left beside the
            training process, at most 8.
        devices: training processes that share this machine's cores.
        pin_memory: whether batches are copied to page-locked memory.
        prefetch_factor: batches that each worker has ready, None for PyTorch's default.
        persistent_workers: whether workers live from epoch to epoch, None: yes, if there are any.
    """
    if num_workers is None:
        num_workers = 0 if data.in_memory else min(suggested_max_num_workers(devices), _MOST_WORKERS)
        if data.in_memory:  # Lightning advises workers, which would only copy what is in memory already
            warnings.filterwarnings("ignore", _LIGHTNING_WORKER_WARNING)
    return (ResumableLoader if resumable else PictureLoader)(
        cast("BatchDataset", data),
        batch_size=sampler.batch_size // sampler.num_replicas,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=_as_it_is,
        pin_memory=pin_memory,
        prefetch_factor=prefetch_factor,
        persistent_workers=num_workers > 0 if persistent_workers is None else persistent_workers,
    )


def warn_of_workers(num_workers: int, devices: int) -> None:
    """Warn if there are more workers than cores.

    Args:
        num_workers: of each training process.
        devices: training processes that share this machine's cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if num_workers * devices > cores:
        rank_zero_warn(
            f"num_workers is {num_workers} for each of {devices} training process(es) with {cores} core(s) in all: "
            f"type --data.num_workers {max(1, cores // devices)}, or leave it out."
        )


def _as_it_is(batch: Any) -> ImageBatch:
    return cast("ImageBatch", batch)  # the data set has put it together
