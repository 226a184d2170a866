"""The batch types that travel through the package: bytes from a loader, then views for the model."""

from __future__ import annotations

from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

from simclr_lightning.errors import InputError
from simclr_lightning.views.draw import ViewParameters
from simclr_lightning.views.scale import ValueRange


class Crops:
    """Random crops that a loader's worker has made, with all that was drawn for them.

    It is no tuple, so that a Trainer of half precision, which rounds the numbers in a batch, does not round what was
    drawn.

    Args:
        pixels: (V, N, C, S, S), cropped, resized and mirrored: V views of every picture; uint8, or float32 in [0, 1],
            where the pictures are no bytes or have a scale of their own.
        parameters: What is done to each view, leading dimensions (V, N). Crop and mirror are done; the rest is left to
            the device. They stay on the CPU.

    Example:
        >>> from simclr_lightning.views import ViewRecipe, crop_views
        >>> pictures = [torch.zeros(3, 40, 60, dtype=torch.uint8), torch.zeros(3, 50, 30, dtype=torch.uint8)]
        >>> (crops,) = crop_views(pictures, [ViewRecipe(size=24)], torch.arange(2), seed=0, epoch=0)
        >>> crops.pixels.shape, crops.parameters.flip.shape
        (torch.Size([2, 2, 3, 24, 24]), torch.Size([2, 2]))
    """

    def __init__(self, pixels: Tensor, parameters: ViewParameters) -> None:
        self.pixels = pixels
        self.parameters = parameters

    def pin_memory(self) -> Crops:
        """Crops with page-locked pixels; loaders call it."""
        return Crops(self.pixels.pin_memory(), self.parameters)


class ImageBatch(NamedTuple):
    """What a loader hands over: bytes, so that little is copied; views are finished on the device.

    Attributes:
        images: (N, C, H, W) uint8, uint16, int16 or float32 of equal size: whole pictures, or clean ones beside crops;
            None where crops are all that is wanted. (V, N, C, H, W) where views are of pictures of their own, see
            ``sources``.
        crops: One ``Crops`` for each recipe, where the pictures differ in size, so that a worker has cropped them;
            None where the crops are still to be drawn on the device.
        targets: (N,) int64 class indices, -1 where unlabelled.
        indices: (N,) int64 positions in the data set: together with seed and epoch they determine the random views.
        epoch: Epoch of the random views; None where none are wanted, clean pictures alone.
        clean: Whether clean pictures are wanted beside the random views.
        groups: (N,) int64 groups of pictures that belong together and are no negatives of each other, or None.
        sources: (V, N) int64 positions of the pictures that the views are of, where these are chosen from the groups;
            None: of the picture itself. They stay on the CPU.
        scale: What counts as black and as white in ``images``; None: the range of their type, [0, 1] of floats.

    Example:
        >>> images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
        >>> batch = ImageBatch(images, crops=None, targets=torch.full((4,), -1), indices=torch.arange(4), epoch=7)
        >>> batch.epoch, batch.clean
        (7, False)
    """

    images: Tensor | None
    crops: tuple[Crops, ...] | None
    targets: Tensor
    indices: Tensor
    epoch: int | None = 0
    clean: bool = False
    groups: Tensor | None = None
    sources: Tensor | None = None
    scale: ValueRange | None = None

    def to(self, device: torch.device | str) -> ImageBatch:
        """Send pixels, targets and groups to a device; Lightning calls it.

        Indices and parameters stay on the CPU, where they are needed: fetching them makes the host wait for the device.

        Args:
            device: Device.

        Returns:
            The batch there. Copies from pinned memory may still be under way.

        Example:
            >>> images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
            >>> sent = ImageBatch(images, None, torch.full((4,), -1), torch.arange(4)).to("meta")
            >>> sent.images.device, sent.indices.device
            (device(type='meta'), device(type='cpu'))
        """

        def sent(values: Tensor) -> Tensor:
            return values.to(device, non_blocking=values.is_pinned())

        return self._replace(
            images=None if self.images is None else sent(self.images),
            crops=None if self.crops is None else tuple(Crops(sent(own.pixels), own.parameters) for own in self.crops),
            targets=sent(self.targets),
            groups=None if self.groups is None else sent(self.groups),
        )


