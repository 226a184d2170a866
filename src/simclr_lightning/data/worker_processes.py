"""Worker processes of a loader: how many the cores allow, and whether what they hand over has room."""

from __future__ import annotations

import math
import os
import shutil
import signal
from collections.abc import Callable, Iterable
from functools import cache, wraps
from multiprocessing import parent_process
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar, cast

from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.utils.data import get_worker_info

from simclr_lightning.errors import InputError
from simclr_lightning.views import Crops

_DataT = TypeVar("_DataT")
_KeyT = TypeVar("_KeyT")
_BatchT = TypeVar("_BatchT")

_CGROUPS = Path("/sys/fs/cgroup")
_SHARED = Path("/dev/shm")
_MOST_WORKERS = 32  # each keeps batches ready, and so many cores decode more than any one accelerator trains on
MOST = 1_024
"""Workers of a training process, and batches that each keeps ready: more were never meant."""
_BUS_ERROR: int = -getattr(signal, "SIGBUS", 1000)  # as an exit code; the kernel's answer where memory has no room
_OUT_OF_MEMORY = ("Bus error", "unable to allocate shared memory", "unable to write to file </torch_")


def cores() -> int:
    """Cores that this process may use: those it is bound to, or fewer where its container has a share of the time.

    Example:
        >>> cores() >= 1
        True
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(bound, _share_of_time())))


def workers_of(devices: int) -> int:
    """Workers of a training process by default: one per core that is left beside it, at most 32.

    Args:
        devices: training processes that share this machine's cores.

    Example:
        >>> workers_of(10**6)
        1
    """
    return max(1, min(cores() // devices - 1, _MOST_WORKERS))


def warn_of_workers(num_workers: int, devices: int) -> None:
    """Warn if there are more workers than cores.

    Args:
        num_workers: of each training process.
        devices: training processes that share this machine's cores.

    Example:
        >>> warn_of_workers(0, devices=1)
    """
    if num_workers * devices > cores():
        rank_zero_warn(
            f"num_workers is {num_workers} for each of {devices} training process(es) with {cores()} core(s) in all: "
            f"type --data.num_workers {max(1, cores() // devices)}, or leave it out."
        )


def workers_with_room(num_workers: int | None, devices: int, batch: int, prefetch: int, batches: int = 2**62) -> int:
    """Workers whose batches fit into the shared memory that they hand them over in.

    A loader has at most one batch more than its workers keep ready: the one that is trained on.

    Args:
        num_workers: that were asked for; None: as many as :func:`workers_of` gives, or fewer if that takes more than
            half of the shared memory, because there are other loaders.
        devices: training processes that share this machine.
        batch: bytes of one batch.
        prefetch: batches that each worker keeps ready.
        batches: of an epoch, of which no more than all are ready.

    Raises:
        InputError: if there is too little shared memory for the workers that were asked for, or for one.

    Example:
        >>> workers_with_room(2, devices=1, batch=1024, prefetch=2)
        2
    """
    wanted = workers_of(devices) if num_workers is None else num_workers
    if not wanted or not _SHARED.is_dir():
        return wanted
    free = shutil.disk_usage(_SHARED).free // devices
    room = free // 2 // max(1, batch) - 1
    if num_workers is None and room < batches:
        wanted = max(1, min(wanted, room // prefetch))
    needed = (min(wanted * prefetch, batches) + 1) * batch
    if needed > free:
        raise InputError(
            f"{wanted} worker(s) that keep {prefetch} batches of {batch / 2**20:.0f} MiB ready need "
            f"{needed / 2**20:.0f} MiB of shared memory, and {_SHARED} has {free / 2**20:.0f} MiB free for each "
            f"process. In a container, start it with --shm-size={_size(2 * devices * needed)} (docker) or --ipc=host; "
            "or keep less ready",
            "data.num_workers 0" if wanted == 1 else f"data.num_workers {wanted // 2}",
            "data.prefetch_factor 1",
            "data.batch_size",
        )
    return wanted


def handed_over(fetch: Callable[[_DataT, _KeyT], _BatchT]) -> Callable[[_DataT, _KeyT], _BatchT]:
    """Decorator of what fetches for a loader: in a worker an ``InputError`` is returned, not raised, and never lost.

    Raised there, torch would make the worker's traceback its message. ``PictureLoader`` raises what is returned. The
    batch is put into shared memory here: where that is left to the queue, and there is too little, the queue prints a
    traceback and forgets the batch, for which the training then waits for ever.

    Example:
        >>> class Empty:
        ...     @handed_over
        ...     def __getitem__(self, position):
        ...         raise InputError(f"There is no picture {position}: choose another.")
        >>> Empty()[3]  # not in a worker
        Traceback (most recent call last):
        simclr_lightning.errors.InputError: There is no picture 3: choose another.
    """

    @wraps(fetch)
    def returning(dataset: _DataT, key: _KeyT) -> _BatchT:
        if get_worker_info() is None:
            return fetch(dataset, key)
        end_with_the_training()
        try:
            return shared(fetch(dataset, key))
        except InputError as error:
            return cast("_BatchT", error)

    return returning


@cache
def end_with_the_training() -> None:
    """Let this worker end when the process that it works for does, also where that is killed.

    torch's workers look whether their parent is still the same. Under forkserver, which is Python's own choice on Linux
    from 3.14 on, that is another process: they would stay for ever, each with its memory.

    Example:
        >>> end_with_the_training()  # no worker: nothing to wait for
    """
    training = parent_process()
    if training is not None:

        def wait() -> None:
            training.join()
            os._exit(1)  # whoever waits for the next task would not see an exception

        Thread(target=wait, name="ends with the training", daemon=True).start()


def shared(batch: _BatchT) -> _BatchT:
    """Move what a batch holds into shared memory.

    Args:
        batch: tensors, crops and tuples of them; everything else stays as it is.

    Raises:
        InputError: if there is too little shared memory.

    Example:
        >>> import torch
        >>> shared((torch.zeros(3), "name"))[0].is_shared()
        True
    """
    try:
        _share(batch)
    except RuntimeError as error:
        raise explained(error) from error
    return batch


def explained(error: RuntimeError, exit_codes: Iterable[int | None] = ()) -> RuntimeError | InputError:
    """What a worker died of, if that was a lack of shared memory; every other error as it is.

    Args:
        error: that torch raised.
        exit_codes: of the workers. Torch does not always notice the signal that killed one.

    Example:
        >>> explained(RuntimeError("something else"))
        RuntimeError('something else')
        >>> print(str(explained(RuntimeError("DataLoader worker is killed by signal: Bus error."))).split(":")[0])
        A worker could not hand over a batch
    """
    if _BUS_ERROR not in exit_codes and not any(sign in str(error) for sign in _OUT_OF_MEMORY):
        return error
    size = f" ({_SHARED} has {_size(shutil.disk_usage(_SHARED).total)} in all)" if _SHARED.is_dir() else ""
    return InputError(
        f"A worker could not hand over a batch: the shared memory is full{size}. In a container, start it with more, "
        "such as --shm-size=8g (docker) or --ipc=host; or keep fewer batches ready",
        "data.num_workers",
        "data.prefetch_factor 1",
    )


def _share(batch: Any) -> None:
    if isinstance(batch, Tensor):
        batch.share_memory_()  # type: ignore[no-untyped-call]
    elif isinstance(batch, Crops):
        batch.pixels.share_memory_()  # type: ignore[no-untyped-call]
    elif isinstance(batch, (tuple, list)):
        for part in batch:
            _share(part)


def _size(number: int) -> str:
    """As docker takes it."""
    return f"{math.ceil(number / 2**20)}m"


def _share_of_time() -> float:
    """Cores' worth of time that a container may use, as ``docker run --cpus`` sets it."""
    try:
        version_2 = _CGROUPS / "cpu.max"
        if version_2.exists():
            quota, period = version_2.read_text().split()
        else:
            quota, period = ((_CGROUPS / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return float(quota) / float(period) if float(quota) > 0 else math.inf
    except (OSError, ValueError):  # no container, or "max"
        return math.inf
