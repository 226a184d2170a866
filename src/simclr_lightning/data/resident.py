"""Pictures in memory that stay on the accelerator: copied once, so that batches are numbers alone."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from simclr_lightning.data.pictures import InMemoryPictures
from simclr_lightning.data.serving import BatchDataset
from simclr_lightning.errors import InputError
from simclr_lightning.views import ImageBatch
from simclr_lightning.views.scale import rows_of

_SHARE = 8  # of the free memory, the part that pictures may take: the rest is the training's


class ResidentBatch(NamedTuple):
    """A batch of pictures that are on the device already.

    Attributes:
        array: number of the array that they are in, see ``ResidentPictures.number``.
        batch: all else; its ``images`` are None.
        places: (N,) int64, the batch's ``indices``, or (V N,), its ``sources``, on the device; None before it is sent
            there.

    Example:
        >>> batch = ImageBatch(None, None, targets=torch.tensor([5, -1]), indices=torch.tensor([2, 0]))
        >>> sent = ResidentBatch(0, batch).to("meta")
        >>> sent.places.device, sent.batch.targets.device, sent.batch.indices.tolist()
        (device(type='meta'), device(type='meta'), [2, 0])
    """

    array: int
    batch: ImageBatch
    places: Tensor | None = None

    def to(self, device: torch.device | str) -> ResidentBatch:
        """Send indices and targets to a device; Lightning calls it. Copies from pinned memory may be under way."""
        wanted = self.batch.indices if self.batch.sources is None else self.batch.sources.flatten()
        places = wanted.to(device, non_blocking=wanted.is_pinned())
        return self._replace(batch=self.batch.to(device), places=places)


class ResidentPictures:
    """Arrays of pictures, and their copies on a device.

    Example:
        >>> pictures = InMemoryPictures(torch.arange(9, dtype=torch.uint8).reshape(9, 1, 1, 1), torch.arange(9))
        >>> resident = ResidentPictures()
        >>> number = resident.number(pictures)
        >>> batch = ImageBatch(None, None, targets=torch.tensor([5, -1]), indices=torch.tensor([2, 0]))
        >>> resident.picked(ResidentBatch(number, batch).to("cpu")).images.flatten().tolist()
        [2, 0]
    """

    def __init__(self) -> None:
        self._arrays: list[Tensor] = []
        self._copies: dict[tuple[int, torch.device], Tensor] = {}

    def number(self, pictures: InMemoryPictures) -> int:
        """What to call the array of the pictures; sets that differ in their labels share one."""
        for number, images in enumerate(self._arrays):
            if images is pictures.images:
                return number
        self._arrays.append(pictures.images)
        return len(self._arrays) - 1

    def keep(self, data: object, device: torch.device, *, asked: bool | None) -> int | None:
        """Copy what a loader serves to the device, if that is wanted; the data set then leaves the pictures out.

        Args:
            data: a ``BatchDataset``, or anything else, which stays as it is.
            device: of the training. A CPU has nothing to gain.
            asked: whether the user asked for it; None: yes if the pictures take an eighth of the device's free memory
                at most. Where a device does not tell its memory, they stay where they are.

        Returns:
            The number of the array, None if batches bring the pictures.

        Raises:
            InputError: if it was asked for, and they do not fit, or are not in memory.
        """
        pictures = data.pictures if isinstance(data, BatchDataset) else None
        if not isinstance(data, BatchDataset) or not isinstance(pictures, InMemoryPictures):
            if asked and isinstance(data, BatchDataset) and data.training:
                raise InputError(
                    "on_device is True, but the training pictures are read from files: decode them into memory, or "
                    "leave it out",
                    "data.cache true",
                    "data.on_device null",
                )
            return None
        if asked is False or device.type == "cpu":
            return None
        number, free, needed = self.number(pictures), free_memory(device), pictures.images.nbytes
        if (number, _numbered(device)) not in self._copies:
            if asked and free is not None and needed > free:
                raise InputError(
                    f"The pictures take {needed / 2**30:.1f} GiB, and {device} has {free / 2**30:.1f} GiB free: leave "
                    "them in the memory of the machine",
                    "data.on_device false",
                )
            if not asked and (free is None or needed > free // _SHARE):
                return None
        self.copied(number, device)
        data.pixels = False
        return number

    def copied(self, number: int, device: torch.device) -> Tensor:
        """The array (N, C, H, W) on the device; the first call copies it."""
        key = number, _numbered(device)
        if key not in self._copies:
            self._copies[key] = self._arrays[number].to(device)
        return self._copies[key]

    def picked(self, sent: ResidentBatch) -> ImageBatch:
        """The batch with its pictures, (N, C, H, W), on the device that it was sent to; the host does not wait.

        Where the batch has ``sources``, pictures are (V, N, C, H, W).

        Raises:
            ValueError: if it was not sent to a device.
        """
        if sent.places is None:
            raise ValueError("The batch holds the numbers of its pictures: send it to a device first, .to(device).")
        images = rows_of(self.copied(sent.array, sent.places.device), sent.places)
        if sent.batch.sources is not None:
            images = torch.unflatten(images, 0, sent.batch.sources.shape)
        return sent.batch._replace(images=images)

    def clear(self) -> None:
        """Free the memory of the devices; a batch that comes later has its pictures copied again."""
        self._copies.clear()


def _numbered(device: torch.device) -> torch.device:
    """The device as its tensors name it."""
    return torch.empty(0, device=device).device


def free_memory(device: torch.device) -> int | None:
    """Bytes that an accelerator has free, or None where it does not tell.

    Example:
        >>> free_memory(torch.device("cpu")) is None
        True
    """
    try:
        tell = getattr(torch.get_device_module(device), "mem_get_info", None)
        return None if tell is None else int(tell(device)[0])
    except RuntimeError:  # neither this device nor its module tells
        return None