class ViewBatch(NamedTuple):
    """What ``SimCLR`` trains on.

    ``views[k].flatten(0, 1)`` has the order [all first views; all second views; ...], as in the official code.

    Attributes:
        views: One (V, N, C, S, S) float tensor for each recipe, or for each size of view; normally in [0, 1]. ()
            where there are clean pictures alone.
        targets: (N,) int64 class indices, -1 where unlabelled.
        indices: (N,) int64 positions in the data set.
        images: (N, C, H, W) float, the clean evaluation-time pictures, or None (training does not need them).
        groups: (N,) int64 groups of pictures that belong together and are no negatives of each other, or None.
        equal_shares: Whether every process is known to have as many pictures, so that none need ask the others.

    Example:
        >>> batch = ViewBatch.of(torch.rand(8, 3, 32, 32), torch.rand(8, 3, 32, 32))
        >>> batch.views[0].shape, batch.targets.tolist()
        (torch.Size([2, 8, 3, 32, 32]), [-1, -1, -1, -1, -1, -1, -1, -1])
    """

    views: tuple[Tensor, ...]
    targets: Tensor
    indices: Tensor
    images: Tensor | None = None
    groups: Tensor | None = None
    equal_shares: bool = False

    @property
    def large(self) -> int | None:
        """How many of the views, the first ones, have the largest size; None: all.

        The others are local crops (multi-crop; Caron et al. 2020, section 3.2), which are contrasted with these.

        Raises:
            InputError: If a smaller view comes before a large one.

        Example:
            >>> ViewBatch.of(*torch.rand(2, 8, 3, 32, 32), *torch.rand(4, 8, 3, 16, 16)).large
            2
        """
        sizes = [own.shape[-1] for own in self.views for _ in own]
        number = sizes.count(max(sizes))
        if sizes[:number].count(max(sizes)) < number:
            raise InputError(
                f"The views have the sizes {sizes}: list the recipes of the largest views first, with which the "
                "smaller ones are contrasted (--data.views)."
            )
        return None if number == len(sizes) else number

    @classmethod
    def of(cls, *views: Tensor, targets: Tensor | None = None) -> ViewBatch:
        """Batch of one's own views, for loaders that are not ``SimCLRDataModule``'s.

        Args:
            views: (N, C, H, W) float each, views of the same N pictures, one or more; consecutive ones of one size are
                stacked.
            targets: (N,) int64 class indices, -1 (unlabelled) by default.

        Raises:
            ValueError: If there is no view, or they are not of equally many pictures.

        Example:
            >>> large, small = torch.rand(2, 8, 3, 32, 32), torch.rand(3, 8, 3, 16, 16)
            >>> [tuple(views.shape) for views in ViewBatch.of(*large, *small).views]
            [(2, 8, 3, 32, 32), (3, 8, 3, 16, 16)]
        """
        shapes = [tuple(view.shape) for view in views]
        if not shapes or any(len(shape) != 4 or shape[0] != shapes[0][0] for shape in shapes):
            raise ValueError(
                f"The views have the shapes {shapes}: each is (N, C, H, W), of the same N pictures. Labels are given "
                "by name: ViewBatch.of(first, second, targets=...)."
            )
        number, device = len(views[0]), views[0].device
        unlabelled = torch.full((number,), -1, device=device)
        stacks = tuple(torch.stack(list(group)) for _, group in groupby(views, key=lambda view: view.shape))
        return cls(stacks, unlabelled if targets is None else targets, torch.arange(number, device=device))


def check_contrastable(batch: Any, processes: int) -> None:
    """Raise unless a batch is a :class:`ViewBatch` with views and pictures to contrast.

    Args:
        batch: what the loader gave.
        processes: whose pictures are contrasted with one another.

    Raises:
        TypeError: if it is something else.
        InputError: if there are fewer than two views, or pictures.

    Example:
        >>> check_contrastable(ViewBatch.of(torch.rand(4, 3, 8, 8), torch.rand(4, 3, 8, 8)), processes=1)
    """
    if not isinstance(batch, ViewBatch):
        raise TypeError(
            f"SimCLR trains on a ViewBatch, got a {type(batch).__name__}. Use SimCLRDataModule, or let your loader "
            "return ViewBatch.of(first_views, second_views)."
        )
    if (views := sum(len(own) for own in batch.views)) < 2:
        raise InputError(
            f"The batch has {views or 'no'} view{'s' * (views != 1)} of each picture, and SimCLR contrasts two or "
            "more: use SimCLRDataModule (--data SimCLRDataModule), with recipes that count two views at least."
        )
    if len(batch.targets) * processes < 2:
        raise InputError(
            "The batch holds one picture, which leaves no negatives: use at least 2, and several hundred for "
            "useful features (--data.batch_size)."
        )


def sent(values: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device, without a wait: through page-locked memory where the device reads that.

    Args:
        values: On the CPU.
        device: Device.

    Example:
        >>> sent(torch.arange(3), torch.device("meta")).device
        device(type='meta')
    """
    if device.type in ("cpu", "meta"):  # torch 2.6 fails where it is asked for an accelerator and there is none
        return values.to(device)
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is not None and accelerator.type == device.type:
        values = values.pin_memory()
    return values.to(device, non_blocking=True)
