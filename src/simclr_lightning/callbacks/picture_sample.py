"""A sample of pictures with all that pictures of an embedding are drawn from."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from simclr_lightning.callbacks.sampled_rows import in_order
from simclr_lightning.callbacks.view_grid import false_colour, normalisation_of, undo_normalisation
from simclr_lightning.features import encode, evaluation_mode, finished_batch

_LARGEST_SIDE = 64  # pixels of a thumbnail


class PictureSample(NamedTuple):
    """Pictures in the order of the data set, on the CPU.

    Attributes:
        features: (N, F) float32, of clean pictures.
        targets: (N,) int64 classes, -1 where unlabelled.
        indices: (N,) int64 positions in the data set.
        projections: (2, N, D) float32, of two training views; (2, N, 0) where they were not asked for.
        thumbnails: (N, 3, h, w) uint8, the clean pictures, of at most 64 pixels a side.

    Example:
        >>> numbers = torch.arange(2)
        >>> views, black = torch.rand(2, 2, 4), torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
        >>> len(PictureSample(torch.eye(2), numbers, numbers, views, black).targets)
        2
    """

    features: Tensor
    targets: Tensor
    indices: Tensor
    projections: Tensor
    thumbnails: Tensor


def picture_sample(
    trainer: Trainer, module: LightningModule, loader: Iterable[Any], *, projections: bool = True
) -> PictureSample:
    """Encode the clean pictures and two views of a sample, beside a running fit.

    The model is in evaluation mode meanwhile, and left as it was. Every process must call it; all get the same.

    Args:
        trainer: of the module.
        module: from pictures (N, C, H, W) to features (N, F); with ``project``, if projections are wanted.
        loader: gives batches with clean ``images``, ``views``, ``targets`` and ``indices`` when the batch hooks have
            finished them.
        projections: whether views are projected, too.

    Example:
        >>> from types import SimpleNamespace
        >>> class Flat(LightningModule):
        ...     def forward(self, images):
        ...         return images.flatten(1)
        >>> batch = SimpleNamespace(images=torch.rand(3, 1, 8, 8), targets=torch.arange(3), indices=torch.arange(3))
        >>> trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        >>> picture_sample(trainer, Flat(), [batch], projections=False).thumbnails.shape
        torch.Size([3, 3, 8, 8])
    """
    data: Any = getattr(trainer, "datamodule", None)
    recipe = next(iter(getattr(data, "recipes", ())), None)
    columns: tuple[list[Tensor], ...] = ([], [], [])
    places = []
    for loaded in loader:
        batch = finished_batch(trainer, module, data, loaded)
        features = encode(module, batch.images, precision=trainer.precision_plugin.forward_context()).float()
        both = features.new_empty(len(features), 2, 0)
        if projections:
            two = list(chain.from_iterable(batch.views))[:2]  # where one is large, the other may be small
            both = torch.stack([_projected(trainer, module, view) for view in two], 1)
        pictures = thumbnails(batch.images, recipe).to(features.device)  # where processes talk
        shapes = pictures.shape[1:], both.shape[1:]
        for column, rows in zip(columns, (features, both.flatten(1), pictures.flatten(1)), strict=True):
            column.append(rows)
        places.append(torch.stack([batch.indices, batch.targets], 1))
    place = torch.cat(places)
    rows, both, pictures = (in_order(torch.cat(column), place)[0].cpu() for column in columns)
    _, place = in_order(place, place)
    indices, targets = place.cpu().unbind(1)
    views = both.view(len(both), *shapes[1]).transpose(0, 1)
    return PictureSample(rows, targets, indices, views, pictures.view(-1, *shapes[0]))


def thumbnails(images: Tensor, recipe: object) -> Tensor:
    """Small pictures to look at.

    Args:
        images: (N, C, H, W) float, as a network gets them: a normalisation is undone; other channels than 1 and 3 are
            shown in false colour.
        recipe: a ``ViewRecipe``, or None.

    Returns:
        (N, 3, h, w) uint8 on the CPU; the longer of h and w is at most 64.

    Example:
        >>> thumbnails(torch.ones(2, 5, 128, 100), None).shape
        torch.Size([2, 3, 64, 50])
    """
    longest = max(images.shape[-2:])
    if longest > _LARGEST_SIDE:
        size = [max(1, round(side * _LARGEST_SIDE / longest)) for side in images.shape[-2:]]
        images = F.interpolate(images.float(), size, mode="bilinear", antialias=True)
    shown = false_colour(undo_normalisation(images, *normalisation_of(recipe)))
    coloured = shown.expand(-1, 3, -1, -1) if shown.shape[1] == 1 else shown
    return coloured.clamp(0, 1).mul(255).round().to(torch.uint8).contiguous()


def _projected(trainer: Trainer, module: Any, view: Tensor) -> Tensor:
    with evaluation_mode(module), trainer.precision_plugin.forward_context():
        projections: Tensor = module.project(module(view))
    return projections.float()
