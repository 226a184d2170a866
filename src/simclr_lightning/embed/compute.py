"""Features of the parts that are missing, computed by any number of processes."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from lightning.fabric import Fabric
from rich.progress import Progress
from torch import Tensor, nn
from torch.utils.data import Dataset

from simclr_lightning.data import BadPictureError
from simclr_lightning.data.bad_pictures import mark_bad, report_left_out
from simclr_lightning.data.loaders import PictureLoader
from simclr_lightning.data.worker_processes import handed_over, workers_of
from simclr_lightning.embed.concat import ConcatPictures
from simclr_lightning.embed.parts import Part, Parts
from simclr_lightning.embed.patches import kept_box
from simclr_lightning.errors import InputError, options_without
from simclr_lightning.features import encode
from simclr_lightning.views import ValueRange, ViewRecipe, centre_view, clean
from simclr_lightning.views.scale import unified


class Batch(NamedTuple):
    """What a loader's worker hands over.

    Attributes:
        images: (n, C, H, W), the pictures that can be read; None where none can.
        places: their places among the pictures.
        skipped: what is wrong with the others, by name.
        boxes: left, top, right and bottom of what is kept of each, in its own pixels.
        scale: what counts as black and as white in them; None: the range of their type.

    Example:
        >>> batch = Batch(None, [], ["Cannot read the picture cat/1.png: truncated"], [])
        >>> batch.places
        []
    """

    images: Tensor | None
    places: list[int]
    skipped: list[str]
    boxes: list[tuple[int, int, int, int]]
    scale: ValueRange | None = None


class PictureBatches(Dataset[Batch]):
    """Batches of clean pictures by number; no picture takes the place of one that cannot be read.

    Args:
        pictures: all of them.
        batches: places of each batch.
        recipe: of the clean pictures.
        on_bad_picture: raise an error that names the picture, or skip it.
        scale: what counts as black and as white; None: the range of the pictures' type.

    Example:
        >>> from simclr_lightning.data import find_source
        >>> pictures = ConcatPictures(find_source("digits").load("", False), "test", "")
        >>> batches = PictureBatches(pictures, pictures.batches(100), ViewRecipe("digits"), "raise")
        >>> len(batches), batches[3].images.shape
        (4, torch.Size([60, 1, 8, 8]))
    """

    def __init__(
        self,
        pictures: ConcatPictures,
        batches: list[range],
        recipe: ViewRecipe,
        on_bad_picture: Literal["raise", "skip"],
        scale: ValueRange | None = None,
    ) -> None:
        self.pictures = pictures
        self.batches = batches
        self.recipe = recipe
        self.on_bad_picture = on_bad_picture
        self.scale = scale

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.batches)

    @handed_over
    def __getitem__(self, number: int) -> Batch:
        """One batch."""
        images, places, skipped, boxes = [], [], [], []
        for place in self.batches[number]:
            _, pictures, position = self.pictures.locate(place)
            try:
                with options_without("data."):
                    picture = pictures.read(position)
            except BadPictureError as error:
                if self.on_bad_picture == "raise":
                    raise BadPictureError(
                        f"{error} To go on without such pictures, type the same command with --on_bad_picture skip."
                    ) from error
                pictures.reading.listed(str(error.args[0]))
                with options_without("data."):
                    mark_bad(pictures, position)
                skipped.append(str(error))
                continue
            pictures.seen[position] = True
            images.append(picture if pictures.equal_size else centre_view(picture, self.recipe, self.scale))
            places.append(place)
            height, width = picture.shape[-2:]
            boxes.append(kept_box(height, width, self.recipe, equal_size=pictures.equal_size))
        scale = self.scale if images and pictures.equal_size else None  # others are scaled
        return Batch(torch.stack(unified(images)) if images else None, places, skipped, boxes, scale)


def compute_parts(
    fabric: Fabric,
    network: nn.Module,
    pictures: ConcatPictures,
    recipe: ViewRecipe,
    parts: Parts,
    plan: list[list[range]],
    *,
    scale: ValueRange | None = None,
    normalize: bool,
    on_bad_picture: Literal["raise", "skip"],
    num_workers: int | None,
) -> None:
    """Compute and keep the parts that are missing, of which every process takes its share.

    A part is the same whoever computes it, because its pictures are always encoded in the same batches.

    Args:
        fabric: launched; gives device, precision and processes.
        network: from pictures (N, C, H, W) to features (N, ``feature_dim``), or maps (N, F, h, w).
        pictures: all of them.
        recipe: of the clean pictures.
        parts: where the parts are kept.
        plan: batches of each part, as places among the pictures.
        scale: what counts as black and as white; None: the range of the pictures' type.
        normalize: whether features are scaled to unit length.
        on_bad_picture: raise an error that names the picture, or skip it.
        num_workers: processes that load pictures; None: none for pictures in memory, otherwise one per core
            that is left beside this process.

    Raises:
        BadPictureError: if a picture cannot be read and is not to be skipped.
        InputError: if a feature is not finite.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from simclr_lightning.data import find_source
        >>> from simclr_lightning.models import build_encoder
        >>> pictures = ConcatPictures(find_source("digits").load("", False), "test", "")
        >>> options = {"normalize": False, "on_bad_picture": "raise", "num_workers": 0}
        >>> network, fabric = build_encoder("resnet8", width=0.125, in_channels=1), Fabric(accelerator="cpu", devices=1)
        >>> with TemporaryDirectory() as folder:
        ...     parts = Parts(Path(folder, "parts"), {}, count=1)
        ...     plan = [pictures.batches(180)]
        ...     compute_parts(fabric, network, pictures, ViewRecipe("digits"), parts, plan, **options)
        ...     [part.features.shape for part in parts]  # doctest: +ELLIPSIS
        Embedding ...
        [(360, 32)]
    """
    missing = []
    if fabric.is_global_zero:
        parts.begin()
        missing = parts.missing()
        if len(missing) < parts.count:
            print(f"{parts.folder} has {parts.count - len(missing)} of {parts.count} parts: going on with the others.")
    missing = fabric.broadcast(missing)  # others would count what is being written already
    mine = missing[fabric.global_rank :: fabric.world_size]
    batches = [batch for number in mine for batch in plan[number]]
    loaded = iter(_loader(PictureBatches(pictures, batches, recipe, on_bad_picture, scale), num_workers, fabric))
    with Progress(disable=not fabric.is_global_zero) as progress:
        task = progress.add_task("Embedding", total=sum(map(len, batches)))
        for number in mine:
            encoded = []
            for places in plan[number]:
                batch: Batch = next(loaded)
                for message in batch.skipped:
                    print(f"Skipped. {message}")
                encoded.append(_encode(fabric, network, recipe, pictures, batch, normalize=normalize))
                progress.advance(task, len(places))
            parts.write(number, Part(*map(np.concatenate, zip(*encoded, strict=True))))
    for split in pictures.splits.values():
        report_left_out(split)
    fabric.barrier()


def _encode(
    fabric: Fabric, network: Any, recipe: ViewRecipe, pictures: ConcatPictures, batch: Batch, *, normalize: bool
) -> Part:
    features = torch.empty(0, *(getattr(network, "feature_shape", None) or (network.feature_dim,)))
    if batch.images is not None:
        images = clean(batch.images.to(fabric.device, non_blocking=True), recipe, batch.scale)
        features = encode(network, images, precision=fabric.autocast()).float()
        if normalize:
            features = F.normalize(features)
    values = features.numpy(force=True)
    wrong = ~np.isfinite(values).all(tuple(range(1, values.ndim)))
    if wrong.any():
        raise InputError(
            f"The features of {pictures.name(batch.places[int(wrong.argmax())])} are not finite: the encoder has "
            "diverged, or its numbers are too large for --precision 16-mixed (take 32-true)."
        )
    return Part(
        values,
        np.array([pictures.name(place) for place in batch.places], np.str_),
        pictures.targets[batch.places].numpy(),
        np.array(batch.boxes, np.int64).reshape(-1, 4),
        np.array(batch.skipped, np.str_),
    )


def _loader(data: PictureBatches, num_workers: int | None, fabric: Fabric) -> PictureLoader[Batch]:
    if num_workers is None:
        local = fabric.world_size // getattr(fabric.strategy, "num_nodes", 1)
        num_workers = 0 if data.pictures.in_memory else workers_of(local)
    pin_memory = fabric.device.type != "cpu"
    return PictureLoader(data, batch_size=None, num_workers=num_workers, pin_memory=pin_memory)
