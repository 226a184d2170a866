"""Features of the parts that are missing, computed by any number of processes."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from lightning.fabric import Fabric
from lightning.fabric.utilities.data import suggested_max_num_workers
from rich.progress import Progress
from torch import nn
from torch.utils.data import DataLoader

from simclr_lightning.data import InMemoryPictures
from simclr_lightning.embed.parts import Part, Parts
from simclr_lightning.embed.sources import Batch, PictureBatches, Source
from simclr_lightning.views import ViewRecipe, clean

_MOST_WORKERS = 8


def compute_parts(
    fabric: Fabric,
    network: nn.Module,
    source: Source,
    recipe: ViewRecipe,
    parts: Parts,
    plan: list[list[range]],
    *,
    normalize: bool,
    on_bad_picture: Literal["raise", "skip"],
    num_workers: int | None,
) -> None:
    """Compute and keep the parts that are missing, of which every process takes its share.

    A part is the same whoever computes it, because its pictures are always encoded in the same batches.

    Args:
        fabric: launched; gives device, precision and processes.
        network: in evaluation mode, from pictures (N, C, H, W) to features (N, ``feature_dim``).
        source: the pictures.
        recipe: of the clean pictures.
        parts: where the parts are kept.
        plan: batches of each part, as places in the source.
        normalize: whether features are scaled to unit length.
        on_bad_picture: raise an error that names the picture, or skip it.
        num_workers: processes that load pictures; None: none for pictures in memory, otherwise as many as cores.

    Raises:
        BadPictureError: if a picture cannot be read and is not to be skipped.
        ValueError: if a feature is not finite.
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
    loaded = iter(_loader(PictureBatches(source, batches, recipe, on_bad_picture), num_workers, fabric))
    with Progress(disable=not fabric.is_global_zero) as progress:
        task = progress.add_task("Embedding", total=sum(map(len, batches)))
        for number in mine:
            encoded = []
            for places in plan[number]:
                batch: Batch = next(loaded)
                for message in batch.skipped:
                    print(f"Skipped. {message}")
                encoded.append(_encode(fabric, network, recipe, source, batch, normalize=normalize))
                progress.advance(task, len(places))
            parts.write(number, Part(*map(np.concatenate, zip(*encoded, strict=True))))
    fabric.barrier()


def _encode(fabric: Fabric, network: Any, recipe: ViewRecipe, source: Source, batch: Batch, *, normalize: bool) -> Part:
    features = torch.empty(0, network.feature_dim)
    if batch.images is not None:
        with torch.inference_mode():
            images = clean(batch.images.to(fabric.device, non_blocking=True), recipe)
            with fabric.autocast():
                features = network(images)
            features = features.float()
            if normalize:
                features = torch.nn.functional.normalize(features)
    values = features.numpy(force=True)
    wrong = ~np.isfinite(values).all(1)
    if wrong.any():
        raise ValueError(
            f"The features of {source.name(batch.places[int(wrong.argmax())])} are not finite: the encoder has "
            "diverged, or its numbers are too large for --precision 16-mixed (take 32-true)."
        )
    return Part(
        values,
        np.array([source.name(place) for place in batch.places], np.str_),
        source.targets[batch.places].numpy(),
        np.array(batch.skipped, np.str_),
    )


def _loader(data: PictureBatches, num_workers: int | None, fabric: Fabric) -> DataLoader[Batch]:
    if num_workers is None:
        in_memory = all(isinstance(part, InMemoryPictures) for part in data.source.splits.values())
        local = fabric.world_size // getattr(fabric.strategy, "num_nodes", 1)
        num_workers = 0 if in_memory else min(suggested_max_num_workers(local), _MOST_WORKERS)
    pin_memory = fabric.device.type != "cpu"
    return DataLoader(data, batch_size=None, num_workers=num_workers, pin_memory=pin_memory)
